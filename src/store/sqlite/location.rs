//! The location of a database. Its write-ahead log, its lock and its index are found by its name, so every process must
//! find them beside it, by whichever path it opens it: a log left behind means lost messages, a second lock a second owner.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::files::{FileId, beside, folder, is_absence};
use crate::store::{Error, OpenError};

/// The files of a database, by the endings of their names.
const PARTS: [&str; 8] = ["", "-journal", "-wal", "-shm", "-lock", "-index", "-index-wal", "-index-shm"];

const MOUNTED: &str = "it is mounted by itself, apart from its folder, so that the write-ahead log, which has the newest \
    messages, and the lock would lie elsewhere; mount the folder, not the file";
const LINKED: &str = "it is a symbolic link, and so lies elsewhere than the database that it belongs to; stop the programs that use the \
    database, and put the file itself in the place of the link";
const NAMED_TWICE: &str = "it has more than one name (hard links), and each would have a log and a lock of its own; remove \
    the other names, or put a copy of the file in its place";

/// The location of a database.
#[derive(Debug, Clone)]
pub(super) struct Location {
    /// The path in `DATABASE_URL`.
    given: PathBuf,
    /// The file itself: another path only if the given one is a symbolic link.
    path: PathBuf,
}

impl Location {
    /// The location of a database to write, which need not exist yet.
    pub(super) fn to_write(given: &Path) -> Result<Self, OpenError> {
        let place = Self::find(given)?;
        place.must_be_whole()?;
        Ok(place)
    }

    /// The location of a database to read, which must exist. A file without a log, such as a backup, may have several names,
    /// and may be a mount point.
    pub(super) fn to_read(given: &Path) -> Result<Self, OpenError> {
        let place = Self::find(given)?;
        let path = || place.path.display().to_string();
        let unseen = |source| OpenError::Unseen { path: path(), source };
        if !exists(&place.path).map_err(unseen)? {
            return Err(OpenError::Missing { path: path() });
        }
        match place.must_be_whole() {
            Err(OpenError::Apart { .. }) if has_log(&place.path).is_ok_and(|has| !has) => Ok(place),
            whole => whole.map(|()| place),
        }
    }

    /// Follows symbolic links, once: even if they change later, log, lock and index belong to this file.
    fn find(given: &Path) -> Result<Self, OpenError> {
        let unseen = |source| OpenError::Unseen { path: given.display().to_string(), source };
        let dangles = |path: &&Path| path.is_symlink() && matches!(path.try_exists(), Ok(false));
        if let Some(link) = given.ancestors().find(dangles) {
            let target = link.read_link().map_err(unseen)?.display().to_string();
            return Err(OpenError::Dangling { link: link.display().to_string(), target });
        }
        let path = if given.is_symlink() { given.canonicalize().map_err(unseen)? } else { given.to_owned() };
        Ok(Self { given: given.to_owned(), path })
    }

    /// Fails if a file of the database lies apart from the others.
    fn must_be_whole(&self) -> Result<(), OpenError> {
        for part in PARTS.map(|ending| beside(&self.path, ending)) {
            let name = || part.display().to_string();
            match why_apart(&part) {
                Ok(None) => {}
                Ok(Some(why)) => return Err(OpenError::Apart { path: name(), why }),
                Err(source) => return Err(OpenError::Unseen { path: name(), source }),
            }
        }
        Ok(())
    }

    /// The database file, beside which the others lie.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the database file.
    pub(super) fn file(&self) -> Result<FileId, Error> {
        let file = FileId::of_database(&self.path)?;
        self.must_lead_to(file)?;
        Ok(file)
    }

    /// Fails unless both the file's path and the given one, which may be a symbolic link, lead to this file.
    pub(super) fn must_lead_to(&self, file: FileId) -> Result<(), Error> {
        file.must_be_at(&self.path)?;
        if self.given == self.path { Ok(()) } else { file.must_be_at(&self.given) }
    }
}

