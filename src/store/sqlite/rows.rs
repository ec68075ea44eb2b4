//! Turns rows into events, and rows of the view `message` into messages.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::failed::Failed;
use super::identity::{SEPARATOR, identity, source_and_key};
use crate::event::{Arrived, Data, Event, Kind, Source};
use crate::message::{Message, Moment, Name, RuleViolation, Timestamp};
use crate::query::Place;
use crate::store::matches::{Entry, to_usize};
use crate::store::nearest::Rows;

/// The columns that [`message`] reads.
pub(super) const COLUMNS: &str =
    "message_id, source, sender, recipient, ts_second, ts_nanosecond, ts_digits, text";
pub(super) const BY_SEQ: &str = "\
    SELECT message_id, source, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM message WHERE seq = ?1";
const ORDER_KEY: &str = "SELECT message_id || char(31) || source FROM message WHERE seq = ?1";

/// The columns that [`event`] reads.
macro_rules! event_columns {
    () => {
        "identity, kind, type, sender, recipient, user_id, thread, ref, account, ts_second, ts_nanosecond, ts_digits, \
         received_ms, text, data, seq"
    };
}
pub(super) use event_columns;
const BY_IDENTITY: &str = concat!("SELECT ", event_columns!(), " FROM event WHERE identity = ?1");
const ARRIVED: &str =
    concat!("SELECT ", event_columns!(), " FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2");

/// The messages of these arrival numbers. Each of them exists unless the index is wrong.
pub(super) fn fetch(
    messages: &Connection,
    seqs: impl IntoIterator<Item = i64>,
) -> Result<Vec<Message>, Failed> {
    let mut by_seq = messages.prepare_cached(BY_SEQ)?;
    seqs.into_iter().map(|seq| by_seq.query_row([seq], message).map_err(missing)).collect()
}

/// The text of a column.
pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    Ok(row.get_ref(column)?.as_str()?)
}

/// The text of a column; none where it is null.
pub(super) fn text_or_null<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(column)?.as_str_or_null()?)
}

/// The error of a query for a message that the index names.
pub(super) fn missing(error: rusqlite::Error) -> Failed {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Failed::Index(error),
        _ => Failed::Database(error),
    }
}

/// A string by which the messages of one moment sort as in listings.
pub(super) fn order_key(messages: &Connection, seq: i64) -> rusqlite::Result<String> {
    messages.prepare_cached(ORDER_KEY)?.query_row([seq], |row| row.get(0))
}

/// The same; none if there is no such message.
pub(super) fn order_key_if_there(messages: &Connection, seq: i64) -> rusqlite::Result<Option<String>> {
    order_key(messages, seq).optional()
}

/// The same string for a place. The separator is less than every character of an id, so that the id decides first.
pub(super) fn order_key_of(place: &Place) -> String {
    format!("{}{SEPARATOR}{}", place.message_id.as_str(), place.source.as_str())
}

/// The messages of these entries in the order of listings, without the first `skip`, at most `limit`. The entries are sorted
/// by moment, and include all messages of each moment.
fn page(messages: &Connection, entries: &[Entry], skip: u64, limit: u64) -> Result<Vec<Message>, Failed> {
    let mut sorted = entries
        .iter()
        .map(|entry| Ok((entry.moment, order_key(messages, entry.seq).map_err(missing)?, entry.seq)))
        .collect::<Result<Vec<(Moment, String, i64)>, Failed>>()?;
    sorted.sort_unstable();
    let page = sorted.into_iter().skip(to_usize(skip)).take(to_usize(limit));
    fetch(messages, page.map(|(_, _, seq)| seq))
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
        message_id: checked(row, 0, Name::new)?,
        source: checked(row, 1, Source::new)?,
        from: name(row, 2)?,
        to: name(row, 3)?,
        ts: timestamp(row, 4)?,
        text: row.get(7)?,
    })
}

/// The event in a row of the columns of `event_columns`.
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Arrived> {
    let (source, key) = source_and_key(row, 0)?;
    let kind = Kind::of_number(row.get(1)?).ok_or_else(|| invalid(1, Type::Integer, "no kind of event"))?;
    let ts = row.get_ref(9)?.as_i64_or_null()?.map(|_| timestamp(row, 9)).transpose()?;
    let received_at = row.get_ref(12)?.as_i64_or_null()?.map(|ms| from_milliseconds(ms, 12)).transpose()?;
    let event = Event {
        source,
        key,
        kind,
        r#type: name(row, 2)?,
        from: name(row, 3)?,
        to: name(row, 4)?,
        user_id: name(row, 5)?,
        thread: name(row, 6)?,
        r#ref: name(row, 7)?,
        account: name(row, 8)?,
        ts,
        received_at,
        text: row.get(13)?,
        data: row.get::<_, Option<Box<str>>>(14)?.map(Data::from_json),
    };
    Ok(Arrived { seq: row.get(15)?, event: event.with_implied() })
}

/// The events under these sources and keys that are stored.
pub(super) fn with_keys(events: &Connection, keys: &[(Source, Name)]) -> rusqlite::Result<Vec<Event>> {
    let mut by_identity = events.prepare_cached(BY_IDENTITY)?;
    let mut find = |(source, key): &(Source, Name)| {
        let found = by_identity.query_row([identity(source, key)], event).optional();
        found.map(|found| found.map(|arrived| arrived.event)).transpose()
    };
    keys.iter().filter_map(&mut find).collect()
}

/// The events with arrival numbers above `after`, at most `limit`, in order of arrival.
pub(super) fn arrived(events: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<Arrived>> {
    events.prepare_cached(ARRIVED)?.query_map((after, limit), event)?.collect()
}

/// A time as it is stored where Lyftr gives it: whole milliseconds since 1970-01-01T00:00:00Z.
pub(super) fn to_milliseconds(at: Timestamp) -> i64 {
    at.second() * 1_000 + i64::from(at.nanosecond() / 1_000_000)
}

/// The reverse of [`to_milliseconds`], for the value of a column.
pub(super) fn from_milliseconds(milliseconds: i64, column: usize) -> rusqlite::Result<Timestamp> {
    let nanosecond = u32::try_from(milliseconds.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
    Timestamp::from_parts(milliseconds.div_euclid(1_000), nanosecond, 3)
        .map_err(|bad| invalid(column, Type::Integer, bad))
}

/// The timestamp in the three columns from `first` on.
pub(super) fn timestamp(row: &Row<'_>, first: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_parts(row.get(first)?, row.get(first + 1)?, row.get(first + 2)?)
        .map_err(|bad| invalid(first, Type::Integer, bad))
}

/// A column that may hold a name.
fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Name>> {
    let Some(name) = row.get_ref(column)?.as_str_or_null()? else { return Ok(None) };
    Name::new(name).map(Some).map_err(|violation| invalid(column, Type::Text, violation.reason))
}

/// A string column, validated by the rule of its field.
pub(super) fn checked<T>(
    row: &Row<'_>,
    column: usize,
    check: impl Fn(&str) -> Result<T, RuleViolation>,
) -> rusqlite::Result<T> {
    check(row.get_ref(column)?.as_str()?).map_err(|violation| invalid(column, Type::Text, violation.reason))
}

/// The error for a value that breaks the rule of its column.
pub(super) fn invalid(
    column: usize,
    found: Type,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, why.into())
}
