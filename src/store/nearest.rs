//! Matches that come in any order, of which only those on one page are wanted.

use std::cmp::Ordering;
use std::ops::Range;

use super::matches::{Anchor, Entry, Matches, narrow, wide};
use crate::message::{Message, Moment};
use crate::query::{Page, Position};

/// So many are kept before it is worth seeing which can be dropped.
const KEPT_MIN: usize = 4096;

/// Where messages are fetched from.
pub(super) trait Rows {
    /// Why they cannot be fetched.
    type Error;

    /// The messages of these entries in the order of lists, passing over `skip`, at most `limit`. The entries are
    /// sorted by moment, and hold all of each moment.
    fn page(&self, entries: &[Entry], skip: u64, limit: u64) -> Result<Vec<Message>, Self::Error>;
}

/// Counts all matches, and keeps those nearest to the anchor of a page, on the side of it where the page lies.
pub(super) struct Nearest<'a, R> {
    rows: &'a R,
    upward: bool,
    /// So many of the nearest can be on the page or before it.
    wanted: usize,
    total: u64,
    /// Matches on the side of the page.
    beyond: u64,
    /// The nearest of these, with all of the moment of the farthest.
    kept: Vec<Entry>,
    /// What is farther away than this is not needed.
    farthest: Moment,
    drop_at: usize,
}

impl<'a, R: Rows> Nearest<'a, R> {
    /// None yet.
    pub(super) fn new(rows: &'a R, page: &Page) -> Self {
        let Anchor { position, upward } = Anchor::of(page);
        let skipped = if position.is_some() { 0 } else { page.offset };
        let wanted = usize::try_from(skipped.saturating_add(page.limit.into())).unwrap_or(usize::MAX);
        Self {
            rows,
            upward,
            wanted,
            total: 0,
            beyond: 0,
            kept: Vec::new(),
            farthest: if upward { Moment::MAX } else { Moment::MIN },
            drop_at: wanted.saturating_mul(2).max(KEPT_MIN),
        }
    }

    /// Takes in a match, which stands so to the anchor's position, if there is one.
    pub(super) fn offer(&mut self, entry: Entry, place: Option<Ordering>) {
        self.total += 1;
        let beyond = if self.upward { Ordering::Greater } else { Ordering::Less };
        if place.is_some_and(|place| place != beyond) {
            return;
        }
        self.beyond += 1;
        if !within(self.upward, entry.moment, self.farthest) {
            return;
        }
        self.kept.push(entry);
        if self.kept.len() >= self.drop_at {
            self.drop_farthest();
        }
    }

    fn drop_farthest(&mut self) {
        let upward = self.upward;
        let (_, last_wanted, _) = self.kept.select_nth_unstable_by(self.wanted - 1, |one, other| {
            if upward { one.moment.cmp(&other.moment) } else { other.moment.cmp(&one.moment) }
        });
        let farthest = last_wanted.moment;
        self.kept.retain(|entry| within(upward, entry.moment, farthest));
        self.farthest = farthest;
        self.drop_at = self.drop_at.max(2 * self.kept.len());
    }
}

/// Whether a moment is as near as the farthest, or nearer.
fn within(upward: bool, moment: Moment, farthest: Moment) -> bool {
    if upward { moment <= farthest } else { moment >= farthest }
}

impl<R: Rows> Matches for Nearest<'_, R> {
    type Error = R::Error;

    fn total(&self) -> Result<u64, R::Error> {
        Ok(self.total)
    }

    /// Asked for the anchor of the page only.
    fn before(&self, _anchor: &Position, _including: bool) -> Result<u64, R::Error> {
        Ok(if self.upward { self.total - self.beyond } else { self.beyond })
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, R::Error> {
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        let first = if self.upward { self.total - self.beyond } else { self.beyond - wide(kept.len()) };
        let (start, end) = (narrow(range.start - first), narrow(range.end - first));
        let whole = |place: usize, group: fn(Moment, Moment) -> bool| {
            let moment = kept.get(place).map_or(Moment::MAX, |entry| entry.moment);
            kept.partition_point(|entry| group(entry.moment, moment))
        };
        let from = whole(start, |entry, first| entry < first);
        let to = whole(end - 1, |entry, last| entry <= last);
        let entries = kept.get(from..to).unwrap_or_default();
        self.rows.page(entries, wide(start - from), range.end - range.start)
    }
}
