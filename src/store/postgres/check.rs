//! Checks that each message can be read, and compares the derived data with the messages. The server's files are the
//! server's own affair.

use super::aggregates::Aggregates;
use super::connection::{PgError, Session};
use super::{TAKE_TIME, batch_sequence, migrate, rows};
use crate::query::fold;
use crate::store::check::{Event, Tell, compare};

const ROWS: &str = "SELECT count(*) FROM derived";
/// The totals, each beside the value that it should have.
const DERIVED: &str = "\
    SELECT derived.messages, (SELECT count(*) FROM message WHERE message.seq <= derived.figures_upto),
           derived.senders, (SELECT count(*) FROM sender_total)
    FROM derived";
/// The triggers that are missing or not enabled as they should be, and how they should be enabled.
const TRIGGERS: &str = "\
    SELECT expected.name, expected.enabled FROM (VALUES
        ('message_was_added', 'ALWAYS', 'A'), ('message_was_touched', 'ALWAYS', 'A'),
        ('message_was_changed', 'REPLICA', 'R'), ('message_was_replicated', 'REPLICA', 'R')
    ) AS expected (name, enabled, code)
    LEFT JOIN pg_trigger ON tgrelid = 'message'::regclass AND tgname = expected.name
    WHERE tgenabled::text IS DISTINCT FROM expected.code";
/// The tables of totals: each with its key, and the expression for the key of a message.
const TOTALS: [(&str, &str, &str); 4] = [
    ("sender_total", "number", "sender"),
    ("recipient_total", "number", "recipient"),
    ("day_total", "day", "floor(ts_second / 86400.0)::bigint"),
    ("minute_total", "minute", "floor(ts_second / 60.0)::bigint"),
];
/// Each message, and its text in the search index.
const MESSAGES: &str = "\
    SELECT message.message_id, message.sender, message.recipient, message.ts_second, message.ts_nanosecond,
           message.ts_digits, message.text, message.seq, kept.folded,
           (kept.message_id, kept.sender, kept.recipient, kept.ts_second, kept.ts_nanosecond)
           IS NOT DISTINCT FROM
           (message.message_id, message.sender, message.recipient, message.ts_second, message.ts_nanosecond)
    FROM message LEFT JOIN message_text AS kept ON kept.seq = message.seq
    ORDER BY message.seq";
const TEXTS: &str = "SELECT count(*) FROM message_text";

/// Checks the snapshot of the session's transaction; returns the number of messages.
pub(super) fn check(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<u64, PgError> {
    session.run(TAKE_TIME)?;
    let version = migrate::found(session)?;
    if version != migrate::VERSION {
        tell(Event::Remark(format!(
            "schema: version {version}; a start of the service brings it to {}",
            migrate::VERSION
        )));
        // The derived data has another form there, and arrival numbers may occur twice.
        return check_messages(session, None, tell);
    }
    batch_sequence::check(session, tell)?;
    check_triggers(session, tell)?;
    let aggregates = aggregates(session, tell)?;
    if let Some(aggregates) = aggregates {
        check_totals(session, aggregates, tell)?;
    }
    check_messages(session, aggregates.map(|aggregates| aggregates.texts_upto), tell)
}

/// The state of the derived data; `None` if it cannot be compared, which is reported.
fn aggregates(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<Option<Aggregates>, PgError> {
    let rows = rows::count(&session.row(ROWS, &[])?, 0)?;
    compare("derived: rows", 1, rows, tell);
    if rows != 1 {
        return Ok(None);
    }
    let aggregates = Aggregates::read(session)?;
    if aggregates.is_void {
        let remark = "derived: void after a manual change or a restore of messages, and not compared; \
                      the service rebuilds it";
        tell(Event::Remark(remark.to_owned()));
        return Ok(None);
    }
    Ok(Some(aggregates))
}

/// Without its triggers the table does not notice a manual change.
fn check_triggers(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<(), PgError> {
    for row in session.query(TRIGGERS, &[])? {
        let (name, enabled): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        tell(Event::Problem(format!(
            "message: the trigger {name} is missing or not enabled: ALTER TABLE message ENABLE {enabled} TRIGGER {name}"
        )));
    }
    Ok(())
}

fn check_totals(session: &Session<'_>, aggregates: Aggregates, tell: &mut Tell<'_>) -> Result<(), PgError> {
    tell(Event::Part("aggregates"));
    let row = session.row(DERIVED, &[])?;
    compare("derived: messages", rows::count(&row, 1)?, rows::count(&row, 0)?, tell);
    compare("derived: senders", rows::count(&row, 3)?, rows::count(&row, 2)?, tell);
    for (table, key, of_message) in TOTALS {
        tell(Event::Part(table));
        let sql = format!(
            "SELECT count(*) FILTER (WHERE found.messages IS DISTINCT FROM kept.messages),
                    coalesce(sum(found.messages), 0)::bigint, coalesce(sum(kept.messages), 0)::bigint
             FROM (SELECT {of_message} AS key, count(*) AS messages FROM message WHERE seq <= $1 GROUP BY 1) AS found
             FULL JOIN (SELECT {key} AS key, messages FROM {table}) AS kept USING (key)"
        );
        let row = session.row(&sql, &[&aggregates.upto])?;
        compare(&format!("{table}: messages in all"), rows::count(&row, 1)?, rows::count(&row, 2)?, tell);
        let wrong = format!("{table}: rows with a wrong number of messages");
        compare(&wrong, 0, rows::count(&row, 0)?, tell);
    }
    Ok(())
}

/// Reads each message, and compares its text with the derived one if that should be there.
fn check_messages(
    session: &Session<'_>,
    texts_upto: Option<i64>,
    tell: &mut Tell<'_>,
) -> Result<u64, PgError> {
    tell(Event::Part("messages"));
    let (mut messages, mut unreadable, mut doubled) = (0, 0, 0);
    let (mut texts, mut missing, mut other) = (0, 0, 0);
    let mut last = None;
    session.each(MESSAGES, &[], |row| {
        messages += 1;
        let seq: i64 = row.try_get(7)?;
        doubled += u64::from(last.replace(seq) == Some(seq));
        let kept: Option<&str> = row.try_get(8)?;
        let Ok(message) = rows::message(row) else {
            unreadable += 1;
            texts += u64::from(kept.is_some());
            return Ok(());
        };
        let expected = message.text.filter(|_| texts_upto.is_some_and(|upto| seq <= upto));
        match (expected, kept) {
            (Some(text), Some(kept)) => {
                texts += 1;
                other += u64::from(!row.try_get(9)? || fold(&text) != kept);
            }
            (Some(_), None) => missing += 1,
            // A text that should not be there is counted below.
            (None, _) => {}
        }
        Ok(())
    })?;
    compare("message: rows with an invalid id, phone number or timestamp", 0, unreadable, tell);
    compare("message: arrival numbers that occur twice", 0, doubled, tell);
    if texts_upto.is_some() {
        let kept = rows::count(&session.row(TEXTS, &[])?, 0)?;
        compare("message_text: missing texts", 0, missing, tell);
        compare("message_text: texts that differ from their message", 0, other, tell);
        compare("message_text: texts without a message", 0, kept.saturating_sub(texts), tell);
    }
    Ok(messages)
}
