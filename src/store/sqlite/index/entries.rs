//! The lists of messages, each sorted by time: that of all messages, and those of a sender, of a recipient, and from one to
//! the other. Each message has an entry in one list of each kind, and in two more unless it is of the built-in source; all entries
//! are keys of one [`Tree`].
//!
//! Messages of one instant are listed by their order keys, which would double the size of an entry. So an entry has none, and
//! who reads sorts the few that share an instant, unless they are a *crowd*: more than 256 in one list. Entries of a crowd have
//! their order keys as ties. An instant is made a crowd when a block with too many of its entries is cut, until when
//! its entries are in two blocks at most, or in a few more where others around them were removed. It stays one until its last
//! entry is removed.

use std::ops::Range;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::key::{self, Entry, List};
use super::tree::{Sizes, Tree};
use crate::message::Moment;
use crate::store::sqlite::party::Party;

const SIZES: Sizes = Sizes { block: 512, span: 256 };
/// With more entries than this at one instant of a list, they are a crowd.
const CROWD: usize = 256;
/// Number of entries that are written before the caller may do other work.
const SLICE: usize = 4096;

const IS_CROWD: &str = "SELECT EXISTS (SELECT 1 FROM crowd WHERE instant = ?1)";
const NEXT_CROWD: &str = "SELECT instant FROM crowd WHERE instant >= ?1 ORDER BY instant LIMIT 1";
const ADD_CROWD: &str = "INSERT INTO crowd (instant) VALUES (?1) ON CONFLICT DO NOTHING";
const REMOVE_CROWD: &str = "DELETE FROM crowd WHERE instant = ?1";
const CROWDS: &str = "SELECT count(*) FROM crowd";

/// A message as the lists know it. Sorts as the list of all messages does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store::sqlite) struct Listed {
    pub(in crate::store::sqlite) moment: Moment,
    /// By which messages of one moment are sorted: `message_id`, U+001F, `source`.
    pub(in crate::store::sqlite) order_key: Arc<str>,
    pub(in crate::store::sqlite) seq: i64,
    pub(in crate::store::sqlite) sender: Party,
    pub(in crate::store::sqlite) recipient: Party,
    /// [`Party::ANY`] for the built-in one.
    pub(in crate::store::sqlite) source: Party,
}

/// A place in a list: before every entry of `moment` whose tie is `order_key` or greater. With an empty order key it is before
/// all entries of the moment. An order key with U+0000 behind it makes the place after the entry with that order key.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::sqlite) struct Bound<'a> {
    pub(in crate::store::sqlite) moment: Moment,
    /// Tells places apart within crowds only: entries of other moments have no tie, which is less than any.
    pub(in crate::store::sqlite) order_key: &'a str,
}

/// The lists in the tables of `entries.sql`. Readers see the snapshot of the connection's transaction.
#[derive(Debug, Clone, Copy)]
pub(in crate::store::sqlite) struct Entries<'conn> {
    conn: &'conn Connection,
    tree: Tree<'conn>,
    /// More entries than this at one instant are a crowd.
    crowd: usize,
    /// Number of entries of a slice.
    slice: usize,
}

/// What reads the order key of a message by its arrival number; none if the message is gone.
type OrderKeyOf<'a> = &'a mut dyn FnMut(i64) -> rusqlite::Result<Option<String>>;

impl<'conn> Entries<'conn> {
    /// The lists that this connection writes or reads.
    pub(in crate::store::sqlite) fn new(conn: &'conn Connection) -> Self {
        Self { conn, tree: Tree::new(conn, SIZES), crowd: CROWD, slice: SLICE }
    }

