//! Brings a database's schema up to date: numbered files, in order, each once, under a lock that all processes share.
//!
//! A file that has been released is never edited; a change is a new file.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;

use super::connection::{PgError, Session};
use super::layout::Layout;
use super::{TAKE_TIME, batch_sequence, locks};

/// The migrations, the n-th of which leads to schema version n.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_message.sql"),
    include_str!("../../../migrations/postgres/0002_arrival_number.sql"),
    include_str!("../../../migrations/postgres/0003_event.sql"),
    include_str!("../../../migrations/postgres/0004_erasure.sql"),
    include_str!("../../../migrations/postgres/0005_ref.sql"),
];
/// The first migrations are run as a whole each. The later ones are run statement by statement, a paragraph each, so that
/// the log tells what takes time, and since a distributed database takes no other.
const AS_A_WHOLE: usize = 2;

/// The schema version that this Lyftr works with.
pub(super) const VERSION: i64 = 5;
const _: () = assert!(MIGRATIONS.len() == 5, "VERSION is the number of migrations");

const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const IS_THERE: &str = "SELECT to_regclass('lyftr_schema') IS NOT NULL";
const MAKE: &str = "\
    CREATE TABLE lyftr_schema (one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), version bigint NOT NULL);
    INSERT INTO lyftr_schema (version) VALUES (0)";
/// The schema version of the database.
const FOUND: &str = "SELECT version FROM lyftr_schema";
/// Whether Lyftr's tables are in another schema of this database that the user may use.
const IS_ELSEWHERE: &str = "\
    SELECT count(*) > 0 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'lyftr_schema' AND relkind = 'r' AND has_schema_privilege(relnamespace, 'USAGE')";
/// The schema of the extension, whether the `search_path` has that schema, and whether this user may use it.
const TRIGRAMS: &str = "\
    SELECT nspname::text, nspname = ANY (current_schemas(true)), has_schema_privilege(pg_namespace.oid, 'USAGE')
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm'";
const MAKE_TRIGRAMS: &str = "CREATE EXTENSION pg_trgm";
/// Adds the schema of the extension to the `search_path` of this transaction. Tables are still made in the first schema.
const FIND_TRIGRAMS: &str =
    "SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident($1), true)";
const NOTE: &str = "UPDATE lyftr_schema SET version = $1";

/// The number of events, or of messages before there were events, as the server guesses it; 0 if it does not know.
const ABOUT: &str = "\
    SELECT greatest(max(reltuples), 0)::bigint FROM pg_class WHERE oid IN (to_regclass('message'), to_regclass('event'))";

/// The extension cannot be made: the user lacks the privilege, or the server does not have it (which PostgreSQL up to 14
/// and later ones report by different codes).
const NOT_TO_BE_HAD: [SqlState; 3] =
    [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::UNDEFINED_FILE, SqlState::FEATURE_NOT_SUPPORTED];
const NO_TRIGRAMS: &str = "the extension pg_trgm is not in the database, and this user cannot make it: have a superuser run \
    CREATE EXTENSION pg_trgm there (the package postgresql-contrib has it, where the server does not know it)";
const CLOSED_TRIGRAMS: &str = "the extension pg_trgm is in a schema that this user may not use: \
    GRANT USAGE ON that SCHEMA to it, or ALTER EXTENSION pg_trgm SET SCHEMA public";
const ELSEWHERE: &str = "it has the tables of Lyftr in a schema that the search_path of this user does not lead to, and empty \
    ones would take their place: put that schema first with ALTER ROLE or ALTER DATABASE … SET search_path; \
    a second inbox needs a database of its own";
const NO_VERSION: &str = "its table lyftr_schema has no row, as where a schema was restored without its content: \
    INSERT INTO lyftr_schema (version) VALUES (5) if it was one of this release of Lyftr";

/// Why the schema could not be brought up to date.
#[derive(Debug)]
pub(super) enum UpgradeError {
    /// A newer Lyftr made the schema, of this version.
    Newer(i64),
    /// A statement failed.
    Database(PgError),
}

/// The schema version of the database, zero without a schema.
pub(super) fn found(session: &Session<'_>) -> Result<i64, PgError> {
    if !session.row(IS_THERE, &[])?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    version(session)
}

fn version(session: &Session<'_>) -> Result<i64, PgError> {
    let rows = session.query(FOUND, &[])?;
    Ok(rows.first().ok_or(PgError::Unfit(NO_VERSION))?.try_get(0)?)
}

