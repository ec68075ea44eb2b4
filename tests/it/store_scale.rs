//! Each way to a page against the reference: a few thousand messages with large ties and small ones, cut into small
//! steps, partly indexed and partly not, and every kind of query.

use std::collections::BTreeMap;

use fastrand::Rng;
use lyftr::event::Source;
use lyftr::message::{Message, Timestamp};
use lyftr::query::{Page, PageCursor, Place};
use lyftr::store::Store;
use lyftr::store::sqlite::{Sqlite, Tuning};
use serde_json::json;

use crate::support::reference::{Reference, Wanted};
use crate::support::{Fate, Messages as _, parsed, settle};

const SENDERS: usize = 40;
const WORDS: [&str; 8] = ["red", "RED", "blue", "ПРИВЕТ", "straße", "a", "zz", "%_"];
const SEARCHES: [&str; 10] =
    ["red", "привет", "STRASSE", "d b", "a", "zz", "%", "red red", "e red", "no such text"];

/// The instant that a third of the messages share.
const TIED: &str = "2025-01-15T12:00:00.5Z";

fn some_message(rng: &mut Rng, n: usize) -> Message {
    let ts = match rng.usize(..3) {
        0 => TIED.to_owned(),
        1 => format!("2025-01-15T{:02}:00:00Z", rng.usize(..24)),
        _ => {
            format!("2025-01-{:02}T12:{:02}:00.{}Z", 1 + rng.usize(..28), rng.usize(..60), rng.usize(..1000))
        }
    };
    let words: Vec<_> = (0..rng.usize(..4)).map(|_| WORDS[rng.usize(..WORDS.len())]).collect();
    let message = parsed(&json!({
        "message_id": format!("{:x}-{n}", rng.usize(..1 << 30)),
        "from": sender(rng),
        "to": format!("+{}", 1 + rng.usize(..2)),
        "ts": ts,
        "text": words.join(" "),
    }));
    Message { source: source(rng), ..message }
}

/// The built-in source has more than half of the messages, a second one most of the others.
fn source(rng: &mut Rng) -> Source {
    let name = ["webhook", "shop", "webhook", "webhook", "shop", "tiny"][rng.usize(..40).min(rng.usize(..6))];
    Source::new(name).unwrap()
}

/// Every other message is of the first one.
fn sender(rng: &mut Rng) -> String {
    let n = if rng.usize(..2) == 0 { 0 } else { rng.usize(..SENDERS) };
    format!("+4915{n}")
}

fn some_filter(rng: &mut Rng) -> Wanted {
    let instant = |rng: &mut Rng| {
        let stored = some_message(rng, 0).ts;
        (rng.usize(..3) == 0).then(|| stored.to_string())
    };
    let (since, until) = (instant(rng), instant(rng));
    let sources = ["webhook", "shop", "tiny", "none"];
    Wanted {
        source: (rng.usize(..3) == 0).then(|| sources[rng.usize(..4)].to_owned()),
        from: rng.bool().then(|| sender(rng)),
        to: (rng.usize(..3) == 0).then(|| format!("+{}", rng.usize(1..=3))),
        since,
        until,
        search: rng.bool().then(|| SEARCHES[rng.usize(..SEARCHES.len())].to_owned()),
    }
}

fn read(store: &dyn Store, reference: &Reference, rng: &mut Rng) {
    let wanted = some_filter(rng);
    let nth = |n: usize| reference.matching(&Wanted::default()).nth(n).unwrap();
    let cursor = match rng.usize(..4) {
        0 => Some(PageCursor::After(Place::of(nth(rng.usize(..reference.len()))))),
        1 => Some(PageCursor::Before(Place::of(&some_message(rng, 0)))),
        _ => None,
    };
    let offset = if cursor.is_some() || rng.usize(..3) == 0 { 0 } else { rng.usize(..reference.len() + 10) };
    let page = Page {
        limit: rng.u32(1..=100),
        offset: u64::try_from(offset).unwrap(),
        descending: rng.bool(),
        cursor,
    };
    reference.assert_page(store, &wanted, &page);
    if wanted.search.is_none() {
        let mut steps = BTreeMap::new();
        for message in reference.matching(&wanted) {
            *steps.entry(message.ts.second().div_euclid(86_400) * 86_400).or_insert(0) += 1;
        }
        let volume = store.volume(&wanted.filter(), 86_400).unwrap().unwrap();
        assert_eq!(volume.steps, steps.into_iter().collect::<Vec<_>>(), "{wanted:?}");
    }
}

/// Where there is but one source, it may be another one than the built-in one.
#[test]
fn the_messages_of_an_only_source_are_those_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning { part_messages: 100, ..Tuning::default() };
    let store = Sqlite::open(&folder.path().join("app.db"), tuning).unwrap();
    let mut rng = Rng::with_seed(29);
    let shop = |n| Message { source: Source::new("shop").unwrap(), ..some_message(&mut rng, n) };
    let messages: Vec<Message> = (0..500).map(shop).collect();
    store.insert_messages(&messages).unwrap();
    let reference: Reference = messages.into_iter().collect();
    for is_indexed in [false, true] {
        if is_indexed {
            settle(&store);
        }
        for name in ["shop", "sho", "shop2", "webhook"] {
            for from in [None, Some("+49150".to_owned())] {
                let wanted = Wanted { source: Some(name.to_owned()), from, ..Wanted::default() };
                reference.assert_page(&store, &wanted, &Page { limit: 7, offset: 3, ..Page::default() });
            }
        }
        // As a source is called within the index.
        for to in ["\u{1f}shop", "\u{1f}"] {
            reference.assert_page(
                &store,
                &Wanted { to: Some(to.into()), ..Wanted::default() },
                &Page::default(),
            );
        }
    }
}

