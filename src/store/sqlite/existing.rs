//! A read snapshot of a database that another process may own: opened read-only, without migrating it or taking the owner
//! lock.

use rusqlite::Connection;

use super::location::Location;
use super::{connection, migrate};
use crate::store::OpenError;

/// Page cache of a connection that reads all of a database once.
pub(super) const CACHE_KIB: u32 = 8 << 10;

/// One snapshot of a database.
#[derive(Debug)]
pub(super) struct Existing {
    /// In one transaction for as long as this lives.
    pub(super) conn: Connection,
    /// The version of its schema.
    pub(super) version: usize,
}

impl Existing {
    /// Whether it has the table `event`; an older release has made it otherwise.
    pub(super) fn has_events(&self) -> bool {
        migrate::has_events(self.version)
    }

    /// The statement that counts its events; in an older schema, its messages.
    pub(super) fn count(&self) -> &'static str {
        if self.has_events() { "SELECT count(*) FROM event" } else { "SELECT count(*) FROM message" }
    }

    /// Opens the database, which must be one of Lyftr's.
    pub(super) fn open(place: &Location) -> Result<Self, OpenError> {
        let path = place.path();
        let name = || path.display().to_string();
        let unreadable =
            |source: rusqlite::Error| OpenError::Unreadable { path: name(), source: source.into() };
        let conn = connection::reader(path, CACHE_KIB).map_err(unreadable)?;
        conn.execute_batch("BEGIN").map_err(unreadable)?;
        // The first read fixes the snapshot.
        let version = migrate::check(&conn).map_err(|refused| refused.at(path, unreadable))?;
        if version == 0 {
            return Err(OpenError::Unmade { path: name() });
        }
        Ok(Self { conn, version })
    }
}
