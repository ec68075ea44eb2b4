//! Matches that come in any order, of which only those on one page are wanted.

use std::cmp::Ordering;
use std::ops::Range;

use super::matches::{Anchor, Entry, Matches, to_u64, to_usize};
use crate::message::{Message, Moment};
use crate::query::{Page, Place};

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
    fn before(&self, _anchor: &Place, _including: bool) -> Result<u64, R::Error> {
        Ok(if self.upward { self.total - self.beyond } else { self.beyond })
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, R::Error> {
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        let first = if self.upward { self.total - self.beyond } else { self.beyond - to_u64(kept.len()) };
        let (start, end) = (to_usize(range.start - first), to_usize(range.end - first));
        let whole = |place: usize, group: fn(Moment, Moment) -> bool| {
            let moment = kept.get(place).map_or(Moment::MAX, |entry| entry.moment);
            kept.partition_point(|entry| group(entry.moment, moment))
        };
        let from = whole(start, |entry, first| entry < first);
        let to = whole(end - 1, |entry, last| entry <= last);
        let entries = kept.get(from..to).unwrap_or_default();
        self.rows.page(entries, to_u64(start - from), range.end - range.start)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::message;
    use crate::query::PageCursor;
    use crate::store::matches::listing;

    /// Messages whose arrival numbers are their places here.
    struct All(Vec<Message>);

    impl Rows for All {
        type Error = Infallible;

        fn page(&self, entries: &[Entry], skip: u64, limit: u64) -> Result<Vec<Message>, Infallible> {
            let mut found: Vec<Message> =
                entries.iter().map(|entry| self.0[usize::try_from(entry.seq).unwrap()].clone()).collect();
            found.sort_by_key(Place::of);
            Ok(found.into_iter().skip(to_usize(skip)).take(to_usize(limit)).collect())
        }
    }

    /// Far more than are kept, in no order, some of them of one moment.
    fn all() -> All {
        let message = |n: u64| {
            let (minute, second) = (n * 7919 % 10_007 / 60 % 60, n * 7919 % 10_007 % 60);
            let body = format!(
                r#"{{"message_id":"{n:05}","from":"+1","to":"+2","ts":"2025-01-15T{:02}:{minute:02}:{second:02}Z"}}"#,
                n * 7919 % 10_007 / 3600
            );
            message::parse(body.as_bytes()).unwrap()
        };
        All((0..3 * to_u64(KEPT_MIN)).map(message).collect())
    }

    fn page(all: &All, page: &Page) -> (Vec<String>, u64) {
        let mut nearest = Nearest::new(all, page);
        let anchor = Anchor::of(page).position;
        for (seq, message) in all.0.iter().enumerate() {
            let entry = Entry { moment: message.ts.moment(), seq: i64::try_from(seq).unwrap() };
            nearest.offer(entry, anchor.map(|anchor| Place::of(message).cmp(anchor)));
        }
        assert!(nearest.kept.len() < all.0.len(), "some were dropped");
        let Ok(listing) = listing(&nearest, page);
        (listing.data.iter().map(|message| message.message_id.as_str().to_owned()).collect(), listing.total)
    }

    #[test]
    fn every_page_is_right_though_most_matches_are_dropped() {
        let all = all();
        let mut sorted = all.0.clone();
        sorted.sort_by_key(Place::of);
        let total = to_u64(sorted.len());
        for descending in [false, true] {
            let mut wanted = sorted.clone();
            if descending {
                wanted.reverse();
            }
            let ids = |from: usize, count: usize| -> Vec<String> {
                wanted[from..from + count].iter().map(|m| m.message_id.as_str().to_owned()).collect()
            };
            for offset in [0, 1, 49, 777] {
                let asked = Page { limit: 50, offset: to_u64(offset), descending, cursor: None };
                assert_eq!(page(&all, &asked), (ids(offset, 50), total), "{descending} {offset}");
            }
            for place in [1_000, 6_000, 11_000] {
                let position = Place::of(&wanted[place]);
                let asked = |cursor| Page { limit: 50, offset: 0, descending, cursor: Some(cursor) };
                let after = page(&all, &asked(PageCursor::After(position.clone())));
                assert_eq!(after, (ids(place + 1, 50), total), "{descending} after {place}");
                let before = page(&all, &asked(PageCursor::Before(position)));
                assert_eq!(before, (ids(place - 50, 50), total), "{descending} before {place}");
            }
        }
    }
}
