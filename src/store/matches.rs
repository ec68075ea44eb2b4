//! From the messages that match to the page that was asked for. The one place that knows of orders, offsets and
//! cursors; in which way the matching messages are found, it does not know.

use std::ops::Range;

use crate::message::{Message, Moment};
use crate::query::{Listing, Page, PageCursor, Place};

/// A message by when it was written and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) moment: Moment,
    pub(super) seq: i64,
}

/// The messages that match a filter, in the order of lists, of one snapshot.
pub(super) trait Matches {
    /// Why the store cannot tell.
    type Error;

    /// How many there are.
    fn total(&self) -> Result<u64, Self::Error>;

    /// How many come before `position`, or at it if `including`.
    fn before(&self, position: &Place, including: bool) -> Result<u64, Self::Error>;

    /// Those with so many before them. The range ends at [`total`](Self::total) at the latest.
    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Self::Error>;
}

/// Where a page stands among the messages that match: at which place it begins or ends, and to which side of it
/// the page lies.
#[derive(Debug)]
pub(super) struct Anchor<'a> {
    /// None for the end of the list from which offsets are counted.
    pub(super) position: Option<&'a Place>,
    /// The page lies on the side of the later messages.
    pub(super) upward: bool,
}

impl<'a> Anchor<'a> {
    pub(super) fn of(page: &'a Page) -> Self {
        match &page.cursor {
            None => Self { position: None, upward: !page.descending },
            Some(PageCursor::After(position)) => Self { position: Some(position), upward: !page.descending },
            Some(PageCursor::Before(position)) => Self { position: Some(position), upward: page.descending },
        }
    }
}

/// The page.
pub(super) fn listing<M: Matches>(matches: &M, page: &Page) -> Result<Listing, M::Error> {
    let total = matches.total()?;
    let limit = u64::from(page.limit);
    let Anchor { position, upward } = Anchor::of(page);
    let place = match position {
        Some(position) => matches.before(position, upward)?,
        None if upward => page.offset,
        None => total.saturating_sub(page.offset),
    };
    let range = if upward {
        place.min(total)..place.saturating_add(limit).min(total)
    } else {
        place.saturating_sub(limit)..place
    };
    let mut data = if range.is_empty() { Vec::new() } else { matches.window(range.clone())? };
    let (mut before, mut after) = (range.start > 0, range.end < total);
    if page.descending {
        data.reverse();
        std::mem::swap(&mut before, &mut after);
    }
    Ok(Listing::new(page, data, total, before, after))
}

pub(super) fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// What does not fit into memory is never reached there.
pub(super) fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
