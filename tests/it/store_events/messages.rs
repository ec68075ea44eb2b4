//! Reads of messages, of every source and from anybody, with other events among them.

use lyftr::event::{Event, Kind};
use lyftr::message::Message;
use lyftr::query::{Filter, Listing, Page, PageCursor, Place as Spot, Search};
use lyftr::store::Store;

use super::{Place, bare, engines, event, name, ts};
use crate::support::settle;

engines! { sqlite: (
    lists_have_the_messages_of_every_source_by_time_id_and_source
    an_id_is_found_in_each_source
    senders_that_are_no_phone_number_are_counted_and_listed
    events_that_are_no_messages_are_not_counted_listed_or_searched
    a_great_tie_of_several_sources_is_paged_through
) }

/// Messages that have few places, so that time, id and source decide in turn; of anybody, or of nobody.
fn mixed() -> Vec<Event> {
    let mut events = Vec::new();
    for (n, source) in ["shop", "webhook", "a", "shop-2"].into_iter().enumerate() {
        for key in ["m1", "m2", "M1", "é", "shop m1"] {
            let mut message = event(source, key);
            message.ts = Some(ts(
                ["2025-01-15T10:00:00Z", "2025-01-15T10:00:00.0Z", "2025-01-15T09:00:00Z"][key.len() % 3]
            ));
            message.from = [Some("+1"), Some("Bot 7"), None, Some("+999999999999999")][n].map(name);
            message.to = [Some("Shop"), Some("+1"), Some("+2"), None][(n + key.len()) % 4].map(name);
            message.text = [Some("Hello there"), Some("other"), None][key.len() % 3].map(Into::into);
            if source == "webhook" {
                message.from = Some(name("+1"));
                message.to = Some(name("+2"));
            }
            events.push(message.with_implied());
            let mut status = event(source, &format!("status of {key}"));
            status.kind = Kind::ALL[1 + n].0;
            events.push(status.with_implied());
        }
    }
    events
}

fn matches(filter: &Filter, message: &Message) -> bool {
    let Filter { id, source, from, to, since, until, search } = filter;
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
    is(id, Some(message.message_id.as_str()))
        && is(source, Some(message.source.as_str()))
        && is(from, message.from.as_ref().map(lyftr::message::Name::as_str))
        && is(to, message.to.as_ref().map(lyftr::message::Name::as_str))
        && since.is_none_or(|since| message.ts.moment() >= since.moment())
        && until.is_none_or(|until| message.ts.moment() < until.moment())
        && search.as_ref().is_none_or(|search| {
            message.text.as_ref().is_some_and(|text| text.to_lowercase().contains(search.folded()))
        })
}

/// The messages among these events that match, in the order of lists.
fn expected(events: &[Event], filter: &Filter) -> Vec<Message> {
    let messages = events.iter().filter_map(Event::message);
    let mut messages: Vec<_> = messages.filter(|message| matches(filter, message)).collect();
    let place = |message: &Message| {
        let (moment, id) = (message.ts.moment(), message.message_id.as_str().to_owned());
        (moment, id, message.source.as_str().to_owned())
    };
    messages.sort_by_key(place);
    messages
}

