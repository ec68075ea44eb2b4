//! A page of messages by an order in which any place is found at once.

use std::ops::Range;

use rusqlite::Connection;

use super::crowd::{self, CROWD, Crowds, Of};
use super::failed::Failed;
use super::kept::Edition;
use super::order::Order;
use super::phone_number::PhoneNumber as Number;
use super::rows;
use crate::message::{Message, Moment};
use crate::query::Place;
use crate::store::matches::{Entry, Matches, to_u64, to_usize};

/// The messages of a range of time in an order.
pub(super) struct Ranked<'a> {
    pub(super) messages: &'a Connection,
    pub(super) order: &'a dyn Order,
    pub(super) range: Range<Moment>,
    pub(super) crowds: &'a Crowds,
    /// Of these messages.
    pub(super) edition: Edition,
    pub(super) pair: (Number, Number),
    pub(super) latest: i64,
}

impl Ranked<'_> {
    /// The entries of one moment; none if they are a crowd.
    fn at(&self, moment: Moment) -> Result<Option<Vec<Entry>>, Failed> {
        let mut entries = Vec::new();
        self.order.at(moment, 0, CROWD + 1, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        Ok(i64::try_from(entries.len()).is_ok_and(|count| count <= CROWD).then_some(entries))
    }

    fn crowd(&self, moment: Moment) -> Result<std::sync::Arc<Vec<i64>>, Failed> {
        let of = Of { edition: self.edition, pair: self.pair, moment };
        self.crowds.sorted(of, self.messages, self.order, self.latest)
    }

    /// Messages of a crowd.
    fn of_crowd(&self, moment: Moment, skip: u64, wanted: u64) -> Result<Vec<Message>, Failed> {
        let sorted = self.crowd(moment)?;
        let seqs = sorted.iter().skip(to_usize(skip)).take(to_usize(wanted));
        let entries: Vec<_> = seqs.map(|seq| Entry { moment, seq: *seq }).collect();
        rows::fetch(self.messages, &entries)
    }

    /// Messages from a moment on, passing over `skip`, at most `wanted` and at least one if there is one.
    fn from(&self, from: Moment, skip: u64, wanted: u64) -> Result<Vec<Message>, Failed> {
        let limit = i64::try_from(skip.saturating_add(wanted)).unwrap_or(i64::MAX);
        if limit > 2 * CROWD {
            return self.of_crowd(from, skip, wanted);
        }
        let mut entries = Vec::new();
        self.order.entries(from..self.range.end, limit, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        let Some(last) = entries.last().map(|entry| entry.moment) else { return Ok(Vec::new()) };
        // Messages of one moment are sorted by their ids, so the last moment is needed as a whole.
        entries.truncate(entries.partition_point(|entry| entry.moment < last));
        if let Some(all) = self.at(last)? {
            entries.extend(all);
            return rows::page(self.messages, &entries, skip, wanted);
        }
        let mut page = rows::page(self.messages, &entries, skip, wanted)?;
        let (skip, wanted) = (skip.saturating_sub(to_u64(entries.len())), wanted - to_u64(page.len()));
        page.extend(self.of_crowd(last, skip, wanted)?);
        Ok(page)
    }
}

impl Matches for Ranked<'_> {
    type Error = Failed;

    fn total(&self) -> Result<u64, Failed> {
        Ok(self.order.rank(self.range.end)?.saturating_sub(self.order.rank(self.range.start)?))
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, Failed> {
        let moment = position.moment.clamp(self.range.start, self.range.end);
        let earlier = self.order.rank(moment)? - self.order.rank(self.range.start)?;
        if moment != position.moment || moment == self.range.end {
            return Ok(earlier);
        }
        let Some(same) = self.at(moment)? else {
            let (sorted, key) = (self.crowd(moment)?, rows::order_key_of(position));
            return Ok(earlier + to_u64(crowd::before(self.messages, &sorted, &key, including)?));
        };
        let same = rows::fetch(self.messages, &same)?;
        let before =
            same.iter().map(Place::of).filter(|place| place < position || including && place == position);
        Ok(earlier + to_u64(before.count()))
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Failed> {
        let start = self.order.rank(self.range.start)?;
        let mut page: Vec<Message> = Vec::new();
        // Once, or once more after each crowd.
        loop {
            let done = to_u64(page.len());
            let (place, wanted) = (range.start + done, range.end - range.start - done);
            let (from, skip) = if place == 0 {
                (self.range.start, 0)
            } else {
                let from = self.order.moment_at(start + place)?;
                (from, start + place - self.order.rank(from)?)
            };
            let more = self.from(from, skip, wanted)?;
            if more.is_empty() || to_u64(more.len()) == wanted {
                page.extend(more);
                return Ok(page);
            }
            page.extend(more);
        }
    }
}
