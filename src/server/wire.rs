//! The bytes of a connection on their way to and from hyper.
//!
//! Three things happen here that hyper has no handle for: it is noted what the connection waits for, the
//! empty answer that hyper itself gives to an unreadable header is replaced by one in our form, and a header
//! with both a `Content-Length` and a `Transfer-Encoding` is noticed, of which hyper shows only the latter.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::table::{Connection, Phase};

/// Most bytes that are read from a client that goes on sending after its last answer.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// How hyper's own answers begin and what they contain; none of ours has an empty body.
const STATUS_LINE: &[u8] = b"HTTP/1.1 4";
const EMPTY_BODY: &[u8] = b"\r\ncontent-length: 0\r\n";
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// Writes the answer to a header that cannot be read, whole, as it goes over the wire.
pub(super) type Refuse = Arc<dyn Fn(StatusCode) -> Vec<u8> + Send + Sync>;

/// A client's connection.
pub(super) struct Wire {
    stream: TcpStream,
    connection: Arc<Connection>,
    ambiguous: Arc<AtomicBool>,
    lengths: Lengths,
    refuse: Refuse,
    /// Our words in the place of hyper's, not yet written.
    replacement: Vec<u8>,
    lingered: Option<usize>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, refuse: Refuse) -> Self {
        Self {
            stream,
            connection,
            ambiguous: Arc::default(),
            lengths: Lengths::default(),
            refuse,
            replacement: Vec::new(),
            lingered: None,
        }
    }

    /// Whether a header came that says in two ways how long its body is.
    pub(super) fn ambiguous(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ambiguous)
    }

    fn poll_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.replacement))?;
            self.replacement.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut wire.stream).poll_read(cx, buf))?;
        let arrived = buf.filled().get(before..).unwrap_or_default();
        if !arrived.is_empty() {
            wire.connection.hear();
            if wire.lengths.said_twice(arrived) {
                wire.ambiguous.store(true, Relaxed);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let written = if let Some((before, status)) = automatic_answer(buf) {
            wire.replacement.extend_from_slice(before);
            wire.replacement.extend((wire.refuse)(status));
            Poll::Ready(Ok(buf.len()))
        } else {
            match wire.poll_replacement(cx) {
                Poll::Ready(Ok(())) => Pin::new(&mut wire.stream).poll_write(cx, buf),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        };
        wire.connection.write_blocked(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let flushed = wire.poll_replacement(cx);
        wire.connection.write_blocked(flushed.is_pending());
        flushed
    }

    /// Ends our half, then reads what the client still sends, for a while: closing with bytes unread would
    /// reset the connection and could take our last answer with it (RFC 9112, section 9.6).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let mut lingered = if let Some(bytes) = wire.lingered {
            bytes
        } else {
            ready!(wire.poll_replacement(cx))?;
            ready!(Pin::new(&mut wire.stream).poll_shutdown(cx))?;
            wire.connection.enter(Phase::Lingering);
            0
        };
        let mut waste = [0; 4096];
        while lingered < LINGER_BYTES_MAX {
            wire.lingered = Some(lingered);
            let mut buf = ReadBuf::new(&mut waste);
            ready!(Pin::new(&mut wire.stream).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                bytes => lingered += bytes,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether `written` ends with an answer of hyper's own: what stands before it, and its status.
fn automatic_answer(written: &[u8]) -> Option<(&[u8], StatusCode)> {
    if !written.ends_with(BLANK_LINE) {
        return None;
    }
    let begin = find_last(written, STATUS_LINE)?;
    let (before, answer) = written.split_at_checked(begin)?;
    answer.windows(EMPTY_BODY.len()).any(|part| part == EMPTY_BODY).then_some(())?;
    let status = answer.get(b"HTTP/1.1 ".len()..)?.get(..3)?;
    Some((before, StatusCode::from_bytes(status).ok()?))
}

fn find_last(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).rposition(|window| window == part)
}

/// Looks for a header with both a `Transfer-Encoding` and a `Content-Length`, in whatever pieces it comes. The
/// lines of bodies are looked at too, being told from headers by hyper only; no message has lines of this form.
#[derive(Default)]
struct Lengths {
    /// The line that is coming, as far as it matters.
    line: Vec<u8>,
    encoding: bool,
    length: bool,
}

impl Lengths {
    /// Takes the next bytes; whether one header up to here says twice how long its body is.
    fn said_twice(&mut self, bytes: &[u8]) -> bool {
        const ENCODING: &[u8] = b"transfer-encoding:";
        const LENGTH: &[u8] = b"content-length:";
        let mut twice = false;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = ENCODING.len().saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room).map(u8::to_ascii_lowercase));
            if !part.ends_with(b"\n") {
                break;
            }
            if matches!(self.line.as_slice(), b"\n" | b"\r\n") {
                (self.encoding, self.length) = (false, false);
            }
            self.encoding |= self.line.starts_with(ENCODING);
            self.length |= self.line.starts_with(LENGTH);
            twice |= self.encoding && self.length;
            self.line.clear();
        }
        twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_own_answers_are_told_from_ours() {
        let hypers = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(automatic_answer(hypers), Some((&b""[..], StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
        let ours = b"HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n{\"detail\":\"Not Found\"}";
        assert_eq!(automatic_answer(ours), None);
        let both = [ours.as_slice(), hypers].concat();
        assert_eq!(automatic_answer(&both).unwrap().0, ours);
        assert_eq!(
            automatic_answer(b"HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n"),
            None,
            "the answer to HEAD"
        );
    }

    #[test]
    fn two_lengths_in_one_header_are_noticed() {
        for both in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 3\r\nhost: x\r\nTRANSFER-ENCODING: chunked\r\n\r\nabc",
            "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(Lengths::default().said_twice(both.as_bytes()), "{both}");
            let mut lengths = Lengths::default();
            let noticed = both.bytes().filter(|byte| lengths.said_twice(&[*byte])).count();
            assert_eq!(noticed, 1, "a byte at a time: {both}");
        }
        for one in [
            "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\n{\"text\":\"transfer-encoding: chunked\"}",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncontent-length\r\n",
            "",
        ] {
            assert!(!Lengths::default().said_twice(one.as_bytes()), "{one}");
        }
    }
}
