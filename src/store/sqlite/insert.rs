//! Adds events, each identity once.

use rusqlite::{CachedStatement, Connection, params};

use super::erasure::is_erased;
use super::identity::identity;
use super::rows::to_milliseconds;
use crate::erasure::TombstoneKey;
use crate::event::{Data, Event};
use crate::message::{Name, Timestamp};
use crate::store::Outcome;

/// The greatest arrival number that was ever given. `AUTOINCREMENT` would keep it in a row that each batch changes; here a
/// trigger raises it when an event is removed, so that a batch only reads it.
macro_rules! latest {
    () => {
        "max((SELECT coalesce(max(seq), 0) FROM event), (SELECT last_seq FROM log))"
    };
}
pub(super) use latest;
const LATEST: &str = concat!("SELECT ", latest!());
const INSERT: &str = "\
    INSERT INTO event (seq, identity, kind, sender, recipient, ts_second, ts_nanosecond, ts_digits, text, received_ms,
        type, user_id, thread, ref, account, data)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT (identity) DO NOTHING";
/// As [`Event::says_the_same`]: the time counts for the built-in source.
const IS_SAME: &str = "\
    SELECT kind = ?2 AND sender IS ?3 AND recipient IS ?4 AND text IS ?8
        AND (identity < ' ' OR ts_second IS ?5 AND ts_nanosecond IS ?6 AND ts_digits IS ?7)
    FROM event WHERE identity = ?1";

/// Adds the events that are new, in their order; returns the outcome of each, and the greatest arrival number there is then.
/// `erased` is the key of the tombstones, if there are any. To be called in a transaction that holds the write lock.
pub(super) fn insert<'a>(
    conn: &Connection,
    erased: Option<&TombstoneKey>,
    batch: impl IntoIterator<Item = &'a Event>,
) -> rusqlite::Result<(Vec<Outcome>, i64)> {
    let mut latest: i64 = conn.prepare_cached(LATEST)?.query_row((), |row| row.get(0))?;
    let mut insert = conn.prepare_cached(INSERT)?;
    let mut outcomes = Vec::new();
    for event in batch {
        if let Some(of) = erased
            && is_erased(conn, &of.tombstone(&event.source, &event.key))?
        {
            outcomes.push(Outcome::Erased);
            continue;
        }
        outcomes.push(insert_one(conn, &mut insert, event, latest + 1)?);
        latest += i64::from(matches!(outcomes.last(), Some(Outcome::Created { .. })));
    }
    Ok((outcomes, latest))
}

/// Stores one event under `seq`, unless another one is stored under its identity. `insert` is [`INSERT`].
fn insert_one(
    conn: &Connection,
    insert: &mut CachedStatement<'_>,
    event: &Event,
    seq: i64,
) -> rusqlite::Result<Outcome> {
    fn text(name: Option<&Name>) -> Option<&str> {
        name.map(Name::as_str)
    }
    let Event { source, key, kind, r#type, from, to, user_id, thread, r#ref, account, .. } = event;
    let Event { ts, received_at, text: words, data, .. } = event;
    let identity = identity(source, key);
    let (kind, from, to, words) = (kind.number(), text(from.as_ref()), text(to.as_ref()), words.as_deref());
    let (second, nanosecond, digits) =
        (ts.map(Timestamp::second), ts.map(Timestamp::nanosecond), ts.map(Timestamp::digits));
    // What follows from other fields is not stored; `Event::with_implied` gives it back.
    let [r#type, user_id, thread, r#ref, account] = if source.is_built_in() {
        [None; 5]
    } else {
        [r#type, user_id, thread, r#ref, account].map(|name| text(name.as_ref()))
    };
    let (received_ms, data) = (received_at.map(to_milliseconds), data.as_ref().map(Data::as_str));
    let row = params![
        seq,
        identity,
        kind,
        from,
        to,
        second,
        nanosecond,
        digits,
        words,
        received_ms,
        r#type,
        user_id,
        thread,
        r#ref,
        account,
        data,
    ];
    if insert.execute(row)? == 1 {
        return Ok(Outcome::Created { seq });
    }
    let given = params![identity, kind, from, to, second, nanosecond, digits, words];
    let same = conn.prepare_cached(IS_SAME)?.query_row(given, |row| row.get(0))?;
    Ok(if same { Outcome::Duplicate } else { Outcome::Conflict })
}
