//! All messages of a store in one file of SQLite's, made while others go on writing. It gets its name when it is
//! whole and on disk: what has the name of a backup is one.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::paths::{beside, folder, sync_folder};
use super::{Arrived, OpenError, Settings, Url, open_read_only};
use crate::telemetry::chain;

mod name;

/// What a backup came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Messages in it.
    pub messages: u64,
    /// Its size.
    pub bytes: u64,
}

/// How far a backup has come: in pages of a file, or in messages of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is written.
    pub done: u64,
    /// What there is to write.
    pub total: u64,
}

/// A database that is being filled, message by message.
pub(super) trait Target {
    /// Adds messages that are not in it.
    fn add(&mut self, batch: &[Arrived]) -> Result<(), super::Error>;
}

/// The reason why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there already.
    #[error(
        "{} exists, and a backup overwrites nothing; give it another name, or move that file away", .0.display()
    )]
    Exists(PathBuf),
    /// Another process makes it.
    #[error("another backup to {} is under way", .0.display())]
    UnderWay(PathBuf),
    /// Its folder or its name cannot be used, or it cannot be synced.
    #[error(
        "cannot make the backup {}: {source}; its folder must be there, have room, and be one that this user may write to",
        path.display()
    )]
    File {
        /// The backup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read, or the backup cannot be written.
    #[error("the backup was given up: {}", chain(.0))]
    Store(super::Error),
    /// What was read is not what is there.
    #[error(
        "the backup was given up: it has {found} messages, and the database {expected}; either messages were added or \
         taken away by hand meanwhile, and another try is right, or `lyftr check` tells what is wrong"
    )]
    Differs {
        /// Messages of the database, up to where it was to be read.
        expected: u64,
        /// Messages that were read.
        found: u64,
    },
    /// It was asked to stop.
    #[error("the backup was broken off; no file was made")]
    BrokenOff,
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        Self::Store(error)
    }
}

/// Writes every message that the store at `url` has now into a new file. `go_on` is told how far it has come, and
/// says whether to go on.
///
/// # Errors
/// [`Error`]. No file is there then that was not there before.
pub fn backup(
    url: &Url,
    settings: Settings,
    file: &Path,
    mut go_on: impl FnMut(Progress) -> bool,
) -> Result<Done, Error> {
    let partial = Partial::create(file)?;
    let written = open_read_only(url, settings)?.backup(&partial.path, &mut go_on)?;
    let messages = written.ok_or(Error::BrokenOff)?;
    let bytes = partial.publish()?;
    Ok(Done { messages, bytes })
}

/// A backup that is not whole yet, under a name that says so. Dropping it deletes it.
struct Partial {
    /// The file that it becomes.
    backup: PathBuf,
    folder: PathBuf,
    path: PathBuf,
    /// Locked, so that a second backup to the same file keeps away, and one that finds what a killed one left knows
    /// that it may use it.
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
        // The messages in it are nobody else's business.
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
        // The one that had the lock may have given the file its name since it was opened here.
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

    /// Makes it last, and gives it its name; its size.
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

    /// What SQLite may have had beside it.
    fn remove_beside(&self) {
        for ending in ["-journal", "-wal", "-shm"] {
            let _most_likely_not_there = std::fs::remove_file(beside(&self.path, ending));
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove_beside();
        // Not there any more if it has its name.
        let _renamed = std::fs::remove_file(&self.path);
    }
}
