//! HTTP as far as it is needed here: a response in a buffer, and a client that sends one request after another.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The longest response that the client takes: a hundred messages need a tenth of it.
const RESPONSE_BYTES_MAX: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_mins(1);

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    pub status: u16,
    /// As long as `Content-Length` says.
    pub body: &'a [u8],
    /// Bytes of head and body together.
    pub length: usize,
}

/// Reads the response at the front of `bytes`; none if more bytes are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(bytes).context("not HTTP")? else { return Ok(None) };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let length = length.and_then(|length| start.checked_add(length)).context("no Content-Length")?;
    let status = head.code.context("no status")?;
    Ok(bytes.get(start..length).map(|body| Response { status, body, length }))
}

/// A connection that stays open. A library would cost more than the reads that are measured with it.
pub struct Client(TcpStream, Vec<u8>);

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(stream, vec![0; RESPONSE_BYTES_MAX]))
    }

    /// The body of the response, which must be a 200.
    pub fn get(&mut self, path: &str) -> Result<&str> {
        self.ask("GET", path, "")
    }

    /// The same of a `DELETE` with this bearer token.
    pub fn delete(&mut self, path: &str, token: &str) -> Result<&str> {
        self.ask("DELETE", path, &format!("Authorization: Bearer {token}\r\n"))
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str) -> Result<&str> {
        let Self(stream, buffer) = self;
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: lyftr\r\n{headers}\r\n").as_bytes())?;
        let mut filled = 0;
        while parse(&buffer[..filled])?.is_none() {
            let read = stream.read(&mut buffer[filled..])?;
            ensure!(read > 0, "{method} {path}: the connection was closed, or the response is too long");
            filled += read;
        }
        let Response { status, body, .. } = parse(&buffer[..filled])?.context("half a response")?;
        let body = std::str::from_utf8(body)?;
        ensure!(status == 200, "{method} {path} was answered {status} {body}");
        Ok(body)
    }
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
}
