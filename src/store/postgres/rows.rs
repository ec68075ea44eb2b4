//! Turns rows into messages.

use tokio_postgres::Row;

use super::connection::{PgError, Session};
use crate::message::{Message, MessageId, Moment, Phone, Timestamp};
use crate::store::Arrived;
use crate::store::matches::Entry;
use crate::store::nearest::Rows;

/// The columns that [`message`] reads.
pub(super) const COLUMNS: &str = "message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text";

/// The message in a row of [`COLUMNS`].
pub(super) fn message(row: &Row) -> Result<Message, PgError> {
    Ok(Message {
        message_id: checked(row, 0, MessageId::new)?,
        from: checked(row, 1, Phone::new)?,
        to: checked(row, 2, Phone::new)?,
        ts: timestamp(row, 3)?,
        text: row.try_get::<_, Option<&str>>(6)?.map(Into::into),
    })
}

/// The messages with these ids that are stored.
pub(super) fn with_ids(session: &Session<'_>, ids: &[&str]) -> Result<Vec<Message>, PgError> {
    let sql = format!("SELECT {COLUMNS} FROM message WHERE message_id = ANY ($1)");
    session.query(&sql, &[&ids])?.iter().map(message).collect()
}

/// The messages with arrival numbers above `after` and up to `upto`, at most `limit`, in order of arrival.
pub(super) fn arrived(
    session: &Session<'_>,
    after: i64,
    upto: i64,
    limit: u32,
) -> Result<Vec<Arrived>, PgError> {
    let sql =
        format!("SELECT {COLUMNS}, seq FROM message WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3");
    let rows = session.query(&sql, &[&after, &upto, &i64::from(limit)])?;
    rows.iter().map(|row| Ok(Arrived { seq: row.try_get(7)?, message: message(row)? })).collect()
}

/// The moment in the two columns from `first` on.
pub(super) fn moment(row: &Row, first: usize) -> Result<Moment, PgError> {
    let nanosecond: i32 = row.try_get(first + 1)?;
    let nanosecond = u32::try_from(nanosecond).map_err(|error| PgError::UnexpectedResponse(error.into()))?;
    Ok(Moment { second: row.try_get(first)?, nanosecond })
}

/// The timestamp in the three columns from `first` on.
pub(super) fn timestamp(row: &Row, first: usize) -> Result<Timestamp, PgError> {
    let Moment { second, nanosecond } = moment(row, first)?;
    let digits: i16 = row.try_get(first + 2)?;
    let digits = u8::try_from(digits).map_err(|error| PgError::UnexpectedResponse(error.into()))?;
    Timestamp::from_parts(second, nanosecond, digits)
        .map_err(|error| PgError::UnexpectedResponse(error.into()))
}

/// A string column, validated by the rule of its field.
pub(super) fn checked<T>(
    row: &Row,
    column: usize,
    check: impl Fn(&str) -> Result<T, crate::message::RuleViolation>,
) -> Result<T, PgError> {
    check(row.try_get(column)?).map_err(|violation| PgError::UnexpectedResponse(violation.reason.into()))
}

/// The count in a column.
pub(super) fn count(row: &Row, column: usize) -> Result<u64, PgError> {
    let count: i64 = row.try_get(column)?;
    u64::try_from(count).map_err(|error| PgError::UnexpectedResponse(error.into()))
}

/// As SQL's signed `integer`. Nanoseconds fit; a greater value stays greater than each of them.
pub(super) fn integer(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// As SQL's signed `bigint`; a greater value becomes the maximum.
pub(super) fn bigint(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Rows for Session<'_> {
    type Error = PgError;

    fn page(&self, entries: &[Entry], skip: u64, limit: u64) -> Result<Vec<Message>, PgError> {
        let seqs: Vec<i64> = entries.iter().map(|entry| entry.seq).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM message WHERE seq = ANY ($1)
             ORDER BY ts_second, ts_nanosecond, message_id OFFSET $2 LIMIT $3"
        );
        self.query(&sql, &[&seqs, &bigint(skip), &bigint(limit)])?.iter().map(message).collect()
    }
}
