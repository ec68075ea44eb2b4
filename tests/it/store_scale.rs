//! Each way to a page against the plain one: a few thousand messages with crowds and ties, cut into small steps,
//! partly indexed and partly not, and every kind of question asked of them.

use std::time::Duration;

use lyftr::message::{self, Message, Timestamp};
use lyftr::query::{Cursor, Filter, Listing, Page, Position, Search};
use lyftr::store::Store;
use lyftr::store::sqlite::{Sqlite, Tuning};
use serde_json::json;

use crate::support::{Numbers, settle};

const SENDERS: usize = 40;
const WORDS: [&str; 8] = ["red", "RED", "blue", "ПРИВЕТ", "straße", "a", "zz", "%_"];
const SEARCHES: [&str; 10] =
    ["red", "привет", "STRASSE", "d b", "a", "zz", "%", "red red", "e red", "no such text"];

/// Where each of these begins, messages are many: an instant that a third of them share.
const CROWD: &str = "2025-01-15T12:00:00.5Z";

fn some_message(numbers: &mut Numbers, n: usize) -> Message {
    let ts = match numbers.below(3) {
        0 => CROWD.to_owned(),
        1 => format!("2025-01-15T{:02}:00:00Z", numbers.below(24)),
        _ => format!(
            "2025-01-{:02}T12:{:02}:00.{}Z",
            1 + numbers.below(28),
            numbers.below(60),
            numbers.below(1000)
        ),
    };
    let words: Vec<_> = (0..numbers.below(4)).map(|_| WORDS[numbers.below(WORDS.len())]).collect();
    let body = json!({
        "message_id": format!("{:x}-{n}", numbers.below(1 << 30)),
        "from": sender(numbers),
        "to": format!("+{}", 1 + numbers.below(2)),
        "ts": ts,
        "text": words.join(" "),
    });
    message::parse(body.to_string().as_bytes()).unwrap()
}

/// Every other message is of the first one.
fn sender(numbers: &mut Numbers) -> String {
    let n = if numbers.below(2) == 0 { 0 } else { numbers.below(SENDERS) };
    format!("+4915{n}")
}

fn some_filter(numbers: &mut Numbers) -> Filter {
    let instant = |numbers: &mut Numbers| {
        let stored = some_message(numbers, 0).ts;
        (numbers.below(3) == 0).then_some(stored)
    };
    let (since, until) = (instant(numbers), instant(numbers));
    Filter {
        from: (numbers.below(2) == 0).then(|| sender(numbers)),
        to: (numbers.below(3) == 0).then(|| format!("+{}", 1 + numbers.below(3))),
        since,
        until,
        search: (numbers.below(2) == 0).then(|| Search::new(SEARCHES[numbers.below(SEARCHES.len())])),
    }
}

fn matches(filter: &Filter, message: &Message) -> bool {
    let text = message.text.as_deref().map(str::to_lowercase).map(|text| text.replace('ß', "ss"));
    filter.from.as_ref().is_none_or(|from| message.from.as_str() == from)
        && filter.to.as_ref().is_none_or(|to| message.to.as_str() == to)
        && filter.since.is_none_or(|since| message.ts.moment() >= since.moment())
        && filter.until.is_none_or(|until| message.ts.moment() < until.moment())
        && filter.search.as_ref().is_none_or(|search| text.is_some_and(|text| text.contains(search.folded())))
}

/// The page, from the messages themselves, which are in the order of lists.
fn plainly(messages: &[Message], filter: &Filter, page: &Page) -> (Vec<Message>, u64, bool, bool) {
    let mut matching: Vec<_> = messages.iter().filter(|message| matches(filter, message)).collect();
    if page.descending {
        matching.reverse();
    }
    let limit = usize::try_from(page.limit).unwrap();
    let comes_before = |message: &Message, position: &Position| {
        let at = Position::of(message);
        if page.descending { at > *position } else { at < *position }
    };
    let (begin, end) = match &page.cursor {
        None => {
            let begin = usize::try_from(page.offset).unwrap().min(matching.len());
            (begin, matching.len().min(begin + limit))
        }
        Some(Cursor::After(position)) => {
            let begin =
                matching.partition_point(|m| comes_before(m, position) || Position::of(m) == *position);
            (begin, matching.len().min(begin + limit))
        }
        Some(Cursor::Before(position)) => {
            let end = matching.partition_point(|m| comes_before(m, position));
            (end.saturating_sub(limit), end)
        }
    };
    let data: Vec<_> = matching[begin..end].iter().map(|message| (*message).clone()).collect();
    let (before, after) = (begin > 0, end < matching.len());
    (data, u64::try_from(matching.len()).unwrap(), before, after)
}

fn ask(store: &dyn Store, messages: &[Message], numbers: &mut Numbers) {
    let filter = some_filter(numbers);
    let cursor = match numbers.below(4) {
        0 => Some(Cursor::After(Position::of(&messages[numbers.below(messages.len())]))),
        1 => Some(Cursor::Before(Position::of(&some_message(numbers, 0)))),
        _ => None,
    };
    let offset =
        if cursor.is_some() || numbers.below(3) == 0 { 0 } else { numbers.below(messages.len() + 10) };
    let page = Page {
        limit: u32::try_from(1 + numbers.below(100)).unwrap(),
        offset: u64::try_from(offset).unwrap(),
        descending: numbers.below(2) == 0,
        cursor,
    };
    assert_page(store, messages, &filter, &page);
}

