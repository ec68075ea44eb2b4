//! Removal: texts vanish from the file and from the lists.
//!
//! The block is written again without them, over itself: the new bytes are never longer, and the rest is filled with zeros.
//! A block with several messages takes one page, and a longer one shrinks into its first page, which is written first. So
//! a process that is killed leaves the old block or the new one. Then the lists lose those blocks that no longer hold a slot.
//!
//! If the process ends before the index's transaction is committed, the removal is tried again, and finds messages that are
//! gone from the file. What they held is not known any more, and so all lists of the segment are made anew.

use std::os::unix::fs::FileExt as _;

use rusqlite::Connection;

use super::Error;
use super::block::{self, Block};
use super::blocks::within;
use super::lists::{self, Gathered};
use super::segment::{Segment, TextFile, segments};
use super::window::Window;

/// To look for a block costs as much as to read so many pages one after the other.
const PAGES_A_SEARCH: usize = 32;

/// What was removed from the blocks of a segment.
#[derive(Debug, Default)]
struct Removed {
    /// Messages that were there.
    messages: u32,
    /// Whether messages were there that had been removed before.
    again: bool,
    /// Slots that blocks no longer hold, with the page of the block.
    dropped: Vec<(u16, u32)>,
}

impl TextFile {
    /// Removes the messages with these arrival numbers, in ascending order, from the segments, as far as they are there: the
    /// file is overwritten and synced, and the rows are changed in the caller's transaction. Readers are not disturbed.
    ///
    /// # Errors
    /// [`Error`]. The transaction has to be rolled back then, and the same removal may be tried again.
    pub(in crate::store::sqlite) fn remove(&self, index: &Connection, seqs: &[i64]) -> Result<(), Error> {
        let mut touched = Vec::new();
        for segment in segments(index)? {
            let seqs = within(seqs, segment.first_seq, segment.last_seq);
            if segment.messages > 0 && !seqs.is_empty() {
                let removed = self.overwrite(&segment, seqs)?;
                if removed.messages > 0 || removed.again {
                    touched.push((segment, removed));
                }
            }
        }
        if touched.is_empty() {
            return Ok(());
        }
        self.file.sync_data()?;
        for (segment, removed) in touched {
            self.update(index, segment, removed)?;
        }
        Ok(())
    }

    fn overwrite(&self, segment: &Segment, seqs: &[i64]) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        self.blocks_around(segment, seqs, |page, block| {
            let seqs = within(seqs, block.first_seq, block.last_seq);
            if !seqs.is_empty() && removed.note(page, block, seqs)? {
                let mut bytes = block.without(seqs)?;
                if bytes.len() > block::page_bytes(block.pages) {
                    return Err(Error::Damaged("a block has outgrown its place"));
                }
                bytes.resize(block::page_bytes(block.pages), 0);
                self.file.write_all_at(&bytes, segment.byte(page))?;
            }
            Ok(())
        })?;
        Ok(removed)
    }

    /// Hands over each block with its page, in order, that may have one of these messages. A few of them are looked for; to find
    /// many, the segment is read from end to end.
    fn blocks_around(
        &self,
        segment: &Segment,
        mut seqs: &[i64],
        mut each: impl FnMut(u32, &Block<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if seqs.len() > usize::try_from(segment.pages).unwrap_or_default() / PAGES_A_SEARCH {
            return self.blocks(segment, each);
        }
        let mut window = Window::new(self, segment, 1);
        let mut page = 0;
        while let [seq, rest @ ..] = seqs {
            seqs = rest;
            if let Some(found) = window.page_with(*seq, page..segment.pages)? {
                let block = window.block(found)?;
                each(found, &block)?;
                seqs = seqs.get(seqs.partition_point(|seq| *seq <= block.last_seq)..).unwrap_or_default();
                page = found + block.pages;
            }
        }
        Ok(())
    }

    fn update(&self, index: &Connection, mut segment: Segment, mut removed: Removed) -> Result<(), Error> {
        if removed.again {
            let mut gathered = Gathered::new();
            segment.messages = 0;
            self.blocks(&segment.clone(), |page, block| {
                for entry in block.entries() {
                    segment.messages += u32::from(entry?.live.is_some());
                }
                gathered.add(page, block)
            })?;
            gathered.write(index, segment.number)?;
        } else {
            segment.messages = segment.messages.saturating_sub(removed.messages);
            removed.dropped.sort_unstable();
            lists::drop_from(index, segment.number, &removed.dropped)?;
        }
        if segment.messages == 0 {
            lists::remove(index, segment.number)?;
        }
        segment.save(index)
    }
}

impl Removed {
    /// Notes what is about to be removed from a block; false if it holds none of the messages.
    fn note(&mut self, page: u32, block: &Block<'_>, seqs: &[i64]) -> Result<bool, Error> {
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        let mut found = false;
        for entry in block.entries() {
            let entry = entry?;
            let named = seqs.binary_search(&entry.seq).is_ok();
            found |= named;
            let Some(live) = entry.live else {
                self.again |= named;
                continue;
            };
            self.messages += u32::from(named);
            let slots = if named { &mut gone } else { &mut left };
            lists::slots(live.folded()?, &mut |slot| slots.push(slot));
        }
        if !gone.is_empty() {
            for slots in [&mut gone, &mut left] {
                slots.sort_unstable();
                slots.dedup();
            }
            gone.retain(|slot| left.binary_search(slot).is_err());
            self.dropped.extend(gone.into_iter().map(|slot| (slot, page)));
        }
        Ok(found)
    }
}
