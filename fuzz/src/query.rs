//! The query of `GET /messages`: read as the contract says, and refused where it says so.

use std::fmt::Write as _;

use lyftr::query::{Export, Filter, Form, LIMIT_DEFAULT, Lines, Page, Search, parse};
use lyftr::validation::Location;

use super::rules;

/// The words are ours, so that nothing of the input is in them.
const REASONS: [&str; 13] = [
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be greater than or equal to 0",
    "Input should be greater than or equal to 1",
    "Input should be less than or equal to 100",
    "Input should be less than or equal to 18446744073709551615",
    "Input should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction",
    "String should have at most 4096 characters",
    "Input should be 'asc' or 'desc'",
    "A cursor and an offset exclude each other; leave out one of them",
    "Input should be the next or prev of an earlier answer, unchanged",
    "Input should be 'json', 'ndjson' or 'csv'",
    "An export has no offset; it may begin at a cursor",
    "An export begins after a message: at the next of an earlier answer",
];

/// What comes after the `?`. What is not UTF-8 cannot be in a request's target.
///
/// # Panics
/// If a parameter is read as something else than it says, or if a wrong one is not complained about.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let given = Given::read(text);
    let expected = given.errors();
    match parse(text, Form::Page) {
        Ok((filter, page, form)) => {
            assert!(expected.is_empty(), "is read as {filter:?} {page:?}, and not {expected:?}");
            assert_eq!((&page, form), (&given.page(), given.form()));
            assert!((1..=100).contains(&page.limit));
            let present = |given: &String| Some(given.clone()).filter(|given| !given.is_empty());
            assert_eq!((&filter.id, &filter.source), (&present(&given.id), &present(&given.source)));
            assert_eq!(filter.from, number_of(&given.from));
            assert_eq!(filter.to, number_of(&given.to));
            assert_eq!(filter.since.map(|since| since.to_string()).unwrap_or_default(), given.since);
            assert_eq!(filter.until.map(|until| until.to_string()).unwrap_or_default(), given.until);
            assert_eq!(filter.search.is_none(), given.q.is_empty());
            assert!(filter.search.as_ref().is_none_or(|search| *search == Search::new(&given.q)));
            comes_back(&filter, &page, form);
        }
        Err(errors) => {
            let found: Vec<_> = errors
                .iter()
                .map(|error| match &error.location {
                    Location::Field(name) => (error.kind, name.as_str()),
                    location => panic!("{location:?} in a query"),
                })
                .collect();
            assert_eq!(found, expected);
            for error in &errors {
                assert!(REASONS.contains(&error.reason.as_str()), "{error:?}");
                assert!(error.input.as_str().is_some_and(|input| !input.is_empty()), "{error:?}");
            }
        }
    }
}

/// What a filter asks for, asked for again, is the same.
fn comes_back(filter: &Filter, page: &Page, form: Form) {
    let mut again = format!("offset={}", page.offset);
    match form {
        Form::Export(Export { lines, limit }) => {
            write!(again, "&format={}", if lines == Lines::Csv { "csv" } else { "ndjson" }).unwrap();
            if let Some(limit) = limit {
                write!(again, "&limit={limit}").unwrap();
            }
        }
        _ => write!(again, "&limit={}", page.limit).unwrap(),
    }
    if page.descending {
        again += "&order=desc";
    }
    if let Some(cursor) = &page.cursor {
        write!(again, "&cursor={cursor}").unwrap();
    }
    for (name, given) in
        [("id", &filter.id), ("source", &filter.source), ("from", &filter.from), ("to", &filter.to)]
    {
        if let Some(given) = given {
            write!(again, "&{name}={}", encode(given)).unwrap();
        }
    }
    for (name, bound) in [("since", filter.since), ("until", filter.until)] {
        if let Some(bound) = bound {
            write!(again, "&{name}={bound}").unwrap();
        }
    }
    // Folding makes some characters two or three, and the text then perhaps too long to be asked for.
    let folded = filter.search.as_ref().map(Search::folded);
    if let Some(folded) = folded.filter(|folded| folded.chars().count() <= 4096) {
        write!(again, "&q={}", encode(folded)).unwrap();
        assert_eq!(parse(&again, Form::Page), Ok((filter.clone(), page.clone(), form)));
    } else {
        let filter = Filter { search: None, ..filter.clone() };
        assert_eq!(parse(&again, Form::Page), Ok((filter, page.clone(), form)));
    }
}

/// The known parameters, decoded; the last of each counts.
#[derive(Default)]
struct Given {
    limit: String,
    offset: String,
    order: String,
    cursor: String,
    id: String,
    source: String,
    from: String,
    to: String,
    since: String,
    until: String,
    q: String,
    format: String,
}

