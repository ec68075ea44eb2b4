//! HTTP as far as it is needed here: one response in a buffer, and a client that sends one request after another.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Headers that a response may have; more are refused.
const HEADERS_MAX: usize = 32;
/// The longest response that the client takes: a hundred messages need a tenth of it.
const RESPONSE_BYTES_MAX: usize = 4 << 20;
const RESPONSE_WITHIN: Duration = Duration::from_mins(1);

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub status: u16,
    /// The body, as long as `Content-Length` says.
    pub body: &'a [u8],
    /// Bytes of head and body together.
    pub length: usize,
}

/// Reads the response at the front of `bytes`; none if more bytes are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(bytes).context("not HTTP")? else { return Ok(None) };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let length = length.and_then(|length| start.checked_add(length)).context("no Content-Length")?;
    let status = head.code.context("no status")?;
    Ok(bytes.get(start..length).map(|body| Response { status, body, length }))
}

/// A connection that stays open.
pub struct Client {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to a server.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, RESPONSE_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_WITHIN))?;
        Ok(Self { stream, address, buffer: vec![0; RESPONSE_BYTES_MAX] })
    }

    /// The body of the response, which must be a 200.
    pub fn get(&mut self, path: &str) -> Result<&str> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        while parse(&self.buffer[..filled])?.is_none() {
            ensure!(filled < RESPONSE_BYTES_MAX, "GET {path}: a response over {RESPONSE_BYTES_MAX} bytes");
            let read = self.stream.read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "GET {path}: the server closed the connection");
            filled += read;
        }
        let Response { status, body, .. } = parse(&self.buffer[..filled])?.context("half a response")?;
        ensure!(status == 200, "GET {path} was answered {status} {}", String::from_utf8_lossy(body));
        Ok(std::str::from_utf8(body)?)
    }
}

/// The body of one GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    Ok(Client::connect(address)?.get(path)?.to_owned())
}

/// The number behind the last `"name":` of a JSON document, which stands behind all texts of messages.
pub fn json_number(body: &str, name: &str) -> Option<u64> {
    let (_, value) = body.rsplit_once(&format!(r#""{name}":"#))?;
    value.split([',', '}']).next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_whole_and_every_shorter_piece_is_partial() {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
        let expected = Response { status: 200, body: br#"{"status":"ok"}"#, length: ok.len() };
        assert_eq!(parse(&[&ok[..], ok].concat()).unwrap().unwrap(), expected);
        for end in 0..ok.len() {
            assert_eq!(parse(&ok[..end]).unwrap(), None, "{end} bytes");
        }
        for bytes in ["SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn numbers_are_read_behind_the_texts() {
        let body = r#"{"data":[{"text":"\"total\":7"}],"total": 12,"limit":50,"next":"01ab"}"#;
        assert_eq!(json_number(body, "total"), Some(12));
        assert_eq!(json_number(body, "total_messages"), None);
    }
}
