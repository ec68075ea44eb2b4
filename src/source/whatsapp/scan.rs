//! One pass over a JSON text (RFC 8259): whether it is one value, and where its values begin and end.

/// Number of levels of objects and arrays whose members are noted. Nothing deeper is asked for.
const DEPTH_NOTED: usize = 32;
/// Number of bytes of a text for each value and key, as a first guess.
const NODE_BYTES: usize = 12;

/// A value, or the key of a member, in the order in which they begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Its bytes in the text.
    pub(super) start: u32,
    pub(super) end: u32,
    /// The place of the first node after it and all that it holds. What it holds follows right behind it.
    pub(super) next: u32,
    /// It is a string with escapes.
    pub(super) has_escapes: bool,
}

/// The values of a text; `None` if it is not one value of JSON, or longer than 4 GiB. Takes no stack, however deep the values
/// nest, and memory in proportion to the text.
pub(super) fn nodes(text: &str) -> Option<Vec<Node>> {
    u32::try_from(text.len()).ok()?;
    let nodes = Vec::with_capacity(text.len() / NODE_BYTES);
    let (noted, open) = (Vec::with_capacity(DEPTH_NOTED), Vec::with_capacity(DEPTH_NOTED));
    Scan { bytes: text.as_bytes(), at: 0, nodes, noted, open }.whole()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The places in `nodes` of the objects and arrays that are open and noted.
    noted: Vec<usize>,
    /// The bytes that close the open objects and arrays.
    open: Vec<u8>,
}