/// Goes through all pages, forwards by offset and by cursor, and backwards.
#[track_caller]
fn assert_pages(store: &dyn Store, filter: &Filter, expected: &[Message]) {
    let list = |page: Page| -> Listing {
        let listing = store.list(filter, &page).unwrap();
        let messages = store.messages(filter, &page).unwrap();
        assert_eq!(messages, listing.data, "without a count: {page:?} {filter:?}");
        listing
    };
    let page = |limit, offset| Page { limit, offset, ..Page::default() };
    let whole = list(page(100, 0));
    assert_eq!(whole.data, expected, "{filter:?}");
    assert_eq!(usize::try_from(whole.total).unwrap(), expected.len());
    for offset in 0..expected.len() + 2 {
        let found = list(page(3, u64::try_from(offset).unwrap()));
        let rest = expected.get(offset..).unwrap_or_default();
        assert_eq!(found.data, rest[..rest.len().min(3)], "{offset} {filter:?}");
        let Some(at) = expected.get(offset) else { continue };
        for descending in [false, true] {
            let cursor = Some(PageCursor::After(Spot::of(at)));
            let found = list(Page { limit: 3, descending, cursor, ..Page::default() });
            let mut rest: Vec<_> = if descending {
                expected[..offset].iter().rev().collect()
            } else {
                expected[offset + 1..].iter().collect()
            };
            rest.truncate(3);
            assert!(found.data.iter().eq(rest), "after {offset}, {descending}, {filter:?}: {:?}", found.data);
            let cursor = Some(PageCursor::Before(Spot::of(at)));
            list(Page { limit: 3, descending, cursor, ..Page::default() });
        }
    }
}

fn filters() -> Vec<Filter> {
    let mut filters = Vec::new();
    for source in [None, Some("webhook"), Some("shop"), Some("sho"), Some("none"), Some("No Source\u{1f}")] {
        for party in [None, Some("+1"), Some("+7"), Some("Bot 7"), Some("nobody")] {
            let of = |from: Option<&str>, to: Option<&str>, search: Option<&str>| Filter {
                source: source.map(str::to_owned),
                from: from.map(str::to_owned),
                to: to.map(str::to_owned),
                search: search.map(Search::new),
                ..Filter::default()
            };
            filters.extend([
                of(party, None, None),
                of(None, party, None),
                of(party, Some("Shop"), None),
                of(party, None, Some("HELLO")),
            ]);
        }
    }
    filters.push(Filter {
        since: Some(ts("2025-01-15T10:00:00Z")),
        source: Some("shop".into()),
        ..Filter::default()
    });
    filters
}

fn lists_have_the_messages_of_every_source_by_time_id_and_source(place: &Place) {
    let store = place.open();
    let events = mixed();
    for (upto, settles) in [(21, true), (events.len(), false), (events.len(), true)] {
        store.insert(&events[..upto]).unwrap();
        if settles {
            settle(store.as_ref());
        }
        for filter in filters() {
            assert_pages(store.as_ref(), &filter, &expected(&events[..upto], &filter));
        }
    }
    store.close();
    drop(store);
    let store = place.open();
    for filter in filters() {
        assert_pages(store.as_ref(), &filter, &expected(&events, &filter));
    }
}

fn an_id_is_found_in_each_source(place: &Place) {
    let store = place.open();
    let events = mixed();
    store.insert(&events).unwrap();
    for id in ["m1", "M1", "é", "none", "status of m1", "shop m1", "", "\u{1f}shop\u{1f}m1", &"x".repeat(300)]
    {
        for filter in filters() {
            let filter = Filter { id: Some(id.to_owned()), ..filter };
            assert_pages(store.as_ref(), &filter, &expected(&events, &filter));
        }
    }
}

fn senders_that_are_no_phone_number_are_counted_and_listed(place: &Place) {
    let store = place.open();
    let mut expected = Vec::new();
    for (place, (from, count)) in
        [(Some("Bot 7"), 3), (Some("+2"), 2), (Some("Bo"), 2), (None, 5), (Some("+1"), 4)]
            .into_iter()
            .enumerate()
    {
        let events: Vec<_> = (0..count)
            .map(|n| {
                let mut message = event("shop", &format!("{place} {n}"));
                message.from = from.map(name);
                message
            })
            .collect();
        store.insert(&events).unwrap();
        expected.extend(from.map(|from| (from, u64::try_from(events.len()).unwrap())));
        expected.sort_by_key(|(from, count)| (std::cmp::Reverse(*count), *from));
        for settles in [false, true] {
            if settles {
                settle(store.as_ref());
            }
            let stats = store.stats().unwrap();
            let found: Vec<_> =
                stats.messages_per_sender.iter().map(|one| (one.from.as_str(), one.count)).collect();
            assert_eq!(found, expected);
            assert_eq!(stats.senders_count, u64::try_from(expected.len()).unwrap());
            let listed = store.list(&Filter::default(), &Page::default()).unwrap();
            assert_eq!(stats.total_messages, listed.total);
        }
    }
}