/// Whether there is a file or a link at this path.
fn exists(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Err(error) if is_absence(&error) => Ok(false),
        found => found.map(|_| true),
    }
}

/// Why a file lies apart from the others of its database; none if it does not, or does not exist.
fn why_apart(part: &Path) -> io::Result<Option<&'static str>> {
    let found = match part.symlink_metadata() {
        Err(error) if is_absence(&error) => return Ok(None),
        found => found?,
    };
    Ok(if found.is_symlink() {
        Some(LINKED)
    } else if is_mount_point(part)? {
        Some(MOUNTED)
    } else if found.is_file() && found.nlink() > 1 {
        Some(NAMED_TWICE)
    } else {
        None
    })
}

/// Whether the newest messages may be in a write-ahead log: the header says that the database is in WAL mode
/// (<https://sqlite.org/fileformat.html#file_format_version_numbers>).
///
/// SQLite itself would make a log beside the file to tell. Closing the file releases the locks that SQLite has on it in this
/// process, so this must be called before SQLite opens it.
fn has_log(path: &Path) -> io::Result<bool> {
    const READ_VERSION: usize = 19;
    const WAL: u8 = 2;
    let mut header = Vec::new();
    File::open(path)?.take(100).read_to_end(&mut header)?;
    Ok(header.get(READ_VERSION) == Some(&WAL))
}

/// Whether this file itself is a mount point.
#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        // Linux before 5.8 does not report it in `statx`.
        _ => {
            let Some(name) = path.file_name() else { return Ok(false) };
            let path = folder(path).canonicalize()?.join(name);
            // Without the list a mount point cannot be recognized.
            Ok(std::fs::read("/proc/self/mountinfo").is_ok_and(|mounts| lists(&mounts, &path)))
        }
    }
}

/// Whether this file itself is a mount point, recognized by a device other than that of its folder.
#[cfg(not(target_os = "linux"))]
fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(path.symlink_metadata()?.dev() != folder(path).metadata()?.dev())
}

/// Whether a path is a mount point in a list such as `/proc/self/mountinfo`: the fifth word of a line, in which blanks and
/// the like are escaped as `\040`.
#[cfg(target_os = "linux")]
fn lists(mounts: &[u8], path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let path = path.as_os_str().as_bytes();
    let written: Vec<u8> = path
        .iter()
        .flat_map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![*byte],
        })
        .collect();
    mounts.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_mount_point_is_found_in_the_list_of_the_kernel() {
        let mounts = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            31 27 8:1 /srv/app.db /data/app.db rw shared:1 - ext4 /dev/sda1 rw\n\
            32 27 8:1 /x /my\\040data/tab\\011back\\134line\\012 rw - ext4 /dev/sda1 rw\n";
        for (path, is_listed) in [
            ("/proc", true),
            ("/data/app.db", true),
            ("/my data/tab\tback\\line\n", true),
            ("/data", false),
            ("/data/app.db-wal", false),
            ("/srv/app.db", false),
            ("/", false),
        ] {
            assert_eq!(lists(mounts, Path::new(path)), is_listed, "{path}");
        }
        assert!(lists(&std::fs::read("/proc/self/mountinfo").unwrap(), Path::new("/proc")));
    }

    #[test]
    fn only_a_database_in_wal_mode_has_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        std::fs::write(&path, "").unwrap();
        assert!(!has_log(&path).unwrap());
        for (mode, expected) in [("DELETE", false), ("WAL", true), ("DELETE", false)] {
            let conn = rusqlite::Connection::open(&path).unwrap();
            conn.pragma_update(None, "journal_mode", mode).unwrap();
            conn.execute_batch("CREATE TABLE IF NOT EXISTS t (a)").unwrap();
            drop(conn);
            assert_eq!(has_log(&path).unwrap(), expected, "{mode}");
        }
    }
}
