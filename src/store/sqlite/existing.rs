//! A database as it is, whoever else has it: it is opened for reading only, its schema stays, and the lock by which a
//! process owns it is not asked for.

use rusqlite::Connection;

use super::location::Location;
use super::{connection, migrate};
use crate::store::OpenError;

/// Page cache of a connection that reads all of a database once.
pub(super) const CACHE_KIB: u32 = 8 << 10;

/// One snapshot of a database.
#[derive(Debug)]
pub(super) struct Existing {
    /// In a transaction, from the opening on to the end.
    pub(super) conn: Connection,
    /// The version of its schema.
    pub(super) version: usize,
}

impl Existing {
    /// Opens the database there, which must be one of Lyftr's.
    pub(super) fn open(place: &Location) -> Result<Self, OpenError> {
        let path = place.path();
        let name = || path.display().to_string();
        let unreadable =
            |source: rusqlite::Error| OpenError::Unreadable { path: name(), source: source.into() };
        let conn = connection::reader(path, CACHE_KIB).map_err(unreadable)?;
        conn.execute_batch("BEGIN").map_err(unreadable)?;
        // The first read is what the snapshot is of.
        let version = migrate::check(&conn).map_err(|refused| refused.at(path, unreadable))?;
        if version == 0 {
            return Err(OpenError::Unmade { path: name() });
        }
        Ok(Self { conn, version })
    }
}
