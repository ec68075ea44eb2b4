//! The contract of a store of events, and the choice of its engine. Knows neither HTTP nor, in this file, SQL.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cursor::{Cursor, CursorName, Move, Moved};
use crate::erasure::{Erasure, Step, Tombstone, Tombstones, Wiped};
use crate::event::{Arrived, Event, LogRead, Position, Reached, Recorded, Source};
use crate::message::{Message, Name};
use crate::query::{Filter, Listing, Page, Stats, Volume};

pub mod backup;
pub mod check;
pub mod copy;
pub mod postgres;
pub mod sqlite;

mod matches;
mod nearest;
mod read_only;
mod url;

pub use read_only::ReadOnly;
pub use url::{BadUrl, Url};

/// A place that keeps events until they are erased, each key of a source once.
///
/// The methods block, except [`backlog`](Store::backlog): call [`insert`](Store::insert) from the inbox's writer
/// threads, and the others from a thread that may wait. A store does its upkeep on threads of its own or within `insert` and `ready`.
/// `tests/it/store_contract.rs` tests for each engine that the following holds:
///
/// - When `insert` returns `Ok`, the whole batch is on stable storage and every later read finds it. When it
///   returns an error, either nothing of the batch is stored, or the response to a COMMIT was lost and it is unknown
///   whether the batch is stored. The caller must claim neither.
/// - The first event of a source and key wins, also within a batch; a stored event never changes. What was erased is not
///   stored again.
/// - Arrival numbers are given in the order of the batch, and none is given twice, even if the event is gone.
/// - A read sees a batch whole or not at all, and each result comes from one snapshot.
/// - `list` has a total order: instant, then `message_id` by its bytes, then source. `stats` and `list` agree; both, and
///   `volume`, are about the events that are messages.
/// - Whoever reads the log on from where a read has come to gets each event once and in one order, whatever commits late.
/// - Every method but [`space`](Store::space) returns within a bounded time, and a store recovers by itself once the cause of a failure is gone.
pub trait Store: fmt::Debug + Send + Sync {
    /// Stores those events of `batch` whose source and key are new, all or nothing. Returns the outcome of each event, in
    /// order.
    ///
    /// # Errors
    /// [`Error`]; the description of the trait says what is stored then.
    fn insert(&self, batch: &[Event]) -> Result<Vec<Outcome>, Error>;

    /// A page of the messages that match.
    ///
    /// # Errors
    /// [`Error`]
    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error>;

    /// The messages of a page, without the number of all that match: for who turns page after page, and would have them counted
    /// each time.
    ///
    /// # Errors
    /// [`Error`]
    fn messages(&self, filter: &Filter, page: &Page) -> Result<Vec<Message>, Error> {
        Ok(self.list(filter, page)?.data)
    }

    /// The aggregates over all messages.
    ///
    /// # Errors
    /// [`Error`]
    fn stats(&self) -> Result<Stats, Error>;

    /// The number of messages that match in each step of time; `None` if there are more than
    /// [`STEPS_MAX`](crate::query::STEPS_MAX) steps from the first message to the last.
    ///
    /// # Errors
    /// [`Error`]
    fn volume(&self, filter: &Filter, step_seconds: u32) -> Result<Option<Volume>, Error>;