fn events_that_are_no_messages_are_not_counted_listed_or_searched(place: &Place) {
    let store = place.open();
    let others: Vec<_> = Kind::ALL[1..]
        .iter()
        .flat_map(|(kind, word)| {
            let mut whole = event("shop", word);
            whole.kind = *kind;
            // The least and the greatest time of all.
            whole.ts =
                Some(ts(if word.len() % 2 == 0 { "0001-01-01T00:00:00Z" } else { "9998-01-01T00:00:00Z" }));
            [whole, bare("shop", &format!("bare {word}"), *kind)]
        })
        .collect();
    for round in 0..2 {
        store.insert(&others).unwrap();
        settle(store.as_ref());
        let stats = store.stats().unwrap();
        assert_eq!(stats.total_messages, round);
        assert_eq!(stats.senders_count, round);
        let at = (round > 0).then(|| ts("2025-01-15T10:00:00.50Z"));
        assert_eq!((stats.first_message_ts, stats.last_message_ts), (at, at));
        for search in [None, Some("Hello"), Some("lo")] {
            let filter = Filter { search: search.map(Search::new), ..Filter::default() };
            assert_eq!(store.list(&filter, &Page::default()).unwrap().total, round, "{search:?}");
        }
        let volume = store.volume(&Filter::default(), 3_600).unwrap().unwrap();
        assert_eq!(volume.steps.iter().map(|(_, count)| count).sum::<u64>(), round);
        assert_eq!(store.arrived(0, 1_000).unwrap().len(), others.len() + usize::try_from(round).unwrap());
        store.insert(&[event("shop", "a message")]).unwrap();
    }
    // Many of them behind the last message do not keep anything waiting.
    let many: Vec<_> = (0..3_000).map(|n| bare("shop", &format!("many {n}"), Kind::Status)).collect();
    store.insert(&many).unwrap();
    settle(store.as_ref());
    assert_eq!(store.backlog().behind, lyftr::store::Behind::default());
}

fn a_great_tie_of_several_sources_is_paged_through(place: &Place) {
    let store = place.open();
    let mut events: Vec<_> = (0..700)
        .map(|n| {
            let mut message = event(["shop", "webhook", "b"][n * 7 % 3], &format!("{:03}", n * 31 % 350));
            message.ts = Some(ts("2025-01-15T10:00:00Z"));
            message.with_implied()
        })
        .collect();
    store.insert(&events[..500]).unwrap();
    settle(store.as_ref());
    let assert_all = |events: &[Event]| {
        for filter in [Filter::default(), Filter { from: Some("+491701".into()), ..Filter::default() }] {
            let mut expected = expected(events, &filter);
            // One of a source and id: the first one.
            expected.dedup_by(|other, one| other.message_id == one.message_id && other.source == one.source);
            let mut cursor = None;
            let mut found = Vec::new();
            loop {
                let page = store.list(&filter, &Page { limit: 90, cursor, ..Page::default() }).unwrap();
                found.extend(page.data);
                let Some(next) = page.next else { break };
                cursor = Some(next);
            }
            assert_eq!(found.len(), expected.len());
            assert!(found == expected);
            let deep = store.list(&filter, &Page { limit: 5, offset: 300, ..Page::default() }).unwrap();
            assert_eq!(deep.data, expected[300..305]);
        }
    };
    assert_all(&events[..500]);
    store.insert(&events[500..]).unwrap();
    assert_all(&events);
    events.truncate(700);
}
