//! Reads of the log: the events in the order of arrival, each read in one snapshot that ends with the call.

use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::erasure;
use super::identity::{identities_of, identity};
use super::rows::{event, event_columns};
use crate::erasure::Erasure;
use crate::event::{Arrived, LogFilter, LogId, LogRead, Position, Reached, Recorded, Source, Start, Way};
use crate::message::Name;

const ID: &str = "SELECT id FROM log";
const AT: &str = concat!("SELECT ", event_columns!(), " FROM event WHERE seq = ?1");
/// What a position is made of, without the rest of the event.
const PLACE: &str = "\
    SELECT identity, kind, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, received_ms, NULL, NULL, seq
    FROM event WHERE seq = ?1";
const LATEST: &str = "SELECT max(seq) FROM event";
/// Of whichever source, as the view `message` has it.
const KEY_IS: &str = "\
    CASE WHEN identity >= ' ' THEN identity ELSE substr(identity, 2 + instr(substr(identity, 2), char(31))) END = ?";
const EVENTS: &str = concat!("SELECT ", event_columns!(), " FROM event");
/// By statistics alone, SQLite may take the object of few events for that of most, and go through all.
const BY_REF: &str = " INDEXED BY event_by_ref";
const COUNT_AFTER: &str = "SELECT count(*) FROM (SELECT 1 FROM event WHERE seq > ?1 LIMIT ?2)";
/// Events are counted one by one up to this number.
const COUNTED_MAX: u64 = 1_000;

/// One direction through the log. Arrival numbers are compared with a bound that is excluded, `?1`, and one that is included.
#[derive(Debug)]
struct Direction {
    /// The next arrival number after a bound.
    next: &'static str,
    /// The last arrival number after a bound and up to another one.
    last: &'static str,
    between: &'static str,
    order: &'static str,
    /// The arrival number of one of the events about an object: that which comes so many after the first.
    about: &'static str,
    sign: i64,
    /// No arrival number is further away.
    furthest: i64,
}

const FORWARDS: Direction = Direction {
    next: "SELECT min(seq) FROM event WHERE seq > ?1",
    last: "SELECT max(seq) FROM event WHERE seq > ?1 AND seq <= ?2",
    between: " WHERE seq > ?1 AND seq <= ?2",
    order: " ORDER BY seq LIMIT ?3",
    about: "SELECT seq FROM event INDEXED BY event_by_ref WHERE ref = ?2 AND seq > ?1 ORDER BY seq LIMIT 1 OFFSET ?3",
    sign: 1,
    furthest: i64::MAX,
};
const BACKWARDS: Direction = Direction {
    next: "SELECT max(seq) FROM event WHERE seq < ?1",
    last: "SELECT min(seq) FROM event WHERE seq < ?1 AND seq >= ?2",
    between: " WHERE seq < ?1 AND seq >= ?2",
    order: " ORDER BY seq DESC LIMIT ?3",
    about: "SELECT seq FROM event INDEXED BY event_by_ref WHERE ref = ?2 AND seq < ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?3",
    sign: -1,
    furthest: i64::MIN,
};

/// [`Store::event_at`](crate::store::Store::event_at)
pub(super) fn event_at(events: &Connection, position: Position) -> rusqlite::Result<Option<Recorded>> {
    let log = id(events)?;
    let found = events.prepare_cached(AT)?.query_row([position.seq], event).optional()?;
    Ok(found.map(|arrived| Recorded::new(&log, arrived)).filter(|recorded| recorded.position == position))
}

/// Whether a position names an event of this log, be it one that was erased.
pub(super) fn is_there(events: &Connection, position: Position) -> rusqlite::Result<bool> {
    let Position { seq, tag } = position;
    match position_at(events, &id(events)?, seq)? {
        Some(found) => Ok(found == position),
        None => Ok(erasure::tag_at(events, seq)? == Some(tag)),
    }
}

/// [`Store::read_log`](crate::store::Store::read_log); looks at `window` events at most.
pub(super) fn read(
    events: &Connection,
    read: &LogRead,
    window: i64,
    each: &mut dyn FnMut(Recorded) -> bool,
) -> rusqlite::Result<Option<Reached>> {
    let (log, erasures) = (id(events)?, erasure::erasures(events)?);
    let (start, begin) = match read.start {
        Start::After(position) | Start::Before(position) => {
            if !is_there(events, position)? {
                return Ok(None);
            }
            (position.seq, Some(position))
        }
        Start::Beginning => (0, None),
        Start::Latest => (i64::MAX, None),
        Start::Now => {
            let next = latest(events)?.map(|seq| position_at(events, &log, seq)).transpose()?.flatten();
            return Ok(Some(Reached { next, end: true, erasures }));
        }
    };
    let direction = if read.start.is_backwards() { BACKWARDS } else { FORWARDS };
    let Some(first) = direction.after(events, start)? else {
        return Ok(Some(Reached { next: begin, end: true, erasures }));
    };
    let way = read.filter.way();
    let upto = match way {
        Way::Key => direction.furthest,
        Way::Ref(about) => direction.nth(events, start, about, window)?.unwrap_or(direction.furthest),
        Way::Arrival => first.saturating_add(direction.sign * (window - 1)),
    };
    let (let_through, is_full) = direction.read(events, (start, upto), read, &mut |arrived| {
        let recorded = Recorded::new(&log, arrived);
        let position = recorded.position;
        (position, each(recorded))
    })?;
    let last = match let_through {
        Some(position) if is_full && way != Way::Key => Some(position),
        // The filter may have left out what comes after that in the window.
        _ => match events.prepare_cached(direction.last)?.query_row((start, upto), |row| row.get(0))? {
            Some(seq) => position_at(events, &log, seq)?,
            None => None,
        },
    };
    let end = match last {
        Some(position) => direction.after(events, position.seq)?.is_none(),
        None => true,
    };
    Ok(Some(Reached { next: last.or(begin), end, erasures }))
}

