//! Opens connections to SQLite, and turns its errors into errors of the store.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::checkpoint::{self, Checkpoint};
use crate::query::holds;
use crate::store::Error;

/// How long a statement waits for a lock that another process holds. The wait of a batch is in `writer.rs`.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait for readers when the log is to be emptied at the end. A log that stays is for the next start.
const CLOSE_PATIENCE: Duration = Duration::from_millis(250);
/// Size of the cache of prepared statements of a connection.
const STATEMENTS_MAX: usize = 32;

/// The SQL function that tells whether a text matches a [`Search`](crate::query::Search).
pub(super) const CONTAINS: &str = "contains_folded";

/// Opens a connection that writes; writes nothing itself. `create`: make the file if it is missing.
pub(super) fn writer(path: &Path, cache_kib: u32, create: bool) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    open(path, flags, cache_kib)
}

/// Closes a connection that writes, and removes the write-ahead log unless another process has the database open.
pub(super) fn close(conn: Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(CLOSE_PATIENCE)?;
    if let Checkpoint { complete: true, .. } = checkpoint::run(&conn, "TRUNCATE")? {
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    }
    conn.close().map_err(|(_, error)| error)
}

/// Makes each commit on this connection durable. Puts the database into WAL mode, which is recorded in the file.
///
/// To drop the connection then leaves the write-ahead log as it is: only [`close`] empties it. SQLite itself would run a
/// checkpoint when the last connection is closed, even after a failed sync.
pub(super) fn make_durable(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    // FULL syncs the write-ahead log on every commit; NORMAL would lose acknowledged messages at a power cut.
    conn.pragma_update(None, "synchronous", "FULL")?;
    // On macOS fsync alone leaves data in the drive's cache. Elsewhere these two do nothing.
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    // What is deleted is overwritten, in pages that stay and in pages that become free.
    conn.pragma_update_and_check(None, "secure_delete", true, |row| row.get::<_, i64>(0))?;
    // The writer and the checkpoint thread decide when a checkpoint is due.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Opens a connection that reads.
pub(super) fn reader(path: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX, cache_kib)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    let pure =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function(CONTAINS, 2, pure, |call| {
        let text = call.get_raw(0).as_str_or_null()?;
        let folded = call.get_raw(1).as_str()?;
        Ok(text.is_some_and(|text| holds(text, folded)))
    })?;
    Ok(conn)
}

/// Opens a connection.
pub(super) fn open(path: &Path, flags: OpenFlags, cache_kib: u32) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// Whether another program's lock kept the statement from doing anything.
pub(super) fn is_locked(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed))
}

/// Whether a lock, the disk or a limit keeps the database from being written: a condition that may pass, and says
/// nothing about the content of the database.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DiskFull, SystemIoFailure};
    let cannot_read = error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_READ);
    let failure = matches!(error.sqlite_error_code(), Some(DiskFull | SystemIoFailure));
    is_locked(error) || failure && !cannot_read
}

/// Whether an error says that a database does not hold what it should: pages, a table, a row or a value.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    match error.sqlite_error_code() {
        // The last is SQLITE_ERROR: no such table.
        Some(code) => matches!(code, DatabaseCorrupt | NotADatabase | Unknown),
        // A value of another type than its column's, or a row that is not there.
        None => !matches!(error, rusqlite::Error::InvalidPath(_)),
    }
}

/// An error of SQLite in words for clients.
pub(super) fn explain(error: rusqlite::Error) -> Error {
    let is_write = |error: &ffi::Error| error.extended_code == ffi::SQLITE_IOERR_WRITE;
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            "the database is locked by another process"
        }
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => "the database is read-only",
        // SQLite does not tell these three apart; a full disk has a code of its own.
        Some(ErrorCode::SystemIoFailure) if error.sqlite_error().is_some_and(is_write) => {
            "a write failed: the disk is broken, a quota is used up, or a file has reached the limit of its size (ulimit -f)"
        }
        Some(ErrorCode::SystemIoFailure) => "disk I/O error",
        Some(ErrorCode::CannotOpen) => "the database file cannot be opened",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "the database is damaged",
        Some(ErrorCode::OperationInterrupted) => "query timed out",
        Some(ErrorCode::OutOfMemory) => "out of memory",
        // SQLITE_ERROR: no such table, no such column.
        Some(ErrorCode::Unknown) => "unexpected schema in the database",
        _ => return Error::Failed(error.into()),
    };
    Error::Unavailable { reason, source: Some(error.into()) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A batch may have waited for longer before.
    #[test]
    fn a_connection_closes_beside_a_reader_whatever_it_waited_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let conn = writer(&path, 64, true).unwrap();
        make_durable(&conn).unwrap();
        conn.execute_batch("CREATE TABLE message (id)").unwrap();
        let reader = reader(&path, 64).unwrap();
        let count = || reader.query_row("SELECT count(*) FROM message", (), |row| row.get::<_, i64>(0));
        reader.execute_batch("BEGIN").unwrap();
        assert_eq!(count().unwrap(), 0);
        conn.execute_batch("INSERT INTO message VALUES (1)").unwrap();
        conn.busy_timeout(Duration::from_hours(1)).unwrap();
        let (give, take) = sync_channel(1);
        std::thread::spawn(move || give.send(close(conn)));
        take.recv_timeout(Duration::from_mins(1)).expect("it has closed").unwrap();
        assert!(path.with_extension("db-wal").metadata().unwrap().len() > 0, "the log stays");
        assert_eq!(count().unwrap(), 0, "so does the snapshot");
    }

    #[test]
    fn an_error_is_said_in_words_that_name_no_file() {
        for (code, said) in [
            (ffi::SQLITE_BUSY, "the database is locked by another process"),
            (ffi::SQLITE_LOCKED, "the database is locked by another process"),
            (ffi::SQLITE_PROTOCOL, "the database is locked by another process"),
            (ffi::SQLITE_FULL, "the disk is full"),
            (ffi::SQLITE_READONLY, "the database is read-only"),
            (ffi::SQLITE_PERM, "the database is read-only"),
            (ffi::SQLITE_IOERR, "disk I/O error"),
            (ffi::SQLITE_IOERR_FSYNC, "disk I/O error"),
            (
                ffi::SQLITE_IOERR_WRITE,
                "a write failed: the disk is broken, a quota is used up, or a file has reached the limit of its size (ulimit -f)",
            ),
            (ffi::SQLITE_CANTOPEN, "the database file cannot be opened"),
            (ffi::SQLITE_CORRUPT, "the database is damaged"),
            (ffi::SQLITE_NOTADB, "the database is damaged"),
            (ffi::SQLITE_INTERRUPT, "query timed out"),
            (ffi::SQLITE_NOMEM, "out of memory"),
            (ffi::SQLITE_ERROR, "unexpected schema in the database"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("app.db".into()));
            let Error::Unavailable { reason, .. } = explain(error) else {
                panic!("{code} is not worth a retry")
            };
            assert_eq!(reason, said, "{code}");
        }
        assert!(matches!(explain(rusqlite::Error::QueryReturnedNoRows), Error::Failed(_)));
    }
}
