//! What every store of messages promises. Knows neither HTTP nor, in this file, SQL.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Message, MessageId};
use crate::query::{Filter, Listing, Page, Stats};

pub mod backup;
pub mod check;
pub mod copy;
pub mod postgres;
pub mod sqlite;

mod matches;
mod nearest;
mod url;

pub use url::{BadUrl, Url};

/// A place that keeps messages for ever, each `message_id` once.
///
/// The methods block: call [`insert`](Store::insert) and [`maintain`](Store::maintain) from the inbox's writer
/// threads, the others from a thread that may wait. What holds for every implementation, and is tested for each
/// in `tests/it/store_contract.rs`:
///
/// - When `insert` returns `Ok`, the whole batch is on stable storage and every later read finds it. When it
///   returns an error, either nothing of the batch is stored or (the answer to a COMMIT was lost) that is
///   unknown; the caller must not claim either.
/// - The first writer of a `message_id` wins, inside a batch too; nothing ever changes a stored message.
/// - A reader sees a batch whole or not at all, and each answer is of one snapshot.
/// - `list` has a total order: instant, then `message_id` by its bytes. `stats` and `list` agree.
/// - Every method returns within a bounded time, and a store heals by itself once what ailed it is gone.
pub trait Store: fmt::Debug + Send + Sync {
    /// Stores those of `batch` whose id is new, all or nothing, and tells for each what became of it, in order.
    ///
    /// # Errors
    /// [`Error`]; see above for what is stored then.
    fn insert(&self, batch: &[Message]) -> Result<Vec<Outcome>, Error>;

    /// How many batches it is worth storing at the same time. With one writer there is no need for more.
    fn writers(&self) -> usize {
        1
    }

    /// Housekeeping that need not happen before a batch is answered. `idle`: nothing waits to be stored.
    fn maintain(&self, idle: bool);

    /// A page of the messages that match.
    ///
    /// # Errors
    /// [`Error`]
    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error>;

    /// The figures over all messages.
    ///
    /// # Errors
    /// [`Error`]
    fn stats(&self) -> Result<Stats, Error>;

    /// Messages in the order of their arrival, from the one after `after` on, at most `limit`. Whoever goes on from
    /// the last of them misses none: what may still get a lesser arrival number holds back what has a greater one.
    /// Zero is before all of them; the numbers have gaps.
    ///
    /// # Errors
    /// [`Error`]
    fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error>;

    /// Those messages that are stored under one of these ids, in any order.
    ///
    /// # Errors
    /// [`Error`]
    fn find(&self, ids: &[MessageId]) -> Result<Vec<Message>, Error>;

    /// Whether messages can be stored and found right now, by doing both (nothing is added).
    ///
    /// # Errors
    /// [`Error`], with the reason.
    fn ready(&self) -> Result<(), Error>;

    /// Bytes that wait to be moved from the write-ahead log into the database, where there is such a log.
    fn wal_bytes(&self) -> u64;

    /// The space that the store takes, and what is left for it. None if that is not known: the messages are on a
    /// server, or the disk does not tell.
    fn space(&self) -> Option<Space>;

    /// How far what is derived from the messages lags behind them. Answers do not: what is not derived yet is
    /// looked at by itself, which takes a little longer.
    fn behind(&self) -> Behind;

    /// Puts everything in order for the next start. Inserts after this fail.
    fn close(&self);
}

/// A message and its place in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Its arrival number, greater than zero.
    pub seq: i64,
    /// The message.
    pub message: Message,
}

/// What became of a message that was given to [`Store::insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is stored now.
    Created,
    /// It was there already, the same in every field.
    Duplicate,
    /// Another message is there under its id, and stays.
    Conflict,
}

/// Messages that are stored and not yet in what is derived from them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Not in the index of numbers.
    pub index: u64,
    /// Not in the index of texts.
    pub search: u64,
}

/// Bytes on the disk of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all files of the store, those derived from the messages included.
    pub used: u64,
    /// Free on their file system, for a process without privileges.
    pub free: u64,
}

/// The store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used at present, or said no for want of space, time or rights: worth a retry.
    #[error("{reason}")]
    Unavailable {
        /// What is the matter, in plain words and without the names of files.
        reason: &'static str,
        /// The cause, for the log only.
        source: Option<Cause>,
    },
    /// The store answered with something it never should: a retry may not help.
    #[error("unexpected response from the database")]
    Failed(#[source] Cause),
}

/// What a client is told of [`Error::Failed`].
pub const FAILED: &str = "the database failed";

impl Error {
    /// What a client may be told of it: plain words that name nothing internal.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Unavailable { reason, .. } => reason,
            Self::Failed(_) => FAILED,
        }
    }

    /// Whether a schema of this version is the one to work with.
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

