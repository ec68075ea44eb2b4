//! A captured request, as `lyftr doctor` reads it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// A request of which the headers were captured, and perhaps the rest.
#[derive(Debug)]
pub(super) struct Captured {
    /// Path and query, if a request line was captured too.
    pub(super) target: Option<String>,
    pub(super) headers: HeaderMap,
    /// What follows the blank line after the headers.
    pub(super) body: Vec<u8>,
}

impl Captured {
    /// Reads a header on each line, after a request line or without one, and after a blank line the body.
    ///
    /// # Errors
    /// In words, without the line: it may hold a secret.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (mut target, mut headers, mut rest) = (None, HeaderMap::new(), bytes);
        for number in 1.. {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            let line = line.trim_ascii_end();
            rest = after;
            if line.is_empty() {
                break;
            }
            let request_line = str::from_utf8(line).ok().filter(|_| number == 1).and_then(target_of);
            if request_line.is_some() {
                target = request_line;
                continue;
            }
            let header = || {
                let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
                let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
                Some((HeaderName::from_bytes(name.trim_ascii()).ok()?, value))
            };
            let (name, value) =
                header().ok_or_else(|| format!("line {number} should be a header, as in `Name: value`"))?;
            headers.append(name, value);
        }
        Ok(Self { target, headers, body: rest.to_vec() })
    }
}

/// The target in a request line of HTTP/1.1, such as `POST /webhook/shop HTTP/1.1`.
fn target_of(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (_method, target, version) = (words.next()?, words.next()?, words.next()?);
    // A proxy writes the whole address.
    let after_scheme = target.split_once("://").map_or(target, |(_, rest)| rest);
    let path = if after_scheme == target { target } else { after_scheme.split_at(after_scheme.find('/')?).1 };
    (version.starts_with("HTTP/") && words.next().is_none()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_first_line_and_without() {
        for (text, target, body) in [
            (
                "POST /webhook/a?b=c HTTP/1.1\r\nX-A: 1\r\nX-A:2\r\n\r\n{}\r\n",
                Some("/webhook/a?b=c"),
                "{}\r\n",
            ),
            ("POST https://a.test/webhook/a?b=c HTTP/1.1\nX-A: 1\nX-A: 2\n", Some("/webhook/a?b=c"), ""),
            ("X-A: 1\nx-a: 2", None, ""),
            ("X-A: 1 \nX-A: 2\n\n", None, ""),
        ] {
            let captured = Captured::parse(text.as_bytes()).unwrap();
            assert_eq!(captured.target.as_deref(), target, "{text}");
            let values: Vec<_> = captured.headers.get_all("x-a").iter().collect();
            assert_eq!(values, ["1", "2"], "{text}");
            assert_eq!(captured.body, body.as_bytes(), "{text}");
        }
        let told = Captured::parse(b"X-A: 1\nhunter2").unwrap_err();
        assert_eq!(told, "line 2 should be a header, as in `Name: value`");
    }
}
