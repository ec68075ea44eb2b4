//! The promises in the doc comment of [`Store`], as tests. They know a store only by its URL, so that each
//! backend is one more name at the end of [`contract!`].

use std::sync::{Arc, Barrier};

use lyftr::message::{self, Message};
use lyftr::query::{Filter, Listing, Page};
use lyftr::store::{self, Error, Store, Url};
use serde_json::json;
use tempfile::TempDir;

use crate::support::pooler::Pooler;
use crate::support::postgres::Database;
use crate::support::{Fate, Messages as _, fates, message_with, parsed, settle, sqlite_url};

mod following;
mod reading;

use following::{
    a_created_message_carries_its_arrival_number, a_reader_in_the_order_of_arrival_misses_no_message,
    messages_are_found_by_their_ids,
};
use reading::*;

const NOON: &str = "2025-01-15T12:00:00Z";

/// Where a store under test is; it goes away with this.
struct Place {
    url: Url,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Sqlite { folder: Arc<TempDir> },
    Postgres { _database: Arc<Database> },
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = sqlite_url(&folder.path().join("app.db")).parse().unwrap();
        Self { url, kind: Kind::Sqlite { folder: Arc::new(folder) } }
    }

    fn postgres() -> Self {
        let database = Database::new();
        Self { url: database.url().parse().unwrap(), kind: Kind::Postgres { _database: Arc::new(database) } }
    }

    /// Behind a pooler that gives each transaction another connection to the server.
    fn pooled() -> Self {
        let Some(pooler) = Pooler::shared() else { return Self::postgres() };
        let database = Database::new();
        let url = pooler.url(&database).parse().unwrap();
        Self { url, kind: Kind::Postgres { _database: Arc::new(database) } }
    }

    fn open(&self) -> Arc<dyn Store> {
        store::open(&self.url, store::Settings::default()).unwrap()
    }

    /// A second store at the same place, as another replica would have it; where only one process may have a
    /// place, the same store.
    fn replica(&self, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        match self.kind {
            Kind::Sqlite { .. } => Arc::clone(store),
            Kind::Postgres { .. } => self.open(),
        }
    }

    /// The place as a crash at this moment would leave it.
    fn crashed(&self) -> Self {
        let Kind::Sqlite { folder } = &self.kind else {
            // The server knows nothing of its clients' crashes.
            return Self { url: self.url.clone(), kind: self.kind.clone() };
        };
        let place = Self::sqlite();
        let Kind::Sqlite { folder: copy } = &place.kind else { unreachable!("just made") };
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let file = entry.unwrap();
            match std::fs::copy(file.path(), copy.path().join(file.file_name())) {
                // A file that somebody made for a moment only.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => assert!(copied.is_ok(), "{copied:?}"),
            }
        }
        place
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store.close();
        drop(store);
        self.open()
    }
}

/// Runs each promise against each backend.
macro_rules! contract {
    ($backend:ident $($others:ident)+: $($promises:ident)*;) => {
        contract! { $backend: $($promises)*; }
        contract! { $($others)+: $($promises)*; }
    };
    ($backend:ident: $($promise:ident)*;) => {
        mod $backend { $(
            #[test]
            fn $promise() {
                super::$promise(&super::Place::$backend());
            }
        )* }
    };
}

contract! {
    sqlite postgres pooled:
        the_first_writer_of_an_id_wins
        the_first_writer_of_an_id_wins_inside_one_batch
        the_first_writer_of_an_id_wins_among_racers
        each_field_that_differs_makes_a_conflict
        messages_are_returned_as_they_were_sent
        the_order_is_total_and_by_time_then_by_bytes
        pages_of_every_size_give_each_row_once
        filters_are_combined_with_and
        a_filter_that_no_message_can_match_matches_none
        a_search_is_literal_and_ignores_case
        a_page_may_begin_anywhere
        an_empty_store_can_be_read
        stats_agree_with_the_rows
        a_reader_never_sees_half_a_batch
        a_reader_in_the_order_of_arrival_misses_no_message
        messages_are_found_by_their_ids
        a_created_message_carries_its_arrival_number
        a_readiness_check_adds_no_message
        messages_are_found_again_after_a_close
        messages_are_found_again_after_a_crash
        a_closed_store_stores_no_message_and_loses_none;
}

fn message(id: &str, from: &str, ts: &str, text: Option<&str>) -> Message {
    parsed(&message_with(id, from, ts, text))
}

fn plain(id: &str) -> Message {
    message(id, "+1", NOON, Some("text"))
}

