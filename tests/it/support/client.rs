//! A blocking HTTP/1.1 client of our own, so that a test sees and sends exactly the bytes it wants to.
//!
//! Whatever is read is held to docs/openapi.json before the test gets it. No read waits longer than
//! [`DEADLINE`](super::DEADLINE).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::{DEADLINE, openapi, sign};

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, in the order of arrival.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How many `100 Continue` came before it.
    pub(crate) continues: usize,
}

impl Reply {
    /// The value of a header that came at most once; `name` in lower case.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} came more than once: {self:?}");
        value
    }

    /// The body as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON. What a provider sent stands in it untouched, which may be half a surrogate pair: U+FFFD here, since a
    /// string of Rust cannot hold it.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.or_else(|_| serde_json::from_str(&with_whole_pairs(self.text()))).expect("the body is JSON")
    }

    /// The id of the request.
    #[track_caller]
    pub(crate) fn request_id(&self) -> &str {
        self.header("x-request-id").expect("X-Request-ID")
    }

    /// Status and body in one line, for snapshots.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// JSON in which half a surrogate pair is the escape of U+FFFD.
fn with_whole_pairs(json: &str) -> String {
    let unit =
        |text: &str| -> Option<u16> { u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok() };
    let (mut whole, mut rest) = (String::new(), json);
    while let Some((before, _)) = rest.split_once('\\') {
        let escape = &rest[before.len()..];
        whole += before;
        let next = escape.get(6..).and_then(unit);
        let (kept, length) = match (unit(escape), next) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (&escape[..12], 12),
            (Some(0xd800..0xe000), _) => ("\\ufffd", 6),
            _ => (&escape[..2], 2),
        };
        whole += kept;
        rest = &escape[length..];
    }
    whole + rest
}

/// One connection, byte by byte.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read and not yet used.
    waiting: Vec<u8>,
    /// The other side has ended its half.
    ended: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream, waiting: Vec::new(), ended: false }
    }

    /// The socket, e.g. to see which port it has.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends these bytes.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes).expect("write");
    }

    /// Sends these bytes, unless the other side has closed the connection.
    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Ends our half: nothing more will be sent, but answers can be read.
    pub(crate) fn end_writing(&self) {
        // The other side may have gone already.
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// Reads the next answer, which is to a request with this method and target. For what is no request at
    /// all, say `"?"` for both.
    #[track_caller]
    pub(crate) fn reply(&mut self, method: &str, target: &str) -> Reply {
        self.reply_or_end(method, target)
            .unwrap_or_else(|| panic!("{method} {target}: closed without an answer"))
    }

    /// Like [`Self::reply`]; `None` when the connection was closed instead.
    #[track_caller]
    pub(crate) fn reply_or_end(&mut self, method: &str, target: &str) -> Option<Reply> {
        let mut continues = 0;
        loop {
            let head = self.head()?;
            let (status, headers) = parse_head(&head);
            if status == 100 {
                continues += 1;
                continue;
            }
            let body = if method == "HEAD" || status == 204 || status == 304 {
                Vec::new()
            } else {
                self.body(&headers)
            };
            let reply = Reply { status, headers, body, continues };
            openapi::check(method, target, &reply);
            return Some(reply);
        }
    }

    /// Waits for `100 Continue`, which must be what comes next.
    #[track_caller]
    pub(crate) fn expect_continue(&mut self) {
        let head = self.head().expect("closed without an answer");
        assert_eq!(head, b"HTTP/1.1 100 Continue\r\n\r\n", "{}", String::from_utf8_lossy(&head));
    }

    /// Waits for the other side to end the connection, in good order or not.
    ///
    /// # Panics
    /// If it sends anything more, or does not end it in time.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        while self.fill() {}
        assert!(self.waiting.is_empty(), "more came: {}", String::from_utf8_lossy(&self.waiting));
    }

    /// Reads whatever comes, unchecked, until the end.
    #[track_caller]
    pub(crate) fn read_all(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.waiting)
    }

    /// Whether an answer, or some of it, or the end has come, as far as can be seen without waiting.
    pub(crate) fn has_arrived(&mut self) -> bool {
        self.is_ended() || !self.waiting.is_empty()
    }

    /// Whether the other side has ended the connection, as far as can be seen without waiting.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.waiting.extend_from_slice(&buffer[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.ended = true,
            }
            break;
        }
        self.stream.set_nonblocking(false).unwrap();
        self.ended
    }

    /// Reads once more; `false` at the end.
    #[track_caller]
    pub(super) fn fill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.waiting.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let waiting = String::from_utf8_lossy(&self.waiting);
                panic!("nothing came for {DEADLINE:?}, and the connection is open; so far: {waiting:?}");
            }
            // A reset is an end too.
            Err(_) => self.ended = true,
        }
        !self.ended
    }

    /// What was read and not used yet.
    pub(super) fn waiting(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// The bytes up to and with the next blank line.
    #[track_caller]
    pub(super) fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.waiting.windows(4).position(|window| window == b"\r\n\r\n") {
                return Some(self.waiting.drain(..end + 4).collect());
            }
            if !self.fill() {
                let left = String::from_utf8_lossy(&self.waiting);
                assert!(self.waiting.is_empty(), "closed in the middle of a header: {left:?}");
                return None;
            }
        }
    }

    #[track_caller]
    fn body(&mut self, headers: &[(String, String)]) -> Vec<u8> {
        let value =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("transfer-encoding"), None, "every answer has its length known");
        let length: usize = value("content-length").expect("Content-Length").parse().expect("Content-Length");
        while self.waiting.len() < length {
            assert!(self.fill(), "closed in the middle of a body of {length}, at {}", self.waiting.len());
        }
        self.waiting.drain(..length).collect()
    }
}

