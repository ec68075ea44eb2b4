//! Reading an answer off a connection: as little as is needed to check it byte for byte.

/// Headers an answer may have; more are refused.
const HEADERS_MAX: usize = 32;

/// What the bytes read so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// More bytes are needed.
    Partial,
    /// One whole answer.
    Whole {
        /// The status code.
        status: u16,
        /// The body, as long as `Content-Length` says.
        body: &'a [u8],
        /// Bytes of head and body together.
        length: usize,
    },
    /// Nothing that can be read on; the reason in plain words.
    Broken(&'static str),
}

/// Reads the answer at the front of `bytes`.
pub fn read(bytes: &[u8]) -> Answer<'_> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let body_start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Answer::Partial,
        Err(_) => return Answer::Broken("not HTTP"),
    };
    let Some(status) = head.code else {
        return Answer::Broken("no status");
    };
    let Some(body_length) = content_length(head.headers) else {
        return Answer::Broken("no Content-Length");
    };
    let Some(length) = body_start.checked_add(body_length) else {
        return Answer::Broken("endless Content-Length");
    };
    match bytes.get(body_start..length) {
        Some(body) => Answer::Whole { status, body, length },
        None => Answer::Partial,
    }
}

fn content_length(headers: &[httparse::Header<'_>]) -> Option<usize> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    std::str::from_utf8(header.value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";

    #[test]
    fn an_answer_is_read_whole() {
        let expected = Answer::Whole { status: 200, body: br#"{"status":"ok"}"#, length: OK.len() };
        assert_eq!(read(OK), expected);
    }

    #[test]
    fn every_shorter_piece_is_partial() {
        for end in 0..OK.len() {
            assert_eq!(read(&OK[..end]), Answer::Partial, "{end} bytes");
        }
    }

    #[test]
    fn what_follows_is_not_part_of_the_answer() {
        let two = [OK, OK].concat();
        assert!(matches!(read(&two), Answer::Whole { length, .. } if length == OK.len()));
    }

    #[test]
    fn other_status_and_body_are_told() {
        let answer = read(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}");
        assert!(matches!(answer, Answer::Whole { status: 503, body: b"{}", .. }));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(read(b"SSH-2.0-OpenSSH\r\n"), Answer::Broken("not HTTP"));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), Answer::Broken("no Content-Length"));
        let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", usize::MAX);
        assert_eq!(read(endless.as_bytes()), Answer::Broken("endless Content-Length"));
    }
}
