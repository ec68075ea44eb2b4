//! A parser of Server-Sent Events (WHATWG HTML, 9.2.6 "Interpreting an event stream"). Pure, and indifferent to where the
//! stream is cut.

use std::time::Duration;

/// Maximum size of a block, in bytes: far more than the greatest event.
const BLOCK_BYTES_MAX: usize = 128 << 20;

/// Reads a stream of Server-Sent Events, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The begin of a line that has not ended yet.
    line: Vec<u8>,
    /// The line before ended with a carriage return, of which a line feed may be a part.
    after_return: bool,
    /// The first line, which may begin with a byte-order mark, is over.
    begun: bool,
    block: Block,
    /// A field of this block says something.
    says_something: bool,
}

/// What a block, up to a blank line, says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// The last id in the stream so far; `None` if there was none yet.
    pub(super) id: Option<String>,
    /// The type of the event; empty if it has none.
    pub(super) event: String,
    /// The data of the event, in lines; `None` if this block is no event.
    pub(super) data: Option<String>,
    /// The last time to wait before a reconnection in the stream so far.
    pub(super) retry: Option<Duration>,
}

/// A block is greater than any that Lyftr sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than 128 MiB")]
pub(super) struct TooLong;

impl Parser {
    /// Reads on. Returns the blocks that are complete now; one that the stream ends in is none.
    ///
    /// # Errors
    /// [`TooLong`]
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Block>, TooLong> {
        let mut blocks = Vec::new();
        while let Some((first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + part.len() + self.block.data.as_ref().map_or(0, String::len)
                > BLOCK_BYTES_MAX
            {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            bytes = rest;
            if let Some((end, rest)) = rest.split_first() {
                self.after_return = *end == b'\r';
                bytes = rest;
                blocks.extend(self.end_line());
            }
        }
        Ok(blocks)
    }

    /// Interprets the line that has ended. Returns the block that it ends.
    fn end_line(&mut self) -> Option<Block> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_block();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match field {
            b"event" => self.block.event = value.into_owned(),
            b"data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                none => *none = Some(value.into_owned()),
            },
            b"id" if !value.contains('\0') => self.block.id = Some(value.into_owned()),
            b"retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.block.retry = value.parse().ok().map(Duration::from_millis);
            }
            // Among others a comment, whose line begins with the colon.
            _ => return None,
        }
        self.says_something = true;
        None
    }

    fn end_block(&mut self) -> Option<Block> {
        let next = Block { id: self.block.id.clone(), retry: self.block.retry, ..Block::default() };
        let ended = std::mem::replace(&mut self.block, next);
        std::mem::take(&mut self.says_something).then_some(ended)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(stream: &[u8]) -> Vec<Block> {
        Parser::default().push(stream).unwrap()
    }

    /// A block with this id, or with "-" for none so far.
    fn block(id: &str, event: &str, data: Option<&str>) -> Block {
        let id = (id != "-").then(|| id.into());
        Block { id, event: event.into(), data: data.map(Into::into), retry: None }
    }

    /// The examples of WHATWG HTML, 9.2.6.
    #[test]
    fn the_examples_of_the_standard_are_read_as_it_says() {
        assert_eq!(parse(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [block("-", "", Some("YHOO\n+2\n10"))]);
        let stream =
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event";
        assert_eq!(
            parse(stream),
            [block("1", "", Some("first event")), block("", "", Some("second event"))],
            "the last one is not complete"
        );
        assert_eq!(
            parse(b"data\n\ndata\ndata\n\ndata:"),
            [block("-", "", Some("")), block("-", "", Some("\n"))]
        );
        assert_eq!(parse(b"data:test\n\ndata: test\n\n"), vec![block("-", "", Some("test")); 2]);
    }

    #[test]
    fn an_id_stays_until_another_one_comes_and_a_type_holds_for_one_block() {
        let stream = b"id: a\n\nevent: message\ndata: 1\n\ndata: 2\nid: b\n\nid: c\0\ndata: 3\n\n:\n\n";
        let expected = [
            block("a", "", None),
            block("a", "message", Some("1")),
            block("b", "", Some("2")),
            block("b", "", Some("3")),
        ];
        assert_eq!(parse(stream), expected);
    }

    #[test]
    fn every_end_of_a_line_is_one_and_a_byte_order_mark_is_none_of_the_first_line() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = ["\u{feff}id: a", "data: 1", "", "\u{feff}data: 2", "data: 3", "", ""].join(end);
            assert_eq!(parse(stream.as_bytes()), [block("a", "", Some("1")), block("a", "", Some("3"))]);
        }
    }

    #[test]
    fn only_digits_are_a_time_to_wait() {
        let retry = |given: &str| {
            parse(format!("retry:{given}\ndata:x\n\n").as_bytes()).pop().and_then(|block| block.retry)
        };
        assert_eq!(retry(" 2000"), Some(Duration::from_secs(2)));
        assert_eq!(parse(b"retry: 2000\n\ndata: x\n\n").pop().unwrap().retry, Some(Duration::from_secs(2)));
        for wrong in ["", "-1", "+1", "1.5", "2000 ", "99999999999999999999"] {
            assert_eq!(retry(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_block_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        parser.push(b"data: ").unwrap();
        assert!((0..=128).any(|_| parser.push(&piece) == Err(TooLong)));
    }

    /// Streams of lines as they are, of what is nearly one, and of any bytes.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", ":", " ", "\0", "\u{feff}", "é"])
                .prop_map(|text| text.as_bytes().to_vec()),
            8 => prop::sample::select(vec!["id:", "data: ", "data:", "event: ", "retry:1", "id", "data", ":c", "x: "])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_stream_says_the_same_wherever_it_is_cut(stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let whole = parse(&stream);
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let mut parser = Parser::default();
            let pieces = at.windows(2).flat_map(|cut| parser.push(&stream[cut[0]..cut[1]]).unwrap());
            prop_assert_eq!(pieces.collect::<Vec<_>>(), whole.clone());
            let mut parser = Parser::default();
            let bytes = stream.iter().flat_map(|byte| parser.push(&[*byte]).unwrap());
            prop_assert_eq!(bytes.collect::<Vec<_>>(), whole);
        }

        #[test]
        fn what_was_written_as_a_block_is_read_back(
            ids in prop::collection::vec("[a-f0-9]{1,32}", 1..6), data in prop::collection::vec("[^\r\n]{0,20}", 6), end in "\n|\r|\r\n"
        ) {
            let blocks = ids.iter().zip(&data);
            let stream: String = blocks.clone().map(|(id, data)| ["id: ", id, &end, "event: status", &end, "data: ", data, &end, &end].concat()).collect();
            let expected: Vec<_> = blocks.map(|(id, data)| block(id, "status", Some(data))).collect();
            prop_assert_eq!(parse(stream.as_bytes()), expected);
        }
    }
}
