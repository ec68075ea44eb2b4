//! Why a query of SQLite failed.

/// Why a query failed.
#[derive(Debug)]
pub(in crate::store) enum Failed {
    /// Reading the database failed.
    Database(rusqlite::Error),
    /// Reading the index failed; the query can do without it.
    Index(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}
