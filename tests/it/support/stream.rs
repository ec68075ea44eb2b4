//! A stream of Server-Sent Events, block by block.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Connection, parse_head, request};

/// A stream that a service has begun to send.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Connection,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Unchunked and not used yet.
    text: Vec<u8>,
    /// So many bytes of it are known to hold no end of a block.
    looked_at: usize,
    /// Bytes of the current chunk that are still to come.
    left: usize,
    ended: bool,
}

/// A block of a stream, with its fields as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block(pub(crate) String);

impl Block {
    /// The value of a field; `None` if there is none.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values =
            self.0.lines().filter_map(|line| line.split_once(':')).filter(|(field, _)| *field == name);
        let values: Vec<_> = values.map(|(_, value)| value.strip_prefix(' ').unwrap_or(value)).collect();
        assert!(values.len() < 2, "{name} twice: {}", self.0);
        values.first().copied()
    }

    /// The id, which each block has.
    #[track_caller]
    pub(crate) fn id(&self) -> &str {
        self.field("id").unwrap_or_else(|| panic!("no id: {}", self.0))
    }

    /// The event in it, which must be what its other fields say; `None` if there is none.
    #[track_caller]
    pub(crate) fn event(&self) -> Option<Value> {
        let event: Value = serde_json::from_str(self.field("data")?).expect("JSON");
        assert_eq!(event["position"], self.id(), "{}", self.0);
        assert_eq!(event["kind"], self.field("event").unwrap(), "{}", self.0);
        assert_eq!(self.0.lines().count(), 3, "{}", self.0);
        Some(event)
    }
}

impl Stream {
    /// Asks for a stream, which must be given.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(Connection::open(address), target, headers).expect("an answer")
    }

    /// The same over a connection; `None` if it is closed without an answer.
    #[track_caller]
    pub(crate) fn try_open(
        mut connection: Connection,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Option<Self> {
        let headers: Vec<_> =
            [("Accept", "text/event-stream")].into_iter().chain(headers.iter().copied()).collect();
        connection.try_write(request("GET", target, &headers, b"")).ok()?;
        let head = connection.head()?;
        let (status, headers) = parse_head(&head);
        assert_eq!(status, 200, "{target}: {}", String::from_utf8_lossy(&head));
        Some(Self { connection, headers, text: Vec::new(), looked_at: 0, left: 0, ended: false })
    }

    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The next block; `None` at the end of the stream, in good order or not. Half a block at the end is dropped.
    #[track_caller]
    pub(crate) fn block(&mut self) -> Option<Block> {
        loop {
            let new = &self.text[self.looked_at..];
            if let Some(found) = new.windows(2).position(|pair| pair == b"\n\n") {
                let end = self.looked_at + found;
                let rest = self.text.split_off(end + 2);
                let mut block = std::mem::replace(&mut self.text, rest);
                block.truncate(end);
                self.looked_at = 0;
                return Some(Block(String::from_utf8(block).expect("UTF-8")));
            }
            self.looked_at = self.text.len().saturating_sub(1);
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next event; `None` at the end of the stream.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.block()?.event() {
                return Some(event);
            }
        }
    }

    /// Whether the stream has ended as HTTP says that it is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Unchunks what has come, waiting for some; `false` at the end.
    #[track_caller]
    fn fill(&mut self) -> bool {
        while !self.ended {
            if self.left > 0 {
                let waiting = self.connection.waiting();
                if !waiting.is_empty() {
                    let rest = waiting.split_off(waiting.len().min(self.left));
                    let piece = std::mem::replace(waiting, rest);
                    self.left -= piece.len();
                    self.text.extend_from_slice(&piece);
                    return true;
                }
            } else if let Some(size) = self.next_size() {
                self.left = size;
                self.ended = size == 0;
                continue;
            }
            if self.ended || !self.connection.fill() {
                return false;
            }
        }
        false
    }

    /// The size of the next chunk, if its line has come.
    fn next_size(&mut self) -> Option<usize> {
        let waiting = self.connection.waiting();
        let begin = if waiting.starts_with(b"\r\n") { 2 } else { 0 };
        let length = waiting.get(begin..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let line: Vec<u8> = waiting.drain(..begin + length + 2).collect();
        let digits = std::str::from_utf8(&line[begin..begin + length]).unwrap();
        Some(usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("no size: {digits:?}")))
    }
}
