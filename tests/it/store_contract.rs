//! The promises in the doc comment of [`Store`], as tests. They know a store only by its URL, so that each
//! backend is one more line at the end of [`contract!`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use lyftr::message::{self, Message};
use lyftr::query::{Filter, Listing, Page, Search, Stats};
use lyftr::store::{self, Error, Outcome, Store, Url};
use serde_json::json;
use tempfile::TempDir;

const CREATED: Outcome = Outcome::Created;
const DUPLICATE: Outcome = Outcome::Duplicate;
const CONFLICT: Outcome = Outcome::Conflict;
const NOON: &str = "2025-01-15T12:00:00Z";

/// Where a store under test is; it goes away with this.
struct Place {
    url: Url,
    _folder: TempDir,
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:///{}", folder.path().join("app.db").display()).parse().unwrap();
        Self { url, _folder: folder }
    }

    fn open(&self) -> Arc<dyn Store> {
        store::open(&self.url).unwrap()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store.close();
        drop(store);
        self.open()
    }
}

/// Runs each promise against each backend.
macro_rules! contract {
    ($($backend:ident: $($promise:ident)*;)*) => {
        $(mod $backend { $(
            #[test]
            fn $promise() {
                super::$promise(&super::Place::$backend());
            }
        )* })*
    };
}

contract! {
    sqlite:
        the_first_writer_of_an_id_wins
        the_first_writer_of_an_id_wins_inside_one_batch
        the_first_writer_of_an_id_wins_among_racers
        each_field_that_differs_makes_a_conflict
        what_is_returned_is_what_was_sent
        the_order_is_total_and_by_time_then_by_bytes
        pages_of_every_size_give_each_row_once
        filters_are_combined_with_and
        a_search_is_literal_and_ignores_case
        a_page_may_begin_anywhere
        an_empty_store_answers
        stats_agree_with_the_rows
        a_reader_never_sees_half_a_batch
        being_ready_adds_nothing
        what_was_closed_is_found_again
        what_was_left_open_is_found_again
        after_close_nothing_is_stored_and_nothing_is_lost;
}

fn message(id: &str, from: &str, ts: &str, text: Option<&str>) -> Message {
    let body = json!({"message_id": id, "from": from, "to": "+14155550100", "ts": ts, "text": text});
    message::parse(body.to_string().as_bytes()).unwrap()
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
    let listing = store.list(filter, Page { limit, offset }).unwrap();
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
    assert_eq!(store.insert(std::slice::from_ref(&first)).unwrap(), [CREATED]);
    assert_eq!(store.insert(std::slice::from_ref(&second)).unwrap(), [CONFLICT]);
    assert_eq!(store.insert(std::slice::from_ref(&first)).unwrap(), [DUPLICATE]);
    let store = place.reopen(store);
    assert_eq!(store.insert(&[second, plain("n"), first.clone()]).unwrap(), [CONFLICT, CREATED, DUPLICATE]);
    assert_eq!(all(store.as_ref()), [first, plain("n")]);
}

fn the_first_writer_of_an_id_wins_inside_one_batch(place: &Place) {
    let store = place.open();
    let [one, other] = ["one", "other"].map(|text| message("m", "+1", NOON, Some(text)));
    let batch = [one.clone(), plain("n"), other.clone(), one.clone(), other, plain("n")];
    let outcomes = [CREATED, CREATED, CONFLICT, DUPLICATE, CONFLICT, DUPLICATE];
    assert_eq!(store.insert(&batch).unwrap(), outcomes);
    assert_eq!(all(store.as_ref()), [one, plain("n")]);
}

