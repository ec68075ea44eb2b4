//! A database that is read as it is: checked, or backed up page by page.

use std::path::Path;

use super::location::Location;
use super::{backup, check};
use crate::store::backup::{Error as BackupError, Progress};
use crate::store::check::{Error as CheckError, Tell};
use crate::store::{OpenError, ReadOnly};

/// A [`ReadOnly`] database in a file.
#[derive(Debug)]
pub struct ReadOnlySqlite {
    location: Location,
}

impl ReadOnlySqlite {
    /// Finds the database, which must be there.
    ///
    /// # Errors
    /// [`OpenError`], for the person who runs the command.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { location: Location::to_read(path)? })
    }
}

impl ReadOnly for ReadOnlySqlite {
    fn check(&self, tell: &mut Tell<'_>) -> Result<u64, CheckError> {
        check::check(&self.location, tell)
    }

    fn backup(&self, to: &Path, go_on: &mut dyn FnMut(Progress) -> bool) -> Result<Option<u64>, BackupError> {
        backup::pages(&self.location, to, go_on)
    }
}
