//! The messages of a list in order, of one snapshot: those in the index, and those that are in memory.

use std::ops::Range;

use rusqlite::Connection;

use super::failed::Failed;
use super::index::entries::{Bound, Entries};
use super::index::key::List;
use super::recent::Recents;
use super::rows;
use crate::message::{Message, Moment};
use crate::query::Place;
use crate::store::matches::{Matches, to_u64, to_usize};

/// A list.
pub(super) struct Ordered<'a> {
    messages: &'a Connection,
    entries: Entries<'a>,
    list: List,
    /// Entries of the index before those of the list.
    first: u64,
    /// Entries of the list in the index.
    indexed: u64,
    recents: Recents<'a>,
}

/// Where a window begins: behind so many messages from a place on.
#[derive(Debug)]
struct Start {
    moment: Moment,
    order_key: String,
    skip: u64,
}

/// A message that may be in a window. The order key is empty if it is in the index only.
struct Candidate {
    moment: Moment,
    order_key: String,
    seq: i64,
}

impl<'a> Ordered<'a> {
    /// The list in the snapshots of both databases, and in memory.
    pub(super) fn new(
        messages: &'a Connection,
        index: &'a Connection,
        list: List,
        recents: Recents<'a>,
    ) -> Result<Self, Failed> {
        let entries = Entries::new(index);
        let Range { start: first, end } = entries.ranks(list).map_err(Failed::Index)?;
        Ok(Self { messages, entries, list, first, indexed: end - first, recents })
    }

    /// Which list it is.
    pub(super) fn list(&self) -> List {
        self.list
    }

    /// Messages before a moment.
    pub(super) fn rank(&self, moment: Moment) -> Result<u64, Failed> {
        match moment {
            Moment::MIN => Ok(0),
            Moment::MAX => Ok(self.indexed + to_u64(self.recents.len())),
            _ => self.rank_of(Bound::at(moment)),
        }
    }

    /// Messages of a range of time.
    pub(super) fn count(&self, range: &Range<Moment>) -> Result<u64, Failed> {
        Ok(self.rank(range.end)?.saturating_sub(self.rank(range.start)?))
    }

    /// The moment of the message with so many before it; the last moment if there are not so many.
    pub(super) fn moment_at(&self, rank: u64) -> Result<Moment, Failed> {
        Ok(self.select(rank)?.map_or(Moment::MAX, |start| start.moment))
    }

    /// Hands over the arrival numbers of the messages of a range of time, in no order.
    pub(super) fn each(
        &self,
        range: &Range<Moment>,
        each: &mut dyn FnMut(i64) -> rusqlite::Result<()>,
    ) -> Result<(), Failed> {
        let places = Bound::at(range.start)..Bound::at(range.end);
        let mut seqs = Vec::new();
        self.entries
            .ascending(self.list, places.clone(), &mut |entry| {
                seqs.push(entry.seq);
                Ok(true)
            })
            .map_err(Failed::Index)?;
        let recent = self.recents.from(places.start).take_while(|message| message.moment < range.end);
        let mut seqs = seqs.into_iter().chain(recent.map(|message| message.seq));
        seqs.try_for_each(each).map_err(rows::missing)
    }

    /// Messages before a place.
    fn rank_of(&self, place: Bound<'_>) -> Result<u64, Failed> {
        Ok(self.rank_in_index(place)? + self.recents.rank(place))
    }

    fn rank_in_index(&self, place: Bound<'_>) -> Result<u64, Failed> {
        let Self { entries, list, .. } = self;
        let rank = |place| {
            Ok::<_, Failed>(entries.rank(*list, place).map_err(Failed::Index)?.saturating_sub(self.first))
        };
        if place.order_key.is_empty() || entries.is_crowd(*list, place.moment).map_err(Failed::Index)? {
            return rank(place);
        }
        // They have no ties, and are few.
        let mut before = rank(Bound::at(place.moment))?;
        for seq in entries.at(*list, place.moment).map_err(Failed::Index)? {
            let order_key = rows::order_key(self.messages, seq).map_err(rows::missing)?;
            before += u64::from(*order_key < *place.order_key);
        }
        Ok(before)
    }

    /// Where the message with so many before it is; none if there are not so many.
    fn select(&self, rank: u64) -> Result<Option<Start>, Failed> {
        // Of the entries in the index the last one that has no more than `rank` messages before it.
        let mut places = rank.saturating_sub(to_u64(self.recents.len()))..self.indexed.min(rank + 1);
        let mut in_index_before = places.start;
        let mut nth = places.end.saturating_sub(1);
        let mut was = 2 * (places.end - places.start.min(places.end));
        while !places.is_empty() {
            let Some(entry) = self.entries.select(self.first + nth).map_err(Failed::Index)? else { break };
            let next_key = format!("{}\0", entry.tie);
            let (place, next, ranks) = if entry.tie.is_empty() {
                // Its moment as a whole.
                let (place, next) = (Bound::at(entry.moment), Bound::at(entry.moment.next()));
                (place, next, self.rank_in_index(place)?..self.rank_in_index(next)?)
            } else {
                let place = Bound { moment: entry.moment, order_key: &entry.tie };
                (place, Bound { order_key: &next_key, ..place }, nth..nth + 1)
            };
            let before = ranks.start + self.recents.rank(place);
            let after = ranks.end + self.recents.rank(next);
            if (before..after).contains(&rank) {
                let (moment, order_key) = (entry.moment, entry.tie);
                return Ok(Some(Start { moment, order_key, skip: rank - before }));
            }
            if after <= rank {
                (places.start, in_index_before) = (ranks.end, ranks.end);
            } else {
                places.end = ranks.start;
            }
            // As far away as the count says, inside of what is left; in the middle if that is no quick way.
            let left = places.end.saturating_sub(places.start);
            let guess = (nth + rank).saturating_sub(before);
            nth = if 2 * left <= was && places.contains(&guess) { guess } else { places.start + left / 2 };
            was = left;
        }
        let recent = self.recents.select(rank.saturating_sub(in_index_before));
        Ok(recent.map(|message| Start {
            moment: message.moment,
            order_key: message.order_key.to_string(),
            skip: 0,
        }))
    }