/// On one store and on a second one at the same place, as a replica would have it.
fn the_first_writer_of_an_id_wins_among_racers(place: &Place) {
    const RACERS: usize = 8;
    let stores = [place.open(), place.open()];
    let start = Barrier::new(RACERS);
    let outcomes: Vec<Vec<Outcome>> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (store, start) = (&stores[racer % 2], &start);
                scope.spawn(move || {
                    let text = format!("of racer {racer}");
                    let batch: Vec<_> = (0..20)
                        .map(|n| message(&format!("m{n:02}"), "+1", NOON, (n % 2 == 0).then_some(&*text)))
                        .collect();
                    start.wait();
                    batch.iter().flat_map(|m| store.insert(std::slice::from_ref(m)).unwrap()).collect()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let stored = all(stores[0].as_ref());
    assert_eq!(stored, all(stores[1].as_ref()));
    assert_eq!(stored.len(), 20);
    for (n, message) in stored.iter().enumerate() {
        let (winners, others): (Vec<_>, Vec<_>) =
            (0..RACERS).partition(|racer| outcomes[*racer][n] == CREATED);
        assert_eq!(winners.len(), 1, "m{n:02} was created more or less than once");
        let beaten = if n % 2 == 0 { CONFLICT } else { DUPLICATE };
        assert!(others.iter().all(|racer| outcomes[*racer][n] == beaten), "{outcomes:?}");
        let winners_text = (n % 2 == 0).then(|| format!("of racer {}", winners[0]));
        assert_eq!(message.text.as_deref(), winners_text.as_deref());
    }
}

fn each_field_that_differs_makes_a_conflict(place: &Place) {
    let store = place.open();
    let stored =
        json!({"message_id": "m", "from": "+1", "to": "+2", "ts": "2025-01-15T12:00:00.5Z", "text": ""});
    let parse = |value: &serde_json::Value| message::parse(value.to_string().as_bytes()).unwrap();
    assert_eq!(store.insert(&[parse(&stored)]).unwrap(), [CREATED]);
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
        assert_eq!(store.insert(&[parse(&other)]).unwrap(), [CONFLICT], "{other}");
    }
    // And the other way round: a text that was absent is not an empty one.
    assert_eq!(store.insert(&[message("n", "+1", NOON, None)]).unwrap(), [CREATED]);
    assert_eq!(store.insert(&[message("n", "+1", NOON, Some(""))]).unwrap(), [CONFLICT]);
    assert_eq!(store.insert(&[message("n", "+1", NOON, None)]).unwrap(), [DUPLICATE]);
    assert_eq!(all(store.as_ref()), [message("n", "+1", NOON, None), parse(&stored)]);
}

fn what_is_returned_is_what_was_sent(place: &Place) {
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
    let outcomes = store.insert(&sent).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == CREATED), "{outcomes:?}");

    let store = place.reopen(store);
    let mut found = all(store.as_ref());
    let by_id = |one: &Message, other: &Message| one.message_id.cmp(&other.message_id);
    found.sort_by(by_id);
    sent.sort_by(by_id);
    assert_eq!(found, sent);
    // Equal to the code is equal on the wire.
    assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&sent).unwrap());
    assert!(store.insert(&sent).unwrap().iter().all(|outcome| *outcome == DUPLICATE));
}

/// Ids on purpose such that neither the order of arrival, nor one by characters' case, gives the same.
fn in_order() -> Vec<Message> {
    [
        ("z", "0000-01-01T00:00:00Z"),
        ("y", "1969-12-31T23:59:59.999999999Z"),
        ("x", "1970-01-01T00:00:00Z"),
        ("9", "2025-01-15T10:00:00Z"),
        ("B", "2025-01-15T10:00:00.0Z"),
        ("a", "2025-01-15T10:00:00Z"),
        ("a ", "2025-01-15T10:00:00.000Z"),
        ("aa", "2025-01-15T10:00:00Z"),
        ("e\u{301}", "2025-01-15T10:00:00Z"),
        ("z", "2025-01-15T10:00:00Z"),
        ("é", "2025-01-15T10:00:00Z"),
        ("\u{ffff}", "2025-01-15T10:00:00Z"),
        ("😀", "2025-01-15T10:00:00Z"),
        ("w", "2025-01-15T10:00:00.000000001Z"),
        ("v", "2025-01-15T10:00:00.49Z"),
        ("u", "2025-01-15T10:00:00.5Z"),
        ("t", "2025-01-15T10:00:00.51Z"),
        ("s", "2025-01-15T10:00:01Z"),
        ("r", "9999-12-31T23:59:59.999999999Z"),
    ]
    .iter()
    .enumerate()
    // The first "z" is another message than the second.
    .map(|(n, (id, ts))| message(if n == 0 { "Z" } else { id }, "+1", ts, None))
    .collect()
}

fn the_order_is_total_and_by_time_then_by_bytes(place: &Place) {
    let store = place.open();
    let expected = in_order();
    let mut shuffled = expected.clone();
    shuffled.reverse();
    shuffled.rotate_left(7);
    for batch in shuffled.chunks(4) {
        store.insert(batch).unwrap();
    }
    assert_eq!(ids(&all(store.as_ref())), ids(&expected));
    let Stats { first_message_ts, last_message_ts, .. } = store.stats().unwrap();
    assert_eq!((first_message_ts, last_message_ts), (Some(expected[0].ts), Some(expected[18].ts)));
    // Each row is a `since` that leaves out those before it, whatever digits it was written with.
    for message in &expected {
        let since = Filter { since: Some(message.ts), ..Filter::default() };
        let instant = |m: &Message| (m.ts.second(), m.ts.nanosecond());
        let matching: Vec<_> = expected.iter().filter(|m| instant(m) >= instant(message)).cloned().collect();
        assert_eq!(ids(&list(store.as_ref(), &since, 100, 0).data), ids(&matching), "since {}", message.ts);
    }
}

