//! The search index: folded texts in blocks, and lists of the blocks that may hold a text.
//!
//! The newest texts are in memory ([`Blocks`]). When those are many they are closed: they become a segment, which is a row
//! of blocks in the file of texts, `app.db-texts`, and lists in the index file. A list belongs to a *slot*: every three
//! characters in a row have a slot, and its list names the blocks that hold them. The lists alone decide nothing. Each block
//! that they name is searched, so results are exact, and the head of a block has what else a search filters by.
//!
//! Everything here is derived and can be made anew from the messages. Bytes that are read are checked and never trusted:
//! damage is an error ([`Error::Damaged`]), not a wrong result.

use std::io;

use crate::message::Moment;

mod block;
mod blocks;
mod check;
mod lists;
mod removal;
mod search;
mod segment;
mod varint;
mod window;

pub(super) use blocks::{Blocks, Snapshot};
pub(super) use search::{Conditions, Search};
pub(super) use segment::TextFile;

/// The folded text of a message, and what a search filters and sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// The arrival number.
    pub(super) seq: i64,
    /// The instant of the message.
    pub(super) moment: Moment,
    /// The number of the sender, any integer.
    pub(super) sender: i64,
    /// The number of the recipient, any integer.
    pub(super) recipient: i64,
    /// The text as [`crate::query::fold`] leaves it.
    pub(super) folded: &'a str,
}

/// The search index could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file or the rows do not hold what was written, or do not belong together: the index has to be made anew.
    #[error("the search index is damaged: {0}")]
    Damaged(&'static str),
    /// The file of texts cannot be read or written.
    #[error("the file of texts: {0}")]
    File(#[from] io::Error),
    /// The index file cannot be read or written.
    #[error(transparent)]
    Index(#[from] rusqlite::Error),
    /// The search was given up because its caller wanted that.
    #[error("the search was given up")]
    GivenUp,
}

#[cfg(test)]
mod tests;
