//! Brings a database's schema up to date: numbered files, in order, each once, under a lock.
//!
//! A file that has been released is never edited; a change is a new file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::OpenError;

/// The migrations, the n-th of which leads to schema version n.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_message.sql"),
    include_str!("../../../migrations/sqlite/0002_edition.sql"),
    include_str!("../../../migrations/sqlite/0003_event.sql"),
    include_str!("../../../migrations/sqlite/0004_erasure.sql"),
    include_str!("../../../migrations/sqlite/0005_ref.sql"),
];

/// The schema version that this Lyftr works with.
pub(super) const VERSION: i64 = 5;
const _: () = assert!(MIGRATIONS.len() == 5, "VERSION is the number of migrations");

/// Marks a file as Lyftr's, in SQLite's `application_id`: "Lyft" in ASCII.
const APPLICATION_ID: i64 = 0x4c79_6674;

/// The objects of the schema, without those that SQLite and Litestream make for themselves.
const SCHEMA: &str = "\
    SELECT type || ' ' || name, sql FROM sqlite_schema
    WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat%' AND name NOT GLOB '_litestream_*'";
/// The number of tables other than Litestream's. Litestream makes its own in any database that it is told of, also in one
/// that Lyftr is just about to make.
const TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE substr(tbl_name, 1, 12) <> '_litestream_'";

/// Why a database cannot be used or brought up to date.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// A newer Lyftr made the schema, of this version.
    Newer(i64),
    /// Another program made the database, with this `application_id`.
    Foreign(i64),
    /// The database has the tables of this schema version, but lacks `application_id` or `user_version`.
    Unmarked(usize),
    /// SQLite returned an error.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl SchemaError {
    /// The error in words, for the database at `path`; `unusable` turns an error of SQLite into words.
    pub(super) fn at(self, path: &Path, unusable: impl FnOnce(rusqlite::Error) -> OpenError) -> OpenError {
        let path = path.display().to_string();
        match self {
            Self::Newer(found) => OpenError::Newer { path, found, known: VERSION },
            Self::Foreign(found) => OpenError::Foreign { path, found },
            Self::Unmarked(version) => OpenError::Unmarked { path, application: APPLICATION_ID, version },
            Self::Sqlite(error) => unusable(error),
        }
    }
}

/// Checks that this Lyftr can work with the database, and returns the number of migrations that it has seen. Writes
/// nothing, so that another program's database stays as it is.
pub(super) fn check(conn: &Connection) -> Result<usize, SchemaError> {
    // In one snapshot: another process may be making the tables.
    let _snapshot = conn.is_autocommit().then(|| conn.unchecked_transaction()).transpose()?;
    let version: i64 = conn.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let mark: i64 = conn.query_row("PRAGMA application_id", (), |row| row.get(0))?;
    let tables: i64 = conn.query_row(TABLES, (), |row| row.get(0))?;
    if mark != APPLICATION_ID && (mark != 0 || tables != 0) {
        let evident = if mark == 0 { evident_version(conn)? } else { None };
        return Err(evident.map_or(SchemaError::Foreign(mark), SchemaError::Unmarked));
    }
    let done = usize::try_from(version).ok().filter(|done| *done <= MIGRATIONS.len());
    let done = done.ok_or(SchemaError::Newer(version))?;
    // One of the two marks may have been restored without the other.
    if done < MIGRATIONS.len()
        && let Some(evident) = evident_version(conn)?.filter(|evident| *evident > done)
    {
        return Err(SchemaError::Unmarked(evident));
    }
    Ok(done)
}

