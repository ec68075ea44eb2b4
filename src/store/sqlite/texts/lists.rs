//! Lists of the blocks of a segment that hold three characters in a row.
//!
//! Every three characters have one of 32,768 slots, by a hash, and so share it with others. The list of a slot names blocks
//! by their first pages within the segment: as gaps in [varints](super::varint), or as a bitmap where that is shorter. Before
//! it stands a varint: its length in bytes, doubled, and 1 for a bitmap. The lists of successive slots lie in one row of about a page of
//! the index file, behind a CRC-32 of the row's id and the lists: SQLite has no checksums.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _};

use super::block::Block;
use super::{Error, varint};

/// Different slots.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 15;
/// Most bytes of a row with several lists, so that it fits into a page of the index file.
const ROW_BYTES: usize = 4_000;
const CRC_BYTES: usize = 4;
const DAMAGED: Error = Error::Damaged("a row of lists cannot be read");

const ROW: &str = "SELECT id, lists FROM text_list WHERE id <= ?1 ORDER BY id DESC LIMIT 1";
const ROWS: &str = "SELECT id, lists FROM text_list WHERE id >= ?1 AND id < ?2 ORDER BY id";
const ADD: &str = "INSERT INTO text_list (id, lists) VALUES (?1, ?2)";
const CHANGE: &str = "UPDATE text_list SET lists = ?2 WHERE id = ?1";
const REMOVE: &str = "DELETE FROM text_list WHERE id >= ?1 AND id < ?2";

/// Hands over the slots of each three characters in a row, one for each of them.
pub(super) fn slots(text: &str, each: &mut impl FnMut(u16)) {
    let mut three = 0_u64;
    for (n, character) in text.chars().enumerate() {
        // 21 bits hold any character, 63 any three.
        three = (three << 21 | u64::from(u32::from(character))) & (u64::MAX >> 1);
        if n >= 2 {
            let hash = three.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS);
            each(u16::try_from(hash).unwrap_or_default());
        }
    }
}

/// Gathers which slots each block holds, and makes the lists of a segment of it.
#[derive(Debug)]
pub(super) struct Gathered {
    /// The slots of all blocks, one block after the other.
    slots: Vec<u16>,
    /// Of each block its page, and where its slots end.
    blocks: Vec<(u32, usize)>,
    /// The last block that holds each slot, counted from 1.
    seen: Vec<usize>,
}

impl Gathered {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), blocks: Vec::new(), seen: vec![0; SLOTS] }
    }

    /// Adds the block at `page` of the segment; pages ascend.
    pub(super) fn add(&mut self, page: u32, block: &Block<'_>) -> Result<(), Error> {
        let number = self.blocks.len() + 1;
        for entry in block.entries() {
            let Some(live) = entry?.live else { continue };
            slots(live.folded()?, &mut |slot| {
                if let Some(seen) = self.seen.get_mut(usize::from(slot))
                    && *seen != number
                {
                    *seen = number;
                    self.slots.push(slot);
                }
            });
        }
        self.blocks.push((page, self.slots.len()));
        Ok(())
    }

    /// Hands over the slots, each with its list, in order of the slots.
    fn lists(&self, mut each: impl FnMut(u16, &[u32])) {
        let mut ends = vec![0_usize; SLOTS];
        for slot in &self.slots {
            ends.get_mut(usize::from(*slot)).map(|end| *end += 1).unwrap_or_default();
        }
        let mut sum = 0;
        for end in &mut ends {
            // For now where its list begins. It moves on to the end as the list is filled.
            sum += std::mem::replace(end, sum);
        }
        let mut pages = vec![0; self.slots.len()];
        let mut begin = 0;
        for (page, end) in &self.blocks {
            for slot in self.slots.get(begin..*end).unwrap_or_default() {
                if let Some(place) = ends.get_mut(usize::from(*slot)) {
                    pages.get_mut(*place).map(|given| *given = *page).unwrap_or_default();
                    *place += 1;
                }
            }
            begin = *end;
        }
        let mut begin = 0;
        for (slot, end) in (0..).zip(ends) {
            each(slot, pages.get(begin..end).unwrap_or_default());
            begin = end;
        }
    }

    /// All lists as they are written, in order of the slots.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut all = Vec::new();
        self.lists(|_, pages| put(&mut all, pages));
        all
    }

    /// Writes the lists of the segment in place of those that it has.
    pub(super) fn write(&self, index: &Connection, segment: i64) -> Result<(), Error> {
        remove(index, segment)?;
        let mut rows: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut list = Vec::new();
        self.lists(|slot, pages| {
            list.clear();
            put(&mut list, pages);
            match rows.last_mut() {
                Some((_, row)) if row.len() + list.len() <= ROW_BYTES => row.extend_from_slice(&list),
                _ => rows.push((slot, [&[0; CRC_BYTES], list.as_slice()].concat())),
            }
        });
        let mut add = index.prepare_cached(ADD)?;
        for (slot, mut row) in rows {
            let id = id(segment, slot);
            sign(id, &mut row);
            add.execute((id, row))?;
        }
        Ok(())
    }
}

