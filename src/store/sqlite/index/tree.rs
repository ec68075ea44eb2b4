//! An ordered set of byte strings, the keys, that knows how many come before any place.
//!
//! The sorted keys are cut into blocks of about 512, and the blocks into spans of about 256. Of a block its first place and
//! the number of its keys are kept, of a span their sum. So a rank is a sum over spans, a sum over the blocks of one span,
//! and a count inside one block. A span is one row with all its blocks in it: a change of many keys writes the row once,
//! and all counts belong to the same transaction as the keys.

use rusqlite::{Connection, OptionalExtension};

use super::damaged;
use super::key::{push_number, take_number};
use crate::store::matches::{to_u64, to_usize};

const ADD: &str = "INSERT INTO entry (key) VALUES (?1) ON CONFLICT DO NOTHING";
const REMOVE: &str = "DELETE FROM entry WHERE key = ?1";
const FROM: &str = "SELECT key FROM entry WHERE key >= ?1 ORDER BY key";
const NTH: &str = "SELECT key FROM entry WHERE key >= ?1 ORDER BY key LIMIT 1 OFFSET ?2";
const COUNT: &str = "SELECT count(*) FROM entry WHERE key >= ?1 AND key < ?2";

const SPAN_OF: &str = "\
    SELECT first, blocks, entries FROM span WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
const NEXT_SPAN: &str = "SELECT first FROM span WHERE first > ?1 ORDER BY first LIMIT 1";
const SPANS: &str = "SELECT first, entries FROM span ORDER BY first";
const ENTRIES_BEFORE: &str = "SELECT coalesce(sum(entries), 0) FROM span WHERE first < ?1";
const ADD_SPAN: &str = "INSERT INTO span (first, entries, blocks) VALUES (?1, ?2, ?3)";
const REMOVE_SPAN: &str = "DELETE FROM span WHERE first = ?1";

/// The keys in the tables `entry` and `span` of a connection. Readers see the snapshot of its transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree<'conn> {
    conn: &'conn Connection,
    sizes: Sizes,
}

/// What is done with a key; returns whether to go on to the next one.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8]) -> rusqlite::Result<bool>;

/// How large the parts of a [`Tree`] are. A part that has grown past twice its size is cut into parts of about that size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Keys of a block.
    pub(super) block: u64,
    /// Blocks of a span.
    pub(super) span: usize,
}

/// A block while it is being changed. It has the keys from `first` on that are less than the first one of the next block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Block {
    /// What a key of the block begins with, but for the first block of all, which begins with nothing.
    first: Vec<u8>,
    entries: u64,
    /// A key that begins with `first` was removed, and perhaps no other one does.
    lost_first: bool,
}

impl<'conn> Tree<'conn> {
    pub(super) fn new(conn: &'conn Connection, sizes: Sizes) -> Self {
        Self { conn, sizes }
    }

    /// How many keys are less than `key`.
    pub(super) fn rank(&self, key: &[u8]) -> rusqlite::Result<u64> {
        let found = self.conn.prepare_cached(SPAN_OF)?.query_row([key], |row| {
            let (mut before, mut first, mut entries) = (0, &[][..], 0_u64);
            for block in unpack(row.get_ref(1)?.as_blob()?) {
                let (next, entries_of_next) = block?;
                if next > key {
                    break;
                }
                before += entries;
                (first, entries) = (next, entries_of_next);
            }
            Ok((row.get::<_, Vec<u8>>(0)?, before, first.to_vec()))
        });
        let Some((span, before, block)) = found.optional()? else { return Ok(0) };
        let spans: u64 = self.conn.prepare_cached(ENTRIES_BEFORE)?.query_row([span], |row| row.get(0))?;
        let inside: u64 = self.conn.prepare_cached(COUNT)?.query_row((block, key), |row| row.get(0))?;
        Ok(spans + before + inside)
    }

