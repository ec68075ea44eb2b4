//! Removes from the pages of the database what erasing leaves there.
//!
//! SQLite overwrites what is deleted (`secure_delete`), but when it spreads rows or keys over other pages, copies of them stay
//! behind in the free space of the pages that they came from. Nothing reads those bytes, until somebody reads the file.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension};

const PAGE: &str = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
const WRITE: &str = "UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1";
const EVENTS: &str = "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = 'event'";
/// In the database: the trees that hold parts of an event in an order other than that of arrival, where nobody knows which pages
/// a key has seen.
pub(super) const IDENTITIES: &str = "\
    SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'event' OR type = 'table' AND name = 'removed'";

/// Kinds of pages of a tree (<https://sqlite.org/fileformat2.html#b_tree_pages>).
const INNER_INDEX: u8 = 2;
const INNER_TABLE: u8 = 5;
const LEAF_INDEX: u8 = 10;
const LEAF_TABLE: u8 = 13;

/// The page with the header of the file, whose tree is the schema.
const FIRST_PAGE: u32 = 1;
/// Below this number of pages, a page that is none of a tree begins with 0 or 1: with a page number, of which that is the first
/// byte.
const PAGES_MAX: u32 = 1 << 25;

/// No tree is deeper; a damaged one might have no end.
const DEPTH_MAX: usize = 32;

/// A page of a tree.
struct Page(Vec<u8>);

/// The page of a table in which a row stands, or would stand.
struct Leaf {
    page: u32,
    /// The greatest row that stands on pages before it.
    before: Option<i64>,
    /// The greatest row that can stand on it.
    last: Option<i64>,
}

/// The inner pages of a tree that were read, by their numbers.
type Inner = HashMap<u32, Page>;

/// Cleans the pages of the table `event` that hold, or held until just now, what stood around these rows, in ascending order.
///
/// When a row is deleted SQLite may spread the rows of its page, the one before and the one after over these pages. So
/// pages further away need no look.
pub(super) fn around(conn: &Connection, rows: &[i64]) -> rusqlite::Result<()> {
    let root: u32 = conn.prepare_cached(EVENTS)?.query_row((), |row| row.get(0))?;
    let (mut inner, mut pages) = (Inner::new(), BTreeSet::from([root]));
    let mut seen: Option<i64> = None;
    for row in rows {
        if seen.is_some_and(|last| *row <= last) {
            continue;
        }
        let leaf = Leaf::of(conn, root, *row, &mut inner)?;
        let (mut before, mut after) = (leaf.before, leaf.last);
        for _ in 0..2 {
            if let Some(row) = before {
                let leaf = Leaf::of(conn, root, row, &mut inner)?;
                pages.insert(leaf.page);
                before = leaf.before;
            }
            if let Some(row) = after {
                let leaf = Leaf::of(conn, root, row.saturating_add(1), &mut inner)?;
                pages.insert(leaf.page);
                after = leaf.last;
            }
        }
        pages.insert(leaf.page);
        seen = Some(leaf.last.unwrap_or(i64::MAX));
    }
    pages.into_iter().try_for_each(|page| clean(conn, page))
}

/// In the index: the same.
pub(super) const ENTRIES: &str = "SELECT rootpage FROM sqlite_schema WHERE tbl_name IN ('entry', 'span', 'crowd', 'sender', 'name') AND rootpage > 0";

/// All pages of trees that have to be cleaned as a whole: [`IDENTITIES`] or [`ENTRIES`].
pub(super) fn pages(conn: &Connection, trees: &str) -> rusqlite::Result<Vec<u32>> {
    let roots: Vec<u32> = conn.prepare(trees)?.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for root in roots {
        let mut level = vec![root];
        for _ in 0..DEPTH_MAX {
            // All leaves are at one depth, and most pages are leaves, which have nothing below.
            let first = level.first().map(|first| read(conn, *first)).transpose()?.flatten();
            let mut below = Vec::new();
            if first.is_some_and(|page| page.is_inner()) {
                for page in &level {
                    let page = read(conn, *page)?;
                    below.extend(page.iter().flat_map(Page::children).map(|(child, _)| child));
                }
            }
            found.append(&mut level);
            level = below;
        }
    }
    Ok(found)
}

