//! Which files a connection works on. When a path leads elsewhere or nowhere, what is written through the
//! connection is lost at the next start, so it must not be acknowledged.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};
use rustix::io::Errno;

use super::place::Place;
pub(super) use crate::store::paths::{beside, folder};
use crate::store::{Error, Space};

/// The space that the databases at these paths take together, and what is left on the disk of the first one.
pub(super) fn space(database: &Path, index: &Path) -> Option<Space> {
    let disk = rustix::fs::statvfs(folder(database)).ok()?;
    let files =
        [database, index].into_iter().flat_map(|path| ["", "-wal", "-shm"].map(|end| beside(path, end)));
    Some(Space {
        used: files.map(|file| bytes(&file)).sum(),
        free: disk.f_bavail.saturating_mul(disk.f_frsize),
    })
}

/// The size of the file at `path`, 0 if it does not tell.
fn bytes(path: &Path) -> u64 {
    #[cfg(target_os = "linux")]
    if let Ok(Some(found)) = statx(path, StatxFlags::SIZE) {
        return found.stx_size;
    }
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Asks for this about the file that `path` leads to, and for nothing else: whoever asks Linux (6.13 and later) for a
/// file's times makes the next write set new ones, which the sync after it then writes out, a third of a commit's time.
/// None where the kernel, or the sandbox around this process, has no such call.
#[cfg(target_os = "linux")]
fn statx(path: &Path, what: StatxFlags) -> io::Result<Option<Statx>> {
    match rustix::fs::statx(CWD, path, AtFlags::empty(), what) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        found => Ok(Some(found?)),
    }
}

pub(super) const REMOVED: Error =
    Error::Unavailable { reason: "the database file was removed or replaced", source: None };

/// The file may well be there, and nobody knows.
fn unseen(error: io::Error) -> Error {
    Error::Unavailable { reason: "the database file cannot be looked at", source: Some(error.into()) }
}

/// A database and its write-ahead log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    database: FileId,
    wal: FileId,
}

impl Files {
    /// This database, which must be in its place, and its write-ahead log.
    pub(super) fn of(database: FileId, place: &Place) -> Result<Self, Error> {
        place.must_lead_to(database)?;
        Ok(Self { database, wal: FileId::of_database(&beside(place.path(), "-wal"))? })
    }

    /// Whether both are still in their place.
    pub(super) fn must_be_at(&self, place: &Place) -> Result<(), Error> {
        if Self::of(self.database, place)? == *self { Ok(()) } else { Err(REMOVED) }
    }
}

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that `path` leads to, if it leads to one.
    ///
    /// # Errors
    /// It cannot be looked at, which says nothing of whether it is there.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match Self::look(path) {
            Err(error) if is_absence(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    fn look(path: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(found) = statx(path, StatxFlags::INO)? {
            let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
            return Ok(Self { device, inode: found.stx_ino });
        }
        let found = std::fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }

    /// The database at `path`, or its log.
    pub(super) fn of_database(path: &Path) -> Result<Self, Error> {
        Self::at(path).map_err(unseen)?.ok_or(REMOVED)
    }

    /// Whether the database at `path` is still this one.
    pub(super) fn must_be_at(self, path: &Path) -> Result<(), Error> {
        if Self::of_database(path)? == self { Ok(()) } else { Err(REMOVED) }
    }
}

/// Whether an error says that there is no such file.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Holds a database for this process alone, until it is dropped: the figures are kept in memory, so nobody else may
/// add messages. Whoever only reads the file need not ask.
#[derive(Debug)]
pub(super) struct Owner {
    /// `app.db-lock`. Not the database itself: to close that file a second time would undo SQLite's own locks.
    lock: File,
    /// The process that had it before has left word that a sync had failed.
    pub(super) found_unsynced: bool,
}

/// Stands in the lock's file after the number of a process that a sync has failed for. The kernel that holds what is not
/// on the disk holds this too, so it need not be synced itself.
const UNSYNCED: &str = "unsynced";

/// Why a database cannot be held.
#[derive(Debug)]
pub(super) enum NotOwned {
    /// Another process holds it; its number, if it has told.
    Taken(String),
    /// The lock cannot be made.
    Io(io::Error),
}

impl Owner {
    /// Takes the database at `path`.
    pub(super) fn take(path: &Path) -> Result<Self, NotOwned> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(beside(path, "-lock"));
        let mut file = file.map_err(NotOwned::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let _may_say_nothing = file.read_to_string(&mut process);
                return Err(NotOwned::Taken(process.lines().next().unwrap_or_default().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(NotOwned::Io(error)),
        }
        let mut before = String::new();
        let _may_say_nothing = file.read_to_string(&mut before);
        let owner = Self { lock: file, found_unsynced: before.lines().any(|line| line == UNSYNCED) };
        owner.leave_word(owner.found_unsynced);
        Ok(owner)
    }

    /// Writes down the number of this process, for people, and whether a sync has failed, for the next one.
    pub(super) fn leave_word(&self, unsynced: bool) {
        let mut word = format!("{}\n", std::process::id());
        if unsynced {
            word = word + UNSYNCED + "\n";
        }
        let write = || {
            self.lock.write_all_at(word.as_bytes(), 0)?;
            self.lock.set_len(u64::try_from(word.len()).unwrap_or(0))
        };
        // On a full disk there may be no room for it; the lock holds all the same.
        let _as_far_as_possible: io::Result<()> = write();
    }
}

impl Drop for Owner {
    /// A child process that this one is about to start has a copy of the file until it runs its program, so that closing the
    /// file would not let go of the lock yet.
    fn drop(&mut self) {
        let _closed_in_any_case = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_let_go_can_be_held_though_a_child_has_the_file_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let owner = Owner::take(&path).unwrap();
        let in_the_child = owner.lock.try_clone().unwrap();
        assert!(matches!(Owner::take(&path), Err(NotOwned::Taken(_))));
        drop(owner);
        assert!(Owner::take(&path).is_ok());
        drop(in_the_child);
    }
}
