//! What is asked of a store: each kind of question as a target for the service, and as plain SQL that counts what
//! the answer's `total` must be.

use std::fmt::Write;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

use super::chance::Chance;
use super::messages::{DAY, END, LIVE_PART, LIVE_SPAN, RECIPIENTS, sender};
use super::store;
use super::texts::{ABSENT, COMMON, RARE, SELDOM};

/// Ranks of senders that are neither busy nor strangers.
const TYPICAL_RANKS: (u64, u64) = (100, 1_000);
/// Messages on a page when nothing is said.
const PAGE: u64 = 50;

/// Counts messages past the service, by looking at each of them.
pub trait Counts {
    /// How many messages match, whatever the page.
    fn count(&self, question: &Question) -> Result<u64>;
}

impl Counts for Connection {
    fn count(&self, question: &Question) -> Result<u64> {
        Ok(self.query_row(&question.sql("LIKE"), (), |row| row.get(0))?)
    }
}

/// What must be known of a store to ask about it, counted by plain SQL.
#[derive(Debug)]
pub struct Known {
    /// Messages in all.
    pub total: u64,
    /// Messages of the sender of rank 0.
    pub heaviest: u64,
    /// Messages to the first recipient.
    pub main: u64,
}

/// A `GET /messages`.
#[derive(Debug, Default)]
pub struct Question {
    limit: Option<u64>,
    offset: Option<u64>,
    descending: bool,
    from: Option<String>,
    to: Option<&'static str>,
    since: Option<i64>,
    until: Option<i64>,
    search: Option<&'static str>,
}

/// How the requests of a kind follow one another.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// Each for itself.
    Messages(fn(&Known, &mut Chance) -> Question),
    /// From the page that is asked for on, by `next`.
    Walk(fn(&Known, &mut Chance) -> Question),
    /// `GET /stats`.
    Stats,
}

/// All kinds in the order of the table.
pub const KINDS: [(&str, Ask); 24] = [
    ("first page", Ask::Messages(|_, _| Question::default())),
    ("`limit=100`", Ask::Messages(|_, _| Question { limit: Some(100), ..Question::default() })),
    ("middle by `offset`", Ask::Messages(|known, chance| at(known.total / 2 + chance.below(100)))),
    ("last page by `offset`", Ask::Messages(|known, _| at(known.total.saturating_sub(PAGE)))),
    ("random deep `offset`", Ask::Messages(|known, chance| at(deep(known.total, chance)))),
    ("`order=desc`, first page", Ask::Messages(|_, _| Question { descending: true, ..Question::default() })),
    ("50 pages on by `cursor`", Ask::Walk(|known, chance| at(chance.below(known.total)))),
    ("`since` the middle", Ask::Messages(|_, chance| since_middle(chance))),
    (
        "`since` and `until` of a day",
        Ask::Messages(|_, chance| {
            let since = live(chance.part() * 0.98);
            Question { since: Some(since), until: Some(since + DAY), ..Question::default() }
        }),
    ),
    (
        "`since`, deep `offset`",
        Ask::Messages(|known, chance| {
            let passed = chance.part() / 2.0;
            let matching = part(known.total, LIVE_PART * (1.0 - passed));
            Question {
                since: Some(live(passed)),
                offset: Some(deep(matching, chance)),
                ..Question::default()
            }
        }),
    ),
    ("`from` a typical sender", Ask::Messages(|_, chance| from_typical(chance))),
    ("`from` the heaviest sender", Ask::Messages(|_, _| from_heaviest())),
    (
        "`from` the heaviest, deep `offset`",
        Ask::Messages(|known, chance| Question {
            offset: Some(deep(known.heaviest, chance)),
            ..from_heaviest()
        }),
    ),
    (
        "`from` a typical sender, `since`",
        Ask::Messages(|_, chance| Question { from: Some(typical(chance)), ..since_middle(chance) }),
    ),
    (
        "`to` the main recipient, deep `offset`",
        Ask::Messages(|known, chance| Question {
            to: Some(RECIPIENTS[0].0),
            offset: Some(deep(known.main, chance)),
            ..Question::default()
        }),
    ),
    (
        "`from` a typical sender, `to`",
        Ask::Messages(|_, chance| Question { to: Some(RECIPIENTS[0].0), ..from_typical(chance) }),
    ),
    ("`q` in 20 messages", Ask::Messages(|_, _| search(RARE))),
    ("`q` in no message", Ask::Messages(|_, chance| search(pick(chance, &ABSENT)))),
    ("`q` in 1 of 10,000", Ask::Messages(|_, _| search(SELDOM))),
    ("`q` in 1 of 100", Ask::Messages(|_, _| search(COMMON))),
    (
        "`q` in 1 of 100, `from` a typical sender",
        Ask::Messages(|_, chance| Question { search: Some(COMMON), ..from_typical(chance) }),
    ),
    (
        "`q` in 1 of 10,000, `since` the middle",
        Ask::Messages(|_, chance| Question { search: Some(SELDOM), ..since_middle(chance) }),
    ),
    (
        "`q` of two characters, `from` a typical sender",
        Ask::Messages(|_, chance| Question {
            search: Some(pick(chance, &["an", "re", "to", "47"])),
            ..from_typical(chance)
        }),
    ),
    ("`GET /stats`", Ask::Stats),
];