/// The schema version by the tables alone, without regard to the marks: every object is as Lyftr makes it, and there is no
/// other that a newer version could have made.
fn evident_version(conn: &Connection) -> rusqlite::Result<Option<usize>> {
    let found = schema(conn)?;
    for version in (1..=MIGRATIONS.len()).rev() {
        let expected = schema(&example(version)?)?;
        let is_there = |(name, sql)| found.get(name) == Some(sql);
        let is_known = |name: &String| expected.contains_key(name) || name.starts_with("index ");
        if expected.iter().all(is_there) && found.keys().all(is_known) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// The tables, indexes and triggers of a database: from kind and name to the SQL that makes it.
pub(super) fn schema(conn: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    conn.prepare(SCHEMA)?.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Whether a database that has seen so many migrations is up to date.
pub(super) fn is_current(migrations: usize) -> bool {
    migrations == MIGRATIONS.len()
}

/// Whether a database that has seen so many migrations has the table `event`.
pub(super) fn has_events(migrations: usize) -> bool {
    migrations >= 3
}

/// Whether a database that has seen so many migrations knows what was erased.
pub(super) fn has_erasures(migrations: usize) -> bool {
    migrations >= 4
}

/// An empty database in memory with a version of the schema, to compare another one with.
pub(super) fn example(version: usize) -> rusqlite::Result<Connection> {
    let conn = Connection::open_in_memory()?;
    for migration in MIGRATIONS.iter().take(version) {
        conn.execute_batch(migration)?;
    }
    Ok(conn)
}

/// Applies the missing migrations in one transaction, which also proves that the database can be written: the version is
/// written even when it stays the same. So after a start no read returns rows that were never synced.
pub(super) fn up(conn: &mut Connection) -> Result<(), SchemaError> {
    let begin = Instant::now();
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = check(&transaction)?;
    for migration in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    if done > 0 && !is_current(done) {
        let milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(from = done, to = MIGRATIONS.len(), milliseconds, "the schema was brought up to date");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_database_is_brought_up_to_date_and_then_left_alone() {
        let mut conn = Connection::open_in_memory().unwrap();
        up(&mut conn).unwrap();
        conn.execute("INSERT INTO event (seq, identity) VALUES (1, 'm')", ()).unwrap();
        up(&mut conn).unwrap();
        let rows: i64 = conn.query_row("SELECT count(*) FROM event", (), |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut conn = Connection::open_in_memory().unwrap();
        up(&mut conn).unwrap();
        conn.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert!(matches!(up(&mut conn), Err(SchemaError::Newer(v)) if v == VERSION + 1));
    }

    #[test]
    fn another_programs_database_is_refused() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(matches!(up(&mut conn), Err(SchemaError::Foreign(0))));
        let mut conn = Connection::open_in_memory().unwrap();
        conn.pragma_update(None, "application_id", 7).unwrap();
        assert!(matches!(up(&mut conn), Err(SchemaError::Foreign(7))));
    }

    #[test]
    fn our_tables_without_our_marks_are_told_from_another_programs() {
        for version in 1..=MIGRATIONS.len() {
            for (more, is_ours) in [
                ("", true),
                ("CREATE INDEX mine ON message (text)", true),
                ("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)", true),
                ("ANALYZE", true),
                ("CREATE TABLE of_a_newer_version (a)", false),
                ("CREATE TRIGGER mine AFTER INSERT ON message BEGIN SELECT 1; END", false),
                ("ALTER TABLE message ADD COLUMN mine TEXT", false),
                ("DROP INDEX message_by_instant", false),
            ] {
                let mut conn = example(version).unwrap();
                let more =
                    if has_events(version) { more.replace("message", "event") } else { more.to_owned() };
                conn.execute_batch(&more).unwrap();
                let refused = up(&mut conn).unwrap_err();
                match refused {
                    SchemaError::Unmarked(found) => assert!(is_ours && found == version, "{more}: {found}"),
                    SchemaError::Foreign(0) => assert!(!is_ours, "{version}: {more}"),
                    other => panic!("{version}: {more}: {other:?}"),
                }
                conn.pragma_update(None, "application_id", 7).unwrap();
                assert!(matches!(check(&conn), Err(SchemaError::Foreign(7))), "it is marked as another's");
            }
        }
    }

    #[test]
    fn one_mark_without_the_other_is_noticed_and_both_are_enough() {
        for version in 1..=MIGRATIONS.len() {
            let mut conn = example(version).unwrap();
            conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            assert!(matches!(up(&mut conn), Err(SchemaError::Unmarked(found)) if found == version));
            conn.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
            up(&mut conn).unwrap();
            assert_eq!(schema(&conn).unwrap(), schema(&example(MIGRATIONS.len()).unwrap()).unwrap());
        }
    }

    #[test]
    fn tables_of_litestream_do_not_make_it_another_programs() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)").unwrap();
        up(&mut conn).unwrap();
        assert_eq!(check(&conn).unwrap(), MIGRATIONS.len());
    }
}