fn all(store: &dyn Store) -> Vec<Message> {
    let Listing { data, total, .. } = list(store, &Filter::default(), 100, 0);
    assert_eq!(u64::try_from(data.len()).unwrap(), total, "more than a page");
    data
}

fn list(store: &dyn Store, filter: &Filter, limit: u32, offset: u64) -> Listing {
    let listing = store.list(filter, &Page { limit, offset, ..Page::default() }).unwrap();
    assert_eq!((listing.limit, listing.offset), (limit, offset));
    listing
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.message_id.as_str()).collect()
}

fn the_first_writer_of_an_id_wins(place: &Place) {
    let store = place.open();
    let first = message("m", "+1", NOON, Some("first"));
    let second = message("m", "+2", NOON, Some("second"));
    assert_eq!(fates(&store.insert_messages(std::slice::from_ref(&first)).unwrap()), [Fate::Created]);
    assert_eq!(fates(&store.insert_messages(std::slice::from_ref(&second)).unwrap()), [Fate::Conflict]);
    assert_eq!(fates(&store.insert_messages(std::slice::from_ref(&first)).unwrap()), [Fate::Duplicate]);
    let store = place.reopen(store);
    assert_eq!(
        fates(&store.insert_messages(&[second, plain("n"), first.clone()]).unwrap()),
        [Fate::Conflict, Fate::Created, Fate::Duplicate]
    );
    assert_eq!(all(store.as_ref()), [first, plain("n")]);
}

fn the_first_writer_of_an_id_wins_inside_one_batch(place: &Place) {
    let store = place.open();
    let [one, other] = ["one", "other"].map(|text| message("m", "+1", NOON, Some(text)));
    let batch = [one.clone(), plain("n"), other.clone(), one.clone(), other, plain("n")];
    let outcomes =
        [Fate::Created, Fate::Created, Fate::Conflict, Fate::Duplicate, Fate::Conflict, Fate::Duplicate];
    assert_eq!(fates(&store.insert_messages(&batch).unwrap()), outcomes);
    assert_eq!(all(store.as_ref()), [one, plain("n")]);
}