impl Known {
    /// Counts in a store.
    pub fn count(store: &dyn Counts) -> Result<Self> {
        Ok(Self {
            total: store.count(&Question::default())?,
            heaviest: store.count(&from_heaviest())?,
            main: store.count(&Question { to: Some(RECIPIENTS[0].0), ..Question::default() })?,
        })
    }
}

/// A connection to a store that reads only, beside its server.
pub fn open(directory: &std::path::Path) -> Result<Connection> {
    let path = store::database(directory);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(&path, flags).with_context(|| format!("cannot open {}", path.display()))
}

impl Question {
    /// Path and query of the request.
    pub fn target(&self) -> String {
        let mut target = String::from("/messages");
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let before = if target.contains('?') { '&' } else { '?' };
                // Writing into a String cannot fail.
                let _ = write!(target, "{before}{name}={}", value.replace('+', "%2B"));
            }
        };
        add("limit", self.limit.map(|limit| limit.to_string()));
        add("offset", self.offset.map(|offset| offset.to_string()));
        add("order", self.descending.then(|| "desc".to_owned()));
        add("from", self.from.clone());
        add("to", self.to.map(str::to_owned));
        add("since", self.since.map(written));
        add("until", self.until.map(written));
        add("q", self.search.map(str::to_owned));
        target
    }

    /// The statement that counts how many messages match, whatever the page. `like` compares without regard to the
    /// case of ASCII letters at least, which is enough for what is searched for here. No value has a quotation mark.
    pub fn sql(&self, like: &str) -> String {
        let conditions = [
            self.from.as_ref().map(|from| format!("sender = '{from}'")),
            self.to.map(|to| format!("recipient = '{to}'")),
            self.since.map(|since| format!("ts_second >= {since}")),
            self.until.map(|until| format!("ts_second < {until}")),
            self.search.map(|search| format!("text {like} '%{search}%'")),
        ];
        let conditions: Vec<_> = conditions.into_iter().flatten().collect();
        let filter = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        format!("SELECT count(*) FROM message WHERE {filter}")
    }

    /// How many messages are on the page of a question that `total` match.
    pub fn rows(&self, total: u64) -> u64 {
        total.saturating_sub(self.offset.unwrap_or(0)).min(self.limit.unwrap_or(PAGE))
    }
}

fn at(offset: u64) -> Question {
    Question { offset: Some(offset), ..Question::default() }
}

/// An offset into the last nine tenths of `total`.
fn deep(total: u64, chance: &mut Chance) -> u64 {
    total / 10 + chance.below(total - total / 10)
}

