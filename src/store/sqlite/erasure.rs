//! Erases events: finds those that an erasure selects, takes them away, and keeps their tombstones and positions.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::{free_space, log};
use crate::erasure::{Erasure, Step, Tombstone, TombstoneKey, Tombstones};
use crate::event::{Arrived, Position, Source};
use crate::message::{Name, Timestamp};

/// Maximum number of events that one step erases.
pub(super) const STEP_MAX: usize = 500;
/// Time after which a step erases no further event: a batch may wait for it.
const STEP_TIME: Duration = Duration::from_millis(5);

const FIRST_AFTER: &str = "SELECT min(seq) FROM event WHERE seq > ?1";
const SELECTED: &str = "SELECT seq FROM event WHERE seq > ?1 AND seq <= ?2";
const COUNT: &str = "SELECT count(*) FROM event WHERE seq > ?1 AND seq <= ?2";
const FIRST_ONES: &str = " ORDER BY seq LIMIT ?3";
const DELETE: &str = "DELETE FROM event WHERE seq = ?1";
const KEEP_HASH: &str = "INSERT INTO erased (hash) VALUES (?1) ON CONFLICT DO NOTHING";
const KEEP_POSITION: &str = "INSERT OR REPLACE INTO erased_position (seq, tag) VALUES (?1, ?2)";
const TAG: &str = "SELECT tag FROM erased_position WHERE seq = ?1";
const KEY: &str = "SELECT key FROM erasure";
const SET_KEY: &str = "UPDATE erasure SET key = ?1";
const ANY_HASH: &str = "SELECT 1 FROM erased LIMIT 1";
const HASH: &str = "SELECT 1 FROM erased WHERE hash = ?1";
const HASHES: &str = "SELECT hash FROM erased WHERE hash > ?1 ORDER BY hash LIMIT ?2";
/// Nothing is derived from the events of a new database.
const FORGET_REMOVED: &str = "DELETE FROM removed";
const ALL_WIPED: &str = "UPDATE erasure SET wiped = erasures";
const ERASURES: &str = "SELECT erasures FROM erasure";

/// A part of the log in which an erasure looks for events.
struct Window {
    after: i64,
    upto: i64,
    /// Where the next one begins; `None` if there are no events after this one.
    next: Option<i64>,
}

impl Window {
    /// The window of so many arrival numbers at the first event after `after`; `None` if there is no such event.
    fn after(events: &Connection, after: i64, size: i64) -> rusqlite::Result<Option<Self>> {
        let mut first_after = events.prepare_cached(FIRST_AFTER)?;
        let mut first = |after| first_after.query_row([after], |row| row.get::<_, Option<i64>>(0));
        let Some(begin) = first(after)? else { return Ok(None) };
        let upto = begin.saturating_add(size - 1);
        Ok(Some(Self { after, upto, next: first(upto)?.map(|_| upto) }))
    }
}

/// The arrival numbers of the first selected events after `after`, looking at `window` arrival numbers at most, and where to
/// go on.
pub(super) fn selected(
    events: &Connection,
    erasure: &Erasure,
    after: i64,
    window: i64,
) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    let Some(Window { after, upto, next }) = Window::after(events, after, window)? else {
        return Ok((Vec::new(), None));
    };
    let limit = i64::try_from(STEP_MAX).unwrap_or(i64::MAX);
    let mut given = vec![after.into(), upto.into(), limit.into()];
    let sql = format!("{SELECTED}{}{FIRST_ONES}", log::conditions_of(erasure, &mut given));
    let mut statement = events.prepare_cached(&sql)?;
    let found: Vec<i64> =
        statement.query_map(params_from_iter(given), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let next = if found.len() == STEP_MAX { found.last().copied() } else { next };
    Ok((found, next))
}

/// [`Store::count_selected`](crate::store::Store::count_selected); looks at `window` arrival numbers at most.
pub(super) fn count(
    events: &Connection,
    erasure: &Erasure,
    after: i64,
    window: i64,
) -> rusqlite::Result<Step> {
    let Some(Window { after, upto, next }) = Window::after(events, after, window)? else {
        return Ok(Step::default());
    };
    let mut given = vec![after.into(), upto.into()];
    let sql = format!("{COUNT}{}", log::conditions_of(erasure, &mut given));
    let events = events.prepare_cached(&sql)?.query_row(params_from_iter(given), |row| row.get(0))?;
    Ok(Step { events, next })
}