    /// The key with so many before it; none if there are not so many.
    pub(super) fn select(&self, rank: u64) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut left = rank;
        let mut statement = self.conn.prepare_cached(SPANS)?;
        let mut spans = statement.query(())?;
        while let Some(span) = spans.next()? {
            let entries: u64 = span.get(1)?;
            if left < entries {
                return self.select_within(span.get_ref(0)?.as_blob()?, left).map(Some);
            }
            left -= entries;
        }
        Ok(None)
    }

    /// The key with so many before it in a span, which has more.
    fn select_within(&self, span: &[u8], rank: u64) -> rusqlite::Result<Vec<u8>> {
        let place = self.conn.prepare_cached(SPAN_OF)?.query_row([span], |row| {
            let mut left = rank;
            for block in unpack(row.get_ref(1)?.as_blob()?) {
                let (first, entries) = block?;
                if left < entries {
                    return Ok(Some((first.to_vec(), left)));
                }
                left -= entries;
            }
            Ok(None)
        })?;
        let found = self.conn.prepare_cached(NTH)?.query_row(place.ok_or_else(damaged)?, |row| row.get(0));
        found.optional()?.ok_or_else(damaged)
    }

    /// Hands over the keys from `from` on that are less than `until`, in order.
    pub(super) fn ascending(&self, from: &[u8], until: &[u8], each: Each<'_>) -> rusqlite::Result<()> {
        self.walk(FROM, from, &mut |key| Ok(key < until && each(key)?))
    }

    fn walk(&self, sql: &str, start: &[u8], each: Each<'_>) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query([start])?;
        while let Some(row) = rows.next()? {
            if !each(row.get_ref(0)?.as_blob()?)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the tree has a key that begins with `bytes`.
    pub(super) fn has_any(&self, bytes: &[u8]) -> rusqlite::Result<bool> {
        Ok(self.least(bytes)?.is_some_and(|key| key.starts_with(bytes)))
    }

    /// The least key from `from` on.
    fn least(&self, from: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
        self.conn.prepare_cached(NTH)?.query_row((from, 0), |row| row.get(0)).optional()
    }

    /// Adds keys, which are sorted; one that is there already stays. Hands over, in order, all keys of each block that is cut.
    pub(super) fn insert(
        &self,
        keys: &[Vec<u8>],
        of_cut_block: &mut dyn FnMut(&[u8]),
    ) -> rusqlite::Result<()> {
        self.change(keys, ADD, of_cut_block, |block, _| {
            block.entries += 1;
            Ok(())
        })
    }

    /// Removes keys, which are sorted; one that is not there is passed over. Nothing that could only be known from them
    /// stays in the counts.
    pub(super) fn remove(&self, keys: &[Vec<u8>]) -> rusqlite::Result<()> {
        self.change(keys, REMOVE, &mut |_| (), |block, key| {
            block.entries = block.entries.checked_sub(1).ok_or_else(damaged)?;
            block.lost_first |= key.starts_with(&block.first);
            Ok(())
        })
    }

    /// Carries out a statement for each key, and `note`s the keys that it changed in their blocks.
    fn change(
        &self,
        keys: &[Vec<u8>],
        sql: &str,
        of_cut_block: &mut dyn FnMut(&[u8]),
        note: impl Fn(&mut Block, &[u8]) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut keys = keys.iter().peekable();
        while let Some(key) = keys.peek() {
            let (span, mut blocks) = self.span_of(key)?;
            let end = self.next_span(&span)?;
            let (mut at, mut has_changed) = (0, false);
            while let Some(key) = keys.next_if(|key| end.as_ref().is_none_or(|end| *key < end)) {
                while blocks.get(at + 1).is_some_and(|next| next.first <= *key) {
                    at += 1;
                }
                if statement.execute([key])? > 0 {
                    note(blocks.get_mut(at).ok_or_else(damaged)?, key)?;
                    has_changed = true;
                }
            }
            if has_changed {
                self.store(&span, &self.tidy(blocks, span.is_empty(), of_cut_block)?)?;
            }
        }
        Ok(())
    }

    /// The span that a key belongs to: the first place in it, and its blocks. In an empty tree one empty block.
    fn span_of(&self, key: &[u8]) -> rusqlite::Result<(Vec<u8>, Vec<Block>)> {
        let found = self.conn.prepare_cached(SPAN_OF)?.query_row([key], |row| {
            let blocks = unpack(row.get_ref(1)?.as_blob()?).map(|block| {
                let (first, entries) = block?;
                Ok(Block { first: first.to_vec(), entries, lost_first: false })
            });
            let (first, blocks) = (row.get(0)?, blocks.collect::<rusqlite::Result<Vec<Block>>>()?);
            if entries(&blocks) == row.get::<_, u64>(2)? { Ok((first, blocks)) } else { Err(damaged()) }
        });
        Ok(found.optional()?.unwrap_or_else(|| (Vec::new(), vec![Block::default()])))
    }

    fn next_span(&self, span: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
        self.conn.prepare_cached(NEXT_SPAN)?.query_row([span], |row| row.get(0)).optional()
    }

    /// Cuts blocks that have grown too large, puts small ones together, and leaves out empty ones: their places belong to the
    /// block before. `is_least`: these are the blocks of the first span of all.
    fn tidy(
        &self,
        blocks: Vec<Block>,
        is_least: bool,
        of_cut_block: &mut dyn FnMut(&[u8]),
    ) -> rusqlite::Result<Vec<Block>> {
        let mut tidy: Vec<Block> = Vec::with_capacity(blocks.len() + 1);
        for mut block in blocks.into_iter().filter(|block| block.entries > 0) {
            if block.lost_first {
                self.find_first(&mut block)?;
            }
            match tidy.last_mut() {
                Some(last) if last.entries + block.entries <= self.sizes.block / 2 => {
                    last.entries += block.entries;
                }
                _ if block.entries > 2 * self.sizes.block => self.cut(&block, &mut tidy, of_cut_block)?,
                _ => tidy.push(block),
            }
        }
        match tidy.first_mut() {
            Some(least) if is_least => least.first.clear(),
            None if is_least => tidy.push(Block::default()),
            _ => {}
        }
        Ok(tidy)
    }

    /// Makes a block, which is not empty, begin with what one of its keys begins with.
    fn find_first(&self, block: &mut Block) -> rusqlite::Result<()> {
        let least = self.least(&block.first)?.ok_or_else(damaged)?;
        if !least.starts_with(&block.first) {
            block.first = separator(&block.first, &least).to_vec();
        }
        Ok(())
    }

    /// Cuts a block into equal pieces and appends these.
    fn cut(
        &self,
        block: &Block,
        pieces: &mut Vec<Block>,
        each: &mut dyn FnMut(&[u8]),
    ) -> rusqlite::Result<()> {
        let size = block.entries.div_ceil(block.entries / self.sizes.block);
        let (mut seen, mut previous) = (0, Vec::new());
        let mut piece = Block { first: block.first.clone(), ..Block::default() };
        self.walk(FROM, &block.first, &mut |key| {
            each(key);
            if piece.entries == size {
                let first = separator(&previous, key).to_vec();
                pieces.push(std::mem::replace(&mut piece, Block { first, ..Block::default() }));
            }
            (piece.entries, seen) = (piece.entries + 1, seen + 1);
            if piece.entries == size {
                key.clone_into(&mut previous);
            }
            Ok(seen < block.entries)
        })?;
        pieces.push(piece);
        if seen == block.entries { Ok(()) } else { Err(damaged()) }
    }

    /// Writes blocks in place of a span, as one span or several.
    fn store(&self, span: &[u8], blocks: &[Block]) -> rusqlite::Result<()> {
        self.conn.prepare_cached(REMOVE_SPAN)?.execute([span])?;
        let spans = if blocks.len() > 2 * self.sizes.span { blocks.len() / self.sizes.span } else { 1 };
        let mut add = self.conn.prepare_cached(ADD_SPAN)?;
        for span in blocks.chunks(blocks.len().div_ceil(spans).max(1)) {
            let Some(Block { first, .. }) = span.first() else { continue };
            add.execute((first, entries(span), pack(span)))?;
        }
        Ok(())
    }

    /// Hands over all keys in order, and returns whether the spans and blocks belong to them: whether each begins where it
    /// should and has as many keys as it says.
    pub(super) fn check(
        &self,
        each: &mut dyn FnMut(&[u8]) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<bool> {
        let (mut span, mut blocks) = self.span_of(&[])?;
        let mut agrees = true;
        loop {
            let next = self.next_span(&span)?;
            let ends = blocks.iter().skip(1).map(|block| Some(&block.first)).chain([next.as_ref()]);
            agrees &= blocks.first().is_some_and(|block| block.first == span);
            for (block, end) in blocks.iter().zip(ends) {
                let mut entries = 0;
                self.walk(FROM, &block.first, &mut |key| {
                    let is_inside = end.is_none_or(|end| key < &**end);
                    entries += u64::from(is_inside);
                    Ok(is_inside && each(key).map(|()| true)?)
                })?;
                agrees &= entries == block.entries && end.is_none_or(|end| block.first < *end);
            }
            let Some(next) = next else { return Ok(agrees) };
            (span, blocks) = self.span_of(&next)?;
        }
    }
}

/// The least beginning of `key` that is greater than `before`, which is less than `key`.
fn separator<'key>(before: &[u8], key: &'key [u8]) -> &'key [u8] {
    let shared = before.iter().zip(key).take_while(|(one, other)| one == other).count();
    key.get(..=shared).unwrap_or(key)
}