/// On one store and on a second one at the same place, as a replica would have it.
fn the_first_writer_of_an_id_wins_among_racers(place: &Place) {
    const RACERS: usize = 8;
    let first = place.open();
    let stores = [place.replica(&first), first];
    let start = Barrier::new(RACERS);
    let outcomes: Vec<Vec<Fate>> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (store, start) = (&stores[racer % 2], &start);
                scope.spawn(move || {
                    let text = format!("of racer {racer}");
                    let batch: Vec<_> = (0..20)
                        .map(|n| message(&format!("m{n:02}"), "+1", NOON, (n % 2 == 0).then_some(&*text)))
                        .collect();
                    start.wait();
                    batch
                        .iter()
                        .flat_map(|m| fates(&store.insert_messages(std::slice::from_ref(m)).unwrap()))
                        .collect()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let rows = all(stores[0].as_ref());
    assert_eq!(rows, all(stores[1].as_ref()));
    assert_eq!(rows.len(), 20);
    for (n, message) in rows.iter().enumerate() {
        let (winners, others): (Vec<_>, Vec<_>) =
            (0..RACERS).partition(|racer| outcomes[*racer][n] == Fate::Created);
        assert_eq!(winners.len(), 1, "m{n:02} was created more or less than once");
        let beaten = if n % 2 == 0 { Fate::Conflict } else { Fate::Duplicate };
        assert!(others.iter().all(|racer| outcomes[*racer][n] == beaten), "{outcomes:?}");
        let winners_text = (n % 2 == 0).then(|| format!("of racer {}", winners[0]));
        assert_eq!(message.text.as_deref(), winners_text.as_deref());
    }
}

fn each_field_that_differs_makes_a_conflict(place: &Place) {
    let store = place.open();
    let stored =
        json!({"message_id": "m", "from": "+1", "to": "+2", "ts": "2025-01-15T12:00:00.5Z", "text": ""});
    assert_eq!(fates(&store.insert_messages(&[parsed(&stored)]).unwrap()), [Fate::Created]);
    for (field, value) in [
        ("from", json!("+11")),
        ("to", json!("+1")),
        ("ts", json!("2025-01-15T12:00:01.5Z")),
        ("ts", json!("2025-01-15T12:00:00.6Z")),
        ("ts", json!("2025-01-15T12:00:00.50Z")),
        ("text", json!(" ")),
        ("text", json!(null)),
    ] {
        let mut other = stored.clone();
        other[field] = value;
        assert_eq!(fates(&store.insert_messages(&[parsed(&other)]).unwrap()), [Fate::Conflict], "{other}");
    }
    // And the other way round: a text that was absent is not an empty one.
    assert_eq!(fates(&store.insert_messages(&[message("n", "+1", NOON, None)]).unwrap()), [Fate::Created]);
    assert_eq!(
        fates(&store.insert_messages(&[message("n", "+1", NOON, Some(""))]).unwrap()),
        [Fate::Conflict]
    );
    assert_eq!(fates(&store.insert_messages(&[message("n", "+1", NOON, None)]).unwrap()), [Fate::Duplicate]);
    assert_eq!(all(store.as_ref()), [message("n", "+1", NOON, None), parsed(&stored)]);
}

fn messages_are_returned_as_they_were_sent(place: &Place) {
    let store = place.open();
    let controls: String = ('\u{1}'..='\u{1f}').chain('\u{7f}'..='\u{9f}').collect();
    let emoji = "😀".repeat(4096);
    let texts = [
        "",
        " ",
        "'; DROP TABLE message; --",
        "\"quoted\" \\ and 'quoted'",
        "%_*?[a]",
        "\u{feff}bom",
        "e\u{301} é",
        "\u{202e}right to left",
        "\u{fffd}\u{ffff}\u{10ffff}",
        "line\r\nline\u{2028}",
        "NULL",
        "0012.50",
        "ß ſ K",
        &controls,
        &emoji,
    ];
    let stamps = [
        "0000-01-01T00:00:00Z",
        "0000-02-29T23:59:59.9Z",
        "0001-01-01T00:00:00.000000000Z",
        "1969-12-31T23:59:59.999999999Z",
        "1970-01-01T00:00:00Z",
        "2025-01-15T10:00:00.10Z",
        "2025-01-15T10:00:00.1Z",
        "2262-04-12T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999999Z",
    ];
    let ids =
        ["'", "\"", "%", "id with spaces ", "😀", "é", "e\u{301}", "A", "a", "0", "00", "\u{feff}", "NULL"];
    let long_id = "é".repeat(255);
    let mut sent: Vec<Message> = Vec::new();
    sent.extend(
        texts.iter().enumerate().map(|(n, text)| message(&format!("text {n}"), "+1", NOON, Some(text))),
    );
    sent.extend(stamps.iter().map(|ts| message(&format!("ts {ts}"), "+000000000000000", ts, None)));
    sent.extend(ids.iter().chain([&&*long_id]).map(|id| plain(id)));
    let outcomes = fates(&store.insert_messages(&sent).unwrap());
    assert!(outcomes.iter().all(|fate| *fate == Fate::Created), "{outcomes:?}");

    let store = place.reopen(store);
    let mut found = all(store.as_ref());
    let by_id = |one: &Message, other: &Message| one.message_id.cmp(&other.message_id);
    found.sort_by(by_id);
    sent.sort_by(by_id);
    assert_eq!(found, sent);
    // Equal to the code is equal on the wire.
    assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&sent).unwrap());
    assert!(fates(&store.insert_messages(&sent).unwrap()).iter().all(|fate| *fate == Fate::Duplicate));
}

fn a_readiness_check_adds_no_message(place: &Place) {
    let store = place.open();
    store.ready().unwrap();
    assert_eq!(all(store.as_ref()), []);
    store.insert_messages(&[plain("a")]).unwrap();
    for _ in 0..20 {
        store.ready().unwrap();
    }
    assert_eq!(all(place.reopen(store).as_ref()), [plain("a")]);
}

fn messages_are_found_again_after_a_close(place: &Place) {
    let mut store = place.open();
    for n in 0..5 {
        store.insert_messages(&[plain(&format!("{n}"))]).unwrap();
        store = place.reopen(store);
        store.ready().unwrap();
        assert_eq!(ids(&all(store.as_ref())).len(), n + 1);
    }
}

fn messages_are_found_again_after_a_crash(place: &Place) {
    let store = place.open();
    for n in 0..3_usize {
        store.insert_messages(&[plain(&format!("{n}"))]).unwrap();
        let found = place.crashed().open();
        assert_eq!(ids(&all(found.as_ref())), ["0", "1", "2"][..=n]);
        assert_eq!(found.stats().unwrap().total_messages, u64::try_from(n).unwrap() + 1);
        if n == 1 {
            settle(store.as_ref());
        }
    }
}

fn a_closed_store_stores_no_message_and_loses_none(place: &Place) {
    let store = place.open();
    store.insert_messages(&[plain("before")]).unwrap();
    store.close();
    assert!(matches!(store.insert_messages(&[plain("after")]), Err(Error::Unavailable { .. })));
    assert!(store.ready().is_err());
    store.close();
    assert_eq!(ids(&all(place.reopen(store).as_ref())), ["before"]);
}