#[track_caller]
fn assert_page(store: &dyn Store, messages: &[Message], filter: &Filter, page: &Page) {
    let (data, total, before, after) = plainly(messages, filter, page);
    let listing = store.list(filter, page).unwrap();
    let expected = Listing::new(page, data, total, before, after);
    assert_eq!(listing, expected, "{filter:?} {page:?}");
}

#[test]
fn every_way_to_a_page_gives_what_the_plain_one_gives() {
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning { index_batch: 500, step_size: 8, ..Tuning::default() };
    let store = Sqlite::open(&folder.path().join("app.db"), tuning).unwrap();
    let mut numbers = Numbers(7);
    let mut messages: Vec<Message> = Vec::new();
    let mut stored = 0;
    for round in 0..12 {
        let batch: Vec<_> = (0..250).map(|n| some_message(&mut numbers, stored + n)).collect();
        stored += batch.len();
        store.insert(&batch).unwrap();
        messages.extend(batch);
        messages.sort_by_key(Position::of);
        if round % 3 == 2 {
            settle(&store);
        }
        for _ in 0..60 {
            ask(&store, &messages, &mut numbers);
        }
    }
}

#[test]
fn a_page_may_begin_before_a_crowd_or_in_it_and_end_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("app.db"), Tuning::default()).unwrap();
    let mut numbers = Numbers(13);
    let at = |n: usize| match n {
        0..300 => format!("2025-01-15T11:{:02}:{:02}Z", n / 60, n % 60),
        300..1500 => CROWD.to_owned(),
        _ => format!("2025-01-15T13:{:02}:{:02}Z", n / 60 % 60, n % 60),
    };
    let mut messages: Vec<Message> = (0..1800)
        .map(|n| Message { ts: Timestamp::parse(&at(n)).unwrap(), ..some_message(&mut numbers, n) })
        .collect();
    store.insert(&messages).unwrap();
    messages.sort_by_key(Position::of);
    for from in [None, Some("+49150".to_owned())] {
        let filter = Filter { from, ..Filter::default() };
        let matching = |part: &[Message]| part.iter().filter(|message| matches(&filter, message)).count();
        let (begin, crowd) = (matching(&messages[..300]), matching(&messages[300..1500]));
        assert!(crowd > 512, "{crowd}");
        for place in [begin, begin + crowd] {
            for offset in [place - 99, place - 50, place - 1, place, place + 1] {
                for limit in [1, 2, 100] {
                    let offset = u64::try_from(offset).unwrap();
                    for descending in [false, true] {
                        let page = Page { limit, offset, descending, cursor: None };
                        assert_page(&store, &messages, &filter, &page);
                    }
                }
            }
        }
    }
}

#[test]
fn a_crowd_is_paged_through_while_it_grows() {
    page_through_a_growing_crowd(&Filter::default());
}

#[test]
fn a_senders_crowd_is_paged_through_while_it_grows_past_the_index() {
    page_through_a_growing_crowd(&Filter { from: Some("+49150".to_owned()), ..Filter::default() });
}

/// The first messages are in the index, those that arrive meanwhile are not.
fn page_through_a_growing_crowd(filter: &Filter) {
    let folder = tempfile::tempdir().unwrap();
    let tuning = Tuning { index_batch: 1000, index_pause: Duration::from_hours(1), ..Tuning::default() };
    let store = Sqlite::open(&folder.path().join("app.db"), tuning).unwrap();
    let mut numbers = Numbers(11);
    let ts = Timestamp::parse(CROWD).unwrap();
    let crowd = |numbers: &mut Numbers, n| Message { ts, ..some_message(numbers, n) };
    let mut stored: Vec<_> = (0..1000).map(|n| crowd(&mut numbers, n)).collect();
    store.insert(&stored).unwrap();
    settle(&store);
    let (mut page, mut seen) = (Page { limit: 97, ..Page::default() }, Vec::new());
    loop {
        let listing = store.list(filter, &page).unwrap();
        let expected = stored.iter().filter(|message| matches(filter, message)).count();
        assert_eq!(listing.total, u64::try_from(expected).unwrap());
        seen.extend(listing.data);
        let Some(next) = listing.next else { break };
        page.cursor = Some(next);
        let more: Vec<_> = (stored.len()..stored.len() + 20).map(|n| crowd(&mut numbers, n)).collect();
        store.insert(&more).unwrap();
        stored.extend(more);
    }
    let ids: Vec<_> = seen.iter().map(|message| &message.message_id).collect();
    assert!(ids.is_sorted_by(|one, other| one < other), "out of order or twice");
    for message in stored[..1000].iter().filter(|message| matches(filter, message)) {
        assert!(ids.binary_search(&&message.message_id).is_ok(), "{message:?} was passed over");
    }
}
