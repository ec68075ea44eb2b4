//! A stream of Server-Sent Events, block by block.

use std::net::SocketAddr;

use serde_json::Value;

use super::chunked::Chunked;
use super::client::Connection;

/// A stream that a service has begun to send.
#[derive(Debug)]
pub(crate) struct Stream {
    answer: Chunked,
    /// So many of the bytes that are not used yet are known to hold no end of a block.
    looked_at: usize,
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
    pub(crate) fn try_open(connection: Connection, target: &str, headers: &[(&str, &str)]) -> Option<Self> {
        let headers: Vec<_> =
            [("Accept", "text/event-stream")].into_iter().chain(headers.iter().copied()).collect();
        Some(Self { answer: Chunked::try_open(connection, target, &headers)?, looked_at: 0 })
    }

    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// The next block; `None` at the end of the stream, in good order or not. Half a block at the end is dropped.
    #[track_caller]
    pub(crate) fn block(&mut self) -> Option<Block> {
        loop {
            let new = &self.answer.bytes[self.looked_at..];
            if let Some(found) = new.windows(2).position(|pair| pair == b"\n\n") {
                let end = self.looked_at + found;
                let rest = self.answer.bytes.split_off(end + 2);
                let mut block = std::mem::replace(&mut self.answer.bytes, rest);
                block.truncate(end);
                self.looked_at = 0;
                return Some(Block(String::from_utf8(block).expect("UTF-8")));
            }
            self.looked_at = self.answer.bytes.len().saturating_sub(1);
            if !self.answer.fill() {
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
        self.answer.is_whole()
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        self.answer.connection()
    }
}
