//! Messages of several sources in listings, and over time.

use lyftr::message::Message;
use lyftr::query::{Filter, Page, PageCursor, Place, Search};
use lyftr::store::Store;

use super::events::{at, plain, spoken};
use super::open;
use crate::support::postgres::Database;
use crate::support::{Messages as _, message_with, parsed, settle};

#[test]
fn messages_are_found_by_id_and_by_source_and_ordered_by_source_last() {
    let database = Database::new();
    let store = open(&database);
    let of = |of: &str, key: &str| {
        let mut event = spoken(of, key, Some("+919876543210"), Some("+14155550100"), "Hello");
        event.ts = Some(at("2025-01-15T10:00:00Z"));
        event
    };
    let events =
        [of("x-late", "k"), plain("k"), of("shop", "k"), of("shop", "j"), plain("l"), of("x-late", "l")];
    store.insert(&events).unwrap();
    let mut ordered: Vec<Message> = events.iter().map(|event| event.message().unwrap()).collect();
    ordered.sort_by_key(Place::of);
    let seen = |filter: &Filter, page: &Page| store.list(filter, page).unwrap();
    let sources = |of: &[Message]| of.iter().map(|m| m.source.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(sources(&ordered[1..4]), ["shop", "webhook", "x-late"]);
    let assert_listed = |filter: &Filter, expected: &[Message]| {
        for descending in [false, true] {
            let mut expected = expected.to_vec();
            if descending {
                expected.reverse();
            }
            let whole = seen(filter, &Page { descending, ..Page::default() });
            assert_eq!((whole.data.as_slice(), whole.total), (expected.as_slice(), expected.len() as u64));
            // One by one, with the cursors of either side.
            let mut page = Page { limit: 1, descending, ..Page::default() };
            let mut found = Vec::new();
            loop {
                let listing = seen(filter, &page);
                found.extend(listing.data);
                let Some(next) = listing.next else { break };
                page.cursor = Some(next);
            }
            assert_eq!(found, expected, "{filter:?}");
            if let Some(last) = expected.last() {
                let cursor = Some(PageCursor::Before(Place::of(last)));
                let before = seen(filter, &Page { cursor, descending, ..Page::default() });
                assert_eq!(before.data, expected[..expected.len() - 1], "{filter:?}");
            }
        }
    };
    let id = |id: &str| Filter { id: Some(id.to_owned()), ..Filter::default() };
    let matching = |keep: &dyn Fn(&Message) -> bool| -> Vec<Message> {
        ordered.iter().filter(|message| keep(message)).cloned().collect()
    };
    for derived in [false, true] {
        if derived {
            settle(&store);
        }
        assert_listed(&Filter::default(), &ordered);
        assert_listed(&id("k"), &matching(&|m| m.message_id.as_str() == "k"));
        assert_listed(&id("none"), &[]);
        assert_listed(&id("k\n"), &[]);
        for source in ["shop", "webhook", "x-late", "none", "", "Shop"] {
            let filter = Filter { source: Some(source.to_owned()), ..Filter::default() };
            assert_listed(&filter, &matching(&|m| m.source.as_str() == source));
            let filter = Filter { id: Some("l".to_owned()), ..filter };
            assert_listed(
                &filter,
                &matching(&|m| m.source.as_str() == source && m.message_id.as_str() == "l"),
            );
        }
        let filter =
            Filter { search: Some(Search::new("hell")), from: Some("+919876543210".to_owned()), ..id("k") };
        assert_listed(&filter, &matching(&|m| m.message_id.as_str() == "k"));
        assert_listed(&Filter { from: Some("+1".to_owned()), ..id("k") }, &[]);
        assert_listed(&Filter { since: Some(at("2025-01-15T10:00:00.1Z")), ..id("k") }, &[]);
        let filter = Filter { search: Some(Search::new("hell")), ..Filter::default() };
        assert_listed(&filter, &ordered);
    }
}

#[test]
fn the_volume_is_that_of_the_messages_in_each_step() {
    let database = Database::new();
    let store = open(&database);
    let message =
        |n: u32, ts: &str| parsed(&message_with(&format!("m{n}"), ["+1", "+2"][n as usize % 2], ts, None));
    let times = [
        "1969-12-31T23:59:59.9Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:04:59.999999999Z",
        "1970-01-01T00:05:00Z",
        "1969-12-31T23:55:00Z",
        "1969-12-31T23:54:59Z",
        "1970-01-01T06:00:00Z",
    ];
    let messages: Vec<Message> = (0..).zip(times).map(|(n, ts)| message(n, ts)).collect();
    store.insert_messages(&messages).unwrap();
    for (filter, keep) in [
        (Filter::default(), (|_| true) as fn(&Message) -> bool),
        (Filter { from: Some("+1".to_owned()), ..Filter::default() }, |m| {
            m.from.as_ref().unwrap().as_str() == "+1"
        }),
        (Filter { since: Some(messages[1].ts), ..Filter::default() }, |m| m.ts.second() >= 0),
        (Filter { until: Some(messages[3].ts), ..Filter::default() }, |m| m.ts.second() < 300),
        (Filter { source: Some("shop".to_owned()), ..Filter::default() }, |_| false),
        (Filter { to: Some("\0".to_owned()), ..Filter::default() }, |_| false),
    ] {
        for step in [60, 300, 3_600, 86_400, 2_592_000] {
            let mut expected = std::collections::BTreeMap::new();
            for message in messages.iter().filter(|message| keep(message)) {
                *expected.entry(message.ts.second().div_euclid(step) * step).or_insert(0) += 1;
            }
            let found = store.volume(&filter, u32::try_from(step).unwrap()).unwrap().unwrap();
            assert_eq!(found.steps, expected.into_iter().collect::<Vec<_>>(), "{filter:?} {step}");
        }
    }
    // From 23:54 to 06:00 there are 367 minutes; 500 is the most.
    store.insert_messages(&[message(7, "1970-01-01T08:13:59Z")]).unwrap();
    assert!(store.volume(&Filter::default(), 60).unwrap().is_some());
    store.insert_messages(&[message(8, "1970-01-01T08:14:00Z")]).unwrap();
    assert!(store.volume(&Filter::default(), 60).unwrap().is_none());
}
