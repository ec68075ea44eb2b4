//! Recovery after a failed sync, before anything is acknowledged again.
//!
//! The kernel may take pages for clean that never reached the disk, so that a later sync succeeds without writing them.
//! Their rows can be read, and are gone after a power cut. Recovery writes all of them again, which makes the pages dirty,
//! and syncs. Readers go on meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use super::checkpoint::{self, Checkpoint};
use super::files::{Owner, beside};

/// The log is written again in chunks of this size.
const CHUNK_BYTES: usize = 1 << 20;
/// Sizes in the log's format (<https://sqlite.org/fileformat2.html#walformat>).
const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

const PAGE_ANEW: &str = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";

/// The doubt whether all rows that can be read are on the disk.
#[derive(Debug)]
pub(super) struct Doubt {
    /// Failed syncs since the last recovery.
    failed_syncs: AtomicU64,
    owner: Arc<Owner>,
}

impl Doubt {
    /// No doubt yet.
    pub(super) fn new(owner: Arc<Owner>) -> Self {
        Self { failed_syncs: AtomicU64::new(0), owner }
    }

    pub(super) fn exists(&self) -> bool {
        self.failed_syncs.load(Relaxed) > 0
    }

    /// Raises the doubt, and records it for the next owner: if this process ends now, that one finds rows in the log, or
    /// pages in the database, that may not be on the disk.
    pub(super) fn raise(&self) {
        self.failed_syncs.fetch_add(1, Relaxed);
        self.owner.record(true);
    }

    /// Takes the record back, unless a doubt exists.
    pub(super) fn record_recovery(&self) {
        self.owner.record(self.exists());
    }

    /// Resolves the doubt by `rewrite`, if there is one; it remains if another sync fails meanwhile.
    pub(super) fn settle<E>(&self, rewrite: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let found = self.failed_syncs.load(Relaxed);
        if found > 0 {
            rewrite()?;
            let _raised_again = self.failed_syncs.compare_exchange(found, 0, Relaxed, Relaxed);
        }
        Ok(())
    }

    /// Raises the doubt if an error may mean a failed sync, and tells whether it did. A write that the system refused raises
    /// none: no reader ever sees any of it.
    pub(super) fn weigh(&self, error: &rusqlite::Error) -> bool {
        let failed_sync = error.sqlite_error().is_some_and(|error| {
            error.code == ErrorCode::SystemIoFailure && error.extended_code != ffi::SQLITE_IOERR_WRITE
        });
        if failed_sync {
            self.raise();
        }
        failed_sync
    }
}

/// Writes again, and syncs, all pages of the database at `path` that may be in the kernel's memory alone. `conn` syncs each
/// commit.
///
/// The write lock is held from beginning to end, so that the log neither grows nor begins anew. The bytes of the log are
/// written again in place, which makes no difference to readers. The pages that a checkpoint has moved are read from the
/// database, where they may be missing on the disk, and they would be lost once the log begins anew. So each of them is
/// copied from its frame in the log to a new one, and the next checkpoint moves it again.
pub(super) fn rewrite(conn: &Connection, path: &Path) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    let page_bytes: u32 = transaction.query_row("PRAGMA page_size", (), |row| row.get(0))?;
    let checkpoint = checkpoint::state(path)?;
    let failed = |error: io::Error| as_sqlite(&error);
    if let Some(log) = Log::open(path, page_bytes).map_err(failed)? {
        log.rewrite().map_err(failed)?;
        let mut page_anew = transaction.prepare(PAGE_ANEW)?;
        for (page, frame) in log.moved_pages(&checkpoint).map_err(failed)? {
            page_anew.execute((page, log.content(frame).map_err(failed)?))?;
        }
    }
    // Without such a page, this write proves that a commit reaches the disk.
    let version: i64 = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// The file of the log. SQLite holds no lock on it, so that closing it is safe.
struct Log {
    file: File,
    page_bytes: u32,
}

impl Log {
    /// Opens the log of a database; none if the file does not exist.
    fn open(database: &Path, page_bytes: u32) -> io::Result<Option<Self>> {
        match File::options().read(true).write(true).open(beside(database, "-wal")) {
            Ok(file) => Ok(Some(Self { file, page_bytes })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the log again in place, and syncs it.
    fn rewrite(&self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = 0;
        loop {
            let count = self.file.read_at(&mut chunk, at)?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            self.file.write_all_at(bytes, at)?;
            at += u64::try_from(count).unwrap_or(u64::MAX);
        }
        self.file.sync_data()
    }

    /// The pages that a checkpoint has moved and no later frame holds, each with its latest frame.
    fn moved_pages(&self, checkpoint: &Checkpoint) -> io::Result<BTreeMap<u32, u64>> {
        let mut latest = BTreeMap::new();
        if checkpoint.moved > 0 {
            for frame in 0..checkpoint.pages {
                let mut page = [0; 4];
                self.file.read_exact_at(&mut page, self.offset(frame))?;
                latest.insert(u32::from_be_bytes(page), frame);
            }
        }
        latest.retain(|_, frame| *frame < checkpoint.moved);
        Ok(latest)
    }

    /// The content of the page in a frame.
    fn content(&self, frame: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; usize::try_from(self.page_bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut page, self.offset(frame) + FRAME_HEADER_BYTES)?;
        Ok(page)
    }

    /// The offset of a frame in the file.
    fn offset(&self, frame: u64) -> u64 {
        LOG_HEADER_BYTES + frame * (FRAME_HEADER_BYTES + u64::from(self.page_bytes))
    }
}

fn as_sqlite(error: &io::Error) -> rusqlite::Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        _ => ffi::SQLITE_IOERR,
    };
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the next owner of the database finds the record of a failed sync.
    fn is_recorded(path: &Path) -> bool {
        Owner::take(path).unwrap().found_unsynced
    }

    #[test]
    fn a_doubt_outlives_its_process_until_it_is_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let error = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);

        // Whoever weighs the error: a batch, a checkpoint, or a step of one on another thread.
        let doubt = Doubt::new(Arc::new(Owner::take(&path).unwrap()));
        assert!(!doubt.weigh(&error(ffi::SQLITE_IOERR_WRITE)) && !doubt.weigh(&error(ffi::SQLITE_FULL)));
        drop(doubt);
        assert!(!is_recorded(&path));

        let doubt = Doubt::new(Arc::new(Owner::take(&path).unwrap()));
        assert!(doubt.weigh(&error(ffi::SQLITE_IOERR_FSYNC)) && doubt.exists());
        drop(doubt);
        assert!(is_recorded(&path), "the process ended before it recovered");
        assert!(is_recorded(&path), "and so did the next one");

        let doubt = Doubt::new(Arc::new(Owner::take(&path).unwrap()));
        doubt.raise();
        doubt.settle(|| Err("the disk is still failing")).unwrap_err();
        doubt.record_recovery();
        assert!(doubt.exists());
        // Another sync fails while everything is written again.
        let raised_again = || {
            doubt.raise();
            Ok::<_, ()>(())
        };
        doubt.settle(raised_again).unwrap();
        assert!(doubt.exists());
        doubt.settle(|| Ok::<_, ()>(())).unwrap();
        doubt.record_recovery();
        assert!(!doubt.exists());
        drop(doubt);
        assert!(!is_recorded(&path));
    }
}