/// The id of the row that begins with the list of this slot.
fn id(segment: i64, slot: u16) -> i64 {
    segment << SLOT_BITS | i64::from(slot)
}

/// Deletes the lists of a segment.
pub(super) fn remove(index: &Connection, segment: i64) -> Result<(), Error> {
    index.prepare_cached(REMOVE)?.execute((id(segment, 0), id(segment + 1, 0)))?;
    Ok(())
}

fn crc(id: i64, lists: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(lists);
    hasher.finalize()
}

/// Puts the CRC into a row.
fn sign(id: i64, row: &mut [u8]) {
    if let Some((place, lists)) = row.split_first_chunk_mut() {
        *place = crc(id, lists).to_le_bytes();
    }
}

/// The lists in a row.
fn verified(id: i64, row: &[u8]) -> Result<&[u8], Error> {
    let (written, lists) = row.split_first_chunk().ok_or(DAMAGED)?;
    if crc(id, lists) == u32::from_le_bytes(*written) { Ok(lists) } else { Err(DAMAGED) }
}

/// Appends a list.
fn put(bytes: &mut Vec<u8>, pages: &[u32]) {
    let mut gaps = Vec::new();
    let mut before = 0;
    for page in pages {
        varint::put(&mut gaps, u64::from(page - before));
        before = *page;
    }
    let bitmap_bytes = usize::try_from(before / 8 + 1).unwrap_or(usize::MAX);
    let as_bitmap = bitmap_bytes < gaps.len();
    if as_bitmap {
        gaps.clear();
        gaps.resize(bitmap_bytes, 0);
        for page in pages {
            let byte = usize::try_from(page / 8).ok().and_then(|byte| gaps.get_mut(byte));
            byte.map(|byte| *byte |= 1 << (page % 8)).unwrap_or_default();
        }
    }
    let length = u64::try_from(gaps.len()).unwrap_or(u64::MAX);
    varint::put(bytes, length << 1 | u64::from(as_bitmap));
    bytes.extend_from_slice(&gaps);
}

/// A list in a row.
struct List<'a> {
    is_bitmap: bool,
    /// Without what stands before it, and with it.
    bytes: &'a [u8],
    whole: &'a [u8],
}

impl<'a> List<'a> {
    /// Takes a list off the beginning of `row`.
    fn take(row: &mut &'a [u8]) -> Option<Self> {
        let whole = *row;
        let written = varint::take(row)?;
        let (bytes, rest) = row.split_at_checked(usize::try_from(written >> 1).ok()?)?;
        *row = rest;
        let whole = whole.get(..whole.len() - rest.len())?;
        Some(Self { is_bitmap: written & 1 == 1, bytes, whole })
    }

    /// Puts what it names into `pages`.
    fn read(&self, pages: &mut Vec<u32>) -> Option<()> {
        pages.clear();
        let mut bytes = self.bytes;
        if self.is_bitmap {
            for (first, byte) in (0_u32..).step_by(8).zip(bytes) {
                let mut left = *byte;
                while left != 0 {
                    pages.push(first + left.trailing_zeros());
                    left &= left - 1;
                }
            }
            return Some(());
        }
        let mut page = 0_u32;
        while !bytes.is_empty() {
            page = page.checked_add(u32::try_from(varint::take(&mut bytes)?).ok()?)?;
            pages.push(page);
        }
        Some(())
    }
}

/// Reads lists.
pub(super) struct Reader<'c>(CachedStatement<'c>);

impl<'c> Reader<'c> {
    /// Reads them in the index's snapshot.
    pub(super) fn new(index: &'c Connection) -> Result<Self, Error> {
        Ok(Self(index.prepare_cached(ROW)?))
    }