fn search(text: &'static str) -> Question {
    Question { search: Some(text), ..Question::default() }
}

fn pick(chance: &mut Chance, texts: &[&'static str]) -> &'static str {
    chance.pick::<&'static str>(texts)
}

fn from_heaviest() -> Question {
    Question { from: Some(sender(0)), ..Question::default() }
}

fn from_typical(chance: &mut Chance) -> Question {
    Question { from: Some(typical(chance)), ..Question::default() }
}

fn typical(chance: &mut Chance) -> String {
    let (first, end) = TYPICAL_RANKS;
    sender(first + chance.below(end - first))
}

/// An instant about which as many messages are earlier as later.
fn since_middle(chance: &mut Chance) -> Question {
    let middle = 1.0 - 0.5 / LIVE_PART;
    Question { since: Some(live(middle + (chance.part() - 0.5) / 10.0)), ..Question::default() }
}

/// The second when this part of the live time has passed.
fn live(part_passed: f64) -> i64 {
    let span = LIVE_SPAN.cast_unsigned();
    END - LIVE_SPAN + part(span, part_passed).cast_signed()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a whole number, rounded down"
)]
fn part(whole: u64, part: f64) -> u64 {
    (whole as f64 * part) as u64
}

/// An instant as the service reads it.
fn written(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|instant| instant.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { total: 1_000, heaviest: 60, main: 900 };

    fn questions() -> impl Iterator<Item = Question> {
        let mut chance = Chance::new(1, 1);
        KINDS.into_iter().filter_map(move |(_, ask)| match ask {
            Ask::Messages(ask) | Ask::Walk(ask) => Some(ask(&KNOWN, &mut chance)),
            Ask::Stats => None,
        })
    }

    #[test]
    fn a_target_names_what_is_asked_for() {
        let question = Question {
            limit: Some(100),
            descending: true,
            from: Some("+4912".to_owned()),
            since: Some(END),
            search: Some("an"),
            ..Question::default()
        };
        let expected = "/messages?limit=100&order=desc&from=%2B4912&since=2025-01-15T00:00:00Z&q=an";
        assert_eq!(question.target(), expected);
        assert_eq!(Question::default().target(), "/messages");
    }

    #[test]
    fn a_page_has_what_is_left() {
        assert_eq!(at(0).rows(1_000), 50);
        assert_eq!(at(990).rows(1_000), 10);
        assert_eq!(at(1_001).rows(1_000), 0);
        assert_eq!(Question { limit: Some(100), ..Question::default() }.rows(1_000), 100);
    }

    #[test]
    fn every_question_can_be_counted_by_sql() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../../../migrations/sqlite/0001_message.sql")).unwrap();
        let add = "INSERT INTO message VALUES (?1, ?1, ?2, '+14155550100', ?3, 0, 0, 'A Zebrafinch')";
        for n in 0..4_i64 {
            conn.execute(add, (n, sender(n.cast_unsigned()), END - n * 20 * DAY)).unwrap();
        }
        for question in questions() {
            assert!(conn.count(&question).unwrap() <= 4, "{question:?}");
        }
        let counted = |question: Question| conn.count(&question).unwrap();
        assert_eq!(counted(Question::default()), 4);
        assert_eq!(counted(search(RARE)), 4);
        assert_eq!(counted(from_heaviest()), 1);
        assert_eq!(counted(Question { since: Some(END - 20 * DAY), ..Question::default() }), 2);
        assert_eq!(counted(Question { until: Some(END - 20 * DAY), ..Question::default() }), 2);
    }

    #[test]
    fn kinds_have_names_of_their_own_and_offsets_inside() {
        for (index, (name, _)) in KINDS.iter().enumerate() {
            assert!(!KINDS[index + 1..].iter().any(|(other, _)| other == name), "{name}");
        }
        for question in questions() {
            assert!(question.offset.unwrap_or(0) < KNOWN.total, "{question:?}");
        }
    }
}
