//! The index files, `app.db-index` and `app.db-texts`: what is derived from the messages and too large for memory. They are
//! written behind the messages, never before an acknowledgement, and rebuilt when they are missing or damaged.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::Tuning;
use super::connection::{self, BUSY_TIMEOUT};
use super::files::{FileId, beside};
use super::free_space;
use super::texts::{self, TextFile};
use super::view::{DatasetId, Shared, State};

pub(super) mod entries;
pub(super) mod key;
pub(super) mod parties;
pub(super) mod senders;
mod tree;

const SCHEMA: &[&str] =
    &[include_str!("index/schema.sql"), include_str!("index/entries.sql"), include_str!("index/texts.sql")];
/// Counts up with every change of the schema; an index of another version is rebuilt.
pub(super) const VERSION: i64 = 3;
const NEW_MARK: &str = "INSERT INTO state (only, edition, upto, removed_upto) VALUES (1, ?1, 0, ?2)";
const MARK: &str = "SELECT edition, upto, removed_upto FROM state";
const SET_MARK: &str = "UPDATE state SET upto = ?1, removed_upto = ?2";
const ANY_REMOVAL: &str = "SELECT 1 FROM removed LIMIT 1";
/// How long emptying the log waits for readers.
const READERS_PATIENCE: Duration = Duration::from_millis(5);
/// Time after which a piece of wiping ends, so that what has arrived is taken in.
const PIECE_TIME: Duration = Duration::from_millis(20);
const REMOVALS_AFTER: &str = "SELECT count(*) FROM removed WHERE number > ?1";

/// The files as they are written.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) conn: Connection,
    pub(super) texts: TextFile,
    files: [FileId; 2],
    log_bytes_max: u64,
    /// What the index holds.
    pub(super) mark: Mark,
    traces: Traces,
}

/// What is left of messages that are gone: copies of entries in the free space of pages, and the write-ahead log.
#[derive(Debug, PartialEq, Eq)]
enum Traces {
    None,
    /// On any page.
    OnPages,
    /// On these pages, and in the log.
    Left(Vec<u32>),
}

/// What an index holds: every message up to an arrival number but for those that were removed up to a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) dataset_id: DatasetId,
    pub(super) upto: i64,
    pub(super) removed: i64,
}

impl Mark {
    /// The mark in the snapshot that a connection to an index reads.
    pub(super) fn read(index: &Connection) -> rusqlite::Result<Self> {
        index.prepare_cached(MARK)?.query_row((), |row| {
            Ok(Self { dataset_id: row.get(0)?, upto: row.get(1)?, removed: row.get(2)? })
        })
    }

    /// Whether the index is one of these messages: everything that has changed since can be followed.
    pub(super) fn fits(&self, messages: &Connection, state: &State) -> rusqlite::Result<bool> {
        if self.dataset_id != state.dataset_id || self.upto > state.latest || self.removed > state.removed {
            return Ok(false);
        }
        let removals: i64 =
            messages.prepare_cached(REMOVALS_AFTER)?.query_row([self.removed], |row| row.get(0))?;
        Ok(removals == state.removed - self.removed)
    }
}

impl Index {
    /// Opens the index of the messages that `messages` reads in a snapshot, whose state is `state`. What is there and is not
    /// that index is deleted.
    pub(super) fn open(
        shared: &Shared,
        tuning: Tuning,
        messages: &Connection,
        state: &State,
    ) -> Result<Self, texts::Error> {
        match Self::open_existing(shared, tuning) {
            Ok(mut index) if index.mark.fits(messages, state)? => {
                if messages.prepare_cached(ANY_REMOVAL)?.exists(())? {
                    // The process before this one may have ended before it had wiped the files.
                    index.has_traces();
                }
                return Ok(index);
            }
            // Locked, no room for the log, no more files to be opened: it stays, and is tried again.
            Err(texts::Error::Index(error)) if !connection::is_damage(&error) => return Err(error.into()),
            Err(texts::Error::File(error)) => return Err(error.into()),
            _ => {}
        }
        remove(shared);
        let mut conn = open(&shared.path, tuning)?;
        let making = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for part in SCHEMA {
            making.execute_batch(part)?;
        }
        making.execute(NEW_MARK, (state.dataset_id, state.removed))?;
        making.pragma_update(None, "user_version", VERSION)?;
        making.commit()?;
        if state.latest > 0 {
            tracing::info!("the index is made anew from the messages");
        }
        Self::adopt(shared, tuning, conn)
    }

