//! Why SQLite did not answer a question.

/// A question could not be answered.
#[derive(Debug)]
pub(in crate::store) enum Failed {
    /// For the database.
    Database(rusqlite::Error),
    /// For the index, without which there is another way.
    Index(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}