    /// Reads the log: calls `each` with the events that the filter lets through, one by one, until it returns false, the
    /// limit is reached, or so many events were looked at that the read should go on with another call. `None` if the
    /// position where the read shall begin names no event of this log. One that was erased is an event of it, too.
    ///
    /// # Errors
    /// [`Error`]
    fn read_log(
        &self,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Result<Option<Reached>, Error>;

    /// The event at a position; `None` if the position names none, or one that was erased.
    ///
    /// # Errors
    /// [`Error`]
    fn event_at(&self, position: Position) -> Result<Option<Recorded>, Error>;

    /// At most `limit` events after the arrival number `after`, in the order of arrival. A caller that continues from
    /// the last one misses none: while an event with a smaller arrival number may still appear, those with a greater
    /// one are held back. Zero is before all events; the numbers have gaps.
    ///
    /// # Errors
    /// [`Error`]
    fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error>;

    /// The events that are stored under one of these sources and keys, in any order.
    ///
    /// # Errors
    /// [`Error`]
    fn find(&self, keys: &[(Source, Name)]) -> Result<Vec<Event>, Error>;

    /// Every cursor, by name.
    ///
    /// # Errors
    /// [`Error`]
    fn cursors(&self) -> Result<Vec<Cursor>, Error>;

    /// The cursor of this name; `None` if there is none.
    ///
    /// # Errors
    /// [`Error`]
    fn cursor(&self, name: &CursorName) -> Result<Option<Cursor>, Error>;

    /// Moves a cursor, or makes it. Of several moves from one position one takes place. When this returns `Ok`, the result
    /// is on stable storage.
    ///
    /// # Errors
    /// [`Error`]; the cursor may have been moved all the same.
    fn move_cursor(&self, to: &Move) -> Result<Moved, Error>;

    /// Deletes a cursor; returns whether there was one.
    ///
    /// # Errors
    /// [`Error`]
    fn delete_cursor(&self, name: &CursorName) -> Result<bool, Error>;

    /// Erases some of the events that an erasure selects, the first ones after the arrival number `after`, in one short
    /// transaction, and leaves a tombstone of each. Zero is before all events. When this returns `Ok`, the events are in no
    /// later read, and [`insert`](Store::insert) does not store them again. Their bytes are gone after [`wipe`](Store::wipe).
    ///
    /// # Errors
    /// [`Error`]; the events of the step may have been erased all the same.
    fn erase(&self, erasure: &Erasure, after: i64) -> Result<Step, Error>;

    /// Counts some of the events that an erasure selects, the first ones after the arrival number `after`, and erases none.
    ///
    /// # Errors
    /// [`Error`]
    fn count_selected(&self, erasure: &Erasure, after: i64) -> Result<Step, Error>;

    /// Does some of the work that removes what is left of erased events in the files of the store. The store goes on with it by
    /// itself, slowly; a caller that waits for it calls this again.
    ///
    /// # Errors
    /// [`Error`]
    fn wipe(&self) -> Result<Wiped, Error>;

    /// Whether this process shall erase what is too old to be kept, of all processes that have the store open: asked before
    /// each pass over the events.
    ///
    /// # Errors
    /// [`Error`]
    fn is_keeper(&self) -> Result<bool, Error>;

    /// At most `limit` tombstones after the one that is given, in ascending order; `None` if nothing was ever erased.
    ///
    /// # Errors
    /// [`Error`]
    fn tombstones(&self, after: Option<&Tombstone>, limit: u32) -> Result<Option<Tombstones>, Error>;

    /// Takes over tombstones of another store. Returns false, and takes over none, if there are tombstones under another key.
    ///
    /// # Errors
    /// [`Error`]
    fn adopt_tombstones(&self, tombstones: &Tombstones) -> Result<bool, Error>;

    /// Which of these sources and keys were erased, in order.
    ///
    /// # Errors
    /// [`Error`]
    fn erased(&self, keys: &[(Source, Name)]) -> Result<Vec<bool>, Error>;

    /// Proves that messages can be stored and read right now, by doing both; adds no message.
    ///
    /// # Errors
    /// [`Error`], with the reason.
    fn ready(&self) -> Result<(), Error>;

    /// The work that the store has yet to do behind the messages. Never blocks.
    fn backlog(&self) -> Backlog;

    /// The space that the store takes, and the space that is left for it. `None` if that is unknown: the messages are
    /// on a server, or the disk does not say. Hangs as long as the disk does.
    fn space(&self) -> Option<Space>;

    /// Stops the store's threads and leaves everything in order for the next start. An `insert` after this fails.
    fn close(&self);
}

/// The fate of an event that was given to [`Store::insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The event is stored now.
    Created {
        /// Its arrival number, as [`Arrived::seq`].
        seq: i64,
    },
    /// An event that [says the same](Event::says_the_same) was stored under its source and key before.
    Duplicate,
    /// Another event is stored under its source and key, and stays.
    Conflict,
    /// An event of this source and key was erased; this one is not stored.
    Erased,
}

/// Work that waits behind the messages. No result of a read is affected by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes in the write-ahead log that a checkpoint has yet to move into the database; 0 if there is no such log.
    pub wal_bytes: u64,
    /// Messages that are not in the derived data yet.
    pub behind: Behind,
}

/// Messages that are stored and not in the derived data yet. Reads look at each of them, which takes a little longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Messages that are not in the party index and the aggregates.
    pub index: u64,
    /// Messages that are not in the search index.
    pub search: u64,
}

