//! A file that gets its name once it is complete and on disk, so that a file with this name is complete.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::paths::{folder, sync_folder};

mod name;

/// An incomplete file, under a name that ends in `.partial`. Dropping it deletes the file.
#[derive(Debug)]
pub(crate) struct Partial {
    /// The name of the complete file.
    name: PathBuf,
    /// Whether it may replace the file that has this name.
    replaces: bool,
    folder: PathBuf,
    path: PathBuf,
    /// Locked, so that a second process cannot write the same file, and a later one may reuse the file that a killed process
    /// left.
    file: File,
}

/// The reason why there is no file.
#[derive(Debug)]
pub(crate) enum Error {
    /// There is one, which shall not be replaced, or is none that can be.
    Exists,
    /// Another process is writing it.
    UnderWay,
    /// The folder or the name of the file cannot be used, or the file cannot be synced.
    File(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::AlreadyExists { Self::Exists } else { Self::File(error) }
    }
}

impl Partial {
    /// Begins the file that is to have this name. `replaces`: another file may have it until then.
    pub(crate) fn create(name: &Path, replaces: bool) -> Result<Self, Error> {
        let folder = folder(name).to_owned();
        let last = name.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        // What is no file is not replaced by one: a link, a pipe, a device.
        if name.symlink_metadata().is_ok_and(|found| !replaces || !found.is_file()) {
            return Err(Error::Exists);
        }
        let mut partial = last.to_owned();
        partial.push(".partial");
        let path = folder.join(partial);
        // Only this user may read what is in it.
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0)).open(&path);
        let file = file.map_err(Error::File)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::UnderWay),
            Err(TryLockError::Error(error)) => return Err(Error::File(error)),
        }
        // The process that had the lock may have renamed the file since it was opened here.
        let is = |found: &std::fs::Metadata| (found.dev(), found.ino());
        let ours = is(&file.metadata()?);
        if path.symlink_metadata().ok().as_ref().map(is) != Some(ours) {
            return Err(Error::UnderWay);
        }
        Ok(Self { name: name.to_owned(), replaces, folder, path, file })
    }

    /// Its name as long as it is incomplete.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, which a killed process may have left something in.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and gives it its name. Returns its size.
    pub(crate) fn publish(self) -> Result<u64, Error> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        if self.replaces {
            std::fs::rename(&self.path, &self.name)?;
            sync_folder(&self.folder)?;
        } else {
            name::rename_to_new(&self.path, &self.name)?;
            sync_folder(&self.folder).inspect_err(|_| {
                let _was_made_here = std::fs::remove_file(&self.name);
            })?;
        }
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A complete file has another name by now.
        let _renamed = std::fs::remove_file(&self.path);
    }
}
