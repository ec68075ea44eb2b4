//! The figures kept in memory: true of every message up to an arrival number, and brought up to date from the
//! messages themselves, by whoever needs them, before they are used. The writer knows nothing of them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::insert::LATEST;
use super::phone_number::{ANY, OTHER, PhoneNumber as Number};
use super::ranks::Ranks;
use crate::message::Moment;
use crate::query::{SenderCount, TOP_SENDERS};
use crate::store::matches::Entry;

const EDITION: &str = "SELECT name FROM edition";
const ARRIVED: &str = "\
    SELECT seq, sender, recipient, ts_second, ts_nanosecond, kind FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2";
/// The kind of events that are messages.
const MESSAGE: i64 = 0;
const MOMENTS: &str = "\
    SELECT ts_second, ts_nanosecond FROM message
    WHERE (ts_second, ts_nanosecond) >= (?1, ?2) AND (ts_second, ts_nanosecond) <= (?3, ?4)
    ORDER BY ts_second, ts_nanosecond";

/// The name of the messages that something was derived from; changes when one was taken away or changed.
pub(super) type Edition = [u8; 16];

/// Where an entry stands in the index of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NumberKey {
    /// [`ANY`] among the messages to `recipient`.
    pub(super) sender: Number,
    /// [`ANY`] among the messages of `sender`.
    pub(super) recipient: Number,
    pub(super) moment: Moment,
}

impl NumberKey {
    /// Before every entry.
    pub(super) const MIN: Self = Self { sender: ANY, recipient: ANY, moment: Moment::MIN };
    /// After every entry.
    pub(super) const MAX: Self =
        Self { sender: Number(i64::MAX), recipient: Number(i64::MAX), moment: Moment::MAX };
}

/// What the figures need of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) entry: Entry,
    pub(super) sender: Number,
    pub(super) recipient: Number,
}

/// The steps of the index of numbers as of one of its transactions.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    /// The index holds every message up to this one.
    pub(super) upto: i64,
    pub(super) ranks: Arc<Ranks<NumberKey>>,
}

/// How far the figures have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// They are of the snapshot.
    Done,
    /// More messages have arrived.
    More,
    /// They were derived from other messages than are there now.
    Other,
}

/// The figures.
#[derive(Debug)]
pub(super) struct Kept {
    edition: Edition,
    upto: i64,
    senders: HashMap<Number, u64>,
    top: Vec<SenderCount>,
    times: Arc<Ranks<Moment>>,
    /// The index of numbers as it is.
    indexed: Numbers,
    /// As it will be, while it is written.
    expected: Option<Numbers>,
    /// What has arrived since the index of numbers was written, in order.
    recent: Vec<Arrival>,
    step_size: u64,
}

impl Kept {
    /// As they were kept: for all messages up to `numbers.upto`.
    pub(super) fn new(
        edition: Edition,
        senders: HashMap<Number, u64>,
        times: Ranks<Moment>,
        numbers: Numbers,
        step_size: u64,
    ) -> Self {
        let mut top = Vec::with_capacity(TOP_SENDERS + 1);
        for (sender, count) in &senders {
            rank_sender(&mut top, *sender, *count);
        }
        Self {
            edition,
            upto: numbers.upto,
            senders,
            top,
            times: Arc::new(times),
            indexed: numbers,
            expected: None,
            recent: Vec::new(),
            step_size,
        }
    }

