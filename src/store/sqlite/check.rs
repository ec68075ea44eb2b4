//! Checks a database and the index beside it. Both are read from end to end in an order that they are stored in, so that
//! nothing large is kept in memory.

use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::connection::{self, explain};
use super::existing::Existing;
use super::identity::identity;
use super::location::Location;
use super::rows::{event, event_columns};
use super::{cursors, log, migrate};
use crate::event::{Arrived, Kind};
use crate::message::Name;
use crate::store::check::{Error, Report, Sum, Tell};

mod index;

use index::Index;

const INTEGRITY: &str = "PRAGMA integrity_check";
const EVENTS: &str = concat!("SELECT ", event_columns!(), " FROM event ORDER BY seq");
const BAD_HASHES: &str = "SELECT count(*) FROM erased WHERE typeof(hash) <> 'blob' OR length(hash) <> 16";
const GIVEN_AGAIN: &str = "SELECT count(*) FROM erased_position JOIN event USING (seq)";
/// What is read of the schema of an older release.
const OLD_MESSAGES: &str = "\
    SELECT message_id, 0, NULL, sender, recipient, NULL, NULL, NULL, NULL, ts_second, ts_nanosecond, ts_digits,
        NULL, text, NULL, seq
    FROM message ORDER BY seq";

/// What is there, and what the index should have of it.
#[derive(Debug, Default)]
struct Expected {
    /// Number of all events.
    events: u64,
    entries: Sum,
    texts: Sum,
}

/// Checks the database; returns the number of its events.
pub(super) fn check(location: &Location, tell: &mut Tell<'_>) -> Result<u64, Error> {
    // Before the messages, so that the snapshot of the messages has all that the index has.
    let index = Index::open(location.path());
    let existing = Existing::open(location)?;
    let Existing { conn: messages, version } = &existing;
    tell(Report::Part("pages of the database"));
    part("database", tell, |tell| integrity(messages, "database", tell))?;
    part("database", tell, |tell| schema(messages, *version, tell))?;
    let index = match index {
        Ok(index) => index.of_these(&existing, tell),
        Err(event) => {
            tell(event);
            None
        }
    };
    tell(Report::Part("events"));
    let mut expected = Expected::default();
    let sql = if existing.has_events() { EVENTS } else { OLD_MESSAGES };
    part("database", tell, |tell| read_events(messages, sql, index.as_ref(), &mut expected, tell))?;
    if existing.has_events() {
        part("database", tell, |tell| check_cursors(messages, tell))?;
    }
    if migrate::has_erasures(existing.version) {
        part("database", tell, |tell| check_erasures(messages, tell))?;
    }
    if let Some(index) = index {
        index.check(&expected, tell)?;
    }
    Ok(expected.events)
}

/// Does a part of the work. Damage that keeps SQLite from reading on is reported as a problem; another failure, such as a
/// lack of memory, is an error.
fn part(
    place: &str,
    tell: &mut Tell<'_>,
    work: impl FnOnce(&mut Tell<'_>) -> rusqlite::Result<()>,
) -> Result<(), Error> {
    let Err(error) = work(tell) else { return Ok(()) };
    let is_damage = connection::is_damage(&error);
    let error = explain(error);
    if !is_damage {
        return Err(error.into());
    }
    tell(Report::Problem(format!("{place}: cannot be read any further: {error}")));
    Ok(())
}

/// Reports the problems that SQLite finds.
fn integrity(conn: &Connection, place: &str, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(INTEGRITY)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        for line in found.lines().filter(|line| *line != "ok") {
            tell(Report::Problem(format!("{place}: {line}")));
        }
    }
    Ok(())
}

/// Compares tables, indexes and triggers with those of the version that the database says it has.
fn schema(messages: &Connection, version: usize, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
    let (expected, mut found) = (migrate::schema(&migrate::example(version)?)?, migrate::schema(messages)?);
    for (name, sql) in expected {
        match found.remove(&name) {
            None => tell(Report::Problem(format!("database: the {name} is missing"))),
            Some(other) if adds_columns(&sql, &other) => {
                tell(Report::Remark(format!(
                    "database: the {name} has columns that are not part of Lyftr's schema"
                )));
            }
            Some(other) if other != sql => {
                tell(Report::Problem(format!("database: the {name} differs from Lyftr's schema")));
            }
            Some(_) => {}
        }
    }
    for name in found.keys() {
        tell(Report::Remark(format!("database: the {name} is not part of Lyftr's schema")));
    }
    Ok(())
}

/// Whether `ALTER TABLE … ADD COLUMN`, which puts the column behind the last one, makes `found` out of `expected`.
fn adds_columns(expected: &str, found: &str) -> bool {
    let heads_and_tails = expected.char_indices().filter_map(|(end, _)| expected.split_at_checked(end));
    let mut added = heads_and_tails.filter_map(|(head, tail)| found.strip_prefix(head)?.strip_suffix(tail));
    added.any(|added| added.starts_with(", "))
}

fn read_events(
    events: &Connection,
    sql: &str,
    index: Option<&Index>,
    expected: &mut Expected,
    tell: &mut Tell<'_>,
) -> rusqlite::Result<()> {
    let mut statement = events.prepare(sql)?;
    let mut rows = statement.query(())?;
    let mut unreadable = 0_u64;
    while let Some(row) = rows.next()? {
        expected.events += 1;
        unreadable += u64::from(expect(row, index, expected).is_err());
    }
    if unreadable > 0 {
        tell(Report::Problem(format!(
            "database: {unreadable} events have an invalid source, key, kind, name or timestamp"
        )));
    }
    Ok(())
}

/// Reads the name of the log and every cursor. An event at which a cursor stands may be gone.
fn check_cursors(events: &Connection, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
    let _is_there = log::id(events)?;
    let mut astray = 0_u64;
    for cursor in cursors::all(events)? {
        astray += u64::from(!log::is_there(events, cursor.position)?);
    }
    if astray > 0 {
        tell(Report::Remark(format!("database: {astray} cursors stand at events that are gone")));
    }
    Ok(())
}

/// Reads what is kept of erased events.
fn check_erasures(events: &Connection, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
    let count = |sql: &str| events.query_row(sql, (), |row| row.get::<_, u64>(0));
    for (sql, wrong) in [
        (BAD_HASHES, "tombstones are none"),
        (GIVEN_AGAIN, "arrival numbers of erased events were given again"),
    ] {
        let found = count(sql)?;
        if found > 0 {
            tell(Report::Problem(format!("database: {found} {wrong}")));
        }
    }
    Ok(())
}

/// Reads an event, and adds what the index should have of it.
fn expect(row: &Row<'_>, index: Option<&Index>, expected: &mut Expected) -> rusqlite::Result<()> {
    let Arrived { seq, event } = event(row)?;
    if event.kind != Kind::Message {
        return Ok(());
    }
    let Some(message) = event.message() else {
        return Err(rusqlite::Error::InvalidColumnType(9, "ts_second".into(), Type::Null));
    };
    if let Some(index) = index.filter(|index| seq <= index.upto()) {
        let parties = [&message.from, &message.to].map(|name| name.as_ref().map(Name::as_str));
        let identity = identity(&message.source, &message.message_id);
        index.expect(seq, (parties, &identity), message.ts.moment(), message.text.as_deref(), expected)?;
    }
    Ok(())
}