impl Direction {
    /// The arrival number that follows another one.
    fn after(&self, events: &Connection, seq: i64) -> rusqlite::Result<Option<i64>> {
        events.prepare_cached(self.next)?.query_row([seq], |row| row.get(0))
    }

    /// The arrival number of the nth event about an object after another number, if there are so many.
    fn nth(&self, events: &Connection, seq: i64, about: &str, n: i64) -> rusqlite::Result<Option<i64>> {
        events.prepare_cached(self.about)?.query_row((seq, about, n - 1), |row| row.get(0)).optional()
    }

    /// The statement for the events that a filter lets through. Its values are added to those that are given: the two bounds and
    /// the limit.
    fn sql(&self, filter: &LogFilter, given: &mut Vec<Value>) -> String {
        let index = if matches!(filter.way(), Way::Ref(_)) { BY_REF } else { "" };
        format!("{EVENTS}{index}{}{}{}", self.between, conditions(filter, given), self.order)
    }

    /// Hands over the events after one number and up to another one that the filter lets through. Returns the position of
    /// the last of them, and whether there may be more of them.
    fn read(
        &self,
        events: &Connection,
        (after, upto): (i64, i64),
        read: &LogRead,
        each: &mut dyn FnMut(Arrived) -> (Position, bool),
    ) -> rusqlite::Result<(Option<Position>, bool)> {
        let mut given = vec![after.into(), upto.into(), i64::from(read.limit).into()];
        let sql = self.sql(&read.filter, &mut given);
        let mut statement = events.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(given))?;
        let (mut last, mut count) = (None, 0);
        while let Some(row) = rows.next()? {
            let (position, go_on) = each(event(row)?);
            last = Some(position);
            count += 1;
            if !go_on || count == read.limit {
                return Ok((last, true));
            }
        }
        Ok((last, false))
    }
}

/// The conditions of an erasure, whose values are added to those that are given.
pub(super) fn conditions_of(erasure: &Erasure, given: &mut Vec<Value>) -> String {
    let mut conditions = conditions(erasure.filter(), given);
    if let Some(person) = erasure.person() {
        let condition = "(sender = ? OR recipient = ? OR user_id = ? OR thread = ?)";
        add(&mut conditions, given, condition, person.to_owned().into());
    }
    if let Some(until) = erasure.until() {
        let condition = "(received_ms IS NULL OR received_ms < ?)";
        add(&mut conditions, given, condition, erasure::milliseconds_up(until).into());
    }
    for source in erasure.excepted() {
        let (from, to) = identities_of(source.as_str());
        match to {
            // Neither below nor above them.
            Some(to) => {
                given.extend([from.into(), to.into()]);
                let (to, from) = (given.len(), given.len() - 1);
                let _infallible = write!(conditions, " AND NOT (+identity >= ?{from} AND +identity < ?{to})");
            }
            None => add(&mut conditions, given, "+identity < ?", from.into()),
        }
    }
    conditions
}

/// The identity of the event of this source and key; `None`, which equals nothing, if no event can have them.
fn identity_of(source: &str, key: &str) -> Option<String> {
    Some(identity(&Source::new(source).ok()?, &Name::new(key).ok()?).into_owned())
}

/// Adds a condition on one value to others.
fn add(conditions: &mut String, given: &mut Vec<Value>, condition: &str, value: Value) {
    given.push(value);
    conditions.push_str(" AND ");
    conditions.push_str(&condition.replace('?', &format!("?{}", given.len())));
}

