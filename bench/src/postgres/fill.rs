//! Fills a database past the service: messages, texts and figures by SQL, as the service would have derived them,
//! and the indexes afterwards, which is many times faster than one message after the other.

use std::fmt::Write as _;
use std::pin::pin;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use futures_util::SinkExt as _;

use super::cluster::{Database, Session};
use crate::scale::messages::{Message, Messages};

/// Messages of a batch, which is as many as Lyftr stores at once at most.
const BATCH: u64 = 512;
/// The migrations take number 1.
const FIRST_BATCH: u64 = 2;
/// Arrival numbers are those of the batches times two to this, and the place in the batch.
const PLACE_BITS: u32 = 16;
/// Bytes that are sent to the server at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Messages between two signs of life.
const TOLD_EVERY: u64 = 1_000_000;

/// For the session that fills: nothing of it must survive a crash, and indexes are sorted in memory.
const SETTLE: &str = "SET synchronous_commit = off; SET maintenance_work_mem = '1GB'";
/// The messages keep the numbers that they are given here.
const NUMBERED: &str = "ALTER TABLE message DISABLE TRIGGER message_was_added";
/// And those that come later get theirs from the database again.
const NUMBERS: &str = "ALTER TABLE message ENABLE ALWAYS TRIGGER message_was_added";
/// What follows from the messages, up to arrival number `{upto}`, as the service's indexer writes it.
const DERIVE: &str = "\
    INSERT INTO sender_total SELECT sender, count(*) FROM message GROUP BY 1;
    INSERT INTO recipient_total SELECT recipient, count(*) FROM message GROUP BY 1;
    INSERT INTO day_total SELECT floor(ts_second / 86400.0), count(*) FROM message GROUP BY 1;
    INSERT INTO minute_total SELECT floor(ts_second / 60.0), count(*) FROM message GROUP BY 1;
    UPDATE derived SET figures_upto = {upto}, texts_upto = {upto},
        messages = (SELECT count(*) FROM message), senders = (SELECT count(*) FROM sender_total)";
/// Messages that figures or texts do not hold yet.
const BEHIND: &str = "SELECT count(*) FROM message, derived WHERE seq > figures_upto OR seq > texts_upto";

/// How a table is filled: its name, its columns, and a message as a line for `COPY`.
struct Table {
    name: &'static str,
    columns: &'static str,
    line: fn(&mut String, i64, &Message),
}

const MESSAGE: Table = Table {
    name: "message",
    columns: "seq, message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text",
    line: |lines, seq, message| {
        let Message { id, sender, recipient, second, nanosecond, digits, text } = message;
        // Writing into a String cannot fail.
        let _ = write!(lines, "{seq}\t{id}\t{sender}\t{recipient}\t{second}\t{nanosecond}\t{digits}\t");
        escape(text, lines);
        lines.push('\n');
    },
};
const MESSAGE_TEXT: Table = Table {
    name: "message_text",
    columns: "seq, message_id, sender, recipient, ts_second, ts_nanosecond, folded",
    line: |lines, seq, message| {
        let Message { id, sender, recipient, second, nanosecond, text, .. } = message;
        let _ = write!(lines, "{seq}\t{id}\t{sender}\t{recipient}\t{second}\t{nanosecond}\t");
        escape(&lyftr::query::fold(text), lines);
        lines.push('\n');
    },
};

/// Fills a database that `lyftr migrate` has made.
pub fn fill(database: &Database, messages: &Messages) -> Result<()> {
    let last = messages.size().checked_sub(1).context("no messages")?;
    thread::scope(|scope| {
        // The index of the texts takes longest.
        let texts = scope.spawn(|| fill_table(&database.session()?, &MESSAGE_TEXT, messages));
        let session = database.session()?;
        session.run(NUMBERED)?;
        fill_table(&session, &MESSAGE, messages)?;
        session.run(NUMBERS)?;
        session.run(&format!("SELECT setval('message_batch', {})", batch(last)))?;
        session.run(&DERIVE.replace("{upto}", &(((batch(last) + 1) << PLACE_BITS) - 1).to_string()))?;
        texts.join().map_err(|_| anyhow!("the thread that fills message_text panicked"))?
    })?;
    let session = database.session()?;
    session.run("VACUUM (ANALYZE)")?;
    session.run("CHECKPOINT")?;
    let behind = session.count(BEHIND)?;
    ensure!(behind == 0, "{behind} messages are not in what is derived from them");
    Ok(())
}

