//! Which of its two forms a client wants the log in.

use axum::http::HeaderMap;

/// Whether a client prefers a stream to a page, by its `Accept` (RFC 9110, section 12.5.1): it names the stream, and does not name
/// the page with a higher quality, or with the same one before it. Wildcards mean a page.
pub(super) fn prefers_stream(headers: &HeaderMap) -> bool {
    let (mut stream, mut page) = (0, 0);
    for range in super::accepted(headers).flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let quality = quality.map_or(1000, |(_, value)| thousandths(value.trim()));
        if name.eq_ignore_ascii_case("text/event-stream") && quality > page {
            stream = quality;
        } else if name.eq_ignore_ascii_case("application/json") && quality > stream {
            page = quality;
        }
    }
    stream > page
}

/// A quality in thousandths; a malformed one counts as 1.
fn thousandths(value: &str) -> u32 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let is_plain = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "0" if is_plain => format!("{fraction:0<3}").parse().unwrap_or(1000),
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::ACCEPT;

    use super::*;

    fn prefers(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        prefers_stream(&headers)
    }

    #[test]
    fn a_stream_is_for_those_who_ask_for_it() {
        for stream in [
            &["text/event-stream"][..],
            &["Text/Event-Stream; charset=utf-8"],
            &["text/event-stream, application/json"],
            &["text/event-stream, */*"],
            &["application/json;q=0.9, text/event-stream"],
            &["application/json;q=0.5", "text/event-stream;q=0.8"],
            &["text/html", "text/event-stream;q=0.001"],
        ] {
            assert!(prefers(stream), "{stream:?}");
        }
        for page in [
            &[][..],
            &["*/*"],
            &["text/*"],
            &["application/json"],
            &["application/json, text/event-stream"],
            &["text/event-stream;q=0.8, application/json"],
            &["text/event-stream;q=0"],
            &["text/event-stream; q=0.000, */*"],
            &["text/event-streams"],
            &["x-text/event-stream"],
        ] {
            assert!(!prefers(page), "{page:?}");
        }
    }
}