/// The disk space of a store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of all files of the store, derived data included.
    pub used: u64,
    /// Space on their file system that is free for a process without privileges.
    pub free: u64,
}

/// The store could not do the work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used at present, or lacks space, time or rights: a retry is worthwhile.
    #[error("{reason}")]
    Unavailable {
        /// The reason, in plain words and without the names of files.
        reason: &'static str,
        /// The cause, for the log only.
        source: Option<Cause>,
    },
    /// The database responded with something that it never should: a retry may not help.
    #[error("unexpected response from the database")]
    Failed(#[source] Cause),
}

/// The text of [`Error::Failed`] for a client.
pub const FAILED: &str = "the database failed";

impl Error {
    /// The text for a client: plain words that name nothing internal.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Unavailable { reason, .. } => reason,
            Self::Failed(_) => FAILED,
        }
    }

    /// Fails unless the database has the schema version that this Lyftr works with.
    fn unless_schema(found: i64, known: i64) -> Result<(), Self> {
        if found == known {
            return Ok(());
        }
        let reason = "the schema of the database is not the one this Lyftr works with";
        Err(Self::Unavailable { reason, source: None })
    }
}

/// A cause of any type.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The settings of a store.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Maximum number of connections to a database server; SQLite has none.
    pub connections: usize,
    /// Longest time that the database may take for one query and, with PostgreSQL, one batch.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connections: 8, timeout: Duration::from_secs(10) }
    }
}

// The choice of the engine. No other function chooses one.

/// Opens the store at `url`, created and brought up to date if need be.
///
/// # Errors
/// [`OpenError`], for the person who starts the service.
pub fn open(url: &Url, settings: Settings) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match url {
        Url::Sqlite(path) => {
            let tuning = sqlite::Tuning { read_timeout: settings.timeout, ..sqlite::Tuning::default() };
            Arc::new(sqlite::Sqlite::open(path, tuning)?)
        }
        Url::Postgres(address) => {
            let tuning = postgres::Tuning { settings, ..postgres::Tuning::default() };
            Arc::new(postgres::Postgres::open(address, tuning)?)
        }
    })
}

/// The same for a store that must be there: no file is created.
///
/// # Errors
/// [`OpenError`], for the person who runs the command.
pub fn open_existing(url: &Url, settings: Settings) -> Result<Arc<dyn Store>, OpenError> {
    if let Url::Sqlite(path) = url {
        sqlite::ReadOnlySqlite::open(path)?;
    }
    open(url, settings)
}

/// Opens the database at `url` to read it as it is: without migrating, locking or indexing it.
///
/// # Errors
/// [`OpenError`], for the person who runs the command.
pub fn open_read_only(url: &Url, settings: Settings) -> Result<Box<dyn ReadOnly>, OpenError> {
    Ok(match url {
        Url::Sqlite(path) => Box::new(sqlite::ReadOnlySqlite::open(path)?),
        Url::Postgres(address) => Box::new(postgres::ReadOnlyPostgres::open(address, settings)?),
    })
}

/// Brings the schema of the database at `url` up to date, and does nothing else; returns its version then.
///
/// # Errors
/// [`OpenError`], for the person who runs the command.
pub fn migrate(url: &Url, settings: Settings) -> Result<i64, OpenError> {
    match url {
        Url::Sqlite(path) => sqlite::Sqlite::migrate(path),
        Url::Postgres(address) => postgres::Postgres::migrate(address, settings),
    }
}

/// Creates a SQLite database in the empty file `to`, for a backup that is written event by event.
fn create_backup(to: &Path) -> Result<Box<dyn backup::Target>, Error> {
    Ok(Box::new(sqlite::backup::NewDatabase::create(to)?))
}

/// The number of batches that it is worth inserting at the same time into the store at `url`.
pub fn writers(url: &Url) -> usize {
    match url {
        Url::Sqlite(_) => 1,
        Url::Postgres(_) => postgres::WRITERS,
    }
}

/// How often a follower of the log at `url` should look for events that other processes have stored; `None` if the store belongs
/// to one process.
pub fn follow_pause(url: &Url) -> Option<Duration> {
    match url {
        Url::Sqlite(_) => None,
        Url::Postgres(_) => Some(Duration::from_millis(100)),
    }
}

