//! Turns rows into messages.

use rusqlite::{Connection, OptionalExtension, Row};

use super::failed::Failed;
use crate::message::{Message, MessageId, Moment, Phone, Timestamp};
use crate::store::Arrived;
use crate::store::matches::{Entry, to_usize};
use crate::store::nearest::Rows;

/// The columns that [`message`] reads.
pub(super) const COLUMNS: &str = "message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text";
const BY_SEQ: &str = "\
    SELECT message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM message WHERE seq = ?1";

const BY_ID: &str = "\
    SELECT message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM message
    WHERE message_id = ?1";
const ARRIVED: &str = "\
    SELECT message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text, seq FROM message
    WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const ID: &str = "SELECT message_id FROM message WHERE seq = ?1";

/// The messages of these index entries. Each of them exists unless the index is wrong.
pub(super) fn fetch(messages: &Connection, entries: &[Entry]) -> Result<Vec<Message>, Failed> {
    let mut by_seq = messages.prepare_cached(BY_SEQ)?;
    entries.iter().map(|entry| by_seq.query_row([entry.seq], message).map_err(missing)).collect()
}

fn missing(error: rusqlite::Error) -> Failed {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Failed::Index(error),
        _ => Failed::Database(error),
    }
}

/// The messages of these entries in the order of listings, without the first `skip`, at most `limit`. The entries are sorted
/// by moment, and include all messages of each moment.
pub(super) fn page(
    messages: &Connection,
    entries: &[Entry],
    skip: u64,
    limit: u64,
) -> Result<Vec<Message>, Failed> {
    let mut id = messages.prepare_cached(ID)?;
    let mut id_of = |seq| id.query_row([seq], |row| row.get(0)).map_err(missing);
    let mut sorted = entries
        .iter()
        .map(|entry| Ok((entry.moment, id_of(entry.seq)?, *entry)))
        .collect::<Result<Vec<(Moment, Box<str>, Entry)>, Failed>>()?;
    sorted.sort_unstable();
    let page = sorted.into_iter().skip(to_usize(skip)).take(to_usize(limit));
    fetch(messages, &page.map(|(_, _, entry)| entry).collect::<Vec<_>>())
}

impl Rows for Connection {
    type Error = Failed;

    fn page(&self, entries: &[Entry], skip: u64, limit: u64) -> Result<Vec<Message>, Failed> {
        page(self, entries, skip, limit)
    }
}

/// The message in a row of [`COLUMNS`].
pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        message_id: checked(row, 0, MessageId::new)?,
        from: checked(row, 1, Phone::new)?,
        to: checked(row, 2, Phone::new)?,
        ts: timestamp(row, 3)?,
        text: row.get(6)?,
    })
}

/// The messages with these ids that are stored.
pub(super) fn with_ids(messages: &Connection, ids: &[MessageId]) -> rusqlite::Result<Vec<Message>> {
    let mut by_id = messages.prepare_cached(BY_ID)?;
    let found = ids.iter().map(|id| by_id.query_row([id.as_str()], message).optional());
    found.filter_map(Result::transpose).collect()
}

/// The messages with arrival numbers above `after`, at most `limit`, in order of arrival.
pub(super) fn arrived(messages: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<Arrived>> {
    let mut statement = messages.prepare_cached(ARRIVED)?;
    let rows = statement
        .query_map((after, limit), |row| Ok(Arrived { seq: row.get(7)?, message: message(row)? }))?;
    rows.collect()
}

/// The timestamp in the three columns from `first` on.
pub(super) fn timestamp(row: &Row<'_>, first: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_parts(row.get(first)?, row.get(first + 1)?, row.get(first + 2)?).map_err(|bad| {
        rusqlite::Error::FromSqlConversionFailure(first, rusqlite::types::Type::Integer, bad.into())
    })
}

/// A string column, validated by the rule of its field.
pub(super) fn checked<T>(
    row: &Row<'_>,
    column: usize,
    check: impl Fn(&str) -> Result<T, crate::message::RuleViolation>,
) -> rusqlite::Result<T> {
    check(row.get_ref(column)?.as_str()?).map_err(|violation| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            violation.reason.into(),
        )
    })
}
