//! Reading a database as it is, for a check and a backup.

use std::fmt;
use std::path::Path;

use super::{backup, check};

/// A database that is read as it is, while other processes may use it: its schema stays, it is not locked, and nothing is
/// indexed.
pub trait ReadOnly: fmt::Debug {
    /// Checks one snapshot of the database, and reports to `tell`. Returns the number of events.
    ///
    /// # Errors
    /// [`check::Error`] if the check cannot be carried out. A problem that it finds is reported instead.
    fn check(&self, tell: &mut check::Tell<'_>) -> Result<u64, check::Error>;

    /// Writes every event of the database into the empty file `to`, as a SQLite database. `go_on` is given the
    /// progress, and returns whether to continue. Returns the number of events, or `None` if it was stopped.
    ///
    /// # Errors
    /// [`backup::Error`]. The file is then incomplete.
    fn backup(
        &self,
        to: &Path,
        go_on: &mut dyn FnMut(backup::Progress) -> bool,
    ) -> Result<Option<u64>, backup::Error>;
}
