//! The bytes of a connection on their way to and from hyper.
//!
//! Hyper has no hook for what happens here. The first header is awaited without hyper. The phase of the
//! connection is recorded. Hyper's own empty response to an unreadable header is replaced by one in our form. A header with
//! both a `Content-Length` and a `Transfer-Encoding` is noticed, while hyper shows the latter only.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::HEADER_BUFFER_BYTES;
use super::presence::Presence;
use super::registry::{Connection, Phase};

/// Maximum number of bytes to read from a client that goes on sending after its last response.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// The beginning of hyper's own responses, and a part of each. None of ours has an empty body.
const STATUS_LINE: &[u8] = b"HTTP/1.1 4";
const EMPTY_BODY: &[u8] = b"\r\ncontent-length: 0\r\n";
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// Gives the bytes of the response to a header that cannot be read.
pub(super) type RefusalEncoder = Arc<dyn Fn(StatusCode) -> Vec<u8> + Send + Sync>;

/// The stream of a connection.
pub(super) struct Wire {
    stream: TcpStream,
    connection: Arc<Connection>,
    presence: Presence,
    /// Bytes of the first header, and perhaps of what follows it, that hyper has not read yet.
    first: Vec<u8>,
    ambiguous: Arc<AtomicBool>,
    lengths: Lengths,
    refuse: RefusalEncoder,
    /// Bytes of our response that replaces hyper's, not yet written.
    replacement: Vec<u8>,
    lingered: Option<usize>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, refuse: RefusalEncoder) -> Self {
        Self {
            stream,
            connection,
            presence: Presence::default(),
            first: Vec::new(),
            ambiguous: Arc::default(),
            lengths: Lengths::default(),
            refuse,
            replacement: Vec::new(),
            lingered: None,
        }
    }

    /// The flag for a header that gives the length of its body in two ways.
    pub(super) fn ambiguous(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ambiguous)
    }

    /// Tells whether the client is still there.
    pub(super) fn presence(&self) -> Presence {
        self.presence.clone()
    }

    /// Looks whether the client has ended its half, while a request waits for that. Hyper calls for a flush whenever it has
    /// nothing to do, and reads nothing while it serves a request.
    fn watch(&mut self, cx: &mut Context<'_>) {
        if !self.presence.is_watched() {
            return;
        }
        let mut room = [0; 1];
        let peeked = self.stream.poll_peek(cx, &mut ReadBuf::new(&mut room));
        if matches!(peeked, Poll::Ready(Ok(0) | Err(_))) {
            self.presence.leave();
        }
    }

    /// Waits until the first header has come, or bytes that no header may have. Hyper would take 24 KiB of memory to wait,
    /// which is much for a client that may never send a header.
    pub(super) async fn first_header(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_first_header(cx)).await
    }

    fn poll_first_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        // Hyper refuses a longer header.
        while self.first.len() < HEADER_BUFFER_BYTES {
            let mut buf = ReadBuf::new(&mut room);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
            if read.is_pending() {
                self.connection.await_client();
            }
            ready!(read)?;
            if buf.filled().is_empty() {
                break;
            }
            self.connection.hear();
            let seen = self.first.len();
            self.first.extend_from_slice(buf.filled());
            if is_for_hyper(&self.first, seen) {
                break;
            }
        }
        Poll::Ready(Ok(()))
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
        if wire.first.is_empty() {
            ready!(Pin::new(&mut wire.stream).poll_read(cx, buf))?;
        } else {
            let rest = wire.first.split_off(buf.remaining().min(wire.first.len()));
            buf.put_slice(&wire.first);
            wire.first = rest;
        }
        let arrived = buf.filled().get(before..).unwrap_or_default();
        if !arrived.is_empty() {
            wire.connection.hear();
            if wire.lengths.given_twice(arrived) {
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
        wire.watch(cx);
        flushed
    }

    /// Ends our half, then reads and drops what the client still sends, for a while: closing with unread bytes would reset
    /// the connection, and the client could lose our last response (RFC 9112, section 9.6).
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

/// Whether hyper can go on with these bytes: they end a header, or have a byte that no header may have, as a TLS greeting
/// has. The first `seen` bytes are known to do neither.
fn is_for_hyper(bytes: &[u8], seen: usize) -> bool {
    // Blank lines may come before a header.
    let Some(begin) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else { return false };
    // The end of a line may lie within the seen bytes.
    let new = bytes.get(begin.max(seen.saturating_sub(2))..).unwrap_or_default();
    new.windows(2).any(|window| window == b"\n\n")
        || new.windows(3).any(|window| window == b"\n\r\n")
        || new.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n'))
}

/// If `written` ends with a response of hyper's own: the bytes before it, and its status.
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

/// Looks for a header with both a `Transfer-Encoding` and a `Content-Length`, in whatever pieces it comes. Reads the lines
/// of bodies as well, since only hyper knows where a body ends; no message has lines of this form.
#[derive(Default)]
struct Lengths {
    /// The beginning of the current line, as far as it matters.
    line: Vec<u8>,
    encoding: bool,
    length: bool,
}

impl Lengths {
    /// Takes the next bytes. True if a header up to here gives the length of its body twice.
    fn given_twice(&mut self, bytes: &[u8]) -> bool {
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
    fn a_header_is_hypers_when_it_is_complete_or_none() {
        for (bytes, complete) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\nHost: a\n\n", true),
            ("GET / HTTP/1.1\r\nHost: a\n\r\nbody", true),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", true),
            ("\x16\x03\x01", true),
            ("GET /\0", true),
            ("GET / HTTP/1.1\r\nHost:\ta\r\n\r", false),
            ("GET / HTTP/1.1\r\nX: \u{e9}\r\n", false),
            ("\r\n\r\n\n\nGET / HTTP/1.1\r\n", false),
            ("\r\n\r\n", false),
        ] {
            assert_eq!(is_for_hyper(bytes.as_bytes(), 0), complete, "{bytes:?}");
            // The same in whatever two pieces it comes.
            for cut in 1..bytes.len() {
                let (first, whole) = (&bytes.as_bytes()[..cut], bytes.as_bytes());
                assert_eq!(is_for_hyper(first, 0) || is_for_hyper(whole, cut), complete, "{bytes:?} {cut}");
            }
        }
    }

    #[test]
    fn two_lengths_in_one_header_are_noticed() {
        for both in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 3\r\nhost: x\r\nTRANSFER-ENCODING: chunked\r\n\r\nabc",
            "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(Lengths::default().given_twice(both.as_bytes()), "{both}");
            let mut lengths = Lengths::default();
            let noticed = both.bytes().filter(|byte| lengths.given_twice(&[*byte])).count();
            assert_eq!(noticed, 1, "a byte at a time: {both}");
        }
        for one in [
            "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\n{\"text\":\"transfer-encoding: chunked\"}",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncontent-length\r\n",
            "",
        ] {
            assert!(!Lengths::default().given_twice(one.as_bytes()), "{one}");
        }
    }
}