/// Overwrites the free space of a page, if it is one of a tree.
pub(super) fn clean(conn: &Connection, number: u32) -> rusqlite::Result<()> {
    if number == FIRST_PAGE || number >= PAGES_MAX {
        return Ok(());
    }
    if let Some(mut page) = read(conn, number)?
        && page.overwrite_free_space().unwrap_or(false)
    {
        conn.prepare_cached(WRITE)?.execute((number, page.0))?;
    }
    Ok(())
}

fn read(conn: &Connection, number: u32) -> rusqlite::Result<Option<Page>> {
    conn.prepare_cached(PAGE)?.query_row([number], |row| row.get(0).map(Page)).optional()
}

impl Leaf {
    fn of(conn: &Connection, root: u32, row: i64, inner: &mut Inner) -> rusqlite::Result<Self> {
        let mut leaf = Self { page: root, before: None, last: None };
        for _ in 0..DEPTH_MAX {
            let page = match inner.entry(leaf.page) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => match read(conn, leaf.page)?.filter(Page::is_inner) {
                    Some(page) => unknown.insert(page),
                    None => return Ok(leaf),
                },
            };
            for (child, last) in page.children() {
                leaf.page = child;
                if last.is_none_or(|last| row <= last) {
                    leaf.last = last.or(leaf.last);
                    break;
                }
                leaf.before = last;
            }
        }
        Ok(leaf)
    }
}

impl Page {
    fn kind(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    fn is_inner(&self) -> bool {
        matches!(self.kind(), INNER_INDEX | INNER_TABLE)
    }

    /// Two bytes, as a number.
    fn short(&self, at: usize) -> Option<usize> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        Some(usize::from(u16::from_be_bytes(*bytes)))
    }

    /// Four bytes, as the number of a page.
    fn number(&self, at: usize) -> Option<u32> {
        self.0.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The pages below an inner page, each, in a table, with the greatest row that can stand on it or below it. Nothing limits
    /// the last one.
    fn children(&self) -> impl Iterator<Item = (u32, Option<i64>)> {
        let cells = if self.is_inner() { self.short(3).unwrap_or(0) } else { 0 };
        let limited = (0..cells).filter_map(|nth| {
            let cell = self.short(12 + 2 * nth)?;
            let last = (self.kind() == INNER_TABLE).then(|| self.varint(cell + 4)).flatten();
            Some((self.number(cell)?, last))
        });
        limited.chain(self.number(8).map(|last| (last, None)))
    }

    fn varint(&self, at: usize) -> Option<i64> {
        let mut value = 0_u64;
        for (nth, byte) in self.0.get(at..)?.iter().take(9).enumerate() {
            if nth == 8 {
                return Some((value << 8 | u64::from(*byte)).cast_signed());
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(value.cast_signed())
    }

    /// Fills with zeros what lies between the pointers to the cells and the first cell, and the free blocks between the
    /// cells. Returns whether there was anything else; `None` if this is no page of a tree.
    fn overwrite_free_space(&mut self) -> Option<bool> {
        let header = match self.kind() {
            INNER_INDEX | INNER_TABLE => 12,
            LEAF_INDEX | LEAF_TABLE => 8,
            _ => return None,
        };
        let begin = header + 2 * self.short(3)?;
        let end = match self.short(5)? {
            0 => 1 << 16,
            end => end,
        };
        let mut changed = self.overwrite(begin, end)?;
        let mut block = self.short(1)?;
        while block > 0 {
            let (next, size) = (self.short(block)?, self.short(block + 2)?);
            changed |= self.overwrite(block + 4, block + size)?;
            // The blocks stand in ascending order.
            block = if next > block { next } else { 0 };
        }
        Some(changed)
    }

    fn overwrite(&mut self, begin: usize, end: usize) -> Option<bool> {
        let space = self.0.get_mut(begin..end)?;
        let changed = space.iter().any(|byte| *byte != 0);
        space.fill(0);
        Some(changed)
    }
}
