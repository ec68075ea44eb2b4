//! Events of the log in the forms in which followers get them, encoded once for all of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;

use crate::event::{Event, LogFilter, Position, Recorded};

/// Memory that an event takes beside its encoded bytes, roughly.
const LINE_BYTES: usize = 768;

/// Events that follow one another in the log, encoded.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The blocks of Server-Sent Events, one after the other.
    blocks: Bytes,
    lines: Vec<Line>,
    /// The memory that it takes, roughly.
    size: usize,
    is_kept: AtomicBool,
}

/// One event of a [`Chunk`].
#[derive(Debug)]
struct Line {
    position: Position,
    /// What a filter may ask for: the event without text and data.
    event: Event,
    /// Where its block stands.
    block: Range<usize>,
    /// Where its JSON stands in that, if the JSON is on one line as it is.
    json: Range<usize>,
    /// Its JSON otherwise.
    json_as_sent: Option<Box<str>>,
}

/// A [`Chunk`] that is being made.
#[derive(Debug, Default)]
pub struct Encoder {
    blocks: Vec<u8>,
    lines: Vec<Line>,
    as_sent_bytes: usize,
}

impl Encoder {
    /// Adds an event.
    pub fn push(&mut self, recorded: Recorded) {
        let position = recorded.position;
        let json = recorded.json();
        let has_line_end = json.contains(['\n', '\r']);
        let on_one_line = if has_line_end { &recorded.json_line() } else { &json };
        let begin = self.blocks.len();
        let head = format!("id: {position}\nevent: {}\ndata: ", recorded.arrived.event.kind);
        self.blocks.extend_from_slice(head.as_bytes());
        let json_begin = self.blocks.len();
        self.blocks.extend_from_slice(on_one_line.as_bytes());
        let json_range = json_begin..self.blocks.len();
        self.blocks.extend_from_slice(b"\n\n");
        let json_as_sent = has_line_end.then(|| json.into_boxed_str());
        self.as_sent_bytes += json_as_sent.as_ref().map_or(0, |json| json.len());
        let mut event = recorded.arrived.event;
        (event.text, event.data) = (None, None);
        let block = begin..self.blocks.len();
        self.lines.push(Line { position, event, block, json: json_range, json_as_sent });
    }

    /// The bytes of the blocks so far.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether it holds no event.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The position of the last event.
    pub fn last(&self) -> Option<Position> {
        self.lines.last().map(|line| line.position)
    }

    /// The chunk.
    pub fn finish(mut self) -> Chunk {
        self.blocks.shrink_to_fit();
        let size = self.blocks.len() + self.as_sent_bytes + self.lines.len() * LINE_BYTES;
        Chunk { blocks: self.blocks.into(), lines: self.lines, size, is_kept: AtomicBool::new(false) }
    }
}

