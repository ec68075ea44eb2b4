//! Turns rows into events and messages.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::layout::{Layout, bucket, stored_source};
use crate::event::{Arrived, Data, Event, Kind, Source};
use crate::message::{Message, Moment, Name, RuleViolation, Timestamp};
use crate::store::matches::Entry;
use crate::store::nearest::Rows;

/// The columns that [`message`] reads.
pub(super) const COLUMNS: &str =
    "message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text, source";
/// The columns of an event that [`arrived`] reads.
pub(super) const EVENT_COLUMNS: &str = "\
    seq, source, key, kind, type, sender, recipient, user_id, thread, ref, account, ts_second, ts_nanosecond, ts_digits, \
    received_ms, text, data";
/// The number of these columns.
pub(super) const EVENT_WIDTH: usize = 17;
/// The order of listings.
pub(super) const IN_ORDER: &str = "ts_second, ts_nanosecond, message_id, source";

const MILLISECONDS: i64 = 1_000;
pub(super) const NANOSECONDS_A_MILLISECOND: u32 = 1_000_000;

/// The message in a row of [`COLUMNS`].
pub(super) fn message(row: &Row) -> Result<Message, PgError> {
    Ok(Message {
        message_id: checked(row, 0, Name::new)?,
        from: checked_if_there(row, 1)?,
        to: checked_if_there(row, 2)?,
        ts: timestamp(row, 3)?,
        text: row.try_get::<_, Option<&str>>(6)?.map(Into::into),
        source: checked(row, 7, Source::new)?,
    })
}

/// The event in a row that begins with [`EVENT_COLUMNS`].
pub(super) fn arrived(row: &Row) -> Result<Arrived, PgError> {
    let unexpected = |what: &str| PgError::UnexpectedResponse(what.into());
    let kind: i16 = row.try_get(3)?;
    let kind = Kind::of_number(kind.into()).ok_or_else(|| unexpected("an event of an unknown kind"))?;
    let ts = match row.try_get::<_, Option<i64>>(11)? {
        Some(_) => Some(timestamp(row, 11)?),
        None if kind == Kind::Message => return Err(unexpected("a message without a time")),
        None => None,
    };
    let event = Event {
        source: source(row.try_get(1)?)?,
        key: checked(row, 2, Name::new)?,
        kind,
        r#type: checked_if_there(row, 4)?,
        from: checked_if_there(row, 5)?,
        to: checked_if_there(row, 6)?,
        user_id: checked_if_there(row, 7)?,
        thread: checked_if_there(row, 8)?,
        r#ref: checked_if_there(row, 9)?,
        account: checked_if_there(row, 10)?,
        ts,
        received_at: row.try_get::<_, Option<i64>>(14)?.map(from_milliseconds).transpose()?,
        text: row.try_get::<_, Option<&str>>(15)?.map(Into::into),
        data: row.try_get::<_, Option<&str>>(16)?.map(Data::from_json),
    };
    Ok(Arrived { seq: row.try_get(0)?, event: event.with_implied() })
}

/// The source by its name in the table.
pub(super) fn source(stored: &str) -> Result<Source, PgError> {
    if stored.is_empty() {
        return Ok(Source::WEBHOOK);
    }
    let source = Source::new(stored).ok().filter(|source| !source.is_built_in());
    source.ok_or_else(|| PgError::UnexpectedResponse("a source with an impossible name".into()))
}

/// Events that are stored under these sources and keys.
pub(super) fn stored(session: &Session<'_>, keys: &[(&Source, &Name)]) -> Result<Vec<Event>, PgError> {
    let mut of_source: HashMap<&str, (Vec<i16>, Vec<&str>)> = HashMap::new();
    for &(source, key) in keys {
        let (buckets, keys) = of_source.entry(stored_source(source)).or_default();
        buckets.push(bucket(source, key.as_str()));
        keys.push(key.as_str());
    }
    let sql = format!(
        "SELECT {EVENT_COLUMNS} FROM event
         WHERE source = $1 AND (bucket, key) IN (SELECT bucket, key FROM unnest($2::smallint[], $3::text[]) AS given (bucket, key))"
    );
    let mut found = Vec::with_capacity(keys.len());
    for (source, (buckets, keys)) in of_source {
        for row in session.query(&sql, &[&source, &buckets, &keys])? {
            found.push(arrived(&row)?.event);
        }
    }
    Ok(found)
}