/// Applies the missing migrations in one transaction, and advances the batch sequence if it is behind. Returns the number
/// of migrations.
pub(super) fn up(session: &Session<'_>) -> Result<usize, UpgradeError> {
    let done = session.transaction(|| {
        // A migration takes longer than other statements, and so does the wait for the migration of another process.
        session.run(TAKE_TIME)?;
        session.query(LOCK, &[&locks::LYFTR, &locks::MIGRATION])?;
        if !session.row(IS_THERE, &[])?.try_get::<_, bool>(0)? {
            if session.row(IS_ELSEWHERE, &[])?.try_get(0)? {
                return Err(PgError::Unfit(ELSEWHERE));
            }
            session.run(MAKE)?;
        }
        let found = version(session)?;
        let Some(missing) = usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..)) else {
            return Ok(Err(found));
        };
        if found == 0 {
            provide_trigrams(session)?;
        }
        for (n, migration) in MIGRATIONS.iter().enumerate().skip(MIGRATIONS.len() - missing.len()) {
            if n < AS_A_WHOLE {
                session.run(migration)?;
            } else {
                apply(session, migration, found > 0)?;
            }
        }
        if !missing.is_empty() {
            session.query(NOTE, &[&VERSION])?;
        }
        batch_sequence::advance(session, Layout::CURRENT, 0)?;
        Ok(Ok(missing.len()))
    });
    done.map_err(UpgradeError::Database)?.map_err(UpgradeError::Newer)
}

/// Carries out a migration statement by statement. If there may be messages, the log says of each how long it took, apart
/// from those that take next to no time.
fn apply(session: &Session<'_>, migration: &str, there_may_be_messages: bool) -> Result<(), PgError> {
    const WORTH_TELLING: Duration = Duration::from_millis(200);
    let statements: Vec<(&str, &str)> = statements(migration).collect();
    let begin = Instant::now();
    if there_may_be_messages {
        let events: i64 = session.row(ABOUT, &[])?.try_get(0)?;
        tracing::info!(
            events,
            steps = statements.len(),
            "bringing the schema up to date; this takes a while"
        );
    }
    let of = statements.len();
    for (n, (what, sql)) in (1..).zip(statements) {
        if there_may_be_messages {
            tracing::debug!(step = n, of, what, "a step of the migration begins");
        }
        let begin = Instant::now();
        session.run(sql)?;
        let took = begin.elapsed();
        if there_may_be_messages && took >= WORTH_TELLING {
            tracing::info!(step = n, what, seconds = took.as_secs(), "a step of the migration is done");
        }
    }
    if there_may_be_messages {
        tracing::info!(seconds = begin.elapsed().as_secs(), "all steps of the migration are done");
    }
    Ok(())
}

/// The statements of a migration, each with what its comment says of it. A paragraph of comments alone is no statement.
fn statements(migration: &str) -> impl Iterator<Item = (&str, &str)> {
    migration.split("\n\n").filter_map(|paragraph| {
        let what = paragraph.trim_start().lines().next()?.strip_prefix("-- ")?;
        paragraph.lines().any(|line| !line.starts_with("--") && !line.is_empty()).then_some((what, paragraph))
    })
}

/// Makes the extension that the search index needs, or finds it in whichever schema it is.
fn provide_trigrams(session: &Session<'_>) -> Result<(), PgError> {
    let found = session.query(TRIGRAMS, &[])?;
    let Some(found) = found.first() else {
        return session.run(MAKE_TRIGRAMS).map_err(|failed| match failed {
            PgError::Server(error) if error.code().is_some_and(|code| NOT_TO_BE_HAD.contains(code)) => {
                PgError::Unfit(NO_TRIGRAMS)
            }
            failed => failed,
        });
    };
    let (schema, is_found, may_be_used): (&str, bool, bool) =
        (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
    if !may_be_used {
        return Err(PgError::Unfit(CLOSED_TRIGRAMS));
    }
    if !is_found {
        session.query(FIND_TRIGRAMS, &[&schema])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_of_a_migration_stands_alone_under_its_comment() {
        let sql = "-- About it.\n-- More.\n\n-- one\nSELECT 1;\n\n-- two\nDO $$ BEGIN\n    -- three\n    PERFORM 1; END $$;\n";
        let found: Vec<_> = statements(sql).map(|(what, _)| what).collect();
        assert_eq!(found, ["one", "two"]);
        for migration in MIGRATIONS.iter().skip(AS_A_WHOLE) {
            // Every paragraph but the first one, which is about the whole.
            assert_eq!(statements(migration).count(), migration.split("\n\n").count() - 1);
        }
    }
}