#[test]
fn every_way_to_a_page_gives_the_page_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning { part_messages: 500, ..Tuning::default() };
    let store = Sqlite::open(&folder.path().join("app.db"), tuning).unwrap();
    let mut rng = Rng::with_seed(7);
    let mut reference = Reference::default();
    for round in 0..12 {
        let batch: Vec<_> = (0..250).map(|n| some_message(&mut rng, reference.len() + n)).collect();
        store.insert_messages(&batch).unwrap();
        for message in &batch {
            assert_eq!(reference.insert(message), Fate::Created);
        }
        if round % 3 == 2 {
            settle(&store);
        }
        for _ in 0..60 {
            read(&store, &reference, &mut rng);
        }
    }
}

#[test]
fn a_page_may_begin_before_a_tie_or_in_it_and_end_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("app.db"), Tuning::default()).unwrap();
    let mut rng = Rng::with_seed(13);
    let at = |n: usize| match n {
        0..300 => format!("2025-01-15T11:{:02}:{:02}Z", n / 60, n % 60),
        300..1500 => TIED.to_owned(),
        _ => format!("2025-01-15T13:{:02}:{:02}Z", n / 60 % 60, n % 60),
    };
    let messages: Vec<Message> = (0..1800)
        .map(|n| Message { ts: Timestamp::parse(&at(n)).unwrap(), ..some_message(&mut rng, n) })
        .collect();
    store.insert_messages(&messages).unwrap();
    let reference: Reference = messages.iter().cloned().collect();
    for from in [None, Some("+49150".to_owned())] {
        let wanted = Wanted { from, ..Wanted::default() };
        let matching = |part: &[Message]| part.iter().filter(|message| wanted.matches(message)).count();
        let (begin, tie) = (matching(&messages[..300]), matching(&messages[300..1500]));
        assert!(tie > 512, "{tie}");
        for place in [begin, begin + tie] {
            for offset in [place - 99, place - 50, place - 1, place, place + 1] {
                for limit in [1, 2, 100] {
                    let offset = u64::try_from(offset).unwrap();
                    for descending in [false, true] {
                        let page = Page { limit, offset, descending, cursor: None };
                        reference.assert_page(&store, &wanted, &page);
                    }
                }
            }
        }
    }
}

#[test]
fn pages_are_right_where_memory_has_far_more_messages_than_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let open = |part_messages| {
        let tuning = Tuning { part_messages, ..Tuning::default() };
        Sqlite::open(&folder.path().join("app.db"), tuning).unwrap()
    };
    let mut rng = Rng::with_seed(17);
    let mut at =
        |n: usize, ts: &str| Message { ts: Timestamp::parse(ts).unwrap(), ..some_message(&mut rng, n) };
    let indexed: Vec<_> = (0..40).map(|n| at(n, &format!("2025-02-{:02}T00:00:00Z", 1 + n / 2))).collect();
    let store = open(1);
    store.insert_messages(&indexed).unwrap();
    settle(&store);
    store.close();
    // All of these lie between two of the others, and stay in memory.
    let between = |n: usize| format!("2025-02-10T{:02}:{:02}:00.5Z", n % 24, n / 24 % 60);
    let recent: Vec<_> = (40..3_000).map(|n| at(n, &between(n))).collect();
    let store = open(100_000);
    store.insert_messages(&recent).unwrap();
    let reference: Reference = indexed.into_iter().chain(recent).collect();
    for from in [None, Some("+49150".to_owned())] {
        let wanted = Wanted { from, ..Wanted::default() };
        let total = reference.matching(&wanted).count();
        for offset in (0..total).step_by(61).chain([total - 1, total]) {
            let offset = u64::try_from(offset).unwrap();
            let page = Page { limit: 7, offset, descending: offset % 2 == 1, cursor: None };
            reference.assert_page(&store, &wanted, &page);
        }
    }
}

#[test]
fn a_tie_is_paged_through_while_it_grows() {
    page_through_a_growing_tie(&Wanted::default());
}

#[test]
fn a_senders_tie_is_paged_through_while_it_grows_past_the_index() {
    page_through_a_growing_tie(&Wanted::from("+49150"));
}

/// The first messages are in the index, those that arrive meanwhile are not.
fn page_through_a_growing_tie(wanted: &Wanted) {
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning { part_messages: 1000, ..Tuning::default() };
    let store = Sqlite::open(&folder.path().join("app.db"), tuning).unwrap();
    let mut rng = Rng::with_seed(11);
    let ts = Timestamp::parse(TIED).unwrap();
    let tied = |rng: &mut Rng, n| Message { ts, ..some_message(rng, n) };
    let mut stored: Vec<_> = (0..1000).map(|n| tied(&mut rng, n)).collect();
    store.insert_messages(&stored).unwrap();
    settle(&store);
    let filter = wanted.filter();
    let (mut page, mut seen) = (Page { limit: 97, ..Page::default() }, Vec::new());
    loop {
        let listing = store.list(&filter, &page).unwrap();
        let expected = stored.iter().filter(|message| wanted.matches(message)).count();
        assert_eq!(listing.total, u64::try_from(expected).unwrap());
        seen.extend(listing.data);
        let Some(next) = listing.next else { break };
        page.cursor = Some(next);
        let more: Vec<_> = (stored.len()..stored.len() + 20).map(|n| tied(&mut rng, n)).collect();
        store.insert_messages(&more).unwrap();
        stored.extend(more);
    }
    let ids: Vec<_> = seen.iter().map(|message| &message.message_id).collect();
    assert!(ids.is_sorted_by(|one, other| one < other), "out of order or twice");
    for message in stored[..1000].iter().filter(|message| wanted.matches(message)) {
        assert!(ids.binary_search(&&message.message_id).is_ok(), "{message:?} was passed over");
    }
}
