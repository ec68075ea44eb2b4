//! In which of the forms of an answer a client wants it.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::query::{Form, Lines};

/// A media type, and the form of an answer that it names.
type Offer = (&'static str, Form);

const PAGE: Offer = ("application/json", Form::Page);
const STREAM: Offer = ("text/event-stream", Form::Stream);
const NDJSON: Offer = ("application/x-ndjson", Form::export(Lines::Ndjson));
const CSV: Offer = ("text/csv", Form::export(Lines::Csv));

/// The forms that messages come in.
pub(super) const OF_MESSAGES: &[Offer] = &[PAGE, NDJSON, CSV];
/// The forms that events come in.
pub(super) const OF_EVENTS: &[Offer] = &[PAGE, STREAM, NDJSON, CSV];

/// The form that a client prefers, by its `Accept` (RFC 9110, section 12.5.1): of those that it names the one with the highest
/// quality, or the first one of these. Wildcards, and a client that names none, mean a page.
pub(super) fn preferred(headers: &HeaderMap, offers: &[Offer]) -> Form {
    let mut best = (0, Form::Page);
    for range in accepted(headers).flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let quality = quality.map_or(1000, |(_, value)| thousandths(value.trim()));
        let named = offers.iter().find(|(media, _)| name.eq_ignore_ascii_case(media));
        if let Some((_, form)) = named.filter(|_| quality > best.0) {
            best = (quality, *form);
        }
    }
    best.1
}

/// The values of all `Accept` headers.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok())
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

    use super::*;

    fn preferred_by(values: &[&'static str], offers: &[Offer]) -> Form {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        preferred(&headers, offers)
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
            assert_eq!(preferred_by(stream, OF_EVENTS), Form::Stream, "{stream:?}");
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
            assert_eq!(preferred_by(page, OF_EVENTS), Form::Page, "{page:?}");
        }
    }

    #[test]
    fn an_export_is_for_those_who_prefer_its_lines() {
        for (values, form) in [
            (&["text/csv"][..], CSV.1),
            (&["Application/X-NDJSON"], NDJSON.1),
            (&["text/csv, application/x-ndjson"], CSV.1),
            (&["text/csv;q=0.1, application/x-ndjson;q=0.2, application/json;q=0.15"], NDJSON.1),
            (&["text/csv;q=0.5", "application/json"], Form::Page),
            (&["application/json", "text/csv"], Form::Page),
            (&["*/*, text/csv;q=0.1"], CSV.1),
            (&["text/csv;q=0"], Form::Page),
        ] {
            assert_eq!(preferred_by(values, OF_MESSAGES), form, "{values:?}");
            assert_eq!(preferred_by(values, OF_EVENTS), form, "{values:?}");
        }
        assert_eq!(preferred_by(&["text/event-stream, text/csv;q=0.1"], OF_MESSAGES), CSV.1);
    }
}
