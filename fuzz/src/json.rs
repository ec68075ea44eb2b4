//! A reader of JSON (RFC 8259) that shares nothing with `serde_json`: the members of the outermost object, and of
//! what is in them only whether it is JSON.

/// What a member holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// A string that is none of Unicode: it has half a surrogate pair.
    Broken,
    Null,
    Other,
}

/// The members in their order, repeated keys included; none if this is no object, or if a key is none of Unicode.
pub fn members(text: &str) -> Option<Vec<(String, Value)>> {
    let mut reader = Reader { rest: text.as_bytes() };
    let mut members = Vec::new();
    reader.space();
    reader.take(b'{')?;
    reader.space();
    if reader.take(b'}').is_none() {
        loop {
            let Value::Text(key) = reader.key()? else { return None };
            members.push((key, reader.value()?));
            reader.space();
            match reader.next()? {
                b',' => reader.space(),
                b'}' => break,
                _ => return None,
            }
        }
    }
    reader.space();
    reader.rest.is_empty().then_some(members)
}

/// Whether this is one JSON value.
pub fn is_json(text: &str) -> bool {
    let mut reader = Reader { rest: text.as_bytes() };
    let is_value = reader.anything().is_some();
    reader.space();
    is_value && reader.rest.is_empty()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.next();
        }
    }

    /// A key and the colon after it.
    fn key(&mut self) -> Option<Value> {
        let key = self.string()?;
        self.space();
        self.take(b':')?;
        Some(key)
    }

    fn value(&mut self) -> Option<Value> {
        self.space();
        match self.peek()? {
            b'"' => self.string(),
            b'n' => self.word(b"null").map(|()| Value::Null),
            _ => self.anything().map(|()| Value::Other),
        }
    }

    /// Any value, however deep: what is open is kept in a stack of our own.
    fn anything(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.space();
            match self.peek()? {
                b'{' => {
                    self.next();
                    self.space();
                    if self.take(b'}').is_none() {
                        self.key()?;
                        open.push(b'{');
                        continue;
                    }
                }
                b'[' => {
                    self.next();
                    self.space();
                    if self.take(b']').is_none() {
                        open.push(b'[');
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if self.close(&mut open)? {
                return Some(());
            }
        }
    }

    /// Reads on after a value, to where the next one must begin; true if there is nothing open any more.
    fn close(&mut self, open: &mut Vec<u8>) -> Option<bool> {
        while let Some(innermost) = open.last() {
            self.space();
            match (innermost, self.next()?) {
                (b'[', b',') => return Some(false),
                (b'{', b',') => {
                    self.space();
                    self.key()?;
                    return Some(false);
                }
                (b'[', b']') | (b'{', b'}') => drop(open.pop()),
                _ => return None,
            }
        }
        Some(true)
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let _minus = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if self.take(b'e').or_else(|| self.take(b'E')).is_some() {
            let _sign = self.take(b'-').or_else(|| self.take(b'+'));
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(())
    }

    /// A text, or what is broken.
    fn string(&mut self) -> Option<Value> {
        self.take(b'"')?;
        let mut units = Vec::new();
        loop {
            let count = self.rest.iter().take_while(|byte| **byte >= b' ' && !b"\"\\".contains(byte)).count();
            let (plain, rest) = self.rest.split_at(count);
            units.extend(std::str::from_utf8(plain).unwrap().encode_utf16());
            self.rest = rest;
            match self.next()? {
                b'"' => return Some(String::from_utf16(&units).map_or(Value::Broken, Value::Text)),
                b'\\' => units.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        Some(match self.next()? {
            plain @ (b'"' | b'\\' | b'/') => plain.into(),
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => 0x0a,
            b'r' => 0x0d,
            b't' => 0x09,
            b'u' => {
                let (digits, rest) = self.rest.split_at_checked(4)?;
                self.rest = rest;
                digits.iter().try_fold(0, |sum, digit| {
                    Some(sum << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?)
                })?
            }
            _ => return None,
        })
    }
}