#[track_caller]
pub(super) fn parse_head(head: &[u8]) -> (u16, Vec<(String, String)>) {
    let text = std::str::from_utf8(head).expect("the header is UTF-8").trim_end_matches("\r\n");
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap();
    let rest = status_line.strip_prefix("HTTP/1.1 ").or_else(|| status_line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    (status, headers)
}

/// The statuses of the answers in these bytes, which are not looked at otherwise.
#[track_caller]
pub(crate) fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    assert!(text.is_empty() || text.starts_with("HTTP/1."), "{text}");
    text.split("HTTP/1.").skip(1).map(|answer| answer[2..5].parse().unwrap()).collect()
}

/// The bytes of a request in HTTP/1.1. `Host` is added, and `Content-Length` if there is a body.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: lyftr.test\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes of a signed `POST /webhook` with this body.
pub(crate) fn signed(body: &[u8]) -> Vec<u8> {
    request("POST", "/webhook", &[("X-Signature", &sign(body))], body)
}

/// Asks one thing after the other, over one connection as long as that stays open.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<Connection>,
    /// How many connections it has opened.
    pub(crate) connections: usize,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None, connections: 0 }
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, &[], b"")
    }

    pub(crate) fn head(&mut self, target: &str) -> Reply {
        self.request("HEAD", target, &[], b"")
    }

    /// `GET`, where anything but a 200 fails the test.
    #[track_caller]
    pub(crate) fn json(&mut self, target: &str) -> Value {
        let reply = self.get(target);
        assert_eq!(reply.status, 200, "{target}: {}", reply.line());
        reply.json()
    }

    /// Posts a message, signed.
    pub(crate) fn send(&mut self, message: &Value) -> Reply {
        self.send_bytes(message.to_string().as_bytes())
    }

    /// Posts any body, signed.
    pub(crate) fn send_bytes(&mut self, body: &[u8]) -> Reply {
        self.post(body, &[&sign(body)])
    }

    /// Posts any body with these `X-Signature` headers, perhaps none.
    pub(crate) fn post(&mut self, body: &[u8], signatures: &[&str]) -> Reply {
        let headers: Vec<_> = signatures.iter().map(|signature| ("X-Signature", *signature)).collect();
        self.request("POST", "/webhook", &headers, body)
    }

    /// Stores a message, or fails the test.
    #[track_caller]
    pub(crate) fn store(&mut self, message: &Value) {
        let reply = self.send(message);
        assert_eq!(reply.line(), r#"200 {"status":"ok"}"#, "{message}");
    }

    /// The page of metrics.
    #[track_caller]
    pub(crate) fn metrics(&mut self) -> String {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200);
        reply.text().to_owned()
    }

    /// One figure of the page of metrics, e.g. `webhook_requests_total{result="created"}`.
    #[track_caller]
    pub(crate) fn metric(&mut self, series: &str) -> f64 {
        let page = self.metrics();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{series} is not on the page:\n{page}"))
    }

    /// The connections that the service has closed for this reason.
    #[track_caller]
    pub(crate) fn closed(&mut self, reason: &str) -> f64 {
        self.metric(&format!("connections_closed_total{{reason=\"{reason}\"}}"))
    }

    /// Any request. A connection that was closed while it was idle is opened anew.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.raw(method, target, &request(method, target, headers, body))
    }

    /// Sends these bytes, which are one request with this method and target.
    pub(crate) fn raw(&mut self, method: &str, target: &str, bytes: &[u8]) -> Reply {
        let open = self.connection.take().and_then(|mut open| (!open.is_ended()).then_some(open));
        let mut connection = open.unwrap_or_else(|| {
            self.connections += 1;
            Connection::open(self.address)
        });
        // A refusal may come, and the connection be closed, before everything is sent.
        drop(connection.try_write(bytes));
        let reply = connection.reply(method, target);
        if reply.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        reply
    }
}
