//! Messages in the order of lists by way of a sorted index, any place of which is found without going through
//! those before it.

use std::ops::Range;
use std::sync::Arc;

use rusqlite::Connection;

use super::failed::Failed;
use super::index::IndexView;
use super::kept::{NumberKey, Numbers};
use super::phone_number::PhoneNumber as Number;
use super::ranks::Ranks;
use crate::message::Moment;
use crate::store::matches::{Entry, to_u64};

// Ranges are asked for with the last moment that belongs to them: a row value that must be less than another makes
// SQLite go through all entries that equal it.
const COUNT: &str = "\
    SELECT count(*) FROM message
    WHERE (ts_second, ts_nanosecond) >= (?1, ?2) AND (ts_second, ts_nanosecond) <= (?3, ?4)";
const MOMENT_AFTER: &str = "\
    SELECT ts_second, ts_nanosecond FROM message WHERE (ts_second, ts_nanosecond) >= (?1, ?2)
    ORDER BY ts_second, ts_nanosecond LIMIT 1 OFFSET ?3";
const ENTRIES: &str = "\
    SELECT ts_second, ts_nanosecond, seq FROM message
    WHERE (ts_second, ts_nanosecond) >= (?1, ?2) AND (ts_second, ts_nanosecond) <= (?3, ?4)
    ORDER BY ts_second, ts_nanosecond LIMIT ?5";

const AT: &str = "\
    SELECT seq FROM message WHERE ts_second = ?1 AND ts_nanosecond = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4";

/// What may be done with an entry while they are gone through.
pub(super) type Each<'a> = &'a mut dyn FnMut(Entry) -> rusqlite::Result<()>;

/// Entries sorted by moment. Ranks are counted from some entry on, the same for all questions.
pub(super) trait Order {
    /// Entries before `moment`.
    fn rank(&self, moment: Moment) -> Result<u64, Failed>;

    /// The moment of the entry with so many before it.
    fn moment_at(&self, rank: u64) -> Result<Moment, Failed>;

    /// The entries of a range in order, at most `limit` of them.
    fn entries(&self, range: Range<Moment>, limit: i64, each: Each<'_>) -> Result<(), Failed>;

    /// The entries of a moment that arrived after `seq`, in order of arrival, at most `limit` of them.
    fn at(&self, moment: Moment, seq: i64, limit: i64, each: Each<'_>) -> Result<(), Failed>;
}

/// All messages, by the index on their time.
pub(super) struct ByTime<'a> {
    pub(super) messages: &'a Connection,
    pub(super) ranks: Arc<Ranks<Moment>>,
}

impl Order for ByTime<'_> {
    fn rank(&self, moment: Moment) -> Result<u64, Failed> {
        if moment == Moment::MAX {
            return Ok(self.ranks.total());
        }
        self.ranks.rank(moment, |range| {
            let (from, last) = (range.start, range.end.previous());
            let given = (from.second, from.nanosecond, last.second, last.nanosecond);
            Ok(self.messages.prepare_cached(COUNT)?.query_row(given, |row| row.get(0))?)
        })
    }

    fn moment_at(&self, rank: u64) -> Result<Moment, Failed> {
        let Some((first, before)) = self.ranks.step_at(rank) else { return Ok(Moment::MAX) };
        let nth = i64::try_from(rank - before).unwrap_or(i64::MAX);
        let given = (first.second, first.nanosecond, nth);
        Ok(self
            .messages
            .prepare_cached(MOMENT_AFTER)?
            .query_row(given, |row| Ok(Moment { second: row.get(0)?, nanosecond: row.get(1)? }))?)
    }

    fn entries(&self, range: Range<Moment>, limit: i64, each: Each<'_>) -> Result<(), Failed> {
        let (from, last) = (range.start, range.end.previous());
        let given = (from.second, from.nanosecond, last.second, last.nanosecond, limit);
        let mut statement = self.messages.prepare_cached(ENTRIES)?;
        let mut rows = statement.query(given)?;
        while let Some(row) = rows.next()? {
            let moment = Moment { second: row.get(0)?, nanosecond: row.get(1)? };
            each(Entry { moment, seq: row.get(2)? })?;
        }
        Ok(())
    }

