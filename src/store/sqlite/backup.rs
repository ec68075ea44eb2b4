//! Writing a backup: the pages of a database, or messages from elsewhere.
//!
//! Nothing is written safely here, for a file that is not whole yet is thrown away; the caller syncs it once.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::connection::{self, explain};
use super::existing::Existing;
use super::location::Location;
use super::migrate;
use super::writer::{INSERT, insert_one};
use crate::store::backup::{Error, Progress, Target};
use crate::store::{Arrived, Error as StoreError, Outcome};

/// Pages between two looks at whether to go on: 4 MiB of them.
const PAGES_AT_ONCE: i32 = 1_024;
/// Page cache of the file that is written: enough for the pages that random ids are spread over.
const CACHE_KIB: u32 = 32 << 10;

const COUNT: &str = "SELECT count(*) FROM message";

/// Copies the database there, as it is now, into the empty file `to`; how many messages that are, or none if it
/// was broken off.
///
/// The snapshot is held all the while, which is why what others write does not make the copy begin anew.
pub(super) fn pages(
    from: &Location,
    to: &Path,
    go_on: &mut dyn FnMut(Progress) -> bool,
) -> Result<Option<u64>, Error> {
    let from = Existing::open(from)?;
    let mut target = open(to).map_err(explain)?;
    let copying = Backup::new(&from.conn, &mut target).map_err(explain)?;
    loop {
        let step = copying.step(PAGES_AT_ONCE).map_err(explain)?;
        let progress = copying.progress();
        let [total, left] = [progress.pagecount, progress.remaining].map(|n| u64::try_from(n).unwrap_or(0));
        if !go_on(Progress { done: total.saturating_sub(left), total }) {
            return Ok(None);
        }
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            // Nobody else has either of the two locked: one is read in WAL mode, the other is ours.
            _ => return Err(explain(busy()).into()),
        }
    }
    drop(copying);
    drop(from);
    finish(&target).map(Some).map_err(|error| explain(error).into())
}

/// A new database that messages are added to.
#[derive(Debug)]
pub(in crate::store) struct NewDatabase(Connection);

impl NewDatabase {
    /// Creates the tables in the empty file `to`.
    pub(in crate::store) fn create(to: &Path) -> Result<Self, StoreError> {
        let mut conn = open(to).map_err(explain)?;
        migrate::up(&mut conn).map_err(|refused| match refused {
            migrate::SchemaError::Sqlite(error) => explain(error),
            other => StoreError::Failed(format!("a new file is refused: {other:?}").into()),
        })?;
        Ok(Self(conn))
    }
}

impl Target for NewDatabase {
    fn add(&mut self, batch: &[Arrived]) -> Result<(), StoreError> {
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
        let mut insert = transaction.prepare_cached(INSERT).map_err(explain)?;
        for arrived in batch {
            let outcome = insert_one(&transaction, &mut insert, &arrived.message).map_err(explain)?;
            if !matches!(outcome, Outcome::Created { .. }) {
                return Err(StoreError::Failed("a message was read twice".into()));
            }
        }
        drop(insert);
        transaction.commit().map_err(explain)
    }
}

/// A connection to a file that nobody else uses, and that is worth nothing until it is whole.
fn open(to: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connection::open(to, flags, CACHE_KIB)?;
    for (pragma, value) in [("locking_mode", "EXCLUSIVE"), ("journal_mode", "OFF")] {
        conn.pragma_update_and_check(None, pragma, value, |row| row.get::<_, String>(0))?;
    }
    conn.pragma_update(None, "synchronous", "OFF")?;
    Ok(conn)
}

/// Takes the copy out of WAL mode, in which even a reader makes files beside it; a service that starts on it puts it
/// back. Counts the messages.
fn finish(conn: &Connection) -> rusqlite::Result<u64> {
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if mode != "delete" {
        return Err(busy());
    }
    conn.query_row(COUNT, (), |row| row.get(0))
}

fn busy() -> rusqlite::Error {
    let code = ErrorCode::DatabaseBusy;
    let error = rusqlite::ffi::Error { code, extended_code: rusqlite::ffi::SQLITE_BUSY };
    rusqlite::Error::SqliteFailure(error, None)
}