    /// Puts the list of a slot into `pages`.
    pub(super) fn read(&mut self, segment: i64, slot: u16, pages: &mut Vec<u32>) -> Result<(), Error> {
        let mut rows = self.0.query([id(segment, slot)])?;
        let row = rows.next()?.ok_or(DAMAGED)?;
        let found: i64 = row.get(0)?;
        let mut lists = verified(found, blob(row)?)?;
        let skipped = usize::try_from(id(segment, slot) - found).unwrap_or(usize::MAX);
        let same = found >= id(segment, 0);
        let skip = |_| List::take(&mut lists).map(drop);
        (same && (0..skipped.min(SLOTS)).map(skip).all(|list| list.is_some()))
            .then_some(())
            .ok_or(DAMAGED)?;
        List::take(&mut lists).and_then(|list| list.read(pages)).ok_or(DAMAGED)
    }
}

fn blob<'a>(row: &'a rusqlite::Row<'_>) -> Result<&'a [u8], Error> {
    row.get_ref(1)?.as_blob().map_err(|_| DAMAGED)
}

/// All lists of a segment as they are written, in order of the slots.
pub(super) fn written(index: &Connection, segment: i64) -> Result<Vec<u8>, Error> {
    let mut statement = index.prepare_cached(ROWS)?;
    let mut rows = statement.query((id(segment, 0), id(segment + 1, 0)))?;
    let mut all = Vec::new();
    let mut next = id(segment, 0);
    while let Some(row) = rows.next()? {
        let found: i64 = row.get(0)?;
        let mut lists = verified(found, blob(row)?)?;
        all.extend_from_slice(lists);
        if found != next {
            return Err(DAMAGED);
        }
        while !lists.is_empty() {
            List::take(&mut lists).ok_or(DAMAGED)?;
            next += 1;
        }
    }
    Ok(all)
}

/// Takes blocks out of the lists of slots that they no longer hold: `dropped` has each slot with a page, sorted.
pub(super) fn drop_from(index: &Connection, segment: i64, dropped: &[(u16, u32)]) -> Result<(), Error> {
    let mut select = index.prepare_cached(ROW)?;
    let mut change = index.prepare_cached(CHANGE)?;
    let mut left = dropped;
    while let Some((slot, _)) = left.first() {
        let (found, row): (i64, Vec<u8>) = select
            .query_row([id(segment, *slot)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .ok_or(DAMAGED)?;
        let before = left.len();
        let changed = changed(segment, found, &row, &mut left)?;
        if left.len() == before {
            return Err(DAMAGED);
        }
        change.execute((found, changed))?;
    }
    Ok(())
}

/// The row without what is dropped from its lists, which is taken off `left`.
fn changed(segment: i64, found: i64, row: &[u8], left: &mut &[(u16, u32)]) -> Result<Vec<u8>, Error> {
    let mut lists = verified(found, row)?;
    let mut changed = Vec::with_capacity(row.len());
    changed.extend_from_slice(&[0; CRC_BYTES]);
    let mut pages = Vec::new();
    for slot in found.. {
        if lists.is_empty() {
            break;
        }
        let list = List::take(&mut lists).ok_or(DAMAGED)?;
        let (here, others) =
            left.split_at(left.partition_point(|(dropped, _)| id(segment, *dropped) <= slot));
        if here.is_empty() {
            changed.extend_from_slice(list.whole);
            continue;
        }
        *left = others;
        list.read(&mut pages).ok_or(DAMAGED)?;
        pages.retain(|page| here.binary_search_by_key(page, |(_, page)| *page).is_err());
        put(&mut changed, &pages);
    }
    sign(found, &mut changed);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_comes_back(pages in prop::collection::btree_set(0_u32..5_000, 0..3_000)) {
            let pages: Vec<_> = pages.into_iter().collect();
            let mut bytes = Vec::new();
            put(&mut bytes, &pages);
            prop_assert!(bytes.len() <= 2 * pages.len() + 2, "a gap takes two bytes at most");
            let mut rest = bytes.as_slice();
            let mut read = vec![7];
            List::take(&mut rest).unwrap().read(&mut read).unwrap();
            prop_assert_eq!(read, pages);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_list_of_nearly_all_blocks_is_a_bitmap() {
        let pages: Vec<_> = (0..2_048).filter(|page| page % 100 != 7).collect();
        let mut bytes = Vec::new();
        put(&mut bytes, &pages);
        assert_eq!(bytes.len(), 2 + 256);
    }

    #[test]
    fn each_three_characters_have_a_slot() {
        let slots = |text| {
            let mut found = Vec::new();
            slots(text, &mut |slot| found.push(slot));
            found
        };
        assert_eq!(slots("ab"), [0; 0]);
        assert_eq!(slots("привет").len(), 4);
        assert_eq!(slots("abcabc")[0], slots("abcabc")[3]);
        assert_eq!(slots("xabc")[1..], slots("abc"));
        assert_ne!(slots("abc"), slots("acb"));
    }
}