/// Events in the order of arrival or against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    /// Whether they go from the latest to the first.
    pub(super) backwards: bool,
    /// Whether all of them are about one object, so that the order is also that of an index by object and arrival.
    pub(super) by_ref: bool,
    /// Maximum number of events.
    pub(super) limit: i64,
    /// Maximum size of their texts and data, in bytes; the event that crosses it is still among them.
    pub(super) bytes: i64,
}

impl Portion {
    /// Passes the next events that meet the conditions to `each`; returns whether there may be more than those.
    pub(super) fn read(
        self,
        session: &Session<'_>,
        layout: Layout,
        mut conditions: Conditions,
        mut each: impl FnMut(Arrived) -> Result<(), PgError>,
    ) -> Result<bool, PgError> {
        let Self { backwards, by_ref, limit, bytes } = self;
        let (events, order) = (layout.events, if backwards { "DESC" } else { "ASC" });
        let by = if by_ref { format!("ref {order}, seq {order}") } else { format!("seq {order}") };
        let (most, most_bytes) = (conditions.bind(limit), conditions.bind(bytes));
        let terms = conditions.sql();
        // The sizes are known without reading what is large.
        let sql = format!(
            "SELECT {EVENT_COLUMNS}, upto FROM (
                 SELECT {EVENT_COLUMNS}, size, sum(size) OVER (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING)::bigint AS upto
                 FROM (
                     SELECT {EVENT_COLUMNS}, coalesce(octet_length(text), 0)::bigint + coalesce(octet_length(data), 0) AS size
                     FROM {events} WHERE {terms} ORDER BY {by} LIMIT {most}
                 ) AS sized
             ) AS found WHERE upto - size < {most_bytes} ORDER BY seq {order}"
        );
        let (mut count, mut size) = (0, 0);
        session.each(&sql, &conditions.parameters(), |row| {
            count += 1;
            size = row.try_get(EVENT_WIDTH)?;
            each(arrived(row)?)
        })?;
        Ok(count >= limit || size >= bytes)
    }
}

/// Events with arrival numbers above `after` and up to `upto`, in order of arrival: at most `limit`, and fewer if they are
/// large.
pub(super) fn arrived_after(
    session: &Session<'_>,
    layout: Layout,
    after: i64,
    upto: i64,
    limit: u32,
) -> Result<Vec<Arrived>, PgError> {
    const BYTES_MAX: i64 = 4 << 20;
    let mut conditions = Conditions::default();
    let (after, upto) = (conditions.bind(after), conditions.bind(upto));
    conditions.add(format!("seq > {after} AND seq <= {upto}"));
    let mut found = Vec::new();
    let portion = Portion { backwards: false, by_ref: false, limit: limit.into(), bytes: BYTES_MAX };
    portion.read(session, layout, conditions, |arrived| {
        found.push(arrived);
        Ok(())
    })?;
    Ok(found)
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

/// A time by the milliseconds since 1970-01-01T00:00:00Z.
pub(super) fn from_milliseconds(milliseconds: i64) -> Result<Timestamp, PgError> {
    let rest = u32::try_from(milliseconds.rem_euclid(MILLISECONDS)).unwrap_or(0);
    let second = milliseconds.div_euclid(MILLISECONDS);
    Timestamp::from_parts(second, rest * NANOSECONDS_A_MILLISECOND, 3)
        .map_err(|error| PgError::UnexpectedResponse(error.into()))
}

/// The whole milliseconds of a time since 1970-01-01T00:00:00Z.
pub(super) fn milliseconds(at: Timestamp) -> i64 {
    at.second() * MILLISECONDS + i64::from(at.nanosecond() / NANOSECONDS_A_MILLISECOND)
}

/// A string column, validated by the rule of its field.
pub(super) fn checked<T>(
    row: &Row,
    column: usize,
    check: impl Fn(&str) -> Result<T, RuleViolation>,
) -> Result<T, PgError> {
    check(row.try_get(column)?).map_err(|violation| PgError::UnexpectedResponse(violation.reason.into()))
}

/// The name in a column that may be null.
fn checked_if_there(row: &Row, column: usize) -> Result<Option<Name>, PgError> {
    let value: Option<&str> = row.try_get(column)?;
    value.map(Name::new).transpose().map_err(|violation| PgError::UnexpectedResponse(violation.reason.into()))
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
            "SELECT {COLUMNS} FROM message WHERE seq = ANY ($1) ORDER BY {IN_ORDER} OFFSET $2 LIMIT $3"
        );
        self.query(&sql, &[&seqs, &bigint(skip), &bigint(limit)])?.iter().map(message).collect()
    }
}