fn pages_of_every_size_give_each_row_once(place: &Place) {
    let store = place.open();
    let expected = in_order();
    store.insert(&expected).unwrap();
    for limit in 1..=20 {
        let mut found = Vec::new();
        loop {
            let page = list(store.as_ref(), &Filter::default(), limit, u64::try_from(found.len()).unwrap());
            assert_eq!(page.total, 19);
            if page.data.is_empty() {
                break;
            }
            assert!(
                page.data.len() == usize::try_from(limit).unwrap() || found.len() + page.data.len() == 19
            );
            found.extend(page.data);
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
}

fn filters_are_combined_with_and(place: &Place) {
    let store = place.open();
    let batch: Vec<_> = (0..60_u32)
        .map(|n| {
            let ts = format!("2025-01-15T10:00:{:02}Z", n / 2);
            message(
                &format!("m{n:02}"),
                ["+1", "+12", "+2"][n as usize % 3],
                &ts,
                Some(["red", "blue"][n as usize % 2]),
            )
        })
        .collect();
    store.insert(&batch).unwrap();
    let since = batch[30].ts;
    for (from, since, q) in
        (0..8_u8).map(|bits| (bits & 1 != 0, (bits & 2 != 0).then_some(since), bits & 4 != 0))
    {
        let filter =
            Filter { from: from.then(|| "+1".to_owned()), since, search: q.then(|| Search::new("RED")) };
        let matches = |m: &&Message| {
            (!from || m.from.as_str() == "+1")
                && since.is_none_or(|since| m.ts.second() >= since.second())
                && (!q || m.text.as_deref() == Some("red"))
        };
        let expected: Vec<_> = batch.iter().filter(matches).cloned().collect();
        let listing = list(store.as_ref(), &filter, 7, 2);
        assert_eq!(listing.total, u64::try_from(expected.len()).unwrap(), "{filter:?}");
        assert_eq!(listing.data, expected[2..expected.len().min(9)], "{filter:?}");
    }
}

fn a_search_is_literal_and_ignores_case(place: &Place) {
    let store = place.open();
    let texts = ["100 %", "100_", "a*b?c[d]", "Straße", "ПРИВЕТ", "", "'quote'", "back\\slash"];
    let batch: Vec<_> =
        (0..).zip(texts).map(|(n, text)| message(&format!("{n}"), "+1", NOON, Some(text))).collect();
    store.insert(&batch).unwrap();
    store.insert(&[message("none", "+1", NOON, None)]).unwrap();
    for (q, expected) in [
        ("%", vec!["0"]),
        ("_", vec!["1"]),
        ("0", vec!["0", "1"]),
        ("*B?C[D]", vec!["2"]),
        ("STRASSE", vec!["3"]),
        ("привет", vec!["4"]),
        ("'", vec!["6"]),
        ("\\", vec!["7"]),
        ("nothing like it", vec![]),
    ] {
        let filter = Filter { search: Some(Search::new(q)), ..Filter::default() };
        assert_eq!(ids(&list(store.as_ref(), &filter, 100, 0).data), expected, "{q}");
    }
}

fn a_page_may_begin_anywhere(place: &Place) {
    let store = place.open();
    store.insert(&[plain("a"), plain("b"), plain("c")]).unwrap();
    for (offset, expected) in [(0, vec!["a", "b", "c"]), (2, vec!["c"]), (3, vec![]), (4, vec![])] {
        assert_eq!(ids(&list(store.as_ref(), &Filter::default(), 100, offset).data), expected);
    }
    let signed_max = u64::try_from(i64::MAX).unwrap();
    for offset in [u64::from(u32::MAX), signed_max - 1, signed_max, signed_max + 1, u64::MAX] {
        let listing = list(store.as_ref(), &Filter::default(), 100, offset);
        assert_eq!((listing.data.len(), listing.total), (0, 3), "{offset}");
    }
}

fn an_empty_store_answers(place: &Place) {
    let store = place.open();
    assert_eq!(store.insert(&[]).unwrap(), []);
    store.maintain(true);
    assert_eq!(
        list(store.as_ref(), &Filter::default(), 50, 0),
        Listing { data: vec![], total: 0, limit: 50, offset: 0 }
    );
    let nothing = Stats {
        total_messages: 0,
        senders_count: 0,
        messages_per_sender: vec![],
        first_message_ts: None,
        last_message_ts: None,
    };
    assert_eq!(store.stats().unwrap(), nothing);
}

/// Fifteen senders, the middle ones with equal counts.
fn stats_agree_with_the_rows(place: &Place) {
    let store = place.open();
    let counts = [9, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 2, 7, 1, 3];
    let batch: Vec<_> = (1..)
        .zip(counts)
        .flat_map(|(sender, count)| (0..count).map(move |n| plain_from(&format!("+{sender}"), n)))
        .collect();
    store.insert(&batch).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.total_messages, stats.senders_count), (68, 15));
    let top: Vec<_> =
        stats.messages_per_sender.iter().map(|sender| (sender.from.as_str(), sender.count)).collect();
    // By the bytes of the number among equals: +10 and +11 come before +3.
    let (nine, seven) = (("+1", 9), ("+13", 7));
    let fives = ["+10", "+11", "+3", "+4", "+5", "+6", "+7", "+8"].map(|from| (from, 5));
    assert_eq!(top, [&[nine, seven], &fives[..]].concat());
    for (from, count) in top {
        let filter = Filter { from: Some(from.to_owned()), ..Filter::default() };
        assert_eq!(list(store.as_ref(), &filter, 1, 0).total, count);
    }
}