impl Chunk {
    /// The number of its events.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it holds no event.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the tail has it in memory, and so counts that.
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(Relaxed)
    }

    /// Records whether the tail has it in memory.
    pub(super) fn keep(&self, is_kept: bool) {
        self.is_kept.store(is_kept, Relaxed);
    }

    /// The bytes of all its blocks.
    pub fn block_bytes(&self) -> usize {
        self.blocks.len()
    }

    /// The memory that it takes, roughly.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The position of an event.
    pub fn position(&self, nth: usize) -> Option<Position> {
        self.lines.get(nth).map(|line| line.position)
    }

    /// The position of its last event.
    pub fn last(&self) -> Option<Position> {
        self.lines.last().map(|line| line.position)
    }

    /// The number of its events up to the one at this position; `None` if it has no such event.
    pub fn through(&self, position: Position) -> Option<usize> {
        let nth = self.lines.binary_search_by_key(&position.seq, |line| line.position.seq).ok()?;
        (self.position(nth)? == position).then_some(nth + 1)
    }

    /// Whether the filter lets an event through.
    pub fn lets_through(&self, nth: usize, filter: &LogFilter) -> bool {
        self.lines.get(nth).is_some_and(|line| filter.lets_through(&line.event))
    }

    /// The JSON of an event, as it is on a page.
    pub fn json(&self, nth: usize) -> &[u8] {
        let Some(line) = self.lines.get(nth) else { return b"" };
        match &line.json_as_sent {
            Some(json) => json.as_bytes(),
            None => self.blocks.get(line.json.clone()).unwrap_or_default(),
        }
    }

    /// The blocks of those events from the `first` one on that the filter lets through, without copying any. Blocks that
    /// stand together are one piece.
    pub fn blocks(&self, first: usize, filter: &LogFilter) -> Vec<Bytes> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let from_first = self.lines.get(first..).unwrap_or_default();
        for line in from_first.iter().filter(|line| filter.lets_through(&line.event)) {
            match ranges.last_mut() {
                Some(last) if last.end == line.block.start => last.end = line.block.end,
                _ => ranges.push(line.block.clone()),
            }
        }
        ranges.into_iter().map(|range| self.blocks.slice(range)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::{Arrived, Data, Kind};
    use crate::message;

    pub(in crate::tail) fn recorded(seq: i64) -> Recorded {
        let body = format!(
            r#"{{"message_id":"m{seq}","from":"+{}","to":"+2","ts":"2025-01-15T10:00:00Z"}}"#,
            seq % 2
        );
        let message = message::parse(body.as_bytes()).unwrap();
        Recorded::new(&[1; 16], Arrived { seq, event: Event::of_message(message, None, None) })
    }

    pub(in crate::tail) fn chunk(seqs: Range<i64>) -> Chunk {
        let mut encoder = Encoder::default();
        seqs.for_each(|seq| encoder.push(recorded(seq)));
        encoder.finish()
    }

    fn odd() -> LogFilter {
        LogFilter { from: Some("+1".into()), ..LogFilter::default() }
    }

    #[test]
    fn a_block_has_the_position_the_kind_and_the_json() {
        let one = recorded(7);
        let block = format!("id: {}\nevent: message\ndata: {}\n\n", one.position, one.json());
        let chunk = chunk(7..8);
        assert_eq!(chunk.blocks(0, &LogFilter::default()), [block.as_bytes()]);
        assert_eq!(chunk.json(0), one.json().as_bytes());
        assert_eq!((chunk.last(), chunk.through(one.position)), (Some(one.position), Some(1)));
    }

    #[test]
    fn data_with_line_ends_is_on_one_line_in_a_block_and_as_sent_on_a_page() {
        let mut one = recorded(7);
        one.arrived.event.kind = Kind::Status;
        one.arrived.event.data = Some(Data::from_json("{\r\n\"a\":\n1}"));
        let (json, line) = (one.json(), one.json_line());
        let mut encoder = Encoder::default();
        encoder.push(one.clone());
        let chunk = encoder.finish();
        let block = format!("id: {}\nevent: status\ndata: {line}\n\n", one.position);
        assert_eq!(chunk.blocks(0, &LogFilter::default()), [block.as_bytes()]);
        assert_eq!(chunk.json(0), json.as_bytes());
        assert_ne!(json, line);
    }

    #[test]
    fn a_filter_leaves_blocks_out_and_neighbours_are_one_piece() {
        let whole = chunk(1..6);
        let lengths = |first, filter: &LogFilter| -> Vec<usize> {
            whole
                .blocks(first, filter)
                .iter()
                .map(|piece| std::str::from_utf8(piece).unwrap().matches("\n\n").count())
                .collect()
        };
        assert_eq!(lengths(0, &LogFilter::default()), [5]);
        assert_eq!(lengths(2, &LogFilter::default()), [3]);
        assert_eq!(lengths(0, &odd()), [1, 1, 1]);
        assert_eq!(lengths(5, &LogFilter::default()), [0_usize; 0]);
        let none = LogFilter { source: Some("shop".into()), ..LogFilter::default() };
        assert_eq!(lengths(0, &none), [0_usize; 0]);
    }

    #[test]
    fn a_position_is_found_only_if_all_of_it_is_right() {
        let chunk = chunk(3..9);
        let mut position = recorded(5).position;
        assert_eq!(chunk.through(position), Some(3));
        position.tag ^= 1;
        assert_eq!(chunk.through(position), None);
        assert_eq!(chunk.through(recorded(9).position), None);
    }
}
