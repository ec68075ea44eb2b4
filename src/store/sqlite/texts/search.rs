//! The search for a text: blocks are chosen by the lists, and searched.

use std::ops::Range;

use memchr::memmem::Finder;
use rusqlite::Connection;

use super::block::Block;
use super::blocks::Snapshot;
use super::segment::{Segment, TextFile, segments};
use super::window::{MANY, Window};
use super::{Error, lists};
use crate::message::Moment;
use crate::store::matches::to_u64;

/// Most lists that are read for a segment.
const LISTS_MAX: usize = 16;
/// The caller is asked whether to give up after so many blocks (1 MiB).
const ASK_BLOCKS: usize = 256;
/// With more than one in so many pages to look at, all of the segment is read: that costs no more than single reads.
const ALL_ONE_IN: usize = 3;
/// Number of segments by which it is estimated how many pages a search reads.
const SAMPLE: usize = 8;

/// What must be true of a message beside its text.
#[derive(Debug, Clone)]
pub(in crate::store::sqlite) struct Conditions {
    /// The number of its sender; any if it is none.
    pub(in crate::store::sqlite) sender: Option<i64>,
    /// The number of its recipient; any if it is none.
    pub(in crate::store::sqlite) recipient: Option<i64>,
    /// Its instant is in this range.
    pub(in crate::store::sqlite) moments: Range<Moment>,
}

/// A search, which can be carried out on blocks in memory and on the file. Both hand over the instant and the arrival number
/// of each message whose folded text contains the needle and that meets the conditions, in order of arrival.
pub(in crate::store::sqlite) struct Search<'a> {
    finder: Finder<'a>,
    conditions: Conditions,
    /// The slots of the needle; those first whose lists were short in the segments before.
    slots: Vec<Slot>,
    /// Asked from time to time; a search that is given up ends with [`Error::GivenUp`].
    give_up: &'a dyn Fn() -> bool,
}

/// Receives a message that was found: its instant and its arrival number.
type Each<'e> = &'e mut dyn FnMut(Moment, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    slot: u16,
    /// Length of its list where it was read last.
    blocks: usize,
}

impl<'a> Search<'a> {
    /// A search for a folded text, which may be empty. `give_up` is asked once a segment and once a MiB.
    pub(in crate::store::sqlite) fn new(
        folded: &'a str,
        conditions: Conditions,
        give_up: &'a dyn Fn() -> bool,
    ) -> Self {
        Self { finder: Finder::new(folded), conditions, slots: slots(folded), give_up }
    }

    /// Searches blocks in memory.
    ///
    /// # Errors
    /// [`Error::GivenUp`].
    pub(in crate::store::sqlite) fn blocks(&self, blocks: &Snapshot, each: Each<'_>) -> Result<(), Error> {
        for (n, block) in blocks.blocks().enumerate() {
            self.ask(n)?;
            self.block(&block?, each)?;
        }
        Ok(())
    }

    /// Searches the segments that a snapshot of the index names.
    ///
    /// # Errors
    /// [`Error`]; what was handed over then means nothing.
    pub(in crate::store::sqlite) fn segments(
        &mut self,
        file: &TextFile,
        index: &Connection,
        each: Each<'_>,
    ) -> Result<(), Error> {
        let mut reader = lists::Reader::new(index)?;
        for segment in segments(index)? {
            if !segment.is_outside(&self.conditions.moments) {
                self.segment(file, &segment, &mut reader, each)?;
            }
        }
        Ok(())
    }

    /// About how many pages of the segments a search reads, by a sample of them.
    ///
    /// # Errors
    /// [`Error`].
    pub(in crate::store::sqlite) fn pages(&mut self, index: &Connection) -> Result<u64, Error> {
        let mut segments = segments(index)?;
        segments.retain(|segment| !segment.is_outside(&self.conditions.moments));
        let mut reader = lists::Reader::new(index)?;
        let (mut sampled, mut found, mut all) = (0_u64, 0_u64, 0_u64);
        for (n, segment) in segments.iter().enumerate() {
            all += u64::from(segment.pages);
            if n.is_multiple_of(segments.len().div_ceil(SAMPLE)) {
                let candidates = self.candidates(segment, &mut reader)?;
                sampled += u64::from(segment.pages);
                found += candidates.map_or(u64::from(segment.pages), |pages| to_u64(pages.len()));
            }
        }
        Ok(found.saturating_mul(all).checked_div(sampled).unwrap_or(0))
    }