fn plain_from(from: &str, n: i32) -> Message {
    message(&format!("{from} {n}"), from, NOON, None)
}

fn a_reader_never_sees_half_a_batch(place: &Place) {
    const BATCH: u64 = 37;
    let store = place.open();
    let done = AtomicBool::new(false);
    let reader = |done: &AtomicBool| {
        let mut total = 0;
        while !done.load(Ordering::Relaxed) {
            let stats = store.stats().unwrap();
            let listing = list(store.as_ref(), &Filter::default(), 1, 0);
            assert!(
                stats.total_messages >= total && listing.total >= stats.total_messages,
                "a total went down"
            );
            total = listing.total;
            assert_eq!((stats.total_messages % BATCH, listing.total % BATCH), (0, 0), "half a batch");
            let by_sender: u64 = stats.messages_per_sender.iter().map(|sender| sender.count).sum();
            assert_eq!(by_sender, stats.total_messages, "the figures are of two snapshots");
        }
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(|| reader(&done)), scope.spawn(|| reader(&done))];
        for batch in 0..60 {
            let sender = format!("+{}", batch % 5);
            let messages: Vec<_> =
                (0..BATCH).map(|n| message(&format!("{batch} {n}"), &sender, NOON, None)).collect();
            store.insert(&messages).unwrap();
            store.maintain(batch % 2 == 0);
            // The very next read finds it.
            assert_eq!(store.stats().unwrap().total_messages, (batch + 1) * BATCH);
        }
        done.store(true, Ordering::Relaxed);
        readers.map(|reader| reader.join().unwrap());
    });
}

fn being_ready_adds_nothing(place: &Place) {
    let store = place.open();
    store.ready().unwrap();
    assert_eq!(all(store.as_ref()), []);
    store.insert(&[plain("a")]).unwrap();
    for _ in 0..20 {
        store.ready().unwrap();
    }
    assert_eq!(all(place.reopen(store).as_ref()), [plain("a")]);
}

fn what_was_closed_is_found_again(place: &Place) {
    let mut store = place.open();
    for n in 0..5 {
        store.insert(&[plain(&format!("{n}"))]).unwrap();
        store = place.reopen(store);
        store.ready().unwrap();
        assert_eq!(ids(&all(store.as_ref())).len(), n + 1);
    }
}

/// Without `close`, as after a crash.
fn what_was_left_open_is_found_again(place: &Place) {
    let stores: Vec<_> = (0..3)
        .map(|n| {
            let store = place.open();
            store.insert(&[plain(&format!("{n}"))]).unwrap();
            store
        })
        .collect();
    assert_eq!(ids(&all(place.open().as_ref())), ["0", "1", "2"]);
    drop(stores);
    assert_eq!(ids(&all(place.open().as_ref())), ["0", "1", "2"]);
}

fn after_close_nothing_is_stored_and_nothing_is_lost(place: &Place) {
    let store = place.open();
    store.insert(&[plain("before")]).unwrap();
    store.close();
    assert!(matches!(store.insert(&[plain("after")]), Err(Error::Unavailable { .. })));
    assert!(store.ready().is_err());
    store.maintain(true);
    store.close();
    assert_eq!(ids(&all(place.reopen(store).as_ref())), ["before"]);
}