/// The conditions of a filter, whose values are added to those that are given. The plus keeps SQLite from an index in another
/// order. A source and a key are one identity, which SQLite looks up in preference to everything else.
fn conditions(filter: &LogFilter, given: &mut Vec<Value>) -> String {
    let LogFilter { source, key, kind, from, to, thread, r#ref } = filter;
    let mut conditions = String::new();
    let mut add = |condition: &str, value: Value| add(&mut conditions, given, condition, value);
    match (source, key) {
        (Some(source), Some(key)) => add("identity = ?", identity_of(source, key).into()),
        (Some(source), None) => {
            let (from, to) = identities_of(source);
            add("+identity >= ?", from.into());
            if let Some(to) = to {
                add("+identity < ?", to.into());
            }
        }
        (None, Some(key)) => add(KEY_IS, key.clone().into()),
        (None, None) => {}
    }
    if let Some(kind) = kind {
        add("+kind = ?", i64::from(kind.number()).into());
    }
    for (condition, value) in [
        ("sender = ?", from),
        ("recipient = ?", to),
        // The built-in source has no threads of its own.
        ("CASE WHEN identity >= ' ' THEN sender ELSE thread END = ?", thread),
        ("ref = ?", r#ref),
    ] {
        if let Some(value) = value {
            add(condition, value.clone().into());
        }
    }
    conditions
}

/// The number of events after an arrival number, `most` at most. Many of them are not counted one by one: then those that are
/// gone are in the number too.
pub(super) fn count_after(events: &Connection, seq: i64, most: u64) -> rusqlite::Result<u64> {
    let count: u64 = events.prepare_cached(COUNT_AFTER)?.query_row((seq, COUNTED_MAX), |row| row.get(0))?;
    if count < COUNTED_MAX {
        return Ok(count.min(most));
    }
    let difference = latest(events)?.unwrap_or(seq).saturating_sub(seq);
    Ok(u64::try_from(difference).unwrap_or(0).min(most))
}

/// The name of the log.
pub(super) fn id(events: &Connection) -> rusqlite::Result<LogId> {
    events.prepare_cached(ID)?.query_row((), |row| row.get(0))
}

/// The greatest arrival number of an event that is there.
pub(super) fn latest(events: &Connection) -> rusqlite::Result<Option<i64>> {
    events.prepare_cached(LATEST)?.query_row((), |row| row.get(0))
}

/// The position of the event with this arrival number.
fn position_at(events: &Connection, log: &LogId, seq: i64) -> rusqlite::Result<Option<Position>> {
    Ok(place(events, seq)?.map(|arrived| Position::of(log, &arrived)))
}

/// The event with this arrival number, with no more than its position is made of.
pub(super) fn place(events: &Connection, seq: i64) -> rusqlite::Result<Option<Arrived>> {
    events.prepare_cached(PLACE)?.query_row([seq], event).optional()
}

#[cfg(test)]
mod tests {
    use super::super::migrate;
    use super::*;

    /// How SQLite finds the events that a filter lets through, in each direction, by whatever it takes to be in the database.
    fn plans(filter: &LogFilter) -> Vec<String> {
        let events = migrate::example(usize::try_from(migrate::VERSION).unwrap()).unwrap();
        events.execute_batch("ANALYZE").unwrap();
        let mut plans = Vec::new();
        for rows in ["1", "7", "1000000"] {
            // Nothing is in the table, and no index tells its rows apart.
            let every_index =
                "INSERT INTO sqlite_stat1 SELECT 'event', name, ?1 || ' ' || ?1 || ' ' || ?1 FROM sqlite_schema
                 WHERE type = 'index' AND tbl_name = 'event'";
            events.execute("DELETE FROM sqlite_stat1", ()).unwrap();
            events.execute(every_index, [rows]).unwrap();
            events.execute_batch("ANALYZE sqlite_schema").unwrap();
            for direction in [FORWARDS, BACKWARDS] {
                let mut given = vec![0.into(), 1.into(), 100.into()];
                let sql = direction.sql(filter, &mut given);
                let mut plan = events.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let steps = plan.query_map(params_from_iter(given), |row| row.get::<_, String>(3)).unwrap();
                plans.extend(steps.map(Result::unwrap));
            }
        }
        plans
    }

    #[test]
    fn the_event_of_a_source_and_a_key_is_looked_up() {
        let key = LogFilter { source: Some("shop".into()), key: Some("k".into()), ..LogFilter::default() };
        let expected = "SEARCH event USING INDEX sqlite_autoindex_event_1 (identity=?)";
        for filter in [key.clone(), LogFilter { r#ref: Some("r".into()), from: Some("+1".into()), ..key }] {
            assert_eq!(plans(&filter), [expected; 6], "{filter:?}");
        }
    }

    #[test]
    fn events_about_an_object_are_looked_up_in_the_order_of_arrival() {
        let about = LogFilter { r#ref: Some("r".into()), ..LogFilter::default() };
        let source = Some("shop".to_owned());
        let expected = "SEARCH event USING INDEX event_by_ref (ref=? AND rowid>? AND rowid<?)";
        for filter in [about.clone(), LogFilter { source, from: Some("+1".into()), ..about }] {
            assert_eq!(plans(&filter), [expected; 6], "{filter:?}");
        }
    }

    #[test]
    fn other_filters_go_through_the_log_in_its_order() {
        let some = || Some("name".to_owned());
        let filter =
            LogFilter { source: some(), from: some(), to: some(), thread: some(), ..LogFilter::default() };
        let plans = plans(&filter);
        // By the table itself, and nothing is sorted.
        let is_in_order = |plan: &String| plan == "SCAN event" || plan.contains("PRIMARY KEY (rowid");
        assert!(plans.len() == 6 && plans.iter().all(is_in_order), "{plans:?}");
    }
}
