//! Messages in a SQLite file: one connection adds messages, a few read, and each result comes from one snapshot.
//!
//! Neither does the writer block readers nor do readers block it: the database is in WAL mode.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Backlog, Error, OpenError, Outcome, Space, Store};
use crate::cursor::{Cursor, CursorName, Move, Moved};
use crate::erasure::{Erasure, Step, Tombstone, Tombstones, Wiped};
use crate::event::{Arrived, Event, LogRead, Position, Reached, Recorded, Source};
use crate::message::Name;
use crate::paths::{folder, sync_folder};
use crate::query::{Filter, Listing, Page, Stats, Volume};
use crate::telemetry::chain;

pub(super) mod backup;
mod check;
mod checkpoint;
mod connection;
mod cursors;
mod erasure;
mod existing;
mod failed;
mod files;
mod free_space;
mod identity;
mod index;
mod indexer;
mod insert;
mod location;
mod log;
mod memory;
mod migrate;
mod named;
mod ordered;
mod party;
mod plain;
mod read_only;
mod reader;
mod recent;
mod recovery;
mod rows;
mod search;
mod texts;
mod view;
mod volume;
mod writer;

use connection::explain;
use files::{NotOwned, Owner};
use indexer::Indexer;
use location::Location;
use reader::Readers;
use view::{Shared, State};
use writer::Writer;

pub use read_only::ReadOnlySqlite;

/// The oldest SQLite without the WAL-reset bug (<https://sqlite.org/wal.html#walresetbug>).
const SQLITE_MIN: (i32, &str) = (3_051_003, "3.51.3");

/// Sizes that trade memory and pauses for speed, and the timeout of a read.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// The write-ahead log is moved into the database at this size, in bytes. A larger log means fewer page
    /// writes for each message with a random id, and a longer pause when it is moved.
    pub wal_bytes: u64,
    /// The same size while nothing is being stored.
    pub wal_idle_bytes: u64,
    /// When this much of the log has not been moved, the checkpoint thread moves it, so that less is left for the
    /// checkpoint that the writer waits for.
    pub wal_step_bytes: u64,
    /// Past this size, the writer waits for the reader that keeps the log from starting anew. After a wait in vain it
    /// waits again when the log has doubled.
    pub wal_bytes_max: u64,
    /// Time between two looks at whether nothing is being stored, so that a small log may begin anew.
    pub wal_pause: Duration,
    /// Page cache of the connection that writes.
    pub writer_cache_kib: u32,
    /// Page cache of each connection that reads.
    pub reader_cache_kib: u32,
    /// Longest time that a read may take.
    pub read_timeout: Duration,
    /// Page cache of the connection that writes the index; the connections that read it have a quarter of this.
    pub index_cache_kib: u32,
    /// Number of messages that are kept in memory and then written into the index together.
    pub part_messages: usize,
    /// Size at which the index's write-ahead log is moved into its file.
    pub index_log_bytes: u64,
    /// Maximum number of events that one read of the log looks at.
    pub log_window: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            wal_bytes: 64 << 20,
            wal_idle_bytes: 4 << 20,
            wal_step_bytes: 8 << 20,
            wal_bytes_max: 256 << 20,
            wal_pause: Duration::from_secs(1),
            writer_cache_kib: 32 << 10,
            reader_cache_kib: 8 << 10,
            read_timeout: Duration::from_secs(10),
            index_cache_kib: 16 << 10,
            part_messages: 32 << 10,
            index_log_bytes: 16 << 20,
            log_window: 20_000,
        }
    }
}

/// A [`Store`] in a file.
#[derive(Debug)]
pub struct Sqlite {
    /// Declared before the writer, which it uses, so that it is dropped first.
    checkpoints: Mutex<Option<checkpoint::CheckpointThread>>,
    writer: Arc<Mutex<Option<Writer>>>,
    readers: Readers,
    indexer: Mutex<Option<Indexer>>,
    shared: Arc<Shared>,
    wal_bytes: Arc<AtomicU64>,
    path: PathBuf,
    owner: Mutex<Option<Arc<Owner>>>,
}

