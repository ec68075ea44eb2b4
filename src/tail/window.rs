//! The newest part of the log, in chunks. The newest chunks, and others that were used just now, are in memory; of the rest it
//! is known where each begins and ends, so that all followers who come by read the same ones.
//!
//! Pure: no I/O, no clock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunk::Chunk;
use crate::event::Position;

/// Maximum memory for chunks, in bytes. One chunk may be larger, if one event is.
const BYTES_MAX: usize = 32 << 20;
/// Maximum number of chunks that are known.
const CHUNKS_MAX: usize = 16_384;

/// A part of the log that reaches from one position to its end, as far as that was read.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The position right before it; `None` at the beginning of the log.
    start: Option<Position>,
    slots: VecDeque<Slot>,
    /// The memory of the chunks.
    bytes: usize,
    /// Goes up with each use of a chunk.
    uses: u64,
}

/// The place of a chunk.
#[derive(Debug)]
struct Slot {
    /// The position of its last event.
    end: Position,
    /// Unless it was dropped.
    chunk: Option<Arc<Chunk>>,
    /// The [`Window::uses`] at its last use.
    used: u64,
}

/// What the window has for a follower.
#[derive(Debug)]
pub enum Look {
    /// It goes on in this chunk, after so many of its events.
    Chunk(Arc<Chunk>, usize),
    /// It goes on in a chunk that is not in memory.
    Dropped(Bounds),
    /// There is nothing after its place yet, as far as the log was read.
    End,
    /// Its place is not in the window, or names no event.
    Elsewhere,
}

/// Where a chunk begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The position right before it; `None` at the beginning of the log.
    pub after: Option<Position>,
    /// The position of its last event.
    pub through: Position,
}

impl Window {
    /// A window without events, after the event at this position.
    pub(super) fn after(start: Option<Position>) -> Self {
        Self { start, ..Self::default() }
    }

    /// The position of the last event that is known.
    pub(super) fn end(&self) -> Option<Position> {
        self.slots.back().map(|slot| slot.end).or(self.start)
    }

    /// Adds the events that follow.
    pub(super) fn push(&mut self, chunk: Chunk) {
        let Some(end) = chunk.last() else { return };
        chunk.keep(true);
        self.uses += 1;
        self.bytes += chunk.size();
        self.slots.push_back(Slot { end, chunk: Some(Arc::new(chunk)), used: self.uses });
        while self.slots.len() > CHUNKS_MAX
            && let Some(mut first) = self.slots.pop_front()
        {
            self.start = Some(first.end);
            self.bytes -= first.drop_chunk();
        }
        self.drop_beyond(BYTES_MAX);
    }

    /// Takes a chunk back into memory; returns false if there is none with these bounds any more.
    pub(super) fn restore(&mut self, bounds: Bounds, chunk: &Arc<Chunk>) -> bool {
        let nth = self.slots.partition_point(|slot| slot.end.seq < bounds.through.seq);
        if self.bounds(nth) != Some(bounds) {
            return false;
        }
        self.uses += 1;
        if let Some(slot) = self.slots.get_mut(nth)
            && slot.chunk.is_none()
        {
            self.bytes += chunk.size();
            chunk.keep(true);
            (slot.chunk, slot.used) = (Some(Arc::clone(chunk)), self.uses);
        }
        self.drop_beyond(BYTES_MAX);
        true
    }

    /// What comes after a place; `None` is the beginning of the log.
    pub(super) fn look(&mut self, place: Option<Position>) -> Look {
        if place == self.end() {
            return Look::End;
        }
        if place == self.start {
            return self.chunk(0, None);
        }
        let Some(place) = place else { return Look::Elsewhere };
        if self.end().is_none_or(|end| place.seq > end.seq) {
            return Look::End;
        }
        let nth = self.slots.partition_point(|slot| slot.end.seq < place.seq);
        match self.slots.get(nth) {
            Some(slot) if slot.end == place => self.chunk(nth + 1, None),
            Some(slot) if slot.end.seq > place.seq => self.chunk(nth, Some(place)),
            _ => Look::Elsewhere,
        }
    }

    /// The `nth` chunk, after the event at this position in it.
    fn chunk(&mut self, nth: usize, within: Option<Position>) -> Look {
        let Some(bounds) = self.bounds(nth) else { return Look::Elsewhere };
        self.uses += 1;
        let Some(slot) = self.slots.get_mut(nth) else { return Look::Elsewhere };
        let Some(chunk) = &slot.chunk else { return Look::Dropped(bounds) };
        slot.used = self.uses;
        match within.map_or(Some(0), |position| chunk.through(position)) {
            Some(events) => Look::Chunk(Arc::clone(chunk), events),
            None => Look::Elsewhere,
        }
    }

    /// Drops all chunks, and keeps their places.
    pub(super) fn forget(&mut self) {
        for slot in &mut self.slots {
            slot.chunk = None;
        }
        self.bytes = 0;
    }