    fn segment(
        &mut self,
        file: &TextFile,
        segment: &Segment,
        reader: &mut lists::Reader<'_>,
        each: Each<'_>,
    ) -> Result<(), Error> {
        self.ask(0)?;
        match self.candidates(segment, reader)? {
            None => {
                let mut n = 0;
                file.blocks(segment, |_, block| {
                    n += 1;
                    self.ask(n)?;
                    self.block(block, each)
                })
            }
            Some(pages) => {
                let many = pages.len() > usize::try_from(segment.pages).unwrap_or_default() / ALL_ONE_IN;
                let mut window = Window::new(file, segment, if many { MANY } else { 1 });
                for (n, page) in (1..).zip(pages) {
                    self.ask(n)?;
                    self.block(&window.block(page)?, each)?;
                }
                Ok(())
            }
        }
    }

    /// The pages of the blocks that all lists name, as far as it is worth reading them; none if the needle has no lists.
    fn candidates(
        &mut self,
        segment: &Segment,
        reader: &mut lists::Reader<'_>,
    ) -> Result<Option<Vec<u32>>, Error> {
        let mut candidates: Option<Vec<u32>> = None;
        let mut pages = Vec::new();
        for slot in &mut self.slots {
            if candidates.as_ref().is_some_and(|candidates| candidates.len() <= 1) {
                break;
            }
            reader.read(segment.number, slot.slot, &mut pages)?;
            slot.blocks = pages.len();
            match &mut candidates {
                Some(candidates) => intersect(candidates, &pages),
                None => candidates = Some(std::mem::take(&mut pages)),
            }
        }
        self.slots.sort_by_key(|slot| slot.blocks);
        Ok(candidates)
    }

    /// Hands over what is found in a block.
    fn block(&self, block: &Block<'_>, each: Each<'_>) -> Result<(), Error> {
        let Some(mut found) = self.finder.find(block.texts) else { return Ok(()) };
        for entry in block.entries() {
            let entry = entry?;
            let Some(live) = entry.live.filter(|live| found <= live.end) else { continue };
            if self.conditions.hold(live.moment, live.sender, live.recipient) {
                each(live.moment, entry.seq);
            }
            let next = live.end + 1;
            let rest = block.texts.get(next..).unwrap_or_default();
            let Some(place) = self.finder.find(rest) else { break };
            found = next + place;
        }
        Ok(())
    }

    fn ask(&self, blocks: usize) -> Result<(), Error> {
        if blocks.is_multiple_of(ASK_BLOCKS) && (self.give_up)() { Err(Error::GivenUp) } else { Ok(()) }
    }
}

impl Conditions {
    fn hold(&self, moment: Moment, sender: i64, recipient: i64) -> bool {
        self.moments.contains(&moment)
            && self.sender.is_none_or(|wanted| wanted == sender)
            && self.recipient.is_none_or(|wanted| wanted == recipient)
    }
}

/// Up to [`LISTS_MAX`] slots of a needle, from all of its length.
fn slots(needle: &str) -> Vec<Slot> {
    let mut found = Vec::new();
    lists::slots(needle, &mut |slot| found.push(Slot { slot, blocks: usize::MAX }));
    let step = found.len().div_ceil(LISTS_MAX).max(1);
    let mut some: Vec<_> = found.into_iter().step_by(step).collect();
    some.sort_unstable_by_key(|slot| slot.slot);
    some.dedup();
    some
}

/// Keeps those of the ascending `pages` that are in `others`, too.
fn intersect(pages: &mut Vec<u32>, others: &[u32]) {
    let mut others = others.iter().peekable();
    pages.retain(|page| {
        while others.next_if(|other| *other < page).is_some() {}
        others.next_if_eq(&page).is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_has_sixteen_slots_at_most_from_all_of_its_length() {
        assert_eq!(slots("ab"), []);
        assert_eq!(slots("aaaa").len(), 1);
        assert_eq!(slots("abcdefgh").len(), 6);
        let end: String = ('A'..='Z').collect();
        let long = slots(&('a'..='z').chain(end.chars()).collect::<String>());
        assert!((9..=16).contains(&long.len()), "{}", long.len());
        let mut in_the_end = Vec::new();
        lists::slots(&end, &mut |slot| in_the_end.push(slot));
        assert!(long.iter().any(|slot| in_the_end.contains(&slot.slot)));
    }

    #[test]
    fn what_both_lists_name_stays() {
        let mut pages = vec![1, 3, 4, 9];
        intersect(&mut pages, &[0, 3, 5, 9, 12]);
        assert_eq!(pages, [3, 9]);
        intersect(&mut pages, &[]);
        assert_eq!(pages, [0; 0]);
    }
}