impl Sqlite {
    /// Opens the file, created together with its folder if need be, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`], for the person who starts the service.
    pub fn open(path: &Path, tuning: Tuning) -> Result<Self, OpenError> {
        let place = Location::to_write(path)?;
        let path = place.path();
        let unusable = |source| unusable(path, source);
        let Owned { owner, conn, unwritten } = Self::own(path, tuning)?;
        let State { latest, .. } = State::read(&conn).map_err(|error| unusable(error.into()))?;
        let shared = Arc::new(Shared::new(path, latest));
        let owner = Arc::new(owner);
        let written = unwritten.is_none();
        let (writer, worker) =
            Writer::new(&place, tuning, conn, written, Arc::clone(&shared), Arc::clone(&owner))
                .map_err(|error| unusable(error.into()))?;
        let wal_bytes = writer.wal_bytes();
        let writer = Arc::new(Mutex::new(Some(writer)));
        let checkpoints =
            start_checkpoints(worker, tuning, &writer).map_err(|error| unusable(error.into()))?;
        let readers =
            Readers::open(path, tuning, Arc::clone(&shared)).map_err(|error| unusable(error.into()))?;
        let indexer =
            Indexer::start(path, tuning, Arc::clone(&shared)).map_err(|error| unusable(error.into()))?;
        if let Some(error) = unwritten {
            tracing::error!(
                error = chain(&error),
                "messages cannot be stored yet; those there are can be read"
            );
        }
        Ok(Self {
            checkpoints: Mutex::new(Some(checkpoints)),
            writer,
            wal_bytes,
            readers,
            indexer: Mutex::new(Some(indexer)),
            shared,
            path: path.to_owned(),
            owner: Mutex::new(Some(owner)),
        })
    }

    /// Brings the schema of the file up to date, and does nothing else; returns its version then.
    ///
    /// # Errors
    /// [`OpenError`], for the person who runs the command.
    pub fn migrate(path: &Path) -> Result<i64, OpenError> {
        let place = Location::to_write(path)?;
        let path = place.path();
        let unusable = |error: Error| unusable(path, error.into());
        let Owned { owner: _owner, conn, unwritten } = Self::own(path, Tuning::default())?;
        if let Some(error) = unwritten {
            return Err(unusable(error));
        }
        connection::close(conn).map_err(|error| unusable(explain(error)))?;
        Ok(migrate::VERSION)
    }

    /// Takes the owner lock, which lasts as long as the `Owner`, and brings the schema up to date.
    fn own(path: &Path, tuning: Tuning) -> Result<Owned, OpenError> {
        if rusqlite::version_number() < SQLITE_MIN.0 {
            return Err(OpenError::SqliteTooOld { found: rusqlite::version().to_owned() });
        }
        let parent = folder(path);
        make_folder(parent)
            .map_err(|source| OpenError::Folder { path: parent.display().to_string(), source })?;
        may_write(parent)?;
        if path.exists() {
            may_write(path)?;
        }

        let name = || path.display().to_string();
        let unusable = |source| unusable(path, source);
        let refused = |refused: migrate::SchemaError| refused.at(path, |error| unusable(error.into()));
        let mut conn = connection::writer(path, tuning.writer_cache_kib, true)
            .map_err(|error| unusable(error.into()))?;
        let version = migrate::check(&conn).map_err(refused)?;
        let owner = Owner::take(path).map_err(|not_owned| match not_owned {
            NotOwned::Taken(process) => OpenError::InUse { path: name(), process },
            NotOwned::Io(error) => unusable(error.into()),
        })?;
        connection::make_durable(&conn).map_err(|error| unusable(error.into()))?;
        let written = if owner.found_unsynced { recovery::rewrite(&conn, path) } else { Ok(()) };
        let unwritten = match written.map_err(Into::into).and_then(|()| migrate::up(&mut conn)) {
            Ok(()) => {
                owner.record(false);
                None
            }
            // The database can be read as it is, and the cause that keeps it from being written may pass.
            Err(migrate::SchemaError::Sqlite(error))
                if migrate::is_current(version) && connection::may_pass(&error) =>
            {
                Some(explain(error))
            }
            Err(refusal) => return Err(refused(refusal)),
        };
        Ok(Owned { conn, owner, unwritten })
    }

    fn with_writer<T>(&self, work: impl FnOnce(&mut Writer) -> Result<T, Error>) -> Result<T, Error> {
        let mut writer = lock(&self.writer);
        match writer.as_mut() {
            Some(writer) => work(writer),
            None => Err(Error::Unavailable { reason: "the service is stopping", source: None }),
        }
    }
}

