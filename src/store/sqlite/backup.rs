//! Writes a backup: the pages of a database, or events of another engine.
//!
//! Nothing is synced here, since an incomplete file is deleted; the caller syncs the complete file once.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::connection::{self, explain};
use super::existing::Existing;
use super::location::Location;
use super::{erasure, insert, migrate};
use crate::erasure::Tombstones;
use crate::event::Arrived;
use crate::store::backup::{Error, Progress, Target};
use crate::store::{Error as StoreError, Outcome};

/// Number of pages between two calls of `go_on`: 4 MiB.
const PAGES_AT_ONCE: i32 = 1_024;
/// Page cache of the new file: enough for the pages that random ids are spread over.
const CACHE_KIB: u32 = 32 << 10;

/// Copies the database `from`, as it is now, into the empty file `to`. Returns the number of events, or `None` if it was
/// stopped.
///
/// The snapshot is held all the while, so that writes of other processes do not make the copy start over.
pub(super) fn pages(
    from: &Location,
    to: &Path,
    go_on: &mut dyn FnMut(Progress) -> bool,
) -> Result<Option<u64>, Error> {
    let from = Existing::open(from)?;
    let count = from.count();
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
            // Neither file can be locked by another process: one is read in WAL mode, the other is ours.
            _ => return Err(explain(busy()).into()),
        }
    }
    drop(copying);
    drop(from);
    finish(&target, count).map(Some).map_err(|error| explain(error).into())
}

/// A new database that events are added to.
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
        let events = batch.iter().map(|arrived| &arrived.event);
        let (outcomes, _) = insert::insert(&transaction, None, events).map_err(explain)?;
        if outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Created { .. })) {
            return Err(StoreError::Failed("an event was read twice".into()));
        }
        transaction.commit().map_err(explain)
    }

    fn adopt(&mut self, tombstones: &Tombstones) -> Result<(), StoreError> {
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
        if !erasure::adopt(&transaction, tombstones).map_err(explain)? {
            return Err(StoreError::Failed("tombstones of two keys were read".into()));
        }
        transaction.commit().map_err(explain)
    }

    fn remove(&mut self, erased: &Tombstones) -> Result<u64, StoreError> {
        let transaction =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
        let removed = erasure::remove(&transaction, erased).map_err(explain)?;
        transaction.commit().map_err(explain)?;
        Ok(u64::try_from(removed).unwrap_or(u64::MAX))
    }
}

/// A connection to a file that no other process uses, and that is worthless until it is complete.
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
/// back. Counts the events by the statement `count`.
fn finish(conn: &Connection, count: &str) -> rusqlite::Result<u64> {
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if mode != "delete" {
        return Err(busy());
    }
    conn.query_row(count, (), |row| row.get(0))
}

fn busy() -> rusqlite::Error {
    let code = ErrorCode::DatabaseBusy;
    let error = rusqlite::ffi::Error { code, extended_code: rusqlite::ffi::SQLITE_BUSY };
    rusqlite::Error::SqliteFailure(error, None)
}
