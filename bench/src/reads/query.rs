//! The queries: each kind as requests to the service, and as a filter over the messages that were stored, which counts
//! the `total` that a response must have.

use fastrand::Rng;
use lyftr::message::Message;

use crate::messages::{ABSENT, DAY, END, LIVE_PART, LIVE_SPAN, RECIPIENTS, sender};
use crate::random::pick;

/// All kinds in the order of the table: a name, and parameters, of which some values are drawn for each request.
pub const KINDS: [(&str, &str); 24] = [
    ("first page", ""),
    ("`limit=100`", "limit=100"),
    ("middle by `offset`", "offset=middle"),
    ("last page by `offset`", "offset=last"),
    ("random deep `offset`", "offset=deep"),
    ("`order=desc`, first page", "order=desc"),
    ("50 pages on by `cursor`", "offset=any&pages=50"),
    ("`since` the middle", "since=middle"),
    ("`since` and `until` of a day", "since=any&until=day"),
    ("`since`, deep `offset`", "since=early&offset=deep"),
    ("`from` a typical sender", "from=typical"),
    ("`from` the heaviest sender", "from=heaviest"),
    ("`from` the heaviest, deep `offset`", "from=heaviest&offset=deep"),
    ("`from` a typical sender, `since`", "from=typical&since=middle"),
    ("`to` the main recipient, deep `offset`", "to=main&offset=deep"),
    ("`from` a typical sender, `to`", "from=typical&to=main"),
    ("`q` in 20 messages", "q=zebrafinch"),
    ("`q` in no message", "q=absent"),
    ("`q` in 1 of 10,000", "q=mandolin"),
    ("`q` in 1 of 100", "q=marigold"),
    ("`q` in 1 of 100, `from` a typical sender", "q=marigold&from=typical"),
    ("`q` in 1 of 10,000, `since` the middle", "q=mandolin&since=middle"),
    ("`q` of two characters, `from` a typical sender", "q=two&from=typical"),
    ("`GET /stats`", "stats"),
];

/// Ranks of senders that are neither busy nor strangers.
const TYPICAL_RANKS: std::ops::Range<u64> = 100..1_000;
/// A little less than the part of all messages that the heaviest sender and the main recipient have.
const HEAVIEST_PART: f64 = 0.05;
const MAIN_PART: f64 = 0.88;
/// Messages on a page when nothing is said.
const PAGE: u64 = 50;

/// A `GET /messages`, or a `GET /stats`.
#[derive(Debug, Default)]
pub struct Query {
    /// Path and query of the request.
    pub target: String,
    /// Pages to go on by `next`.
    pub pages: u32,
    from: Option<String>,
    to: Option<&'static str>,
    since: Option<i64>,
    until: Option<i64>,
    search: Option<&'static str>,
    offset: u64,
    limit: u64,
    /// About the part of all messages that match.
    matching: f64,
}

impl Query {
    /// A query of a kind, for a store of this size.
    pub fn draw(kind: &'static str, size: u64, rng: &mut Rng) -> Self {
        let path = if kind == "stats" { "/stats" } else { "/messages" };
        let mut query = Self { target: path.to_owned(), limit: PAGE, matching: 1.0, ..Self::default() };
        for (name, value) in kind.split('&').filter_map(|parameter| parameter.split_once('=')) {
            if let Some(value) = query.set(name, value, size, rng) {
                let before = if query.target.contains('?') { '&' } else { '?' };
                query.target.extend([before.to_string().as_str(), name, "=", &value.replace('+', "%2B")]);
            }
        }
        query
    }

