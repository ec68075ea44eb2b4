//! Which files a connection works on. When a path leads elsewhere or nowhere, what is written through the
//! connection is lost at the next start, so it must not be acknowledged.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::store::Space;

/// The file that stands beside `path` and is called as it is, with this ending.
pub(in crate::store) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The folder that holds the file at `path`.
pub(in crate::store) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

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

/// The size of the file at `path`, 0 if there is none. Asks for nothing else, for the reason given at
/// [`FileId::at`].
#[cfg(target_os = "linux")]
fn bytes(path: &Path) -> u64 {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    statx(CWD, path, AtFlags::empty(), StatxFlags::SIZE).map_or(0, |found| found.stx_size)
}

/// The size of the file at `path`, 0 if there is none.
#[cfg(not(target_os = "linux"))]
fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// A database and its write-ahead log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) database: FileId,
    wal: FileId,
}

impl Files {
    /// The database at `path` and its write-ahead log; `None` if either is not there.
    pub(super) fn at(path: &Path) -> Option<Self> {
        Some(Self { database: FileId::at(path)?, wal: FileId::at(&beside(path, "-wal"))? })
    }
}

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that `path` leads to. Asks for nothing but its number: whoever asks Linux (6.13 and later) for
    /// a file's times makes the next write set new ones, which the sync after it then writes out, a third of a
    /// commit's time.
    #[cfg(target_os = "linux")]
    pub(super) fn at(path: &Path) -> Option<Self> {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::INO).ok()?;
        let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
        Some(Self { device, inode: found.stx_ino })
    }

    /// The file that `path` leads to.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn at(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(path).ok()?;
        Some(Self { device: found.dev(), inode: found.ino() })
    }
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
    Io(std::io::Error),
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
        let _as_far_as_possible: std::io::Result<()> = write();
    }
}