impl Given {
    fn read(query: &str) -> Self {
        let mut given = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.find('=').map_or((pair, ""), |at| (&pair[..at], &pair[at + 1..]));
            let value = decode(value);
            match decode(name).as_str() {
                "limit" => given.limit = value,
                "offset" => given.offset = value,
                "order" => given.order = value,
                "cursor" => given.cursor = value,
                "id" => given.id = value,
                "source" => given.source = value,
                "from" => given.from = value,
                "to" => given.to = value,
                "since" => given.since = value,
                "until" => given.until = value,
                "q" => given.q = value,
                "format" => given.format = value,
                _ => {}
            }
        }
        given
    }

    fn errors(&self) -> Vec<(&'static str, &'static str)> {
        let mut errors = Vec::new();
        if !["", "json", "ndjson", "csv"].contains(&self.format.as_str()) {
            errors.push(("literal_error", "format"));
        }
        let limit_max = if self.is_export() { i128::from(u64::MAX) } else { 100 };
        for (name, value, least, most) in
            [("limit", &self.limit, 1, limit_max), ("offset", &self.offset, 0, i128::from(u64::MAX))]
        {
            match number(value) {
                _ if value.is_empty() => {}
                None => errors.push(("int_parsing", name)),
                Some(n) if n < least => errors.push(("greater_than_equal", name)),
                Some(n) if n > most => errors.push(("less_than_equal", name)),
                Some(1..) if name == "offset" && self.is_export() => errors.push(("value_error", name)),
                Some(_) => {}
            }
        }
        if !["", "asc", "desc"].contains(&self.order.as_str()) {
            errors.push(("literal_error", "order"));
        }
        let offset = number(&self.offset).filter(|n| (0..=i128::from(u64::MAX)).contains(n));
        // The other side of a message than `next`.
        let is_out_of_place = if self.is_export() {
            self.cursor.starts_with("02") || self.cursor.starts_with("04")
        } else {
            offset.is_some_and(|n| n > 0)
        };
        if !self.cursor.is_empty() && (is_out_of_place || !is_cursor(&self.cursor)) {
            errors.push(("value_error", "cursor"));
        }
        for (name, bound) in [("since", &self.since), ("until", &self.until)] {
            if !bound.is_empty() && !rules::is_timestamp(bound) {
                errors.push(("datetime_parsing", name));
            }
        }
        if self.q.chars().count() > 4096 {
            errors.push(("string_too_long", "q"));
        }
        errors
    }

    fn is_export(&self) -> bool {
        self.format == "ndjson" || self.format == "csv"
    }

    fn form(&self) -> Form {
        if !self.is_export() {
            return Form::Page;
        }
        let lines = if self.format == "csv" { Lines::Csv } else { Lines::Ndjson };
        Form::Export(Export { lines, limit: number(&self.limit).map(|limit| limit.try_into().unwrap()) })
    }

    fn page(&self) -> Page {
        let number = |value, default| number(value).unwrap_or(default);
        let limit =
            if self.is_export() { LIMIT_DEFAULT } else { number(&self.limit, 50).try_into().unwrap() };
        Page {
            limit,
            offset: number(&self.offset, 0).try_into().unwrap(),
            descending: self.order == "desc",
            cursor: (!self.cursor.is_empty()).then(|| self.cursor.parse().unwrap()),
        }
    }
}

fn number_of(given: &str) -> Option<String> {
    let mut number = given.to_owned();
    if number.starts_with(' ') {
        number.replace_range(..1, "+");
    }
    (!number.is_empty()).then_some(number)
}

/// Hex digits: which side (one byte), second (eight), nanosecond (four), for another source than the built-in one its name after
/// the length of that (one byte), then an id in UTF-8.
fn is_cursor(text: &str) -> bool {
    let text = text.as_bytes();
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| u8::try_from(digit).unwrap());
    let Some(digits) = text.iter().map(digit).collect::<Option<Vec<u8>>>() else { return false };
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    let mut id = bytes.get(13..);
    if [3, 4].contains(&bytes[0]) {
        let named = id.and_then(|rest| rest.split_first());
        let Some((source, rest)) = named.and_then(|(length, rest)| rest.split_at_checked((*length).into()))
        else {
            return false;
        };
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        if !(1..=40).contains(&source.len()) || !source.iter().all(is_plain) || source == b"webhook" {
            return false;
        }
        id = Some(rest);
    }
    let id = id.map(std::str::from_utf8);
    digits.len() % 2 == 0
        && (1..=4).contains(&bytes[0])
        && id.is_some_and(|id| {
            id.is_ok_and(|id| (1..=255).contains(&id.chars().count()) && !id.contains(char::is_control))
        })
}

/// ASCII digits, perhaps after a minus; what is beyond 30 digits is as good as any number beyond 64 bits.
fn number(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let n = if digits.len() > 30 { i128::MAX } else { digits.parse().unwrap_or(0) };
    Some(if text.starts_with('-') { -n } else { n })
}

/// Undoes percent-encoding; a broken escape stands for itself.
fn decode(text: &str) -> String {
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| u8::try_from(digit).unwrap());
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let escaped = match rest {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        decoded.push(match (first, escaped) {
            (_, Some((high, low))) => {
                bytes = &rest[2..];
                high << 4 | low
            }
            (b'+', None) => b' ',
            (plain, None) => *plain,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}
