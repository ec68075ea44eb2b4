//! Brings a database's schema up to date: numbered files, in order, each once, under a lock that all processes share.
//!
//! A file that has been released is never edited; a change is a new file.

use super::connection::{Failed, Session};
use super::{TAKE_TIME, locks, numbers};

/// The migrations, the n-th of which leads to schema version n.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_message.sql"),
    include_str!("../../../migrations/postgres/0002_arrival_number.sql"),
];

/// The schema version that this Lyftr works with.
pub(super) const VERSION: i64 = 2;
const _: () = assert!(MIGRATIONS.len() == 2, "VERSION is the number of migrations");

const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const IS_THERE: &str = "SELECT to_regclass('lyftr_schema') IS NOT NULL";
const MAKE: &str = "\
    CREATE TABLE lyftr_schema (one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), version bigint NOT NULL);
    INSERT INTO lyftr_schema (version) VALUES (0)";
/// The schema version of the database.
const FOUND: &str = "SELECT version FROM lyftr_schema";
const NOTE: &str = "UPDATE lyftr_schema SET version = $1";
const NO_VERSION: &str = "its table lyftr_schema has no row, as where a schema was restored without its content: \
    INSERT INTO lyftr_schema (version) VALUES (2) if it was one of this release of Lyftr";

/// What stands in the way of bringing a database up to date.
#[derive(Debug)]
pub(super) enum Refused {
    /// The database is of a newer Lyftr: its version.
    Newer(i64),
    /// The server said no.
    Failed(Failed),
}

/// The version of the schema that is there, zero if there is none.
pub(super) fn found(session: &Session<'_>) -> Result<i64, Failed> {
    if !session.row(IS_THERE, &[])?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    version(session)
}

fn version(session: &Session<'_>) -> Result<i64, Failed> {
    let rows = session.query(FOUND, &[])?;
    Ok(rows.first().ok_or(Failed::Unfit(NO_VERSION))?.try_get(0)?)
}

/// Applies what is missing in one transaction, and looks after the sequence of batches; how many migrations that were.
pub(super) fn up(session: &Session<'_>) -> Result<usize, Refused> {
    let done = session.transaction(|| {
        // A migration takes longer than other statements, and so does the wait for another process's.
        session.run(TAKE_TIME)?;
        session.query(LOCK, &[&locks::LYFTR, &locks::MIGRATION])?;
        if !session.row(IS_THERE, &[])?.try_get::<_, bool>(0)? {
            session.run(MAKE)?;
        }
        let found = version(session)?;
        let Some(missing) = usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..)) else {
            return Ok(Err(found));
        };
        for migration in missing {
            session.run(migration)?;
        }
        if !missing.is_empty() {
            session.query(NOTE, &[&VERSION])?;
        }
        numbers::move_on(session, 0)?;
        Ok(Ok(missing.len()))
    });
    done.map_err(Refused::Failed)?.map_err(Refused::Newer)
}
