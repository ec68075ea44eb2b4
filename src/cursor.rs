//! The cursor of a follower: a name under which it keeps its place in the log.

use serde::Serialize;

use crate::event::Position;
use crate::message::Timestamp;

/// Maximum number of cursors.
pub const CURSORS_MAX: usize = 100;
/// The greatest lag of a cursor that is told.
pub const LAG_MAX: u64 = 1_000_000;

/// A cursor. Serializes to the response of `GET /cursors/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// Its name.
    pub name: CursorName,
    /// The position of the last event that its follower is done with.
    pub position: Position,
    /// When it was moved there, in milliseconds.
    pub updated_at: Timestamp,
    /// The number of events after it, up to [`LAG_MAX`]. Above a thousand it may be an estimate.
    pub lag: u64,
}

/// The name of a cursor: 1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CursorName(Box<str>);

/// The string is not the name of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor's name has 1 to 64 letters, digits, dots, underscores and hyphens")]
pub struct BadCursorName;

/// A move of a cursor, which takes place only if the cursor is where its follower believes it to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The cursor.
    pub name: CursorName,
    /// The position that it has now; `None` if there is no such cursor yet.
    pub expected: Option<Position>,
    /// The position that it shall have.
    pub to: Position,
    /// The time of the move, in milliseconds.
    pub at: Timestamp,
}

/// The result of a [`Move`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// The cursor, as it is now.
    Done(Cursor),
    /// The cursor has another position than expected, or none; it stays.
    Elsewhere(Option<Position>),
    /// No event of this log has the position that the cursor shall have; it stays.
    NoSuchEvent,
    /// There are [`CURSORS_MAX`] cursors, and this is none of them.
    TooMany,
}

impl CursorName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadCursorName`]
    pub fn new(name: &str) -> Result<Self, BadCursorName> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_good = (1..=64).contains(&name.len()) && name.bytes().all(is_allowed);
        if is_good { Ok(Self(name.into())) } else { Err(BadCursorName) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_a_plain_name() {
        for good in ["a", "Billing-2.eu_west", &"x".repeat(64)] {
            assert_eq!(CursorName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(CursorName::new(bad), Err(BadCursorName), "{bad:?}");
        }
    }
}
