//! A store against a plain map: whatever is done in whatever order, every answer is the map's.
//!
//! The map shares no code with the store, neither for the order of time nor for the search.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lyftr::message::{self, Message, Timestamp};
use lyftr::query::{Cursor, Filter, Listing, Page, Search};
use lyftr::store::postgres::{self, Postgres};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{Settings, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::postgres::Database;
use crate::support::{Fate, fates, settle};

// Few of each, so that ids are met again, instants are equal, and filters find something.
const IDS: [&str; 12] = ["a", "b", "B", "aa", "a ", "é", "e\u{301}", "😀", "%", "'", "0", "10"];
const PHONES: [&str; 12] = ["+1", "+12", "+2", "+3", "+4", "+5", "+6", "+7", "+8", "+9", "+10", "+11"];
const RECIPIENTS: [&str; 2] = ["+14155550100", "+14"];
const STAMPS: [&str; 9] = [
    "2025-01-15T10:00:00Z",
    "2025-01-15T10:00:00.0Z",
    "2025-01-15T10:00:00.000000000Z",
    "2025-01-15T10:00:00.000000001Z",
    "2025-01-15T10:00:00.5Z",
    "2025-01-15T10:00:00.50Z",
    "2025-01-15T09:59:59.999Z",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
];
const TEXTS: [Option<&str>; 7] =
    [None, Some(""), Some("Hello"), Some("hello world"), Some("100%"), Some("ПРИВЕТ"), Some("a_b\"\\")];
const SEARCHES: [&str; 8] = ["hello", "HELLO W", "%", "_", "привет", "о", "\\", "none of them"];

#[derive(Debug, Clone)]
enum Step {
    /// Messages as an id and which of its contents, the same of which are the same.
    Insert(Vec<(usize, usize)>),
    List(Question),
    Stats,
    Ready,
    /// Until everything is in the indexes.
    Settle,
    Restart,
}

#[derive(Debug, Clone)]
struct Question {
    from: Option<usize>,
    to: Option<usize>,
    since: Option<usize>,
    until: Option<usize>,
    search: Option<usize>,
    descending: bool,
    limit: u32,
    offset: u64,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec((0..IDS.len(), 0..3_usize), 1..6).prop_map(Step::Insert),
        8 => question().prop_map(Step::List),
        3 => Just(Step::Stats),
        1 => Just(Step::Ready),
        1 => Just(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let few = |len: usize| prop_oneof![2 => Just(None), 1 => (0..len).prop_map(Some)];
    let offset = prop_oneof![4 => Just(0), 4 => 0..14_u64, 1 => any::<u64>()];
    let limit = prop_oneof![3 => 1..6_u32, 1 => 1..=100_u32];
    (
        (few(PHONES.len()), few(2)),
        (few(STAMPS.len()), few(STAMPS.len()), few(SEARCHES.len())),
        (any::<bool>(), limit, offset),
    )
        .prop_map(|((from, to), (since, until, search), (descending, limit, offset))| Question {
            from,
            to,
            since,
            until,
            search,
            descending,
            limit,
            offset,
        })
}

impl Question {
    fn filter(&self) -> Filter {
        let stamp = |n: usize| Timestamp::parse(STAMPS[n]).unwrap();
        Filter {
            from: self.from.map(|n| PHONES[n].to_owned()),
            to: self.to.map(|n| RECIPIENTS[n].to_owned()),
            since: self.since.map(stamp),
            until: self.until.map(stamp),
            search: self.search.map(|n| Search::new(SEARCHES[n])),
        }
    }

    fn matches(&self, row: &Value) -> bool {
        let ts = instant(row["ts"].as_str().unwrap());
        let text = row["text"].as_str().map(str::to_lowercase);
        self.from.is_none_or(|n| row["from"] == PHONES[n])
            && self.to.is_none_or(|n| row["to"] == RECIPIENTS[n])
            && self.since.is_none_or(|n| ts >= instant(STAMPS[n]))
            && self.until.is_none_or(|n| ts < instant(STAMPS[n]))
            && self.search.is_none_or(|n| text.is_some_and(|text| text.contains(&SEARCHES[n].to_lowercase())))
    }
}

/// The message with an id, in one of its three contents.
fn content(id: usize, variant: usize) -> Value {
    let pick = id * 5 + variant * 7;
    json!({
        "message_id": IDS[id],
        "from": PHONES[pick % PHONES.len()],
        "to": RECIPIENTS[pick % 2],
        "ts": STAMPS[pick % STAMPS.len()],
        "text": TEXTS[pick % TEXTS.len()],
    })
}

fn message(content: &Value) -> Message {
    message::parse(content.to_string().as_bytes()).unwrap()
}

/// The instant, as a string that sorts like time.
fn instant(ts: &str) -> String {
    let (second, fraction) = ts.strip_suffix('Z').unwrap().split_at(19);
    format!("{second}{:0<9}", fraction.trim_start_matches('.'))
}

#[derive(Default)]
struct Model(BTreeMap<String, Value>);

impl Model {
    fn insert(&mut self, content: &Value) -> Fate {
        let id = content["message_id"].as_str().unwrap().to_owned();
        match self.0.get(&id) {
            None => {
                self.0.insert(id, content.clone());
                Fate::Created
            }
            Some(stored) if stored == content => Fate::Duplicate,
            Some(_) => Fate::Conflict,
        }
    }

    fn in_order(&self) -> Vec<&Value> {
        let mut rows: Vec<_> = self.0.values().collect();
        // The map has them by id, and the sort is stable.
        rows.sort_by_key(|row| instant(row["ts"].as_str().unwrap()));
        rows
    }

    /// What matches, in the order asked for.
    fn matching(&self, question: &Question) -> Vec<&Value> {
        let mut matching: Vec<_> = self.in_order().into_iter().filter(|row| question.matches(row)).collect();
        if question.descending {
            matching.reverse();
        }
        matching
    }

    fn stats(&self) -> Value {
        let rows = self.in_order();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &rows {
            *counts.entry(row["from"].as_str().unwrap()).or_default() += 1;
        }
        let mut top: Vec<_> = counts.iter().collect();
        top.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let top: Vec<_> =
            top.iter().take(10).map(|(from, count)| json!({"from": from, "count": count})).collect();
        json!({
            "total_messages": rows.len(),
            "senders_count": counts.len(),
            "messages_per_sender": top,
            "first_message_ts": rows.first().map(|row| &row["ts"]),
            "last_message_ts": rows.last().map(|row| &row["ts"]),
        })
    }
}

fn open_sqlite(path: &Path) -> Arc<dyn Store> {
    // Small bounds, so that every kind of checkpoint happens, and indexes are written and cut all the time.
    let tuning = Tuning {
        wal_bytes: 64 << 10,
        wal_idle_bytes: 8 << 10,
        wal_step_bytes: 4 << 10,
        wal_bytes_max: 128 << 10,
        wal_pause: Duration::from_millis(1),
        index_batch: 3,
        index_pause: Duration::from_millis(20),
        step_size: 2,
        ..Tuning::default()
    };
    Arc::new(Sqlite::open(path, tuning).unwrap())
}

fn open_postgres(database: &Database) -> Arc<dyn Store> {
    // Small bounds here too, so that figures and texts lag behind, and no message is among a few.
    let tuning = postgres::Tuning {
        settings: Settings { connections: 3, ..Settings::default() },
        index_pause: Duration::from_millis(20),
        few: 0,
        figures_batch: 3,
        texts_batch: 3,
    };
    Arc::new(Postgres::open(&database.url().parse().unwrap(), tuning).unwrap())
}

/// Asks the question, and then turns the pages from there, one forward and one back.
fn ask(store: &dyn Store, question: &Question, model: &Model) -> Result<(), TestCaseError> {
    let (filter, matching) = (question.filter(), model.matching(question));
    let count = |n: usize| u64::try_from(n).unwrap();
    let total = count(matching.len());
    let page = Page {
        limit: question.limit,
        offset: question.offset,
        descending: question.descending,
        cursor: None,
    };
    let check = |listing: &Listing, begin: u64| -> Result<(), TestCaseError> {
        let skipped = usize::try_from(begin).unwrap_or(usize::MAX);
        let limit = usize::try_from(question.limit).unwrap();
        let expected: Vec<_> = matching.iter().skip(skipped).take(limit).collect();
        prop_assert_eq!(
            serde_json::to_value(&listing.data).unwrap(),
            serde_json::to_value(&expected).unwrap()
        );
        prop_assert_eq!((listing.total, listing.limit), (total, question.limit));
        let end = begin.saturating_add(count(expected.len()));
        if !expected.is_empty() {
            prop_assert_eq!((listing.prev.is_some(), listing.next.is_some()), (begin > 0, end < total));
        }
        Ok(())
    };
    let listing = store.list(&filter, &page).unwrap();
    prop_assert_eq!(listing.offset, question.offset);
    check(&listing, question.offset)?;
    let turned = |cursor: &Cursor| Page { offset: 0, cursor: Some(cursor.clone()), ..page.clone() };
    if let Some(next) = &listing.next {
        let begin = question.offset + count(listing.data.len());
        let next = store.list(&filter, &turned(next)).unwrap();
        check(&next, begin)?;
        let back = store.list(&filter, &turned(next.prev.as_ref().unwrap())).unwrap();
        check(&back, begin.saturating_sub(question.limit.into()))?;
    }
    if let Some(prev) = &listing.prev {
        let begin = question.offset.saturating_sub(question.limit.into());
        let prev = store.list(&filter, &turned(prev)).unwrap();
        let expected: Vec<_> =
            matching[usize::try_from(begin).unwrap()..usize::try_from(question.offset).unwrap()].to_vec();
        prop_assert_eq!(serde_json::to_value(&prev.data).unwrap(), serde_json::to_value(&expected).unwrap());
        prop_assert_eq!((prev.prev.is_some(), prev.next.is_some()), (begin > 0, true));
    }
    Ok(())
}

fn play(steps: &[Step], open: impl Fn() -> Arc<dyn Store>) -> Result<(), TestCaseError> {
    let (mut store, mut model) = (open(), Model::default());
    for step in steps {
        match step {
            Step::Insert(batch) => {
                let contents: Vec<_> = batch.iter().map(|(id, variant)| content(*id, *variant)).collect();
                let outcomes: Vec<_> = contents.iter().map(|content| model.insert(content)).collect();
                let messages: Vec<_> = contents.iter().map(message).collect();
                prop_assert_eq!(fates(&store.insert(&messages).unwrap()), outcomes);
            }
            Step::List(question) => ask(store.as_ref(), question, &model)?,
            Step::Stats => {
                let (stats, expected) =
                    (serde_json::to_value(store.stats().unwrap()).unwrap(), model.stats());
                for key in ["total_messages", "senders_count", "messages_per_sender"] {
                    prop_assert_eq!(&stats[key], &expected[key]);
                }
                // Written as one of the messages of that instant.
                for key in ["first_message_ts", "last_message_ts"] {
                    let at = |stats: &Value| stats[key].as_str().map(instant);
                    prop_assert_eq!(at(&stats), at(&expected));
                }
            }
            Step::Ready => store.ready().unwrap(),
            Step::Settle => settle(store.as_ref()),
            Step::Restart => {
                store.close();
                store = open();
            }
        }
    }
    let everything = Question {
        from: None,
        to: None,
        since: None,
        until: None,
        search: None,
        descending: false,
        limit: 100,
        offset: 0,
    };
    ask(store.as_ref(), &everything, &model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_answers_as_a_plain_map_would(steps in vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        play(&steps, || open_sqlite(&path))?;
    }

    #[test]
    fn postgres_answers_as_a_plain_map_would(steps in vec(step(), 1..60)) {
        let database = Database::new();
        play(&steps, || open_postgres(&database))?;
    }
}