    fn at(&self, moment: Moment, seq: i64, limit: i64, each: Each<'_>) -> Result<(), Failed> {
        let mut statement = self.messages.prepare_cached(AT)?;
        let mut rows = statement.query((moment.second, moment.nanosecond, seq, limit))?;
        while let Some(row) = rows.next()? {
            each(Entry { moment, seq: row.get(0)? })?;
        }
        Ok(())
    }
}

/// The messages of a pair of numbers, one of which may be any, by the index of numbers and what has arrived
/// since it was written.
pub(super) struct ByNumber<'a> {
    pub(super) index: &'a IndexView<'a>,
    pub(super) numbers: Numbers,
    pub(super) pair: (Number, Number),
    /// Sorted.
    pub(super) recent: Vec<Entry>,
}

impl ByNumber<'_> {
    fn key(&self, moment: Moment) -> NumberKey {
        NumberKey { sender: self.pair.0, recipient: self.pair.1, moment }
    }

    /// Entries of the index before `moment`.
    fn rank_in_index(&self, moment: Moment) -> Result<u64, Failed> {
        self.numbers.ranks.rank(self.key(moment), |range| self.index.count(&range)).map_err(Failed::Index)
    }

    /// Recent entries before `moment`.
    fn rank_in_recent(&self, moment: Moment) -> usize {
        self.recent.partition_point(|entry| entry.moment < moment)
    }

    /// How many of the first `rank` entries, index and recent ones together, are recent. Those of the index come
    /// first where moments are equal.
    fn recent_among(&self, rank: u64) -> Result<usize, Failed> {
        let (mut low, mut high) = (0, self.recent.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let Some(entry) = self.recent.get(middle) else { break };
            let place = to_u64(middle) + self.rank_in_index(entry.moment.next())?;
            if place < rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

impl Order for ByNumber<'_> {
    fn rank(&self, moment: Moment) -> Result<u64, Failed> {
        Ok(self.rank_in_index(moment)? + to_u64(self.rank_in_recent(moment)))
    }

    fn moment_at(&self, rank: u64) -> Result<Moment, Failed> {
        let recent = self.recent_among(rank)?;
        let recent_moment = self.recent.get(recent).map_or(Moment::MAX, |entry| entry.moment);
        let in_index = rank.saturating_sub(to_u64(recent));
        let Some((first, before)) = self.numbers.ranks.step_at(in_index) else { return Ok(recent_moment) };
        let key = self.index.key_after(first, in_index - before).map_err(Failed::Index)?;
        let of_pair = (key.sender, key.recipient) == self.pair;
        Ok(if of_pair { key.moment.min(recent_moment) } else { recent_moment })
    }

    fn entries(&self, range: Range<Moment>, limit: i64, each: Each<'_>) -> Result<(), Failed> {
        let recent = self.recent.get(self.rank_in_recent(range.start)..self.rank_in_recent(range.end));
        let mut recent = recent.unwrap_or_default().iter().copied().peekable();
        let mut left = limit;
        let mut hand_over = |entry: Entry| {
            left -= 1;
            if left >= 0 { each(entry) } else { Ok(()) }
        };
        self.index
            .entries(self.pair, &range, limit, &mut |entry| {
                while let Some(earlier) = recent.next_if(|recent| *recent < entry) {
                    hand_over(earlier)?;
                }
                hand_over(entry)
            })
            .map_err(Failed::Index)?;
        Ok(recent.try_for_each(hand_over)?)
    }

    fn at(&self, moment: Moment, seq: i64, limit: i64, each: Each<'_>) -> Result<(), Failed> {
        let mut left = limit;
        self.index
            .at(self.key(moment), seq, limit, &mut |entry| {
                left -= 1;
                each(entry)
            })
            .map_err(Failed::Index)?;
        // All of these arrived later than what is in the index.
        let recent = self.recent.iter().filter(|entry| entry.moment == moment && entry.seq > seq);
        let left = usize::try_from(left).unwrap_or(0);
        Ok(recent.take(left).try_for_each(|entry| each(*entry))?)
    }
}
