//! A backup: all events of a store in one SQLite file, made while other processes write. The file gets its name once it
//! is complete and on disk, so a file with the name of a backup is complete.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::paths::{beside, folder, sync_folder};
use super::{OpenError, Settings, Url, open_read_only};
use crate::erasure::Tombstones;
use crate::event::Arrived;
use crate::telemetry::chain;

mod name;

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
    let partial = Partial::create(file)?;
    let written = open_read_only(url, settings)?.backup(&partial.path, &mut go_on)?;
    let events = written.ok_or(Error::BrokenOff)?;
    let bytes = partial.publish()?;
    Ok(Done { events, bytes })
}

/// An incomplete backup, under a name that ends in `.partial`. Dropping it deletes the file.
struct Partial {
    /// The name of the complete backup.
    backup: PathBuf,
    folder: PathBuf,
    path: PathBuf,
    /// Locked, so that a second backup to the same file fails, and a later one may reuse the file that a killed process
    /// left.
    file: File,
}

impl Partial {
    fn create(backup: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: backup.to_owned(), source };
        let folder = folder(backup).to_owned();
        let name = backup.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
        if backup.symlink_metadata().is_ok() {
            return Err(Error::Exists(backup.to_owned()));
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let path = folder.join(partial);
        // Only this user may read what is in it.
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::UnderWay(backup.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The process that had the lock may have renamed the file since it was opened here.
        let is = |found: &std::fs::Metadata| (found.dev(), found.ino());
        let ours = is(&file.metadata().map_err(failed)?);
        if path.symlink_metadata().ok().as_ref().map(is) != Some(ours) {
            return Err(Error::UnderWay(backup.to_owned()));
        }
        let partial = Self { backup: backup.to_owned(), folder, path, file };
        partial.remove_beside();
        partial.file.set_len(0).map_err(failed)?;
        Ok(partial)
    }

    /// Syncs the backup and gives it its name. Returns its size.
    fn publish(self) -> Result<u64, Error> {
        let publish = || {
            self.file.sync_all()?;
            let bytes = self.file.metadata()?.len();
            name::rename_to_new(&self.path, &self.backup)?;
            sync_folder(&self.folder).inspect_err(|_| {
                let _was_made_here = std::fs::remove_file(&self.backup);
            })?;
            Ok(bytes)
        };
        publish().map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(self.backup.clone()),
            _ => Error::File { path: self.backup.clone(), source },
        })
    }

    /// Removes the files that SQLite may have created beside it.
    fn remove_beside(&self) {
        for ending in ["-journal", "-wal", "-shm"] {
            let _most_likely_not_there = std::fs::remove_file(beside(&self.path, ending));
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove_beside();
        // A published backup has another name by now.
        let _renamed = std::fs::remove_file(&self.path);
    }
}
