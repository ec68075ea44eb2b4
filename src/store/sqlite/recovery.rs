//! What is done after a sync has failed, before anything is believed.
//!
//! The kernel may hold pages for clean that never reached the disk, so that a later sync of them says nothing. What
//! SQLite shows can then be read, and be gone after a power cut. All of it is written again here, which makes those
//! pages dirty, and synced. Nobody need stop reading for that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use super::checkpoint::{self, Checkpoint};
use super::files::beside;

/// So much of the log is written again at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Sizes in the log's format (<https://sqlite.org/fileformat2.html#walformat>).
const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

const PAGE_ANEW: &str = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";

/// Whether something that can be read may not be on the disk: how often that came up since it was settled.
#[derive(Debug, Default)]
pub(super) struct Doubt(AtomicU64);

impl Doubt {
    pub(super) fn exists(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    pub(super) fn raise(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Settles it by `write_anew`, if it exists, and if nothing came up meanwhile.
    pub(super) fn settle<E>(&self, write_anew: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let found = self.0.load(Relaxed);
        if found > 0 {
            write_anew()?;
            let _raised_again = self.0.compare_exchange(found, 0, Relaxed, Relaxed);
        }
        Ok(())
    }

    /// Raises it after an error that may have been a failed sync, and says whether it was one. A write that the
    /// system refuses is none: nothing of it is shown to anybody.
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

/// Writes again, and syncs, all that the database at `path` shows and that may be in the kernel's memory alone.
/// `conn` is one that syncs each commit.
///
/// The write lock is held from the beginning to the end, so that the log neither grows nor begins anew. Its bytes are
/// written to where they are; whoever reads them meanwhile sees no difference. What a checkpoint has moved out of it is
/// read from the database, where it may be missing on the disk, and would be missing for good once the log begins anew.
/// So these pages get into the log once more, from where they stand in it, and the next checkpoint moves them again.
pub(super) fn write_anew(conn: &Connection, path: &Path) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    let page_bytes: u32 = transaction.query_row("PRAGMA page_size", (), |row| row.get(0))?;
    let checkpoint = checkpoint::state(path)?;
    let failed = |error: io::Error| as_sqlite(&error);
    if let Some(log) = Log::open(path, page_bytes).map_err(failed)? {
        log.write_anew().map_err(failed)?;
        let mut page_anew = transaction.prepare(PAGE_ANEW)?;
        for (page, frame) in log.moved_pages(&checkpoint).map_err(failed)? {
            page_anew.execute((page, log.content(frame).map_err(failed)?))?;
        }
    }
    // There may have been none; then this is what proves that a commit gets to the disk.
    let version: i64 = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// The log's file, which SQLite has no lock on that closing it could undo.
struct Log {
    file: File,
    page_bytes: u32,
}

impl Log {
    /// None if there is none.
    fn open(database: &Path, page_bytes: u32) -> io::Result<Option<Self>> {
        match File::options().read(true).write(true).open(beside(database, "-wal")) {
            Ok(file) => Ok(Some(Self { file, page_bytes })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_anew(&self) -> io::Result<()> {
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

    /// The pages that are read from the database, since no later frame has them, each with its latest frame.
    fn moved_pages(&self, checkpoint: &Checkpoint) -> io::Result<BTreeMap<u32, u64>> {
        let mut latest = BTreeMap::new();
        if checkpoint.moved > 0 {
            for frame in 0..checkpoint.pages {
                let mut page = [0; 4];
                self.file.read_exact_at(&mut page, self.place(frame))?;
                latest.insert(u32::from_be_bytes(page), frame);
            }
        }
        latest.retain(|_, frame| *frame < checkpoint.moved);
        Ok(latest)
    }

    /// The page in a frame.
    fn content(&self, frame: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; usize::try_from(self.page_bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut page, self.place(frame) + FRAME_HEADER_BYTES)?;
        Ok(page)
    }

    /// Where a frame begins.
    fn place(&self, frame: u64) -> u64 {
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
