//! An answer in chunks, as it comes.

use std::net::SocketAddr;

use super::client::{Connection, Reply, parse_head, request};
use super::openapi;

/// A 200 in chunks that a service has begun to send.
#[derive(Debug)]
pub(crate) struct Chunked {
    connection: Connection,
    target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Unchunked and not used yet.
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the current chunk that are still to come.
    left: usize,
    ended: bool,
}

impl Chunked {
    /// Asks for it, and it must be given.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(Connection::open(address), target, headers).expect("an answer")
    }

    /// The same over a connection; `None` if it is closed without an answer.
    #[track_caller]
    pub(crate) fn try_open(connection: Connection, target: &str, headers: &[(&str, &str)]) -> Option<Self> {
        let answer = Self::ask(connection, target, headers)?;
        Some(answer.unwrap_or_else(|status| panic!("{target}: {status}")))
    }

    /// The same, or the status of another answer.
    #[track_caller]
    pub(crate) fn ask(
        mut connection: Connection,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Option<Result<Self, u16>> {
        connection.try_write(request("GET", target, headers, b"")).ok()?;
        let (status, headers) = parse_head(&connection.head()?);
        let target = target.to_owned();
        let whole = Self { connection, target, headers, bytes: Vec::new(), left: 0, ended: false };
        Some(if status == 200 { Ok(whole) } else { Err(status) })
    }

    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has ended as HTTP says that it is whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The whole of it, as a documented answer.
    #[track_caller]
    pub(crate) fn whole(mut self) -> Reply {
        while self.fill() {}
        assert!(self.ended, "{} is cut off after {} bytes", self.target, self.bytes.len());
        let reply = Reply { status: 200, headers: self.headers, body: self.bytes, continues: 0 };
        openapi::check("GET", &self.target, &reply);
        reply
    }

    /// What comes of it until it is cut off, as it must be.
    #[track_caller]
    pub(crate) fn part(mut self) -> Vec<u8> {
        while self.fill() {}
        assert!(!self.ended, "{} is not cut off, after {} bytes", self.target, self.bytes.len());
        self.bytes
    }

    /// Unchunks what has come, waiting for some; `false` at the end.
    #[track_caller]
    pub(crate) fn fill(&mut self) -> bool {
        while !self.ended {
            if self.left > 0 {
                let waiting = self.connection.waiting();
                if !waiting.is_empty() {
                    let rest = waiting.split_off(waiting.len().min(self.left));
                    let piece = std::mem::replace(waiting, rest);
                    self.left -= piece.len();
                    self.bytes.extend_from_slice(&piece);
                    return true;
                }
            } else if let Some(size) = self.next_size() {
                self.left = size;
                self.ended = size == 0 && self.is_last_line();
                continue;
            }
            if self.ended || !self.connection.fill() {
                return false;
            }
        }
        false
    }

    /// Whether the blank line comes that ends the answer.
    #[track_caller]
    fn is_last_line(&mut self) -> bool {
        while self.connection.waiting().len() < 2 && self.connection.fill() {}
        let waiting = self.connection.waiting();
        let is_blank = waiting.starts_with(b"\r\n");
        drop(waiting.drain(..waiting.len().min(2)));
        is_blank
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
