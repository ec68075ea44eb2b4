//! A store against a plain map: whatever is done in whatever order, every answer is the map's.
//!
//! The map shares no code with the store, neither for the order of time nor for the search.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lyftr::message::{self, Message, Timestamp};
use lyftr::query::{Filter, Page, Search};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{Outcome, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

// Few of each, so that ids are met again, instants are equal, and filters find something.
const IDS: [&str; 12] = ["a", "b", "B", "aa", "a ", "é", "e\u{301}", "😀", "%", "'", "0", "10"];
const PHONES: [&str; 12] = ["+1", "+12", "+2", "+3", "+4", "+5", "+6", "+7", "+8", "+9", "+10", "+11"];
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
    List {
        from: Option<usize>,
        since: Option<usize>,
        search: Option<usize>,
        limit: u32,
        offset: u64,
    },
    Stats,
    Ready,
    Maintain(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let few = |len: usize| prop_oneof![2 => Just(None), 1 => (0..len).prop_map(Some)];
    let offset = prop_oneof![4 => Just(0), 4 => 0..14_u64, 1 => any::<u64>()];
    let list = (few(PHONES.len()), few(STAMPS.len()), few(SEARCHES.len()), 1..=100_u32, offset);
    prop_oneof![
        8 => vec((0..IDS.len(), 0..3_usize), 1..6).prop_map(Step::Insert),
        6 => list.prop_map(|(from, since, search, limit, offset)| Step::List {
            from, since, search, limit: if limit > 20 { limit } else { limit % 5 + 1 }, offset
        }),
        3 => Just(Step::Stats),
        1 => Just(Step::Ready),
        1 => any::<bool>().prop_map(Step::Maintain),
        1 => Just(Step::Restart),
    ]
}

/// The message with an id, in one of its three contents.
fn content(id: usize, variant: usize) -> Value {
    let pick = id * 5 + variant * 7;
    json!({
        "message_id": IDS[id],
        "from": PHONES[pick % PHONES.len()],
        "to": "+14155550100",
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
    fn insert(&mut self, content: &Value) -> Outcome {
        let id = content["message_id"].as_str().unwrap().to_owned();
        match self.0.get(&id) {
            None => {
                self.0.insert(id, content.clone());
                Outcome::Created
            }
            Some(stored) if stored == content => Outcome::Duplicate,
            Some(_) => Outcome::Conflict,
        }
    }

    fn in_order(&self) -> Vec<&Value> {
        let mut rows: Vec<_> = self.0.values().collect();
        // The map has them by id, and the sort is stable.
        rows.sort_by_key(|row| instant(row["ts"].as_str().unwrap()));
        rows
    }

    fn list(
        &self,
        from: Option<&str>,
        since: Option<&str>,
        search: Option<&str>,
        limit: u32,
        offset: u64,
    ) -> Value {
        let text = |row: &Value| row["text"].as_str().map(str::to_lowercase);
        let matching: Vec<_> = self
            .in_order()
            .into_iter()
            .filter(|row| from.is_none_or(|from| row["from"] == from))
            .filter(|row| since.is_none_or(|since| instant(row["ts"].as_str().unwrap()) >= instant(since)))
            .filter(|row| {
                search.is_none_or(|q| text(row).is_some_and(|text| text.contains(&q.to_lowercase())))
            })
            .collect();
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        let page: Vec<_> = matching.iter().skip(skipped).take(usize::try_from(limit).unwrap()).collect();
        json!({"data": page, "total": matching.len(), "limit": limit, "offset": offset})
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

fn open(path: &Path) -> Arc<dyn Store> {
    // Small bounds, so that every kind of checkpoint happens.
    let tuning = Tuning {
        wal_bytes: 64 << 10,
        wal_idle_bytes: 8 << 10,
        wal_bytes_max: 128 << 10,
        ..Tuning::default()
    };
    Arc::new(Sqlite::open(path, tuning).unwrap())
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let (mut store, mut model) = (open(&path), Model::default());
    for step in steps {
        match step {
            Step::Insert(batch) => {
                let contents: Vec<_> = batch.iter().map(|(id, variant)| content(*id, *variant)).collect();
                let outcomes: Vec<_> = contents.iter().map(|content| model.insert(content)).collect();
                let messages: Vec<_> = contents.iter().map(message).collect();
                prop_assert_eq!(store.insert(&messages).unwrap(), outcomes);
            }
            Step::List { from, since, search, limit, offset } => {
                let (from, since, search) =
                    (from.map(|n| PHONES[n]), since.map(|n| STAMPS[n]), search.map(|n| SEARCHES[n]));
                let filter = Filter {
                    from: from.map(str::to_owned),
                    since: since.map(|since| Timestamp::parse(since).unwrap()),
                    search: search.map(Search::new),
                };
                let listing = store.list(&filter, Page { limit: *limit, offset: *offset }).unwrap();
                let expected = model.list(from, since, search, *limit, *offset);
                prop_assert_eq!(serde_json::to_value(listing).unwrap(), expected);
            }
            Step::Stats => {
                prop_assert_eq!(serde_json::to_value(store.stats().unwrap()).unwrap(), model.stats());
            }
            Step::Ready => store.ready().unwrap(),
            Step::Maintain(idle) => store.maintain(*idle),
            Step::Restart => {
                store.close();
                store = open(&path);
            }
        }
    }
    let listing = store.list(&Filter::default(), Page { limit: 100, offset: 0 }).unwrap();
    prop_assert_eq!(serde_json::to_value(listing).unwrap(), model.list(None, None, None, 100, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_answers_as_a_plain_map_would(steps in vec(step(), 1..60)) {
        play(&steps)?;
    }
}