/// Fills one table without its indexes, and makes them again.
fn fill_table(session: &Session, table: &Table, messages: &Messages) -> Result<()> {
    session.run(SETTLE)?;
    let indexes = take_indexes(session, table.name)?;
    let begin = Instant::now();
    copy(session, table, messages)?;
    eprintln!("{} copied in {:.1?}", table.name, begin.elapsed());
    for index in indexes {
        let begin = Instant::now();
        session.run(&index)?;
        eprintln!("{index} in {:.1?}", begin.elapsed());
    }
    Ok(())
}

/// Drops the indexes of a table; the statements that make them again.
fn take_indexes(session: &Session, table: &str) -> Result<Vec<String>> {
    let found = session.rows(&format!(
        "SELECT index.relname::text, constr.conname::text,
                pg_get_indexdef(index.oid), pg_get_constraintdef(constr.oid)
         FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
         LEFT JOIN pg_constraint AS constr ON conindid = indexrelid
         WHERE indrelid = '{table}'::regclass"
    ))?;
    ensure!(!found.is_empty(), "table {table} has no indexes");
    let mut again = Vec::new();
    for row in found {
        let (name, constraint): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(constraint) = constraint {
            let definition: &str = row.try_get(3)?;
            session.run(&format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}"))?;
            again.push(format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} {definition}"));
        } else {
            session.run(&format!("DROP INDEX {name}"))?;
            again.push(row.try_get(2)?);
        }
    }
    Ok(again)
}

fn copy(session: &Session, table: &Table, messages: &Messages) -> Result<()> {
    let Table { name, columns, line } = table;
    let (runtime, client) = session.parts();
    runtime.block_on(async {
        let mut sink = pin!(client.copy_in(&format!("COPY {name} ({columns}) FROM STDIN")).await?);
        let mut lines = String::new();
        for index in 0..messages.size() {
            line(&mut lines, seq(index), &messages.message(index));
            if lines.len() >= CHUNK_BYTES {
                sink.send(Bytes::from(std::mem::take(&mut lines))).await?;
            }
            if index > 0 && index % TOLD_EVERY == 0 {
                eprintln!("{name}: {index} of {}", messages.size());
            }
        }
        sink.send(Bytes::from(lines)).await?;
        let copied = sink.as_mut().finish().await?;
        ensure!(copied == messages.size(), "{copied} rows of {name} were copied");
        Ok(())
    })
}

/// The number of the batch with which a message has arrived.
fn batch(index: u64) -> u64 {
    FIRST_BATCH + index / BATCH
}

/// The arrival number of a message.
fn seq(index: u64) -> i64 {
    ((batch(index) << PLACE_BITS) + index % BATCH).cast_signed()
}

/// Appends a text as `COPY` reads it.
fn escape(text: &str, lines: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => lines.push_str("\\\\"),
            '\n' => lines.push_str("\\n"),
            '\r' => lines.push_str("\\r"),
            '\t' => lines.push_str("\\t"),
            other => lines.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrival_numbers_follow_one_another_and_begin_behind_the_migrations() {
        assert_eq!(seq(0), 2 << 16);
        assert_eq!(seq(511), (2 << 16) + 511);
        assert_eq!(seq(512), 3 << 16);
        assert!((0..2_000).map(seq).is_sorted_by(|one, next| one < next));
        assert_eq!(batch(1_023), 3);
    }

    #[test]
    fn a_line_has_as_many_fields_as_columns() {
        let message = Messages::new(1, 1_000).message(7);
        for table in [MESSAGE, MESSAGE_TEXT] {
            let mut lines = String::new();
            (table.line)(&mut lines, seq(7), &message);
            assert_eq!(lines.matches('\n').count(), 1, "{lines}");
            assert_eq!(lines.split('\t').count(), table.columns.split(", ").count(), "{lines}");
        }
    }

    #[test]
    fn what_would_end_a_field_is_escaped() {
        let mut lines = String::new();
        escape("a\tb\nc\\d\re é", &mut lines);
        assert_eq!(lines, "a\\tb\\nc\\\\d\\re é");
    }
}
