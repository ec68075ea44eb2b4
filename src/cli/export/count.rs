//! Counts the lines of an export while it comes.

/// How many messages or events have come as a whole.
#[derive(Debug)]
pub(super) struct Count {
    is_csv: bool,
    /// Within a field in quotes, where a line end ends no line.
    is_quoted: bool,
    lines: u64,
}

impl Count {
    /// None yet. Of comma-separated values the first line has the names of the columns.
    pub(super) fn new(is_csv: bool) -> Self {
        Self { is_csv, is_quoted: false, lines: 0 }
    }

    /// Takes in the next bytes. Returns how many there are so far.
    pub(super) fn add(&mut self, bytes: &[u8]) -> u64 {
        for byte in bytes {
            match byte {
                b'"' if self.is_csv => self.is_quoted = !self.is_quoted,
                b'\n' if !self.is_quoted => self.lines += 1,
                _ => {}
            }
        }
        self.lines.saturating_sub(self.is_csv.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_in_whatever_pieces_they_come() {
        for (text, is_csv, expected) in [
            ("", false, 0),
            ("{\"a\":\"\\\"\"}\n{}\n{", false, 2),
            ("", true, 0),
            ("a,b\r\n", true, 0),
            ("a,b\r\n1,\"x\r\n\"\"\ny\"\r\n2,\"\"\r\n3,\"\n", true, 2),
        ] {
            assert_eq!(Count::new(is_csv).add(text.as_bytes()), expected, "{text:?}");
            let mut count = Count::new(is_csv);
            let last = text.bytes().map(|byte| count.add(&[byte])).last();
            assert_eq!(last.unwrap_or(0), expected, "{text:?}");
        }
    }
}
