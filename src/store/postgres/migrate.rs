//! Brings a database's schema up to date: numbered files, in order, each once, under a lock that all processes share.
//!
//! A file that has been released is never edited; a change is a new file.

use super::connection::{Failed, Session};
use super::locks;

/// The migrations, the n-th of which leads to schema version n.
const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/postgres/0001_message.sql")];

/// The schema version that this Lyftr works with.
pub(super) const VERSION: i64 = 1;
const _: () = assert!(MIGRATIONS.len() == 1, "VERSION is the number of migrations");

/// A migration may take longer than other statements, and so may the wait for another process's.
const TAKE_TIME: &str = "SET LOCAL statement_timeout = 0";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const IS_THERE: &str = "SELECT to_regclass('lyftr_schema') IS NOT NULL";
const MAKE: &str = "\
    CREATE TABLE lyftr_schema (one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), version bigint NOT NULL);
    INSERT INTO lyftr_schema (version) VALUES (0)";
/// The schema version of the database.
pub(super) const FOUND: &str = "SELECT version FROM lyftr_schema";
const NOTE: &str = "UPDATE lyftr_schema SET version = $1";

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
    Ok(session.row(FOUND, &[])?.try_get(0)?)
}

/// Applies what is missing in one transaction; how many migrations that were.
pub(super) fn up(session: &Session<'_>) -> Result<usize, Refused> {
    let done = session.transaction(|| {
        session.run(TAKE_TIME)?;
        session.query(LOCK, &[&locks::LYFTR, &locks::MIGRATION])?;
        if !session.row(IS_THERE, &[])?.try_get::<_, bool>(0)? {
            session.run(MAKE)?;
        }
        let found: i64 = session.row(FOUND, &[])?.try_get(0)?;
        let Some(missing) = usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..)) else {
            return Ok(Err(found));
        };
        for migration in missing {
            session.run(migration)?;
        }
        if !missing.is_empty() {
            session.query(NOTE, &[&VERSION])?;
        }
        Ok(Ok(missing.len()))
    });
    done.map_err(Refused::Failed)?.map_err(Refused::Newer)
}