    /// Brings the figures towards the snapshot that `conn` reads, over at most `most` events.
    pub(super) fn advance(&mut self, conn: &Connection, most: i64) -> rusqlite::Result<Progress> {
        if edition(conn)? != self.edition || latest(conn)? < self.upto {
            return Ok(Progress::Other);
        }
        let times = Arc::make_mut(&mut self.times);
        let mut arrived = 0;
        let mut statement = conn.prepare_cached(ARRIVED)?;
        let mut rows = statement.query((self.upto, most))?;
        while let Some(row) = rows.next()? {
            self.upto = row.get(0)?;
            arrived += 1;
            if row.get::<_, i64>(5)? != MESSAGE {
                continue;
            }
            let arrival = arrival(row)?;
            times.add(arrival.entry.moment);
            let count = self.senders.entry(arrival.sender).or_default();
            *count += 1;
            rank_sender(&mut self.top, arrival.sender, *count);
            self.recent.push(arrival);
        }
        let latest = latest(conn)?;
        if arrived == most && latest > self.upto {
            return Ok(Progress::More);
        }
        // Events that are gone may have had the last numbers.
        self.upto = latest;
        // Now that the figures are of this very snapshot, its index by time holds the same messages.
        times.cut(self.step_size, |range, each| moments(conn, range, each), Moment::MAX)?;
        Ok(Progress::Done)
    }

    pub(super) fn edition(&self) -> Edition {
        self.edition
    }

    /// The figures are true of every message up to this arrival number.
    pub(super) fn upto(&self) -> i64 {
        self.upto
    }

    /// Whether a message has a sender that is no phone number, or none. Then the senders are not told apart here.
    pub(super) fn has_other_senders(&self) -> bool {
        self.senders.contains_key(&OTHER)
    }

    pub(super) fn total(&self) -> u64 {
        self.times.total()
    }

    pub(super) fn senders(&self) -> usize {
        self.senders.len()
    }

    /// The senders with most messages, the first of them first.
    pub(super) fn top(&self) -> Vec<SenderCount> {
        self.top.clone()
    }

    pub(super) fn times(&self) -> Arc<Ranks<Moment>> {
        Arc::clone(&self.times)
    }

    /// The steps of the index of numbers as of the transaction that brought it up to `upto`.
    pub(super) fn numbers(&self, upto: i64) -> Option<Numbers> {
        std::iter::once(&self.indexed).chain(&self.expected).find(|numbers| numbers.upto == upto).cloned()
    }

    /// The steps of the index of numbers as it is.
    pub(super) fn indexed(&self) -> Numbers {
        self.indexed.clone()
    }

    /// The messages that arrived after `after` and are of `sender` and `recipient`, sorted.
    pub(super) fn recent_of(&self, sender: Number, recipient: Number, after: i64) -> Vec<Entry> {
        let is = |wanted: Number, number| wanted == ANY || wanted == number;
        let mut found: Vec<Entry> = self
            .recent
            .iter()
            .filter(|one| is(sender, one.sender) && is(recipient, one.recipient) && one.entry.seq > after)
            .map(|one| one.entry)
            .collect();
        found.sort_unstable();
        found
    }

    /// What the index of numbers does not hold yet.
    pub(super) fn recent(&self) -> &[Arrival] {
        &self.recent
    }

    /// The index of numbers is about to become `numbers`; either it does, and [`settle`](Self::settle) is told
    /// so, or all of this is thrown away.
    pub(super) fn expect(&mut self, numbers: Numbers) {
        self.expected = Some(numbers);
    }

    /// The index of numbers has become what was expected.
    pub(super) fn settle(&mut self) {
        if let Some(numbers) = self.expected.take() {
            self.recent.retain(|arrival| arrival.entry.seq > numbers.upto);
            self.indexed = numbers;
        }
    }
}

/// The name of the messages that are there now.
pub(super) fn edition(conn: &Connection) -> rusqlite::Result<Edition> {
    conn.prepare_cached(EDITION)?.query_row((), |row| row.get(0))
}

/// The greatest arrival number that was ever given; 0 if there is none.
pub(super) fn latest(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached(LATEST)?.query_row((), |row| row.get(0))
}

