//! The query of `GET /messages`: read as the contract says, and refused where it says so.

use std::fmt::Write as _;

use lyftr::complaint::Place;
use lyftr::query::{Filter, Page, Search, parse};

use super::rules;

/// The words are ours, so that nothing of the input is in them.
const REASONS: [&str; 7] = [
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be greater than or equal to 0",
    "Input should be greater than or equal to 1",
    "Input should be less than or equal to 100",
    "Input should be less than or equal to 18446744073709551615",
    "Input should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction",
    "String should have at most 4096 characters",
];

/// What comes after the `?`. What is not UTF-8 cannot be in a request's target.
///
/// # Panics
/// If a parameter is read as something else than it says, or if a wrong one is not complained about.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let given = Given::read(text);
    let expected = given.complaints();
    match parse(text) {
        Ok((filter, page)) => {
            assert!(expected.is_empty(), "is read as {filter:?} {page:?}, and not {expected:?}");
            assert_eq!(page, given.page());
            assert!((1..=100).contains(&page.limit));
            assert_eq!(filter.from, given.sender());
            assert_eq!(filter.since.map(|since| since.to_string()).unwrap_or_default(), given.since);
            assert_eq!(filter.search.is_none(), given.q.is_empty());
            assert!(filter.search.as_ref().is_none_or(|search| *search == Search::new(&given.q)));
            comes_back(&filter, page);
        }
        Err(complaints) => {
            let found: Vec<_> = complaints
                .iter()
                .map(|complaint| match &complaint.place {
                    Place::Field(name) => (complaint.kind, name.as_str()),
                    place => panic!("{place:?} in a query"),
                })
                .collect();
            assert_eq!(found, expected);
            for complaint in &complaints {
                assert!(REASONS.contains(&complaint.reason.as_str()), "{complaint:?}");
                assert!(complaint.input.as_str().is_some_and(|input| !input.is_empty()), "{complaint:?}");
            }
        }
    }
}

/// What a filter asks for, asked for again, is the same.
fn comes_back(filter: &Filter, page: Page) {
    let mut again = format!("limit={}&offset={}", page.limit, page.offset);
    if let Some(from) = &filter.from {
        write!(again, "&from={}", encode(from)).unwrap();
    }
    if let Some(since) = &filter.since {
        write!(again, "&since={since}").unwrap();
    }
    // Folding makes some characters two or three, and the text then perhaps too long to be asked for.
    let folded = filter.search.as_ref().map(Search::folded);
    if let Some(folded) = folded.filter(|folded| folded.chars().count() <= 4096) {
        write!(again, "&q={}", encode(folded)).unwrap();
        assert_eq!(parse(&again), Ok((filter.clone(), page)));
    } else {
        assert_eq!(parse(&again), Ok((Filter { search: None, ..filter.clone() }, page)));
    }
}

/// The known parameters, decoded; the last of each counts.
#[derive(Default)]
struct Given {
    limit: String,
    offset: String,
    from: String,
    since: String,
    q: String,
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
                "from" => given.from = value,
                "since" => given.since = value,
                "q" => given.q = value,
                _ => {}
            }
        }
        given
    }

    fn complaints(&self) -> Vec<(&'static str, &'static str)> {
        let mut complaints = Vec::new();
        for (name, value, least, most) in
            [("limit", &self.limit, 1, 100), ("offset", &self.offset, 0, i128::from(u64::MAX))]
        {
            match number(value) {
                _ if value.is_empty() => {}
                None => complaints.push(("int_parsing", name)),
                Some(n) if n < least => complaints.push(("greater_than_equal", name)),
                Some(n) if n > most => complaints.push(("less_than_equal", name)),
                Some(_) => {}
            }
        }
        if !self.since.is_empty() && !rules::is_timestamp(&self.since) {
            complaints.push(("datetime_parsing", "since"));
        }
        if self.q.chars().count() > 4096 {
            complaints.push(("string_too_long", "q"));
        }
        complaints
    }

    fn page(&self) -> Page {
        let number = |value, default| number(value).unwrap_or(default);
        Page {
            limit: number(&self.limit, 50).try_into().unwrap(),
            offset: number(&self.offset, 0).try_into().unwrap(),
        }
    }

    fn sender(&self) -> Option<String> {
        let mut from = self.from.clone();
        if from.starts_with(' ') {
            from.replace_range(..1, "+");
        }
        (!from.is_empty()).then_some(from)
    }
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