fn entries(blocks: &[Block]) -> u64 {
    blocks.iter().map(|block| block.entries).sum()
}

/// The blocks of a span as its row holds them.
fn pack(blocks: &[Block]) -> Vec<u8> {
    let mut packed = Vec::new();
    for Block { first, entries, .. } in blocks {
        push_number(to_u64(first.len()), &mut packed);
        packed.extend_from_slice(first);
        push_number(*entries, &mut packed);
    }
    packed
}

/// The reverse of [`pack`]: the first place in each block, and its entries.
fn unpack(mut packed: &[u8]) -> impl Iterator<Item = rusqlite::Result<(&[u8], u64)>> {
    std::iter::from_fn(move || (!packed.is_empty()).then(|| take_block(&mut packed).ok_or_else(damaged)))
}

fn take_block<'packed>(packed: &mut &'packed [u8]) -> Option<(&'packed [u8], u64)> {
    let length = take_number(packed)?;
    let (first, rest) = packed.split_at_checked(to_usize(length))?;
    *packed = rest;
    // Far less than what makes a sum of them overflow.
    let entries = u32::try_from(take_number(packed)?).ok()?;
    Some((first, entries.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound::{Excluded, Unbounded};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const SMALL: Sizes = Sizes { block: 4, span: 3 };

    #[derive(Debug, Clone)]
    enum Change {
        Insert(Vec<Vec<u8>>),
        Remove(Vec<Vec<u8>>),
        /// Of all keys that begin with it.
        RemoveAll(Vec<u8>),
    }

    /// Many of them are there already, or begin with others.
    fn a_key() -> impl Strategy<Value = Vec<u8>> {
        vec(select(vec![0, 1, 2, 0x80, 0xff]), 0..5)
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            3 => vec(a_key(), 0..100).prop_map(Change::Insert),
            1 => vec(a_key(), 0..100).prop_map(Change::Remove),
            1 => a_key().prop_map(Change::RemoveAll),
        ];
        vec(change, 0..12)
    }

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("entries.sql")).unwrap();
        conn
    }

    fn apply(tree: &Tree<'_>, keys: &mut BTreeSet<Vec<u8>>, change: Change) {
        match change {
            Change::Insert(mut added) => {
                added.sort_unstable();
                tree.insert(&added, &mut |_| ()).unwrap();
                keys.extend(added);
            }
            Change::Remove(mut removed) => {
                removed.sort_unstable();
                tree.remove(&removed).unwrap();
                keys.retain(|key| removed.binary_search(key).is_err());
            }
            Change::RemoveAll(beginning) => {
                let (removed, kept) = keys.iter().cloned().partition(|key| key.starts_with(&beginning));
                tree.remove(&Vec::from_iter::<BTreeSet<_>>(removed)).unwrap();
                *keys = kept;
            }
        }
    }

    /// Every span with its blocks.
    fn spans(tree: &Tree<'_>) -> Vec<Vec<Block>> {
        let mut spans = Vec::new();
        let mut next = Some(Vec::new());
        while let Some(span) = next {
            spans.push(tree.span_of(&span).unwrap().1);
            next = tree.next_span(&span).unwrap();
        }
        spans
    }

    fn assert_shape(tree: &Tree<'_>, keys: &BTreeSet<Vec<u8>>) {
        let mut checked = Vec::new();
        let agrees = tree.check(&mut |key| {
            checked.push(key.to_vec());
            Ok(())
        });
        assert!(agrees.unwrap(), "the counts belong to the keys");
        assert!(checked.iter().eq(keys), "all keys are handed over");
        let spans = spans(tree);
        for blocks in &spans {
            assert!(blocks.len() <= 2 * SMALL.span, "a span is cut");
            for Block { first, entries, .. } in blocks {
                assert!(*entries <= 2 * SMALL.block, "a block is cut");
                let is_only_of_least_span = first.is_empty() && blocks.len() == 1;
                assert!(*entries > 0 || is_only_of_least_span, "an empty block is left out");
                let beginning = keys.range(first.clone()..).next();
                assert!(
                    beginning.is_none_or(|key| key.starts_with(first)),
                    "nothing of a removed key is left"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_tree_agrees_with_a_set(changes in changes(), probes in vec(a_key(), 10)) {
            let conn = database();
            let tree = Tree::new(&conn, SMALL);
            let mut keys = BTreeSet::new();
            for change in changes {
                apply(&tree, &mut keys, change);
                assert_shape(&tree, &keys);
            }
            for key in probes.iter().chain(&keys) {
                let before = keys.range::<Vec<u8>, _>((Unbounded, Excluded(key))).count();
                prop_assert_eq!(tree.rank(key).unwrap(), to_u64(before));
                prop_assert_eq!(tree.has_any(key).unwrap(), keys.iter().any(|other| other.starts_with(key)));
            }
            for (rank, key) in (0..).zip(&keys) {
                let selected = tree.select(rank).unwrap();
                prop_assert_eq!(selected.as_ref(), Some(key));
            }
            prop_assert_eq!(tree.select(to_u64(keys.len())).unwrap(), None);
        }

        #[test]
        fn a_walk_goes_through_a_range_and_ends_when_it_is_told(
            keys in vec(a_key(), 0..100), from in a_key(), until in a_key(), limit in 1..30_usize
        ) {
            let conn = database();
            let tree = Tree::new(&conn, SMALL);
            let keys = BTreeSet::from_iter(keys);
            tree.insert(&Vec::from_iter(keys.clone()), &mut |_| ()).unwrap();
            let walked = |walk: &dyn Fn(Each<'_>) -> rusqlite::Result<()>| {
                let mut walked = Vec::new();
                walk(&mut |key| {
                    walked.push(key.to_vec());
                    Ok(walked.len() < limit)
                })
                .unwrap();
                walked
            };
            let inside: Vec<_> = keys.into_iter().filter(|key| from <= *key && *key < until).collect();
            let ascending = walked(&|each| tree.ascending(&from, &until, each));
            prop_assert_eq!(ascending, inside.iter().take(limit).cloned().collect::<Vec<_>>());
        }
    }

    /// Keys in a row, which sort as numbers do.
    fn numbers(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
        range.map(|number| number.to_be_bytes().to_vec()).collect()
    }

    #[test]
    fn of_a_block_that_is_cut_every_key_is_handed_over() {
        let conn = database();
        let tree = Tree::new(&conn, SMALL);
        let handed_over = |keys: &[Vec<u8>]| {
            let mut handed_over = Vec::new();
            tree.insert(keys, &mut |key| handed_over.push(key.to_vec())).unwrap();
            handed_over
        };
        assert_eq!(handed_over(&numbers(0..8)), Vec::<Vec<u8>>::new());
        assert_eq!(handed_over(&numbers(0..9)), numbers(0..9));
        assert_eq!(handed_over(&numbers(20..40)), [numbers(5..9), numbers(20..40)].concat());
    }

    #[test]
    fn what_is_left_of_many_keys_is_in_few_blocks() {
        let conn = database();
        let tree = Tree::new(&conn, SMALL);
        tree.insert(&numbers(0..1000), &mut |_| ()).unwrap();
        let (kept, removed): (Vec<_>, Vec<_>) = numbers(0..1000).into_iter().partition(|key| key[3] % 5 == 0);
        tree.remove(&removed).unwrap();
        assert_shape(&tree, &BTreeSet::from_iter(kept.clone()));
        // Nearly every block of four or five keys has kept one of them.
        let blocks = spans(&tree).concat().len();
        assert!(blocks <= kept.len() * 2 / 3, "{blocks} blocks of {} keys", kept.len());
        tree.remove(&kept).unwrap();
        assert_eq!(spans(&tree), [[Block::default()]]);
    }

    #[test]
    fn counts_that_do_not_belong_to_the_keys_are_noticed() {
        for (damage, is_noticed_by_changes) in [
            ("DELETE FROM entry WHERE key = (SELECT min(key) FROM entry)", false),
            ("DELETE FROM entry WHERE key = (SELECT max(key) FROM entry)", false),
            ("INSERT INTO entry VALUES (x'ffffffff')", false),
            ("DELETE FROM span WHERE first = (SELECT max(first) FROM span)", false),
            ("DELETE FROM span WHERE first = x''", false),
            ("UPDATE span SET entries = entries + 1", true),
            ("UPDATE span SET blocks = substr(blocks, 1, length(blocks) - 1)", true),
            ("UPDATE span SET blocks = x'', entries = 0", false),
            ("UPDATE span SET first = x'00' WHERE first = x''", false),
        ] {
            let conn = database();
            let tree = Tree::new(&conn, SMALL);
            tree.insert(&numbers(0..200), &mut |_| ()).unwrap();
            assert!(tree.check(&mut |_| Ok(())).unwrap());
            conn.execute_batch(damage).unwrap();
            let checked = tree.check(&mut |_| Ok(()));
            assert!(!checked.unwrap_or(false), "{damage}");
            let changed = tree.insert(&numbers(200..201), &mut |_| ());
            assert!(changed.is_err() || !is_noticed_by_changes, "{damage}");
            // Whatever these say, they end.
            for rank in 0..250 {
                let _any = (tree.select(rank), tree.rank(&numbers(1..2)[0]));
            }
        }
    }
}