fn arrival(row: &Row<'_>) -> rusqlite::Result<Arrival> {
    let number =
        |column| -> rusqlite::Result<Number> { Ok(Number::of_party(row.get_ref(column)?.as_str_or_null()?)) };
    Ok(Arrival {
        entry: Entry { moment: Moment { second: row.get(3)?, nanosecond: row.get(4)? }, seq: row.get(0)? },
        sender: number(1)?,
        recipient: number(2)?,
    })
}

fn moments(
    conn: &Connection,
    range: std::ops::Range<Moment>,
    each: &mut dyn FnMut(Moment),
) -> rusqlite::Result<()> {
    let (from, last) = (range.start, range.end.previous());
    let mut statement = conn.prepare_cached(MOMENTS)?;
    let mut rows = statement.query((from.second, from.nanosecond, last.second, last.nanosecond))?;
    while let Some(row) = rows.next()? {
        each(Moment { second: row.get(0)?, nanosecond: row.get(1)? });
    }
    Ok(())
}

/// Puts a sender, whose count has grown to `count`, into its place among the first.
fn rank_sender(top: &mut Vec<SenderCount>, sender: Number, count: u64) {
    if top.len() == TOP_SENDERS && top.last().is_some_and(|last| count < last.count) {
        return;
    }
    let Some(from) = sender.phone() else { return };
    top.retain(|one| one.from != from);
    let place = top.partition_point(|one| (one.count, &from) > (count, &one.from));
    top.insert(place, SenderCount { from, count });
    top.truncate(TOP_SENDERS);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::store::sqlite::migrate;

    /// Figures of nothing, and a database with five messages.
    fn five() -> (Kept, Connection) {
        let conn = migrate::example(3).unwrap();
        let (times, ranks) = (Ranks::empty(Moment::MIN, 8), Ranks::empty(NumberKey::MIN, 8));
        let numbers = Numbers { upto: 0, ranks: ranks.into() };
        let kept = Kept::new(edition(&conn).unwrap(), HashMap::new(), times, numbers, 8);
        for seq in 1..=5 {
            let sql = "\
                INSERT INTO event (seq, identity, sender, recipient, ts_second, ts_nanosecond, ts_digits)
                VALUES (?1, ?1, '+1', '+2', ?1, 0, 0)";
            conn.execute(sql, [seq]).unwrap();
        }
        (kept, conn)
    }

    #[test]
    fn figures_say_that_more_has_arrived_than_they_were_to_take_in() {
        let (mut kept, conn) = five();
        for (upto, progress) in [(2, Progress::More), (4, Progress::More), (5, Progress::Done)] {
            assert_eq!(kept.advance(&conn, 2).unwrap(), progress);
            assert_eq!(kept.upto(), upto);
        }
    }

    #[test]
    fn what_arrives_while_the_index_is_written_stays_recent() {
        let (mut kept, conn) = five();
        assert_eq!(kept.advance(&conn, 5).unwrap(), Progress::Done);
        kept.expect(Numbers { upto: 3, ..kept.indexed() });
        kept.settle();
        assert_eq!(kept.indexed().upto, 3);
        assert_eq!(kept.recent().iter().map(|arrival| arrival.entry.seq).collect::<Vec<_>>(), [4, 5]);
    }

    proptest! {
        #[test]
        fn the_first_senders_are_those_with_most_messages(messages in vec(0..30_u32, 0..300)) {
            let mut counts: HashMap<Number, u64> = HashMap::new();
            let mut top = Vec::new();
            for sender in messages {
                let sender = Number::of(&format!("+{sender}")).unwrap();
                let count = counts.entry(sender).or_default();
                *count += 1;
                rank_sender(&mut top, sender, *count);
            }
            let mut all: Vec<_> = counts
                .iter()
                .map(|(sender, count)| SenderCount { from: sender.phone().unwrap(), count: *count })
                .collect();
            all.sort_by(|one, other| other.count.cmp(&one.count).then(one.from.cmp(&other.from)));
            all.truncate(TOP_SENDERS);
            prop_assert_eq!(top, all);
        }
    }
}
