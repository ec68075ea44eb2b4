//! Which files a connection works on. When a path leads elsewhere or nowhere, what is written through the
//! connection is lost at the next start, so it must not be acknowledged.

use std::path::Path;

/// A database and its write-ahead log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) database: FileId,
    wal: FileId,
}

impl Files {
    /// The database at `path` and its write-ahead log; `None` if either is not there.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Some(Self { database: FileId::at(path)?, wal: FileId::at(Path::new(&wal))? })
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