/// How a store is used, whichever it is.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most connections to a server of databases.
    pub connections: usize,
    /// Longest time that the database may take for one question or one batch.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let postgres::Tuning { connections, timeout, .. } = postgres::Tuning::default();
        Self { connections, timeout }
    }
}

/// Opens the store at `url`, made and brought up to date if need be.
///
/// # Errors
/// [`OpenError`], in words for who starts the service.
pub fn open(url: &Url, settings: Settings) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match url {
        Url::Sqlite(path) => {
            let tuning = sqlite::Tuning { read_timeout: settings.timeout, ..sqlite::Tuning::default() };
            Arc::new(sqlite::Sqlite::open(path, tuning)?)
        }
        Url::Postgres(address) => Arc::new(postgres::Postgres::open(address, settings.into())?),
    })
}

/// Brings the schema of the store at `url` up to date, and does nothing else; its version then.
///
/// # Errors
/// [`OpenError`], in words for who runs the command.
pub fn migrate(url: &Url, settings: Settings) -> Result<i64, OpenError> {
    match url {
        Url::Sqlite(path) => sqlite::Sqlite::migrate(path),
        Url::Postgres(address) => postgres::Postgres::migrate(address, settings.into()),
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of the database cannot be made.
    #[error(
        "cannot make the folder {path} for the database: {source}; give DATABASE_URL a path that this user may write to"
    )]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened, read or written.
    #[error(
        "cannot open the database {path} for reading and writing: {source}; check that the path, its owner and its rights are right, and that the disk has room"
    )]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        source: Cause,
    },
    /// The file, or the folder that it and its log are in, is closed to this process.
    #[error(
        "cannot write to {path}, where the database is: {source}; it belongs to user {owner}, and this process runs as user {user}"
    )]
    NotWritable {
        /// The file or the folder.
        path: String,
        /// Why.
        source: std::io::Error,
        /// Who it belongs to.
        owner: u32,
        /// Who this process runs as.
        user: u32,
    },
    /// It, or what leads to it, cannot be looked at, so that nobody knows whether it is there.
    #[error("cannot look at {path}, where the database is: {source}")]
    Unseen {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is to be where a symbolic link leads, and that leads nowhere.
    #[error(
        "{link}, where the database is, is a symbolic link to {target}, and nothing is there; mount or make that, or remove the link"
    )]
    Dangling {
        /// The link.
        link: String,
        /// Where it leads.
        target: String,
    },
    /// One of the files that it consists of lies apart from the others.
    #[error("will not use {path}: {why}")]
    Apart {
        /// That file.
        path: String,
        /// Why, and what would be right.
        why: &'static str,
    },
    /// It is to be read as it is, and is not there.
    #[error("there is no database {path}; give the path of one")]
    Missing {
        /// The file.
        path: String,
    },
    /// It is to be read as it is, and cannot be.
    #[error(
        "cannot read the database {path}: {source}; check that it is a database, and that this user may read it and write to its folder"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: Cause,
    },
    /// It is to be read as it is, and has no messages yet, nor tables for them.
    #[error(
        "the database {path} has no schema of Lyftr's; `lyftr migrate` or a start of the service makes it"
    )]
    Unmade {
        /// The file, or the place on a server.
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
        /// The number of that process, if it is known.
        process: String,
    },
    /// A newer Lyftr was here.
    #[error(
        "the database {path} has schema version {found}, newer than {known}, which this Lyftr knows; start the newer Lyftr that made it, or restore a backup from before"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database belongs to another program.
    #[error(
        "{path} is a database of another program (application_id {found:#x}); give DATABASE_URL a path of its own"
    )]
    Foreign {
        /// The file.
        path: String,
        /// The mark that program left.
        found: i64,
    },
    /// The database has lost what marks it as Lyftr's, as it does by `.dump`.
    #[error(
        "{path} has Lyftr's tables, of schema version {version}, but not the marks that say so, which `.dump` leaves out; if no newer Lyftr made it, run this in it with sqlite3, and start again: PRAGMA application_id = {application}; PRAGMA user_version = {version};"
    )]
    Unmarked {
        /// The file.
        path: String,
        /// The mark of Lyftr's databases.
        application: i64,
        /// The version of the schema that the tables are of.
        version: usize,
    },
    /// A server cannot be reached, or does not do what is asked of it.
    #[error(
        "cannot use the database {place}: {source}; check DATABASE_URL, the server, and the rights of its user"
    )]
    Server {
        /// Where it is, without the password.
        place: String,
        /// Why.
        source: Cause,
    },
    /// On this server messages would not be safe.
    #[error("will not use the database {place}: {why}")]
    Unfit {
        /// Where it is, without the password.
        place: String,
        /// Why, and what would be right.
        why: &'static str,
    },
    /// SQLite is known to be able to damage a database in WAL mode.
    #[error("SQLite {found} has the WAL-reset bug; Lyftr needs 3.51.3 or newer")]
    SqliteTooOld {
        /// The version at hand.
        found: String,
    },
}
