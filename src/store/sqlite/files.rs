//! The identity of the files that a connection has open. When the path leads to another file or to none, messages that
//! are written through the connection are lost at the next start, so they must not be acknowledged.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};
use rustix::io::Errno;

use super::location::Location;
pub(super) use crate::paths::{beside, folder};
use crate::store::{Error, Space};

/// The disk space that a database and the files of its index take together, and the free space on the disk of the database.
pub(super) fn space(database: &Path, index: [&Path; 2]) -> Option<Space> {
    let disk = rustix::fs::statvfs(folder(database)).ok()?;
    let files = std::iter::once(database)
        .chain(index)
        .flat_map(|path| ["", "-wal", "-shm"].map(|end| beside(path, end)));
    Some(Space {
        used: files.map(|file| bytes(&file)).sum(),
        free: disk.f_bavail.saturating_mul(disk.f_frsize),
    })
}

/// The size of the file at `path`, 0 if it is not known.
fn bytes(path: &Path) -> u64 {
    #[cfg(target_os = "linux")]
    if let Ok(Some(found)) = statx(path, StatxFlags::SIZE) {
        return found.stx_size;
    }
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Queries the attributes `what` of the file at `path`, and no others: on Linux 6.13 and later a query for a file's times
/// makes the next write set new ones, and the next sync write them out, which costs a third of a commit's time. None if
/// the kernel, or the sandbox around this process, has no such call.
#[cfg(target_os = "linux")]
fn statx(path: &Path, what: StatxFlags) -> io::Result<Option<Statx>> {
    match rustix::fs::statx(CWD, path, AtFlags::empty(), what) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// The path no longer leads to the file that was opened.
pub(super) const REMOVED: Error =
    Error::Unavailable { reason: "the database file was removed or replaced", source: None };

/// The file cannot be accessed, so that it is not known whether it still exists.
fn inaccessible(error: io::Error) -> Error {
    Error::Unavailable { reason: "cannot access the database file", source: Some(error.into()) }
}

/// The identity of a database and its write-ahead log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    database: FileId,
    wal: FileId,
}

impl Files {
    /// The identities of `database`, which must be at its location, and of its write-ahead log.
    pub(super) fn of(database: FileId, location: &Location) -> Result<Self, Error> {
        location.must_lead_to(database)?;
        Ok(Self { database, wal: FileId::of_database(&beside(location.path(), "-wal"))? })
    }

    /// Fails unless both are still at their location.
    pub(super) fn must_be_at(&self, location: &Location) -> Result<(), Error> {
        if Self::of(self.database, location)? == *self { Ok(()) } else { Err(REMOVED) }
    }
}

/// The identity of a file: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file at `path`, none if there is none.
    ///
    /// # Errors
    /// The path cannot be accessed, so that it is not known whether there is a file.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match Self::read(path) {
            Err(error) if is_absence(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(found) = statx(path, StatxFlags::INO)? {
            let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
            return Ok(Self { device, inode: found.stx_ino });
        }
        let found = std::fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }

    /// The database or log at `path`, which must exist.
    pub(super) fn of_database(path: &Path) -> Result<Self, Error> {
        Self::at(path).map_err(inaccessible)?.ok_or(REMOVED)
    }

    /// Fails unless the database at `path` is still this one.
    pub(super) fn must_be_at(self, path: &Path) -> Result<(), Error> {
        if Self::of_database(path)? == self { Ok(()) } else { Err(REMOVED) }
    }
}

/// Whether an error means that there is no such file.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The owner lock: until it is dropped, this process alone may write to the database. The aggregates are kept in memory, so
/// no other process may add messages. Reading the file needs no lock.
#[derive(Debug)]
pub(super) struct Owner {
    /// `app.db-lock`. The database itself cannot serve: to close that file a second time would release SQLite's own locks.
    lock: File,
    /// The previous owner has recorded a failed sync.
    pub(super) found_unsynced: bool,
}

/// The line after the process id in the lock's file if a sync has failed. It need not be synced itself: as long as the kernel
/// holds pages that are not on the disk, it holds this line too.
const UNSYNCED: &str = "unsynced";

/// Why the owner lock cannot be taken.
#[derive(Debug)]
pub(super) enum NotOwned {
    /// Another process holds it; its process id, empty if it is not known.
    Taken(String),
    /// The lock file cannot be opened or locked.
    Io(io::Error),
}

impl Owner {
    /// Takes the lock of the database at `path`.
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
        owner.record(owner.found_unsynced);
        Ok(owner)
    }

    /// Records the id of this process, for people, and whether a sync has failed, for the next owner.
    pub(super) fn record(&self, unsynced: bool) {
        let mut content = format!("{}\n", std::process::id());
        if unsynced {
            content = content + UNSYNCED + "\n";
        }
        let write = || {
            self.lock.write_all_at(content.as_bytes(), 0)?;
            self.lock.set_len(u64::try_from(content.len()).unwrap_or(0))
        };
        // On a full disk there may be no room for this; the lock holds all the same.
        let _as_far_as_possible: io::Result<()> = write();
    }
}

impl Drop for Owner {
    /// Unlocks explicitly: a child process that this one is starting has a copy of the file until it runs its program, so
    /// that closing the file alone would not release the lock yet.
    fn drop(&mut self) {
        let _closed_in_any_case = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_database_can_be_taken_while_a_child_still_has_the_file() {
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
