//! The connections that read: pages of messages, and figures.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

use super::connection::{self, CONTAINS, explain};
use super::{Tuning, lock};
use crate::message::{Message, MessageId, Phone, Timestamp};
use crate::query::{Filter, Listing, Page, SenderCount, Stats};
use crate::store::Error;

/// Steps of SQLite's machine between two looks at the clock.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

const ANY_ROW: &str = "SELECT count(*) FROM (SELECT 1 FROM message LIMIT 1)";
const COUNT: &str = "SELECT count(*) FROM message";
const PAGE: &str =
    "SELECT message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM message";
const BY_SENDER: &str = "sender = ?";
const SINCE: &str = "(ts_second, ts_nanosecond) >= (?, ?)";
const ORDER: &str = "ORDER BY ts_second, ts_nanosecond, message_id LIMIT ? OFFSET ?";

const SENDERS: &str = "SELECT count(*), count(DISTINCT sender) FROM message";
const TOP_SENDERS: &str = "SELECT sender, count(*) AS messages FROM message GROUP BY sender ORDER BY messages DESC, sender LIMIT 10";
const FIRST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message
    ORDER BY ts_second, ts_nanosecond, message_id LIMIT 1";
const LAST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message
    ORDER BY ts_second DESC, ts_nanosecond DESC, message_id DESC LIMIT 1";

/// A pool of connections that grows with use; how many are used at once is up to the caller.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    tuning: Tuning,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Opens a first connection at once: while one is open the write-ahead log and its index stay, and reads go
    /// on even when the disk is full and could not hold new ones.
    pub(super) fn open(path: &Path, tuning: Tuning) -> Result<Self, Error> {
        let readers = Self { path: path.to_owned(), tuning, idle: Mutex::default() };
        readers.snapshot(|snapshot| snapshot.query_row(ANY_ROW, (), |row| row.get::<_, i64>(0)))?;
        Ok(readers)
    }

    /// Closes the connections that are not in use.
    pub(super) fn close(&self) {
        lock(&self.idle).clear();
    }

    pub(super) fn list(&self, filter: &Filter, page: Page) -> Result<Listing, Error> {
        self.snapshot(|snapshot| {
            let (condition, given) = condition(filter);
            let total = snapshot
                .prepare_cached(&format!("{COUNT}{condition}"))?
                .query_row(rusqlite::params_from_iter(&given), |row| row.get(0))?;
            let data =
                if page.offset < total { rows(snapshot, &condition, given, page)? } else { Vec::new() };
            Ok(Listing { data, total, limit: page.limit, offset: page.offset })
        })
    }

    pub(super) fn stats(&self) -> Result<Stats, Error> {
        self.snapshot(|snapshot| {
            let (total_messages, senders_count) =
                snapshot.prepare_cached(SENDERS)?.query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let messages_per_sender = snapshot
                .prepare_cached(TOP_SENDERS)?
                .query_map((), |row| Ok(SenderCount { from: phone(row, 0)?, count: row.get(1)? }))?
                .collect::<Result<_, _>>()?;
            let instant =
                |sql| snapshot.prepare_cached(sql)?.query_row((), |row| timestamp(row, 0)).optional();
            Ok(Stats {
                total_messages,
                senders_count,
                messages_per_sender,
                first_message_ts: instant(FIRST)?,
                last_message_ts: instant(LAST)?,
            })
        })
    }

    /// Asks `question` of one snapshot, within [`Tuning::read_timeout`]. A connection that failed is not used again.
    fn snapshot<T>(
        &self,
        question: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let waiting = lock(&self.idle).pop();
        let ask = || {
            let mut conn = match waiting {
                Some(conn) => conn,
                None => connection::reader(&self.path, self.tuning.reader_cache_kib)?,
            };
            let deadline = Instant::now() + self.tuning.read_timeout;
            conn.progress_handler(STEPS_BETWEEN_LOOKS, Some(move || Instant::now() > deadline))?;
            let snapshot = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let answer = question(&snapshot)?;
            snapshot.finish()?;
            Ok((answer, conn))
        };
        let (answer, conn) = ask().map_err(explain)?;
        lock(&self.idle).push(conn);
        Ok(answer)
    }
}

/// The condition in SQL, with a leading space unless it is empty, and its parameters.
fn condition(filter: &Filter) -> (String, Vec<Value>) {
    let mut terms = Vec::new();
    let mut given: Vec<Value> = Vec::new();
    if let Some(from) = &filter.from {
        terms.push(BY_SENDER.to_owned());
        given.push(from.clone().into());
    }
    if let Some(since) = filter.since {
        terms.push(SINCE.to_owned());
        given.extend([since.second().into(), i64::from(since.nanosecond()).into()]);
    }
    if let Some(search) = &filter.search {
        terms.push(format!("{CONTAINS}(text, ?)"));
        given.push(search.folded().to_owned().into());
    }
    let condition = if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
    (condition, given)
}

fn rows(
    snapshot: &Transaction<'_>,
    condition: &str,
    mut given: Vec<Value>,
    page: Page,
) -> rusqlite::Result<Vec<Message>> {
    // The caller has seen that the offset is below the number of rows, so it fits.
    given.extend([i64::from(page.limit).into(), i64::try_from(page.offset).unwrap_or(i64::MAX).into()]);
    snapshot
        .prepare_cached(&format!("{PAGE}{condition} {ORDER}"))?
        .query_map(rusqlite::params_from_iter(&given), message)?
        .collect()
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        message_id: checked(row, 0, MessageId::new)?,
        from: phone(row, 1)?,
        to: phone(row, 2)?,
        ts: timestamp(row, 3)?,
        text: row.get(6)?,
    })
}

fn phone(row: &Row<'_>, column: usize) -> rusqlite::Result<Phone> {
    checked(row, column, Phone::new)
}

fn timestamp(row: &Row<'_>, first: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_parts(row.get(first)?, row.get(first + 1)?, row.get(first + 2)?).map_err(|bad| {
        rusqlite::Error::FromSqlConversionFailure(first, rusqlite::types::Type::Integer, bad.into())
    })
}

/// A string column, held to the rule that its value was stored under.
fn checked<T>(
    row: &Row<'_>,
    column: usize,
    check: impl Fn(&str) -> Result<T, crate::message::Broken>,
) -> rusqlite::Result<T> {
    check(row.get_ref(column)?.as_str()?).map_err(|broken| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, broken.reason.into())
    })
}
