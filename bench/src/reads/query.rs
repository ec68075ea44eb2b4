//! The queries: each kind as requests to the service.

use anyhow::Result;
use fastrand::Rng;
use lyftr::message::Timestamp;
use lyftr::query::LIMIT_DEFAULT;

use crate::messages::{ABSENT, CROWD, DAY, END, LIVE_PART, LIVE_SPAN, RARE_MESSAGES, RECIPIENTS, sender};
use crate::random::{part, pick};

/// A kind of reads.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    /// Parameters, of which some values are drawn for each request.
    pub parameters: &'static str,
    pub both: bool,
}

/// Measured with both engines.
const fn both(name: &'static str, parameters: &'static str) -> Kind {
    Kind { both: true, ..only(name, parameters) }
}

/// Measured with SQLite only.
const fn only(name: &'static str, parameters: &'static str) -> Kind {
    Kind { name, parameters, both: false }
}

/// All kinds in the order of the table.
pub const KINDS: [Kind; 29] = [
    both("first page", ""),
    only("`limit=100`", "limit=100"),
    both("middle by `offset`", "offset=middle"),
    only("last page by `offset`", "offset=last"),
    only("random deep `offset`", "offset=deep"),
    both("`order=desc`, first page", "order=desc"),
    only("50 pages on by `cursor`", "offset=any&pages=50"),
    both("`since` the middle", "since=middle"),
    only("`since` and `until` of a day", "since=any&until=day"),
    only("`since`, deep `offset`", "since=early&offset=deep"),
    both("`from` a typical sender", "from=typical"),
    both("`from` the heaviest sender", "from=heaviest"),
    only("`from` the heaviest, deep `offset`", "from=heaviest&offset=deep"),
    only("`from` a typical sender, `since`", "from=typical&since=middle"),
    only("`to` the main recipient, deep `offset`", "to=main&offset=deep"),
    only("`from` a typical sender, `to`", "from=typical&to=main"),
    both("`q` in 20 messages", "q=zebrafinch"),
    both("`q` in no message", "q=absent"),
    only("`q` in 1 of 10,000", "q=mandolin"),
    only("`q` in 1 of 100", "q=marigold"),
    only("`q` in 1 of 100, `from` a typical sender", "q=marigold&from=typical"),
    only("`q` in 1 of 10,000, `since` the middle", "q=mandolin&since=middle"),
    only("`q` of two characters, `from` a typical sender", "q=two&from=typical"),
    only("`q` of two characters", "q=two"),
    only("`q` of one character", "q=one"),
    only("an instant of a tenth of all, first page", "at=crowd"),
    only("an instant of a tenth of all, deep `offset`", "at=crowd&offset=crowd"),
    only("`GET /stats/volume` of a month", "volume"),
    both("`GET /stats`", "stats"),
];

/// Ranks of senders that are neither busy nor strangers.
const TYPICAL_RANKS: std::ops::Range<u64> = 100..1_000;
/// A little less than the part of all messages that the heaviest sender and the main recipient have.
const HEAVIEST_PART: f64 = 0.05;
const MAIN_PART: f64 = 0.88;

impl Kind {
    /// The messages that match on a store of this size, where that follows from how it is made.
    pub fn total(self, size: u64) -> Option<u64> {
        match self.parameters {
            "q=zebrafinch" => Some(RARE_MESSAGES),
            "q=absent" => Some(0),
            other => (!["q=", "from=", "to=", "since=", "at=", "volume"]
                .iter()
                .any(|filter| other.contains(filter)))
            .then_some(size),
        }
    }

    /// Path and query of a request to a store of this size, and the number of pages to go on by `next`.
    pub fn draw(self, size: u64, rng: &mut Rng) -> Result<(String, u32)> {
        let (mut pages, mut since) = (0, END);
        // About as many messages match.
        let mut matching = size as f64;
        let mut parameters = Vec::new();
        for (name, value) in self.parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
            let value = match (name, value) {
                ("pages", number) => {
                    pages = number.parse()?;
                    continue;
                }
                ("offset", "middle") => (size / 2 + rng.u64(..100)).to_string(),
                ("offset", "last") => size.saturating_sub(LIMIT_DEFAULT.into()).to_string(),
                ("offset", "crowd") => part(matching, 0.1 + 0.8 * rng.f64()).to_string(),
                ("offset", "any") => rng.u64(..size).to_string(),
                ("offset", _) => part(matching, 0.1 + 0.9 * rng.f64()).to_string(),
                ("at", _) => {
                    matching = size as f64 / 10.0;
                    parameters.push(format!("since={}", instant(CROWD)?));
                    parameters.push(format!("until={}", instant(CROWD + 1)?));
                    continue;
                }
                ("from", rank) => {
                    matching *= HEAVIEST_PART;
                    sender(if rank == "heaviest" { 0 } else { rng.u64(TYPICAL_RANKS) })
                }
                ("to", _) => {
                    matching *= MAIN_PART;
                    RECIPIENTS[0].0.to_owned()
                }
                ("since", place) => {
                    let passed = match place {
                        // About as many messages are earlier as later.
                        "middle" => 1.0 - 0.5 / LIVE_PART + (rng.f64() - 0.5) / 10.0,
                        "early" => rng.f64() / 2.0,
                        _ => rng.f64() * 0.98,
                    };
                    matching *= LIVE_PART * (1.0 - passed);
                    since = END - LIVE_SPAN + part(LIVE_SPAN as f64, passed).cast_signed();
                    instant(since)?
                }
                ("until", _) => instant(since + DAY)?,
                ("q", "absent") => (*pick(rng, &ABSENT)).to_owned(),
                ("q", "one") => (*pick(rng, &["a", "e", "7", "z"])).to_owned(),
                ("q", "two") => (*pick(rng, &["an", "re", "to", "47"])).to_owned(),
                (_, value) => value.to_owned(),
            };
            parameters.push(format!("{name}={}", value.replace('+', "%2B")));
        }
        let path = match self.parameters {
            "stats" => "/stats",
            "volume" => {
                parameters.push(format!(
                    "since={}&until={}&step=6h",
                    instant(END - 30 * DAY)?,
                    instant(END)?
                ));
                "/stats/volume"
            }
            _ => "/messages",
        };
        Ok((format!("{path}?{}", parameters.join("&")), pages))
    }
}

fn instant(second: i64) -> Result<String> {
    Ok(Timestamp::from_parts(second, 0, 0)?.to_string())
}

#[cfg(test)]
mod tests {
    use lyftr::query::{Filter, Form, parse};

    use super::*;
    use crate::random::rng;

    #[test]
    fn a_query_names_all_that_is_asked_for_and_the_service_understands_it() {
        let draw = |parameters| only("", parameters).draw(1_000, &mut rng(1, 1)).unwrap();
        let (target, pages) = draw("limit=100&order=desc&from=heaviest&q=two&offset=last&pages=50");
        let expected = "/messages?limit=100&order=desc&from=%2B919800000000&q=";
        assert!(target.starts_with(expected) && target.ends_with("&offset=950"), "{target}");
        assert_eq!((pages, &*draw("stats").0), (50, "/stats?"));
        for kind in KINDS {
            let (target, _) = draw(kind.parameters);
            if kind.parameters == "volume" {
                continue;
            }
            let (filter, page, _) = parse(target.split_once('?').unwrap().1, Form::Page).unwrap();
            assert!(page.offset < 1_000, "{target}");
            assert_eq!(kind.total(1_000) == Some(1_000), filter == Filter::default(), "{target}");
        }
    }
}