    /// Adds messages; entries that are there already stay. Asks `between` after each slice of about 4,096 entries whether to go
    /// on; returns whether it always said so. If not, the caller rolls its transaction back.
    pub(in crate::store::sqlite) fn insert(
        &self,
        messages: &[Listed],
        mut order_key_of: impl FnMut(i64) -> rusqlite::Result<Option<String>>,
        mut between: impl FnMut() -> bool,
    ) -> rusqlite::Result<bool> {
        let mut found = LargeInstants { limit: self.crowd, ..LargeInstants::default() };
        for slice in rows(messages).chunks(self.slice) {
            let keys = self.keys(slice, |instant, added, is_crowd| {
                if !is_crowd && added > self.crowd {
                    self.make_crowd(instant, &mut order_key_of, &mut found)?;
                }
                Ok(is_crowd || added > self.crowd)
            })?;
            self.tree.insert(&keys, &mut |key| found.note(key))?;
            while let Some(instant) = found.instants.pop() {
                self.make_crowd(&instant, &mut order_key_of, &mut found)?;
                self.forget_if_empty(&instant)?;
            }
            if !between() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes messages; an entry that is not there is passed over. `between` as in [`insert`](Self::insert).
    pub(in crate::store::sqlite) fn remove(
        &self,
        messages: &[Listed],
        mut between: impl FnMut() -> bool,
    ) -> rusqlite::Result<bool> {
        for slice in rows(messages).chunks(self.slice) {
            let mut crowds = Vec::new();
            let keys = self.keys(slice, |instant, _, is_crowd| {
                if is_crowd {
                    crowds.push(instant.to_vec());
                }
                Ok(is_crowd)
            })?;
            self.tree.remove(&keys)?;
            for instant in crowds {
                self.forget_if_empty(&instant)?;
            }
            if !between() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The sorted keys of rows. `tied` decides for each instant whether its keys have ties, by how many of these rows it has
    /// and whether it is a crowd.
    fn keys(
        &self,
        rows: &[Row<'_>],
        mut tied: impl FnMut(&[u8], usize, bool) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<Vec<Vec<u8>>> {
        let (mut keys, mut instant) = (Vec::with_capacity(rows.len()), Vec::new());
        let mut crowds = Crowds::new(self.conn);
        for rows in rows.chunk_by(|one, other| (one.list, one.moment) == (other.list, other.moment)) {
            let Some(Row { list, moment, .. }) = rows.first() else { continue };
            instant.clear();
            key::push_instant(*list, *moment, &mut instant);
            let is_tied = tied(&instant, rows.len(), crowds.has(&instant)?)?;
            let sorted = keys.len();
            keys.extend(
                rows.iter().map(|row| key_of(&instant, if is_tied { row.order_key } else { "" }, row.seq)),
            );
            if let Some(tied) = keys.get_mut(sorted..).filter(|_| is_tied) {
                tied.sort_unstable();
            }
        }
        Ok(keys)
    }

    /// Gives the entries of an instant their ties. Those of messages that are gone are left out.
    fn make_crowd(
        &self,
        instant: &[u8],
        order_key_of: OrderKeyOf<'_>,
        found: &mut LargeInstants,
    ) -> rusqlite::Result<()> {
        let (mut untied, mut tied) = (Vec::new(), Vec::new());
        self.tree.ascending(instant, &end_of(instant), &mut |key| {
            let entry = key::decode(key)?;
            if entry.tie.is_empty() {
                untied.push(key.to_vec());
                let order_key = order_key_of(entry.seq)?;
                tied.extend(order_key.map(|order_key| key_of(instant, &order_key, entry.seq)));
            }
            Ok(entry.tie.is_empty())
        })?;
        tied.sort_unstable();
        self.conn.prepare_cached(ADD_CROWD)?.execute([instant])?;
        self.tree.remove(&untied)?;
        self.tree.insert(&tied, &mut |key| found.note(key))
    }

    /// Makes an instant without entries no crowd.
    fn forget_if_empty(&self, instant: &[u8]) -> rusqlite::Result<()> {
        if !self.tree.has_any(instant)? {
            self.conn.prepare_cached(REMOVE_CROWD)?.execute([instant])?;
        }
        Ok(())
    }

    /// Whether the entries of a moment have their order keys as ties, and are sorted by them.
    pub(in crate::store::sqlite) fn is_crowd(&self, list: List, moment: Moment) -> rusqlite::Result<bool> {
        self.conn.prepare_cached(IS_CROWD)?.query_row([instant(list, moment)], |row| row.get(0))
    }

    /// The arrival numbers of the messages of a moment that is no crowd, in order of arrival: a few thousand at most.
    pub(in crate::store::sqlite) fn at(&self, list: List, moment: Moment) -> rusqlite::Result<Vec<i64>> {
        let (mut seqs, instant) = (Vec::new(), instant(list, moment));
        self.tree.ascending(&instant, &end_of(&instant), &mut |key| {
            seqs.push(key::decode(key)?.seq);
            Ok(true)
        })?;
        Ok(seqs)
    }

    /// How many entries, of this list and of those before it, come before a place.
    pub(in crate::store::sqlite) fn rank(&self, list: List, place: Bound<'_>) -> rusqlite::Result<u64> {
        self.tree.rank(&place.key(list))
    }

    /// How many entries come before those of a list, and how many up to its end.
    pub(in crate::store::sqlite) fn ranks(&self, list: List) -> rusqlite::Result<Range<u64>> {
        let start = self.rank(list, Bound::at(Moment::MIN))?;
        Ok(start..self.rank(list, Bound::at(Moment::MAX))?.max(start))
    }

    /// Whether a list has an entry.
    pub(in crate::store::sqlite) fn has_any(&self, list: List) -> rusqlite::Result<bool> {
        let mut key = Vec::new();
        key::push_list(list, &mut key);
        self.tree.has_any(&key)
    }

    /// The entry with so many before it, of its list and of those before that; none if there are not so many.
    pub(in crate::store::sqlite) fn select(&self, rank: u64) -> rusqlite::Result<Option<Entry>> {
        self.tree.select(rank)?.map(|key| key::decode(&key)).transpose()
    }

    /// Hands over the entries of a list between two places in order, while `each` says to go on.
    pub(in crate::store::sqlite) fn ascending(
        &self,
        list: List,
        places: Range<Bound<'_>>,
        each: &mut dyn FnMut(Entry) -> rusqlite::Result<bool>,
    ) -> rusqlite::Result<()> {
        let (from, until) = (places.start.key(list), places.end.key(list));
        self.tree.ascending(&from, &until, &mut |key| each(key::decode(key)?))
    }

    /// Hands over all entries in order, and returns whether their counts are right, and whether those of crowds and no others
    /// have ties. An error if an entry or a count cannot be read.
    pub(in crate::store::sqlite) fn check(
        &self,
        each: &mut dyn FnMut(Entry) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<bool> {
        let (mut crowds, mut seen, mut ties_are_right) = (Crowds::new(self.conn), 0_u64, true);
        let mut last = None;
        let counts_are_right = self.tree.check(&mut |key| {
            let entry = key::decode(key)?;
            let is_crowd = crowds.has(&instant(entry.list, entry.moment))?;
            let here = is_crowd.then_some((entry.list, entry.moment));
            seen += u64::from(is_crowd && last != here);
            last = here;
            ties_are_right &= is_crowd != entry.tie.is_empty();
            each(entry)
        })?;
        let all: u64 = self.conn.query_row(CROWDS, (), |row| row.get(0))?;
        Ok(counts_are_right && ties_are_right && seen == all)
    }
}

impl Bound<'_> {
    /// Before all entries of a moment.
    pub(in crate::store::sqlite) fn at(moment: Moment) -> Self {
        Self { moment, order_key: "" }
    }

    fn key(&self, list: List) -> Vec<u8> {
        let mut key = instant(list, self.moment);
        if !self.order_key.is_empty() {
            key::push_tie(self.order_key, &mut key);
        }
        key
    }
}

/// An entry that is to be added or removed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row<'a> {
    list: List,
    moment: Moment,
    seq: i64,
    order_key: &'a str,
}

/// The entries of messages, sorted.
fn rows(messages: &[Listed]) -> Vec<Row<'_>> {
    let mut rows = Vec::with_capacity(4 * messages.len());
    for Listed { moment, order_key, seq, sender, recipient, source } in messages {
        let lists = List::of(*sender, *recipient, *source);
        rows.extend(lists.map(|list| Row { list, moment: *moment, seq: *seq, order_key }));
    }
    rows.sort_unstable();
    rows
}

fn key_of(instant: &[u8], tie: &str, seq: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(instant.len() + tie.len() + 12);
    key.extend_from_slice(instant);
    key::push_rest(tie, seq, &mut key);
    key
}

fn instant(list: List, moment: Moment) -> Vec<u8> {
    let mut instant = Vec::new();
    key::push_instant(list, moment, &mut instant);
    instant
}

/// Greater than the keys of an instant, and less than all keys after them.
fn end_of(instant: &[u8]) -> Vec<u8> {
    [instant, key::END].concat()
}

/// The table of crowds, read on along instants that are asked about in order.
struct Crowds<'conn> {
    conn: &'conn Connection,
    /// The least crowd from the instant on that was asked about last.
    next: Vec<u8>,
}

impl<'conn> Crowds<'conn> {
    fn new(conn: &'conn Connection) -> Self {
        Self { conn, next: Vec::new() }
    }

    fn has(&mut self, instant: &[u8]) -> rusqlite::Result<bool> {
        if *self.next < *instant {
            let mut next = self.conn.prepare_cached(NEXT_CROWD)?;
            let next = next.query_row([instant], |row| row.get(0)).optional()?;
            self.next = next.unwrap_or_else(|| key::END.to_vec());
        }
        Ok(self.next == instant)
    }
}

/// Finds instants with more entries without ties than there should be, among keys that come in order. Keys that come twice
/// count twice: to make a smaller crowd does no harm.
#[derive(Debug, Default)]
struct LargeInstants {
    limit: usize,
    instants: Vec<Vec<u8>>,
    /// The instant of the last key, and how many keys of it have come.
    last: Vec<u8>,
    entries: usize,
}

impl LargeInstants {
    fn note(&mut self, key: &[u8]) {
        let instant = key::untied_instant(key).unwrap_or_default();
        if *instant != *self.last {
            instant.clone_into(&mut self.last);
            self.entries = 0;
        }
        self.entries += 1;
        if self.entries == self.limit + 1 && !instant.is_empty() {
            self.instants.push(instant.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::store::matches::to_u64;

    /// Small, so that a few messages are a crowd.
    const CROWD: usize = 4;
    const SIZES: Sizes = Sizes { block: 8, span: 3 };
    /// What an instant that is no crowd may have while nothing is removed: as many as two blocks that are not cut.
    const UNTIED_MAX: usize = 2 * 2 * 8;

    /// The messages by arrival number: what `app.db` has.
    type Messages = BTreeMap<i64, Listed>;

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("entries.sql")).unwrap();
        conn
    }

    fn entries(conn: &Connection) -> Entries<'_> {
        Entries { conn, tree: Tree::new(conn, SIZES), crowd: CROWD, slice: 16 }
    }

    fn listed(seq: i64, second: i64, id: &str, sender: i64, recipient: i64) -> Listed {
        let moment = Moment { second, nanosecond: 0 };
        let order_key = format!("{id}\u{1f}webhook").into();
        let source = Party::ANY;
        Listed { moment, order_key, seq, sender: Party(sender), recipient: Party(recipient), source }
    }

    fn insert(entries: &Entries<'_>, stored: &Messages, added: &[Listed]) {
        let order_key_of = |seq| Ok(stored.get(&seq).map(|message| message.order_key.to_string()));
        assert!(entries.insert(added, order_key_of, || true).unwrap());
    }

    fn moments() -> impl Strategy<Value = Moment> {
        let second = select(vec![-62_167_219_200, -1, 0, 1_760_000_000, 253_402_300_799]);
        (second, select(vec![0, 0, 0, 1, 999_999_999]))
            .prop_map(|(second, nanosecond)| Moment { second, nanosecond })
    }

    /// Phone numbers, names, which are numbers above these, and one that has no sender or recipient.
    fn parties() -> impl Strategy<Value = Party> {
        select(vec![1, 2, 1_111_111_111_111_111, 1_111_111_111_111_112]).prop_map(Party)
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Messages of these, each with an id of its own, are stored and added.
        Add(Vec<(Moment, Party, Party)>),
        /// Removes one in so many of the messages.
        Remove(usize),
        /// Messages are no longer stored when the lists still have them.
        Lose(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let messages = |range| vec((moments(), parties(), parties()), range).prop_map(Step::Add);
        let step = prop_oneof![
            4 => messages(0..6),
            2 => messages(0..60),
            2 => (1..6_usize).prop_map(Step::Remove),
            1 => (2..6_usize).prop_map(Step::Lose),
        ];
        vec(step, 0..20)
    }

    /// Takes one in so many of the messages away.
    fn take(messages: &mut Messages, one_in: usize) -> Vec<Listed> {
        let taken: Vec<Listed> = messages.values().step_by(one_in).cloned().collect();
        messages.retain(|_, message| !taken.contains(message));
        taken
    }

    /// The messages of each list in its order.
    fn lists(messages: &Messages) -> BTreeMap<List, Vec<Listed>> {
        let mut lists: BTreeMap<List, BTreeSet<Listed>> = BTreeMap::new();
        for message in messages.values() {
            for list in List::of(message.sender, message.recipient, message.source) {
                lists.entry(list).or_default().insert(message.clone());
            }
        }
        lists.into_iter().map(|(list, messages)| (list, messages.into_iter().collect())).collect()
    }

    fn whole() -> Range<Bound<'static>> {
        Bound::at(Moment::MIN)..Bound::at(Moment::MAX)
    }

    fn read(entries: &Entries<'_>, list: List, places: Range<Bound<'_>>) -> Vec<Entry> {
        let mut read = Vec::new();
        let mut each = |entry| {
            read.push(entry);
            Ok(true)
        };
        entries.ascending(list, places, &mut each).unwrap();
        read
    }

    fn assert_list(entries: &Entries<'_>, list: List, messages: &[Listed]) {
        let first = entries.rank(list, Bound::at(Moment::MIN)).unwrap();
        assert_eq!(entries.rank(list, Bound::at(Moment::MAX)).unwrap() - first, to_u64(messages.len()));
        let all = read(entries, list, whole());
        for (rank, entry) in (first..).zip(&all) {
            assert_eq!(entries.select(rank).unwrap().as_ref(), Some(entry));
        }
        let mut rank = first;
        for instant in messages.chunk_by(|one, other| one.moment == other.moment) {
            let moment = instant[0].moment;
            let seqs = || instant.iter().map(|message| message.seq);
            assert_eq!(entries.rank(list, Bound::at(moment)).unwrap(), rank);
            let read = read(entries, list, Bound::at(moment)..Bound::at(moment.next()));
            if entries.is_crowd(list, moment).unwrap() {
                assert!(read.iter().map(|entry| entry.seq).eq(seqs()), "a crowd is sorted");
                for (n, Listed { order_key, .. }) in (0..).zip(instant) {
                    let after = format!("{order_key}\0");
                    for (order_key, before) in [(&**order_key, n), (&*after, n + 1)] {
                        let place = Bound { moment, order_key };
                        assert_eq!(entries.rank(list, place).unwrap(), rank + before);
                    }
                }
            } else {
                let at = entries.at(list, moment).unwrap();
                assert!(at.into_iter().eq(seqs().collect::<BTreeSet<_>>()));
                assert!(read.iter().all(|entry| entry.tie.is_empty()));
            }
            rank += to_u64(instant.len());
        }
    }

    fn assert_agrees(entries: &Entries<'_>, messages: &Messages) {
        let lists = lists(messages);
        let mut checked = 0;
        let agrees = entries.check(&mut |entry| {
            checked += 1;
            assert!(lists[&entry.list].iter().any(|message| message.seq == entry.seq));
            Ok(())
        });
        assert!(agrees.unwrap(), "counts and ties are right");
        assert_eq!(checked, lists.values().map(Vec::len).sum::<usize>());
        for (list, messages) in &lists {
            assert_list(entries, *list, messages);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn lists_agree_with_sorted_messages(steps in steps(), ids in any::<u64>()) {
            let conn = database();
            let entries = entries(&conn);
            let (mut stored, mut seq) = (Messages::new(), 0_i64);
            let mut lost = Vec::new();
            for step in steps {
                match step {
                    Step::Add(messages) => {
                        let added: Vec<Listed> = messages.into_iter().map(|(moment, sender, recipient)| {
                            seq += 1;
                            let id = ids.wrapping_mul(seq.cast_unsigned()).rotate_left(7);
                            let order_key = format!("{id:x}-{seq}\u{1f}webhook").into();
                            let source = [Party::ANY, Party(Party::OTHER_SOURCE.0 + 1 + seq % 3)][usize::from(seq % 2 == 0)];
                            Listed { moment, order_key, seq, sender, recipient, source }
                        }).collect();
                        stored.extend(added.iter().map(|message| (message.seq, message.clone())));
                        insert(&entries, &stored, &added);
                    }
                    Step::Remove(one_in) => {
                        let removed = take(&mut stored, one_in);
                        prop_assert!(entries.remove(&removed, || true).unwrap());
                    }
                    Step::Lose(one_in) => lost.extend(take(&mut stored, one_in)),
                }
                prop_assert!(entries.check(&mut |_| Ok(())).unwrap());
            }
            // What was lost may still be in the lists, unless a crowd was made meanwhile.
            entries.remove(&std::mem::take(&mut lost), || true).unwrap();
            assert_agrees(&entries, &stored);
            lost.extend(take(&mut stored, 1));
            entries.remove(&lost, || true).unwrap();
            assert_agrees(&entries, &Messages::new());
            let crowds: u64 = conn.query_row(super::CROWDS, (), |row| row.get(0)).unwrap();
            prop_assert_eq!(crowds, 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn an_instant_that_is_no_crowd_has_few_messages(
            batches in vec(vec((moments(), parties(), parties()), 0..20), 0..30)
        ) {
            let conn = database();
            let entries = entries(&conn);
            let (mut stored, mut seq) = (Messages::new(), 0);
            for batch in batches {
                let added: Vec<Listed> = batch.into_iter().map(|(moment, sender, recipient)| {
                    seq += 1;
                    let source = Party::ANY;
                    Listed { moment, order_key: format!("{seq}").into(), seq, sender, recipient, source }
                }).collect();
                stored.extend(added.iter().map(|message| (message.seq, message.clone())));
                insert(&entries, &stored, &added);
                for (list, messages) in lists(&stored) {
                    for instant in messages.chunk_by(|one, other| one.moment == other.moment) {
                        let is_crowd = entries.is_crowd(list, instant[0].moment).unwrap();
                        prop_assert!(is_crowd || instant.len() <= UNTIED_MAX, "{} are no crowd", instant.len());
                    }
                }
            }
        }
    }

    /// Messages of one second in an order that is not that of their ids.
    fn of_one_second(seqs: Range<i64>) -> Vec<Listed> {
        seqs.map(|seq| listed(seq, 7, &format!("{}", 999 - seq * 7 % 100), seq, 5)).collect()
    }

    fn stored(messages: &[Listed]) -> Messages {
        messages.iter().map(|message| (message.seq, message.clone())).collect()
    }

    const ALL: List = List::ALL;
    const SECOND: Moment = Moment { second: 7, nanosecond: 0 };

    #[test]
    fn an_instant_becomes_a_crowd_by_one_batch_or_by_many() {
        let messages = of_one_second(1..60);
        let stored = stored(&messages);
        for batch in [1, 3, 59] {
            let conn = database();
            let entries = entries(&conn);
            messages.chunks(batch).for_each(|batch| insert(&entries, &stored, batch));
            assert!(entries.is_crowd(ALL, SECOND).unwrap(), "by batches of {batch}");
            let by_recipient = List { sender: Party::ANY, recipient: Party(5) };
            assert!(entries.is_crowd(by_recipient, SECOND).unwrap());
            assert!(!entries.is_crowd(List { sender: Party(5), recipient: Party::ANY }, SECOND).unwrap());
            assert_agrees(&entries, &stored);
        }
    }

    #[test]
    fn a_batch_that_is_a_crowd_needs_no_order_keys_but_its_own() {
        let conn = database();
        let no_order_key = |seq| panic!("the order key of {seq} is asked for");
        assert!(entries(&conn).insert(&of_one_second(1..60), no_order_key, || true).unwrap());
        assert!(entries(&conn).is_crowd(ALL, SECOND).unwrap());
    }

    #[test]
    fn a_message_that_is_gone_when_its_instant_becomes_a_crowd_is_left_out() {
        let messages = of_one_second(1..60);
        let (early, late) = messages.split_at(4);
        let mut stored = stored(&messages);
        let conn = database();
        insert(&entries(&conn), &stored, early);
        stored.remove(&2);
        insert(&entries(&conn), &stored, late);
        let seqs = || read(&entries(&conn), ALL, whole()).into_iter().map(|entry| entry.seq);
        assert!(!seqs().any(|seq| seq == 2));
        assert_eq!(seqs().count(), 58);
        assert!(entries(&conn).remove(&early[1..2], || true).unwrap(), "its removal is carried out later");
        let of_sender = List { sender: Party(2), recipient: Party::ANY };
        assert_eq!(read(&entries(&conn), of_sender, whole()), []);
        assert_agrees(&entries(&conn), &stored);
    }

    #[test]
    fn an_instant_of_which_all_messages_are_gone_becomes_no_crowd() {
        let conn = database();
        for batch in of_one_second(1..60).chunks(CROWD) {
            assert!(entries(&conn).insert(batch, |_| Ok(None), || true).unwrap());
            assert!(entries(&conn).check(&mut |_| Ok(())).unwrap());
        }
        assert!(entries(&conn).rank(ALL, Bound::at(Moment::MAX)).unwrap() < 59, "a block was cut");
    }

    #[test]
    fn what_is_added_twice_or_removed_twice_counts_once() {
        let messages: Vec<_> = of_one_second(1..60).into_iter().chain([listed(60, 8, "a", 1, 2)]).collect();
        let (early, _) = messages.split_at(4);
        let conn = database();
        for added in [early, early, &messages, &messages] {
            insert(&entries(&conn), &stored(&messages), added);
        }
        assert_agrees(&entries(&conn), &stored(&messages));
        for _ in 0..2 {
            assert!(entries(&conn).remove(early, || true).unwrap());
        }
        assert_agrees(&entries(&conn), &stored(&messages[4..]));
    }

    #[test]
    fn it_stops_between_two_slices_when_it_is_told() {
        let messages: Vec<_> = (1..60).map(|seq| listed(seq, seq, "a", seq, 5)).collect();
        let conn = database();
        let stop_after = |mut slices: usize| {
            move || {
                slices -= 1;
                slices > 0
            }
        };
        assert!(!entries(&conn).insert(&messages, |_| Ok(None), stop_after(2)).unwrap());
        let added = entries(&conn).tree.rank(key::END).unwrap();
        assert!(added > 0 && added < 4 * 59, "{added}");
        insert(&entries(&conn), &stored(&messages), &messages);
        assert!(!entries(&conn).remove(&messages, stop_after(2)).unwrap());
        assert_eq!(entries(&conn).tree.rank(key::END).unwrap(), 4 * 59 - added);
    }

    #[test]
    fn ties_that_are_missing_or_too_many_are_noticed() {
        for damage in [
            "DELETE FROM crowd",
            // The beginning of the last key, which is an instant with a single entry.
            "INSERT INTO crowd SELECT substr(max(key), 1, 10) FROM entry",
            "INSERT INTO crowd VALUES (x'ff00')",
        ] {
            let conn = database();
            let messages = of_one_second(1..60);
            insert(&entries(&conn), &stored(&messages), &messages);
            conn.execute_batch(damage).unwrap();
            assert!(!entries(&conn).check(&mut |_| Ok(())).unwrap(), "{damage}");
        }
    }
}