/// The reason why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of the database cannot be created.
    #[error(
        "cannot create the folder {path} for the database: {source}; give DATABASE_URL a path that this user may write to"
    )]
    Folder {
        /// The folder.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The file cannot be opened, read or written.
    #[error(
        "cannot open the database {path} for reading and writing: {source}; check that the path, its owner and its rights are right, and that the disk has room"
    )]
    Unusable {
        /// The file.
        path: String,
        /// The cause.
        source: Cause,
    },
    /// This process may not write to the file, or to the folder that contains it and its log.
    #[error(
        "cannot write to {path}, where the database is: {source}; it belongs to user {owner}, and this process runs as user {user}"
    )]
    NotWritable {
        /// The file or the folder.
        path: String,
        /// The cause.
        source: std::io::Error,
        /// The id of the user who owns it.
        owner: u32,
        /// The id of the user whom this process runs as.
        user: u32,
    },
    /// The file or a folder above it cannot be accessed, so it is unknown whether the file exists.
    #[error("cannot access {path}, where the database is: {source}")]
    Unseen {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The path is a symbolic link to a file that does not exist.
    #[error(
        "{link}, where the database is, is a symbolic link to {target}, and nothing is there; mount or make that, or remove the link"
    )]
    Dangling {
        /// The link.
        link: String,
        /// The path that the link names.
        target: String,
    },
    /// One of the files of the database is not in the same folder as the others.
    #[error("will not use {path}: {why}")]
    Apart {
        /// The file.
        path: String,
        /// The reason, and the remedy.
        why: &'static str,
    },
    /// The database is opened read-only, and does not exist.
    #[error("there is no database {path}; give the path of one")]
    Missing {
        /// The file.
        path: String,
    },
    /// The database is opened read-only, and cannot be read.
    #[error(
        "cannot read the database {path}: {source}; check that it is a database, and that this user may read it and write to its folder"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// The cause.
        source: Cause,
    },
    /// The database is opened read-only, and has no tables for messages.
    #[error(
        "the database {path} has no schema of Lyftr's; `lyftr migrate` or a start of the service creates it"
    )]
    Unmade {
        /// The file, or the URL without the password.
        path: String,
    },
    /// Another process has the database open.
    #[error(
        "another process{} has the database {path} open; a SQLite database belongs to one process, so stop that one, or give DATABASE_URL another path",
        if process.is_empty() { String::new() } else { format!(" ({process})") }
    )]
    InUse {
        /// The file.
        path: String,
        /// The id of that process; empty if it is unknown.
        process: String,
    },
    /// The database has the schema of a newer Lyftr.
    #[error(
        "the database {path} has schema version {found}, newer than {known}, which this Lyftr knows; start the newer Lyftr that made it, or restore a backup from before"
    )]
    Newer {
        /// The file.
        path: String,
        /// The version of its schema.
        found: i64,
        /// The version that this Lyftr works with.
        known: i64,
    },
    /// The database belongs to another program.
    #[error(
        "{path} is a database of another program (application_id {found:#x}); give DATABASE_URL a path of its own"
    )]
    Foreign {
        /// The file.
        path: String,
        /// Its `application_id`.
        found: i64,
    },
    /// The database has Lyftr's tables without the marks of a Lyftr database, which `.dump` leaves out.
    #[error(
        "{path} has Lyftr's tables, of schema version {version}, but not the marks that say so, which `.dump` leaves out; if no newer Lyftr made it, run this in it with sqlite3, and start again: PRAGMA application_id = {application}; PRAGMA user_version = {version};"
    )]
    Unmarked {
        /// The file.
        path: String,
        /// The `application_id` of Lyftr's databases.
        application: i64,
        /// The schema version of the tables.
        version: usize,
    },
    /// The server cannot be reached, or refuses a statement.
    #[error(
        "cannot use the database {place}: {source}; check DATABASE_URL, the server, and the rights of its user"
    )]
    Server {
        /// The URL without the password.
        place: String,
        /// The cause.
        source: Cause,
    },
    /// Messages would not be safe on this server.
    #[error("will not use the database {place}: {why}")]
    Unfit {
        /// The URL without the password.
        place: String,
        /// The reason, and the remedy.
        why: &'static str,
    },
    /// SQLite is known to be able to damage a database in WAL mode.
    #[error("SQLite {found} has the WAL-reset bug; Lyftr needs 3.51.3 or newer")]
    SqliteTooOld {
        /// The version in use.
        found: String,
    },
}