    fn bounds(&self, nth: usize) -> Option<Bounds> {
        let through = self.slots.get(nth)?.end;
        let before = nth.checked_sub(1).and_then(|before| self.slots.get(before));
        Some(Bounds { after: before.map(|slot| slot.end).or(self.start), through })
    }

    /// Drops the chunks that were not used for longest, but not the newest one.
    fn drop_beyond(&mut self, max: usize) {
        while self.bytes > max {
            let newest = self.slots.len().saturating_sub(1);
            let in_memory = self.slots.iter_mut().take(newest).filter(|slot| slot.chunk.is_some());
            let Some(slot) = in_memory.min_by_key(|slot| slot.used) else { break };
            self.bytes -= slot.drop_chunk();
        }
    }
}

impl Slot {
    /// Drops the chunk, if it is there. Returns the memory that it took.
    fn drop_chunk(&mut self) -> usize {
        let Some(chunk) = self.chunk.take() else { return 0 };
        chunk.keep(false);
        chunk.size()
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::tests::{chunk, recorded};
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "a place is an option")]
    fn at(seq: i64) -> Option<Position> {
        Some(recorded(seq).position)
    }

    /// Events 11 to 20 in two chunks.
    fn window() -> Window {
        let mut window = Window::after(at(10));
        window.push(chunk(11..16));
        window.push(chunk(16..21));
        window
    }

    /// The events that follow a place, up to the end of its chunk.
    fn follows(window: &mut Window, place: Option<Position>) -> Vec<i64> {
        match window.look(place) {
            Look::Chunk(chunk, events) => {
                (events..chunk.len()).map(|nth| chunk.position(nth).unwrap().seq).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_place_within_it_leads_to_the_events_that_follow() {
        let mut window = window();
        assert_eq!(follows(&mut window, at(10)), [11, 12, 13, 14, 15]);
        assert_eq!(follows(&mut window, at(12)), [13, 14, 15]);
        assert_eq!(follows(&mut window, at(15)), [16, 17, 18, 19, 20]);
        assert_eq!(follows(&mut window, at(19)), [20]);
        assert!(matches!(window.look(at(20)), Look::End));
    }

    #[test]
    fn every_other_place_is_elsewhere() {
        let mut window = window();
        for place in [None, at(9)] {
            assert!(matches!(window.look(place), Look::Elsewhere), "{place:?}");
        }
        assert!(matches!(window.look(at(21)), Look::End), "another process may have read further");
        for seq in 10..=20 {
            let mut wrong = recorded(seq).position;
            wrong.tag ^= 1;
            assert!(matches!(window.look(Some(wrong)), Look::Elsewhere), "{seq}");
        }
    }

    #[test]
    fn a_log_may_begin_empty() {
        let mut window = Window::after(None);
        assert!(matches!(window.look(None), Look::End));
        window.push(chunk(1..3));
        assert_eq!(follows(&mut window, None), [1, 2]);
        assert!(matches!(window.look(at(2)), Look::End));
    }

    #[test]
    fn a_chunk_that_was_dropped_can_come_back_with_its_bounds_alone() {
        let mut window = window();
        let Look::Chunk(first, 0) = window.look(at(10)) else { panic!("not there") };
        assert!(first.is_kept());
        window.drop_beyond(0);
        assert!(!first.is_kept(), "whoever still holds it holds it alone");
        let Look::Dropped(bounds) = window.look(at(12)) else { panic!("still there") };
        assert_eq!(bounds, Bounds { after: at(10), through: recorded(15).position });
        assert_eq!(follows(&mut window, at(15)), [16, 17, 18, 19, 20], "the newest one is never dropped");
        let again = Arc::new(chunk(11..16));
        assert!(!window.restore(Bounds { after: at(9), ..bounds }, &again));
        assert!(!again.is_kept());
        assert!(window.restore(bounds, &again) && window.restore(bounds, &again));
        assert!(again.is_kept());
        assert_eq!(follows(&mut window, at(12)), [13, 14, 15]);
        let sizes = again.size() + chunk(16..21).size();
        assert_eq!(window.bytes, sizes);
    }

    #[test]
    fn what_was_used_last_stays_and_memory_is_bounded() {
        let mut window = Window::after(at(10));
        let size = chunk(11..12).size();
        for seq in 11..21 {
            window.push(chunk(seq..seq + 1));
        }
        follows(&mut window, at(10));
        window.drop_beyond(3 * size);
        assert!(window.bytes <= 3 * size);
        assert_eq!(follows(&mut window, at(10)), [11]);
        assert!(matches!(window.look(at(11)), Look::Dropped(_)));
    }

    #[test]
    fn the_number_of_chunks_is_bounded() {
        let mut window = Window::after(at(10));
        for seq in 11..11 + i64::try_from(CHUNKS_MAX).unwrap() + 2 {
            window.push(chunk(seq..seq + 1));
        }
        assert_eq!(window.slots.len(), CHUNKS_MAX);
        assert!(matches!(window.look(at(11)), Look::Elsewhere));
        assert_eq!(window.start, at(12));
    }
}