    /// Draws the value of a parameter; none if it is not for the service.
    fn set(&mut self, name: &str, value: &'static str, size: u64, rng: &mut Rng) -> Option<String> {
        Some(match (name, value) {
            ("pages", pages) => {
                self.pages = pages.parse().ok()?;
                return None;
            }
            ("limit", limit) => {
                self.limit = limit.parse().ok()?;
                limit.to_owned()
            }
            ("offset", place) => {
                self.offset = match place {
                    "middle" => size / 2 + rng.u64(..100),
                    "last" => size.saturating_sub(PAGE),
                    "any" => rng.u64(..size),
                    _ => part(size, self.matching * (0.1 + 0.9 * rng.f64())),
                };
                self.offset.to_string()
            }
            ("from", rank) => {
                self.matching *= HEAVIEST_PART;
                let rank = if rank == "heaviest" { 0 } else { rng.u64(TYPICAL_RANKS) };
                self.from.insert(sender(rank)).clone()
            }
            ("to", _) => {
                self.matching *= MAIN_PART;
                self.to.insert(RECIPIENTS[0].0).to_string()
            }
            ("since", place) => {
                let passed = match place {
                    // About as many messages are earlier as later.
                    "middle" => 1.0 - 0.5 / LIVE_PART + (rng.f64() - 0.5) / 10.0,
                    "early" => rng.f64() / 2.0,
                    _ => rng.f64() * 0.98,
                };
                self.matching *= LIVE_PART * (1.0 - passed);
                let second = END - LIVE_SPAN + part(LIVE_SPAN.cast_unsigned(), passed).cast_signed();
                instant(*self.since.insert(second))
            }
            ("until", _) => instant(*self.until.insert(self.since? + DAY)),
            ("q", text) => {
                let text = match text {
                    "absent" => pick(rng, &ABSENT),
                    "two" => pick(rng, &["an", "re", "to", "47"]),
                    _ => text,
                };
                self.search.insert(text).to_string()
            }
            _ => value.to_owned(),
        })
    }

    /// Whether it finds a message, whose text is `lower` in lower case; it looks for ASCII only.
    pub fn finds(&self, message: &Message, lower: &str) -> bool {
        let second = message.ts.second();
        self.from.as_deref().is_none_or(|from| from == message.from.as_str())
            && self.to.is_none_or(|to| to == message.to.as_str())
            && self.since.is_none_or(|since| second >= since)
            && self.until.is_none_or(|until| second < until)
            && self.search.is_none_or(|search| lower.contains(search))
    }

    /// Messages on the page, when `total` match.
    pub fn rows(&self, total: u64) -> u64 {
        if self.target == "/stats" { 0 } else { total.saturating_sub(self.offset).min(self.limit) }
    }
}

/// An instant as the service reads it.
fn instant(second: i64) -> String {
    jiff::Timestamp::from_second(second).unwrap_or_default().to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a whole number, rounded down"
)]
fn part(whole: u64, part: f64) -> u64 {
    (whole as f64 * part) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::rng;

    #[test]
    fn a_query_names_all_that_is_asked_for() {
        let draw = |kind| Query::draw(kind, 1_000, &mut rng(1, 1));
        let query = draw("limit=100&order=desc&from=heaviest&q=two&offset=last&pages=50");
        let expected = "/messages?limit=100&order=desc&from=%2B919800000000&q=";
        assert!(query.target.starts_with(expected) && query.target.ends_with("&offset=950"), "{query:?}");
        assert_eq!((query.pages, query.rows(1_000), query.rows(10), draw("").rows(60)), (50, 50, 0, 50));
        let day = draw("since=any&until=day");
        assert_eq!(day.until.unwrap() - day.since.unwrap(), DAY);
        assert!(KINDS.into_iter().all(|(_, kind)| draw(kind).offset < 1_000));
        assert_eq!(draw("stats").target, "/stats");
    }

    #[test]
    fn all_filters_must_match() {
        let message = crate::messages::Messages::new(1, 1_000).message(7).unwrap();
        let second = message.ts.second();
        let all = || Query { since: Some(second), until: Some(second + 1), ..Query::default() };
        assert!(Query { search: Some("finch"), ..all() }.finds(&message, "a zebrafinch"));
        for query in [
            Query { from: Some("+1".to_owned()), ..all() },
            Query { to: Some("+1"), ..all() },
            Query { since: Some(second + 1), ..all() },
            Query { until: Some(second), ..all() },
            Query { search: Some("finches"), ..all() },
        ] {
            assert!(!query.finds(&message, "a zebrafinch"), "{query:?}");
        }
    }
}