    fn open_existing(shared: &Shared, tuning: Tuning) -> Result<Self, texts::Error> {
        Self::adopt(shared, tuning, open(&shared.path, tuning)?)
    }

    fn adopt(shared: &Shared, tuning: Tuning, conn: Connection) -> Result<Self, texts::Error> {
        if version(&conn)? != VERSION {
            return Err(texts::Error::Damaged("the index is of another version"));
        }
        let mark = Mark::read(&conn)?;
        let texts = TextFile::open(&shared.texts_path, &conn)?;
        let Some(files) = files(shared)? else { return Err(texts::Error::Damaged("a file is gone")) };
        Ok(Self { conn, texts, files, log_bytes_max: tuning.index_log_bytes, mark, traces: Traces::None })
    }

    /// Whether the paths still lead to the files that are written.
    pub(super) fn is_in_place(&self, shared: &Shared) -> std::io::Result<bool> {
        Ok(files(shared)? == Some(self.files))
    }

    /// Notes in the caller's transaction what the index will hold. [`Index::mark`] is for the caller to set after the commit.
    pub(super) fn set_mark(&self, mark: &Mark) -> rusqlite::Result<()> {
        self.conn.prepare_cached(SET_MARK)?.execute((mark.upto, mark.removed)).map(drop)
    }

    /// Notes that messages were taken out.
    pub(super) fn has_traces(&mut self) {
        self.traces = Traces::OnPages;
    }

    /// Does a piece of the work that is left after messages were taken out: overwrites the free space of pages, and empties the
    /// log. Tells when nothing is left.
    pub(super) fn wipe(&mut self, shared: &Shared) -> rusqlite::Result<()> {
        if self.traces == Traces::OnPages {
            self.traces = Traces::Left(free_space::pages(&self.conn, free_space::ENTRIES)?);
        }
        if let Traces::Left(pages) = &mut self.traces {
            let begin = Instant::now();
            let writing = self.conn.unchecked_transaction()?;
            while let Some(page) = pages.pop() {
                free_space::clean(&writing, page)?;
                if begin.elapsed() >= PIECE_TIME {
                    break;
                }
            }
            writing.commit()?;
            if !pages.is_empty() {
                shared.ask();
                return Ok(());
            }
            // What has arrived does not wait for a reader.
            self.conn.busy_timeout(READERS_PATIENCE)?;
            let emptied = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0));
            self.conn.busy_timeout(BUSY_TIMEOUT)?;
            let is_busy: bool = emptied?;
            if is_busy {
                return Ok(());
            }
            self.traces = Traces::None;
        }
        shared.follow(self.mark.removed);
        Ok(())
    }

    /// Moves the write-ahead log into the file if it is large.
    pub(super) fn checkpoint(&self, shared: &Shared) -> rusqlite::Result<()> {
        if log_bytes(shared) >= self.log_bytes_max {
            self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))?;
        }
        Ok(())
    }

    /// Leaves one file behind, if that is quickly done.
    pub(super) fn close(self, shared: &Shared) {
        if log_bytes(shared) < self.log_bytes_max {
            let _left_as_it_is = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

/// The version of the schema of an index.
pub(super) fn version(index: &Connection) -> rusqlite::Result<i64> {
    index.query_row("PRAGMA user_version", (), |row| row.get(0))
}

fn log_bytes(shared: &Shared) -> u64 {
    std::fs::metadata(beside(&shared.path, "-wal")).map_or(0, |log| log.len())
}

/// The files that the paths lead to; none if one is missing.
fn files(shared: &Shared) -> std::io::Result<Option<[FileId; 2]>> {
    Ok(match (FileId::at(&shared.path)?, FileId::at(&shared.texts_path)?) {
        (Some(index), Some(texts)) => Some([index, texts]),
        _ => None,
    })
}

/// Deletes the index, whatever is left of it.
pub(super) fn remove(shared: &Shared) {
    let files = ["", "-wal", "-shm"].map(|ending| beside(&shared.path, ending));
    for file in files.iter().chain([&shared.texts_path]) {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(error = %error, "a file of the index cannot be deleted");
            }
            _ => {}
        }
    }
}

fn open(path: &Path, tuning: Tuning) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connection::open(path, flags, tuning.index_cache_kib)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    // A removal that was followed is forgotten by the messages, so a power cut must not undo it here.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    // Once it has begun anew, the file of a log that was larger is cut off.
    conn.pragma_update_and_check(None, "journal_size_limit", tuning.index_log_bytes, |_| Ok(()))?;
    conn.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    // The service does not wait for this when it ends.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}