/// Erases the events with these arrival numbers, in ascending order, until [`STEP_TIME`] has passed. `next` is where the
/// search for them has come to. Returns the step and the key of the tombstones. To be called in a transaction that holds the write lock.
pub(super) fn erase(
    conn: &Connection,
    found: &[i64],
    next: Option<i64>,
) -> rusqlite::Result<(Step, TombstoneKey)> {
    let begin = Instant::now();
    let (log, key) = (log::id(conn)?, key(conn)?);
    let mut step = Step { events: 0, next };
    let mut gone = Vec::with_capacity(found.len());
    for (nth, seq) in found.iter().enumerate() {
        if let Some(arrived) = log::place(conn, *seq)? {
            let Arrived { event, .. } = &arrived;
            let tag = Position::of(&log, &arrived).tag.cast_signed();
            conn.prepare_cached(KEEP_HASH)?.execute([key.tombstone(&event.source, &event.key)])?;
            conn.prepare_cached(KEEP_POSITION)?.execute((seq, tag))?;
            conn.prepare_cached(DELETE)?.execute([seq])?;
            step.events += 1;
            gone.push(*seq);
        }
        if nth + 1 < found.len() && begin.elapsed() >= STEP_TIME {
            step.next = Some(*seq);
            break;
        }
    }
    free_space::around(conn, &gone)?;
    Ok((step, key))
}

/// The tag of an erased event's position.
pub(super) fn tag_at(events: &Connection, seq: i64) -> rusqlite::Result<Option<u64>> {
    let tag = events.prepare_cached(TAG)?.query_row([seq], |row| row.get(0)).optional()?;
    Ok(tag.map(i64::cast_unsigned))
}

/// The number of events that were ever erased, or taken away by a hand.
pub(super) fn erasures(events: &Connection) -> rusqlite::Result<i64> {
    events.prepare_cached(ERASURES)?.query_row((), |row| row.get(0))
}

/// The key of the tombstones; `None` if there are none.
pub(super) fn key_in_use(conn: &Connection) -> rusqlite::Result<Option<TombstoneKey>> {
    if conn.prepare_cached(ANY_HASH)?.exists(())? { key(conn).map(Some) } else { Ok(None) }
}

fn key(conn: &Connection) -> rusqlite::Result<TombstoneKey> {
    conn.prepare_cached(KEY)?.query_row((), |row| row.get(0)).map(TombstoneKey::new)
}

/// Whether there is this tombstone.
pub(super) fn is_erased(conn: &Connection, tombstone: &Tombstone) -> rusqlite::Result<bool> {
    conn.prepare_cached(HASH)?.exists([tombstone])
}

/// [`Store::erased`](crate::store::Store::erased)
pub(super) fn erased(conn: &Connection, keys: &[(Source, Name)]) -> rusqlite::Result<Vec<bool>> {
    let Some(of) = key_in_use(conn)? else { return Ok(vec![false; keys.len()]) };
    keys.iter().map(|(source, key)| is_erased(conn, &of.tombstone(source, key))).collect()
}

/// [`Store::tombstones`](crate::store::Store::tombstones)
pub(super) fn tombstones(
    conn: &Connection,
    after: Option<&Tombstone>,
    limit: u32,
) -> rusqlite::Result<Option<Tombstones>> {
    let Some(key) = key_in_use(conn)? else { return Ok(None) };
    // An empty string is less than every hash.
    let after = after.map_or(&[][..], |after| after);
    let mut statement = conn.prepare_cached(HASHES)?;
    let hashes = statement.query_map((after, limit), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Some(Tombstones { key, hashes }))
}

/// [`Store::adopt_tombstones`](crate::store::Store::adopt_tombstones), in a transaction that holds the write lock.
pub(super) fn adopt(conn: &Connection, tombstones: &Tombstones) -> rusqlite::Result<bool> {
    match key_in_use(conn)? {
        Some(other) if other != tombstones.key => return Ok(false),
        Some(_) => {}
        None => {
            conn.prepare_cached(SET_KEY)?.execute([tombstones.key.expose()])?;
        }
    }
    let mut keep = conn.prepare_cached(KEEP_HASH)?;
    for hash in &tombstones.hashes {
        keep.execute([hash])?;
    }
    Ok(true)
}

/// Removes the events of these tombstones from a database that nobody else uses, with every trace of them. Goes through all
/// events. Returns the number of those that were removed.
pub(super) fn remove(conn: &Connection, erased: &Tombstones) -> rusqlite::Result<usize> {
    let hashes: HashSet<Tombstone> = erased.hashes.iter().copied().collect();
    let (mut after, mut gone) = (0, Vec::new());
    while let Some(seq) = conn.prepare_cached(FIRST_AFTER)?.query_row([after], |row| row.get(0))? {
        after = seq;
        if let Some(Arrived { event, .. }) = log::place(conn, seq)?
            && hashes.contains(&erased.key.tombstone(&event.source, &event.key))
        {
            conn.prepare_cached(DELETE)?.execute([seq])?;
            gone.push(seq);
        }
    }
    for gone in gone.chunks(STEP_MAX) {
        free_space::around(conn, gone)?;
    }
    conn.execute(FORGET_REMOVED, ())?;
    for page in free_space::pages(conn, free_space::IDENTITIES)? {
        free_space::clean(conn, page)?;
    }
    conn.execute(ALL_WIPED, ())?;
    Ok(gone.len())
}

/// An instant in whole milliseconds, rounded up: what was received in a millisecond before it was received before the
/// instant.
pub(super) fn milliseconds_up(at: Timestamp) -> i64 {
    at.second() * 1_000 + i64::from(at.nanosecond().div_ceil(1_000_000))
}