impl Scan<'_> {
    fn whole(mut self) -> Option<Vec<Node>> {
        loop {
            self.skip_space();
            if self.value()? {
                continue;
            }
            loop {
                self.skip_space();
                let Some(closing) = self.open.last().copied() else {
                    return (self.at == self.bytes.len()).then_some(self.nodes);
                };
                match self.take()? {
                    b',' if closing == b'}' => {
                        self.skip_space();
                        self.key()?;
                        break;
                    }
                    b',' => break,
                    byte if byte == closing => self.close(),
                    _ => return None,
                }
            }
        }
    }

    /// Takes a value, or the beginning of an object or array up to its first value: then it is true.
    fn value(&mut self) -> Option<bool> {
        let start = self.at;
        match self.take()? {
            b'{' => {
                self.open(start, b'}');
                self.skip_space();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    self.close();
                    return Some(false);
                }
                self.key()?;
                return Some(true);
            }
            b'[' => {
                self.open(start, b']');
                self.skip_space();
                if self.peek() != Some(b']') {
                    return Some(true);
                }
                self.at += 1;
                self.close();
                return Some(false);
            }
            b'"' => {
                let has_escapes = self.string()?;
                self.note(start, has_escapes);
                return Some(false);
            }
            b't' => self.literal(b"rue")?,
            b'f' => self.literal(b"alse")?,
            b'n' => self.literal(b"ull")?,
            b'-' => {
                let first = self.take()?;
                self.number(first)?;
            }
            first => self.number(first)?,
        }
        self.note(start, false);
        Some(false)
    }

    /// Takes a key and its colon.
    fn key(&mut self) -> Option<()> {
        let start = self.at;
        self.expect(b'"')?;
        let has_escapes = self.string()?;
        self.note(start, has_escapes);
        self.skip_space();
        self.expect(b':')
    }

    /// Takes the rest of a string; whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        let mut has_escapes = false;
        loop {
            self.skip_plain();
            match self.take()? {
                b'"' => return Some(has_escapes),
                b'\\' => self.escape()?,
                // A control character.
                _ => return None,
            }
            has_escapes = true;
        }
    }

    /// Takes the rest of an escape.
    fn escape(&mut self) -> Option<()> {
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    /// Skips what ends no string and begins no escape, eight bytes at a time.
    fn skip_plain(&mut self) {
        while let Some(Ok(bytes)) = self.bytes.get(self.at..self.at + 8).map(<[u8; 8]>::try_from) {
            let special = special(u64::from_le_bytes(bytes));
            if special != 0 {
                // The lowest bit that is set is right; others may be set by a borrow from below.
                self.at += usize::try_from(special.trailing_zeros() / 8).unwrap_or_default();
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    /// Takes the rest of a number, whose sign and first digit are taken.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        self.take()?.is_ascii_digit().then(|| self.skip_digits())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn literal(&mut self, rest: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(rest).then(|| self.at += rest.len())
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }

    fn open(&mut self, start: usize, closing: u8) {
        if self.open.len() < DEPTH_NOTED {
            self.noted.push(self.nodes.len());
            self.note(start, false);
        }
        self.open.push(closing);
    }

    fn close(&mut self) {
        self.open.pop();
        if self.open.len() < DEPTH_NOTED {
            let (end, next) = (place(self.at), place(self.nodes.len()));
            if let Some(node) = self.noted.pop().and_then(|at| self.nodes.get_mut(at)) {
                (node.end, node.next) = (end, next);
            }
        }
    }

    /// Notes a value that ends here.
    fn note(&mut self, start: usize, has_escapes: bool) {
        if self.open.len() <= DEPTH_NOTED {
            let (end, next) = (place(self.at), place(self.nodes.len() + 1));
            self.nodes.push(Node { start: place(start), end, next, has_escapes });
        }
    }
}

/// A place in the text or among its nodes, of which there are no more than bytes.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A word in which the lowest bit that is set belongs to the first of eight bytes that is a quotation mark, a backslash or a
/// control character; zero if there is none.
fn special(bytes: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let below_space = bytes.wrapping_sub(ONES * 0x20) & !bytes & HIGH;
    zeros(bytes ^ (ONES * 0x22)) | zeros(bytes ^ (ONES * 0x5C)) | below_space
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// Whether the text is JSON, by this and by another reader.
    fn verdicts(text: &str) -> [bool; 2] {
        [nodes(text).is_some(), serde_json::from_str::<IgnoredAny>(text).is_ok()]
    }

    #[test]
    fn what_is_json_is_read_and_nothing_else() {
        for good in [
            "0",
            "-0",
            "-1.5e+10",
            "1E400",
            "12.0",
            "\"\"",
            "\"\\ud800\\/\u{7f}é\"",
            "true",
            "false",
            "null",
            " [ ] ",
            "{}",
            "[[],{}]",
            "{\"\":0,\"\":[1 , 2]}\r\n\t",
            "[\"12345678\",\"1234567\\\"\"]",
        ] {
            assert_eq!(verdicts(good), [true, true], "{good}");
        }
        for bad in [
            "",
            " ",
            "01",
            "-",
            "+1",
            "1.",
            ".1",
            "1e",
            "1e+",
            "0x1",
            "tru",
            "nulll",
            "\"",
            "\"\\u12g4\"",
            "\"\\u12",
            "\"\\x\"",
            "\"\n\"",
            "\"1234567\u{1f}\"",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "[1}",
            "{\"a\":1]",
            "{}{}",
            "1 1",
            "\u{feff}1",
            "[1]]",
            "\u{a0}1",
            "//",
            "'a'",
            "NaN",
            "{\"a\" 1}",
        ] {
            assert_eq!(verdicts(bad), [false, false], "{bad:?}");
        }
    }

    fn range(node: &Node) -> std::ops::Range<usize> {
        node.start.try_into().unwrap()..node.end.try_into().unwrap()
    }

    #[test]
    fn each_node_is_its_value_and_leads_behind_it() {
        let text = " {\"a\": [1, {\"b\" :[]}], \"c\":\"]\"} ";
        let nodes = nodes(text).unwrap();
        let told: Vec<_> = nodes.iter().map(|node| (text.get(range(node)).unwrap(), node.next)).collect();
        let expected = [
            (text.trim(), 9),
            ("\"a\"", 2),
            ("[1, {\"b\" :[]}]", 7),
            ("1", 4),
            ("{\"b\" :[]}", 7),
            ("\"b\"", 6),
            ("[]", 7),
            ("\"c\"", 8),
            ("\"]\"", 9),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for at in 0..8 {
            for byte in 0..=u8::MAX {
                for rest in [b' ', b'a', 0x80, 0xFF, b'!', b'#'] {
                    let mut bytes = [rest; 8];
                    bytes[at] = byte;
                    let is_special = byte < b' ' || byte == b'"' || byte == b'\\';
                    let found =
                        usize::try_from(special(u64::from_le_bytes(bytes)).trailing_zeros() / 8).unwrap();
                    assert_eq!(found, if is_special { at } else { 8 }, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn depth_takes_memory_by_its_length_and_no_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let noted = nodes(&deep).unwrap();
        assert_eq!((noted.len(), noted[0].end), (DEPTH_NOTED, 2_000_000));
        assert!(
            nodes(deep.strip_prefix('[').unwrap()).is_none()
                && nodes(deep.strip_suffix(']').unwrap()).is_none()
        );
    }

    proptest! {
        #[test]
        fn every_text_is_judged_alike(text in "([\\[\\]{},:\" \\\\u0-9a-f\\n.eE+-]|true|null|\"a\":|\"\\\\[nu/x]\"|é|\"[a-z😀\\x00-\\x20\"\\\\]{6,10}\"){0,12}") {
            let [ours, theirs] = verdicts(&text);
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