impl Store for Sqlite {
    fn insert(&self, batch: &[Event]) -> Result<Vec<Outcome>, Error> {
        self.with_writer(|writer| writer.insert(batch))
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error> {
        self.readers.list(filter, page)
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.readers.stats()
    }

    fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error> {
        self.readers.arrived(after, limit)
    }

    fn find(&self, keys: &[(Source, Name)]) -> Result<Vec<Event>, Error> {
        self.readers.find(keys)
    }

    fn volume(&self, filter: &Filter, step_seconds: u32) -> Result<Option<Volume>, Error> {
        self.readers.volume(filter, step_seconds)
    }

    fn read_log(
        &self,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Result<Option<Reached>, Error> {
        self.readers.read_log(read, each)
    }

    fn event_at(&self, position: Position) -> Result<Option<Recorded>, Error> {
        self.readers.event_at(position)
    }

    fn cursors(&self) -> Result<Vec<Cursor>, Error> {
        self.readers.cursors()
    }

    fn cursor(&self, name: &CursorName) -> Result<Option<Cursor>, Error> {
        self.readers.cursor(name)
    }

    fn move_cursor(&self, to: &Move) -> Result<Moved, Error> {
        self.with_writer(|writer| writer.move_cursor(to))
    }

    fn delete_cursor(&self, name: &CursorName) -> Result<bool, Error> {
        self.with_writer(|writer| writer.delete_cursor(name))
    }

    fn erase(&self, erasure: &Erasure, after: i64) -> Result<Step, Error> {
        let (found, next) = self.readers.selected(erasure, after)?;
        if found.is_empty() {
            return Ok(Step { events: 0, next });
        }
        // Reads need an index that has followed the step before this one.
        self.readers.wait_for_view()?;
        self.with_writer(|writer| writer.erase(&found, next))
    }

    fn count_selected(&self, erasure: &Erasure, after: i64) -> Result<Step, Error> {
        self.readers.count_selected(erasure, after)
    }

    fn wipe(&self) -> Result<Wiped, Error> {
        self.with_writer(Writer::wipe)
    }

    fn is_keeper(&self) -> Result<bool, Error> {
        // The database belongs to this process alone.
        Ok(true)
    }

    fn tombstones(&self, after: Option<&Tombstone>, limit: u32) -> Result<Option<Tombstones>, Error> {
        self.readers.tombstones(after, limit)
    }

    fn adopt_tombstones(&self, tombstones: &Tombstones) -> Result<bool, Error> {
        self.with_writer(|writer| writer.adopt_tombstones(tombstones))
    }

    fn erased(&self, keys: &[(Source, Name)]) -> Result<Vec<bool>, Error> {
        self.readers.erased(keys)
    }

    fn ready(&self) -> Result<(), Error> {
        self.with_writer(|writer| {
            let ready = writer.ready();
            // The check has written to the log, which would otherwise grow with each check while no message comes.
            writer.checkpoint_if_idle();
            ready
        })
    }

    fn backlog(&self) -> Backlog {
        Backlog { wal_bytes: self.wal_bytes.load(Ordering::Relaxed), behind: self.shared.behind() }
    }

    fn space(&self) -> Option<Space> {
        files::space(&self.path, [&self.shared.path, &self.shared.texts_path])
    }

    fn close(&self) {
        // The index leaves one file behind if nobody else has it open.
        self.readers.close();
        drop(lock(&self.indexer).take());
        drop(lock(&self.checkpoints).take());
        if let Some(mut writer) = lock(&self.writer).take() {
            writer.close();
        }
        drop(lock(&self.owner).take());
    }
}

/// Starts the checkpoint thread, which uses the writer while nothing is being stored.
fn start_checkpoints(
    worker: checkpoint::Worker,
    tuning: Tuning,
    writer: &Arc<Mutex<Option<Writer>>>,
) -> std::io::Result<checkpoint::CheckpointThread> {
    let writer = Arc::clone(writer);
    worker.start(tuning.wal_pause, move || {
        if let Some(writer) = lock(&writer).as_mut() {
            writer.checkpoint_if_idle();
            writer.wipe_if_due();
        }
    })
}

/// A database that this process owns.
struct Owned {
    conn: rusqlite::Connection,
    owner: Owner,
    /// The error if nothing could be written to it yet.
    unwritten: Option<Error>,
}

fn unusable(path: &Path, source: super::Cause) -> OpenError {
    OpenError::Unusable { path: path.display().to_string(), source }
}

/// Creates a folder and makes it durable: a new name is durable once the folder that holds it is synced.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let missing: Vec<PathBuf> =
        path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
    std::fs::create_dir_all(path)?;
    for made in missing.iter().rev() {
        sync_folder(folder(made))?;
    }
    Ok(())
}

/// Fails if this process may not write to a file or folder. SQLite would only say that it cannot open the database.
fn may_write(path: &Path) -> Result<(), OpenError> {
    let Err(refused) = rustix::fs::access(path, rustix::fs::Access::WRITE_OK) else { return Ok(()) };
    Err(OpenError::NotWritable {
        path: path.display().to_string(),
        source: refused.into(),
        owner: std::fs::metadata(path).map_or(0, |metadata| metadata.uid()),
        user: rustix::process::geteuid().as_raw(),
    })
}

/// Locks, even after another holder panicked: the guarded value is valid between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