    /// The messages from a place on, in order, at most `wanted`.
    fn page(&self, start: &Start, wanted: u64) -> Result<Vec<Message>, Failed> {
        let (skip, wanted) = (to_usize(start.skip), to_usize(wanted));
        let needed = skip.saturating_add(wanted);
        let place = Bound { moment: start.moment, order_key: &start.order_key };
        let mut candidates: Vec<Candidate> = Vec::new();
        self.entries
            .ascending(self.list, place..Bound::at(Moment::MAX), &mut |entry| {
                let last = candidates.last().map(|last| last.moment);
                // Without ties the order within a moment is yet to be found, so the last moment is needed as a whole.
                let is_whole = last != Some(entry.moment) || !entry.tie.is_empty();
                if candidates.len() >= needed && is_whole {
                    return Ok(false);
                }
                candidates.push(Candidate { moment: entry.moment, order_key: entry.tie, seq: entry.seq });
                Ok(true)
            })
            .map_err(Failed::Index)?;
        let recent = self.recents.from(place).take(needed);
        candidates.extend(recent.map(|message| Candidate {
            moment: message.moment,
            order_key: message.order_key.to_string(),
            seq: message.seq,
        }));
        candidates.sort_by_key(|candidate| candidate.moment);
        for same in
            candidates.chunk_by_mut(|one, other| one.moment == other.moment).filter(|same| same.len() > 1)
        {
            for candidate in same.iter_mut().filter(|candidate| candidate.order_key.is_empty()) {
                candidate.order_key = rows::order_key(self.messages, candidate.seq).map_err(rows::missing)?;
            }
            same.sort_by(|one, other| one.order_key.cmp(&other.order_key));
        }
        let page = candidates.into_iter().skip(skip).take(wanted);
        rows::fetch(self.messages, page.map(|candidate| candidate.seq))
    }
}

/// The messages of a list in a range of time.
pub(super) struct InTime<'a> {
    pub(super) list: &'a Ordered<'a>,
    pub(super) range: Range<Moment>,
}

/// The messages of the built-in source in a range of time, where there are others: all messages without those.
pub(super) struct BuiltIn<'a> {
    pub(super) all: InTime<'a>,
    pub(super) others: InTime<'a>,
}

impl BuiltIn<'_> {
    /// The place among all messages of the one with so many of the built-in source before it.
    fn place_of(&self, rank: u64) -> Result<u64, Failed> {
        let mut places = rank..rank.saturating_add(self.others.total()?).min(self.all.total()?);
        while !places.is_empty() {
            let middle = u64::midpoint(places.start, places.end);
            let Some(message) = self.all.window(middle..middle + 1)?.pop() else { break };
            let others = self.others.before(&Place::of(&message), true)?;
            // So many of the built-in source up to this message.
            if (middle + 1).saturating_sub(others) > rank {
                places.end = middle;
            } else {
                places.start = middle + 1;
            }
        }
        Ok(places.start)
    }
}

impl Matches for BuiltIn<'_> {
    type Error = Failed;

    fn total(&self) -> Result<u64, Failed> {
        Ok(self.all.total()?.saturating_sub(self.others.total()?))
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, Failed> {
        let all = self.all.before(position, including)?;
        Ok(all.saturating_sub(self.others.before(position, including)?))
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Failed> {
        let wanted = to_usize(range.end.min(self.total()?).saturating_sub(range.start));
        let mut found: Vec<Message> = Vec::new();
        while found.len() < wanted {
            // Past a row of others the place is looked up again.
            let place = self.place_of(range.start + to_u64(found.len()))?;
            let mut messages = self.all.window(place..place + to_u64(wanted - found.len()))?;
            if messages.is_empty() {
                break;
            }
            messages.retain(|message| message.source.is_built_in());
            found.append(&mut messages);
        }
        Ok(found)
    }
}

impl Matches for InTime<'_> {
    type Error = Failed;

    fn total(&self) -> Result<u64, Failed> {
        self.list.count(&self.range)
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, Failed> {
        let first = self.list.rank(self.range.start)?;
        let rank = if position.moment < self.range.start {
            first
        } else if position.moment >= self.range.end {
            self.list.rank(self.range.end)?
        } else {
            let mut order_key = rows::order_key_of(position);
            if including {
                order_key.push('\0');
            }
            self.list.rank_of(Bound { moment: position.moment, order_key: &order_key })?
        };
        Ok(rank.saturating_sub(first))
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Failed> {
        let first = self.list.rank(self.range.start)?;
        match self.list.select(first + range.start)? {
            Some(start) => self.list.page(&start, range.end - range.start),
            None => Ok(Vec::new()),
        }
    }
}
