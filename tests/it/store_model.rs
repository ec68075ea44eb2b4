//! A store against the reference: whatever is done in whatever order, every result is the reference's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lyftr::message::Message;
use lyftr::query::{Page, PageCursor};
use lyftr::store::postgres::{self, Postgres};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{Settings, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::store_events::erasure::{erase, of_person};
use crate::support::postgres::Database;
use crate::support::reference::{Reference, Wanted};
use crate::support::{Messages as _, fates, parsed, settle};

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
    List(Query),
    Stats,
    /// Every message of a sender.
    Erase(usize),
    Ready,
    /// Until everything is in the indexes.
    Settle,
    Restart,
}

#[derive(Debug, Clone)]
struct Query {
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
        8 => query().prop_map(Step::List),
        3 => Just(Step::Stats),
        1 => (0..PHONES.len()).prop_map(Step::Erase),
        1 => Just(Step::Ready),
        1 => Just(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let few = |len: usize| prop_oneof![2 => Just(None), 1 => (0..len).prop_map(Some)];
    let offset = prop_oneof![4 => Just(0), 4 => 0..14_u64, 1 => any::<u64>()];
    let limit = prop_oneof![3 => 1..6_u32, 1 => 1..=100_u32];
    (
        (few(PHONES.len()), few(2)),
        (few(STAMPS.len()), few(STAMPS.len()), few(SEARCHES.len())),
        (any::<bool>(), limit, offset),
    )
        .prop_map(|((from, to), (since, until, search), (descending, limit, offset))| Query {
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

impl Query {
    fn wanted(&self) -> Wanted {
        Wanted {
            source: None,
            from: self.from.map(|n| PHONES[n].to_owned()),
            to: self.to.map(|n| RECIPIENTS[n].to_owned()),
            since: self.since.map(|n| STAMPS[n].to_owned()),
            until: self.until.map(|n| STAMPS[n].to_owned()),
            search: self.search.map(|n| SEARCHES[n].to_owned()),
        }
    }

    fn page(&self) -> Page {
        Page { limit: self.limit, offset: self.offset, descending: self.descending, cursor: None }
    }
}

/// The message with an id, in one of its three contents.
fn content(id: usize, variant: usize) -> Message {
    let pick = id * 5 + variant * 7;
    parsed(&json!({
        "message_id": IDS[id],
        "from": PHONES[pick % PHONES.len()],
        "to": RECIPIENTS[pick % 2],
        "ts": STAMPS[pick % STAMPS.len()],
        "text": TEXTS[pick % TEXTS.len()],
    }))
}

fn open_sqlite(path: &Path) -> Arc<dyn Store> {
    // Small bounds, so that every kind of checkpoint happens, and indexes are written and cut all the time.
    let tuning = Tuning {
        wal_bytes: 64 << 10,
        wal_idle_bytes: 8 << 10,
        wal_step_bytes: 4 << 10,
        wal_bytes_max: 128 << 10,
        wal_pause: Duration::from_millis(1),
        part_messages: 3,
        ..Tuning::default()
    };
    Arc::new(Sqlite::open(path, tuning).unwrap())
}

fn open_postgres(database: &Database) -> Arc<dyn Store> {
    // Small bounds here too, so that aggregates and texts lag behind, and no message is among a few.
    let tuning = postgres::Tuning {
        settings: Settings { connections: 3, ..Settings::default() },
        index_pause: Duration::from_millis(20),
        few: 0,
        aggregates_batch: 3,
        texts_batch: 3,
    };
    Arc::new(Postgres::open(&database.url().parse().unwrap(), tuning).unwrap())
}

/// Reads the page, and then turns the pages from there, one forward and one back.
fn read(store: &dyn Store, query: &Query, reference: &Reference) {
    let (wanted, page) = (query.wanted(), query.page());
    let listing = reference.assert_page(store, &wanted, &page);
    let turned = |cursor: &PageCursor| {
        let page = Page { offset: 0, cursor: Some(cursor.clone()), ..page.clone() };
        reference.assert_page(store, &wanted, &page).data
    };
    // Without a cursor: the messages from here on.
    let from = |begin: u64, limit: u64| {
        let page = Page { limit: u32::try_from(limit).unwrap(), offset: begin, ..page.clone() };
        reference.assert_page(store, &wanted, &page).data
    };
    let (limit, length) = (u64::from(query.limit), u64::try_from(listing.data.len()).unwrap());
    if let Some(next) = &listing.next {
        let begin = query.offset + length;
        let next = reference.assert_page(
            store,
            &wanted,
            &Page { offset: 0, cursor: Some(next.clone()), ..page.clone() },
        );
        assert_eq!(next.data, from(begin, limit));
        assert_eq!(turned(next.prev.as_ref().unwrap()), from(begin.saturating_sub(limit), limit));
    }
    if let Some(prev) = &listing.prev {
        let begin = query.offset.saturating_sub(limit);
        assert_eq!(turned(prev), from(begin, query.offset - begin));
    }
}

fn play(steps: &[Step], open: impl Fn() -> Arc<dyn Store>) {
    let (mut store, mut reference) = (open(), Reference::default());
    for step in steps {
        match step {
            Step::Insert(batch) => {
                let batch: Vec<Message> = batch.iter().map(|(id, variant)| content(*id, *variant)).collect();
                let expected: Vec<_> = batch.iter().map(|message| reference.insert(message)).collect();
                assert_eq!(fates(&store.insert_messages(&batch).unwrap()), expected);
            }
            Step::List(query) => read(store.as_ref(), query, &reference),
            Step::Stats => reference.assert_stats(store.as_ref()),
            Step::Erase(sender) => {
                let person = PHONES[*sender];
                let erased = erase(store.as_ref(), &of_person(person));
                assert_eq!(usize::try_from(erased).unwrap(), reference.erase(person), "{person}");
            }
            Step::Ready => store.ready().unwrap(),
            Step::Settle => settle(store.as_ref()),
            Step::Restart => {
                store.close();
                store = open();
            }
        }
    }
    reference.assert_page(store.as_ref(), &Wanted::default(), &Page { limit: 100, ..Page::default() });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_behaves_like_a_plain_map(steps in vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        play(&steps, || open_sqlite(&path));
    }

    #[test]
    fn postgres_behaves_like_a_plain_map(steps in vec(step(), 1..60)) {
        let database = Database::new();
        play(&steps, || open_postgres(&database));
    }
}
