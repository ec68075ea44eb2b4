//! A backup: all events of a store in one SQLite file, made while other processes write. The file gets its name once it
//! is complete and on disk, so a file with the name of a backup is complete.

use std::io;
use std::path::{Path, PathBuf};

use super::{OpenError, Settings, Url, open_read_only};
use crate::erasure::Tombstones;
use crate::event::Arrived;
use crate::partial::{self, Partial};
use crate::paths::beside;
use crate::telemetry::chain;

/// The result of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Number of events in it.
    pub events: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// The progress of a backup: in pages of a file, or in events of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages or events that are written.
    pub done: u64,
    /// Pages or events in all.
    pub total: u64,
}

/// A database that is being filled, event by event.
pub(super) trait Target {
    /// Adds events that are not in it.
    fn add(&mut self, batch: &[Arrived]) -> Result<(), super::Error>;

    /// Adds tombstones, all of the same key.
    fn adopt(&mut self, tombstones: &Tombstones) -> Result<(), super::Error>;

    /// Removes the events of these tombstones, which were erased after they had been added. Returns their number.
    fn remove(&mut self, erased: &Tombstones) -> Result<u64, super::Error>;
}

/// The reason why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file exists.
    #[error(
        "{} exists, and a backup overwrites nothing; give it another name, or move that file away", .0.display()
    )]
    Exists(PathBuf),
    /// Another process is writing this backup.
    #[error("another backup to {} is under way", .0.display())]
    UnderWay(PathBuf),
    /// The folder or the name of the file cannot be used, or the file cannot be synced.
    #[error(
        "cannot create the backup {}: {source}; its folder must be there, have room, and be one that this user may write to",
        path.display()
    )]
    File {
        /// The backup.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read, or the backup cannot be written.
    #[error("the backup failed: {}", chain(.0))]
    Store(super::Error),
    /// The number of events that were read differs from the number in the database.
    #[error(
        "the backup failed: it has {found} events, and the database {expected}; either events were added or removed \
         by a manual change meanwhile, and a retry helps, or `lyftr check` says what is wrong"
    )]
    Differs {
        /// Events in the database, up to the arrival number at which the backup ends.
        expected: u64,
        /// Events that were read.
        found: u64,
    },
    /// The backup was stopped by its caller.
    #[error("the backup was interrupted; no file was created")]
    BrokenOff,
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        Self::Store(error)
    }
}

/// Writes every event that the store at `url` has now into a new file. `go_on` is given the progress, and returns
/// whether to continue.
///
/// # Errors
/// [`Error`]. Then no new file remains.
pub fn backup(
    url: &Url,
    settings: Settings,
    file: &Path,
    mut go_on: impl FnMut(Progress) -> bool,
) -> Result<Done, Error> {
    let told = |error| match error {
        partial::Error::Exists => Error::Exists(file.to_owned()),
        partial::Error::UnderWay => Error::UnderWay(file.to_owned()),
        partial::Error::File(source) => Error::File { path: file.to_owned(), source },
    };
    let partial = Partial::create(file, false).map_err(told)?;
    let _beside = Beside::begin(partial.path());
    partial.file().set_len(0).map_err(|error| told(partial::Error::File(error)))?;
    let written = open_read_only(url, settings)?.backup(partial.path(), &mut go_on)?;
    let events = written.ok_or(Error::BrokenOff)?;
    let bytes = partial.publish().map_err(told)?;
    Ok(Done { events, bytes })
}

/// The files that SQLite may create beside an incomplete backup. They are deleted now, and when this is dropped.
struct Beside(PathBuf);

impl Beside {
    fn begin(partial: &Path) -> Self {
        let beside = Self(partial.to_owned());
        beside.remove();
        beside
    }

    fn remove(&self) {
        for ending in ["-journal", "-wal", "-shm"] {
            let _most_likely_not_there = std::fs::remove_file(beside(&self.0, ending));
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.remove();
    }
}
