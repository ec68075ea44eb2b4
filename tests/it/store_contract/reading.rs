//! The promises about reading.

use crate::support::Messages as _;
use std::sync::atomic::{AtomicBool, Ordering};

use lyftr::message::Message;
use lyftr::query::{Filter, Listing, Search, Stats};

use super::{NOON, Place, all, ids, list, message, plain};

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

pub(super) fn the_order_is_total_and_by_time_then_by_bytes(place: &Place) {
    let store = place.open();
    let expected = in_order();
    let mut shuffled = expected.clone();
    shuffled.reverse();
    shuffled.rotate_left(7);
    for batch in shuffled.chunks(4) {
        store.insert_messages(batch).unwrap();
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

pub(super) fn pages_of_every_size_give_each_row_once(place: &Place) {
    let store = place.open();
    let expected = in_order();
    store.insert_messages(&expected).unwrap();
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

pub(super) fn filters_are_combined_with_and(place: &Place) {
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
    store.insert_messages(&batch).unwrap();
    let since = batch[30].ts;
    for (from, since, q) in
        (0..8_u8).map(|bits| (bits & 1 != 0, (bits & 2 != 0).then_some(since), bits & 4 != 0))
    {
        let filter = Filter {
            from: from.then(|| "+1".to_owned()),
            since,
            search: q.then(|| Search::new("RED")),
            ..Filter::default()
        };
        let matches = |m: &&Message| {
            (!from || m.from.as_ref().unwrap().as_str() == "+1")
                && since.is_none_or(|since| m.ts.second() >= since.second())
                && (!q || m.text.as_deref() == Some("red"))
        };
        let expected: Vec<_> = batch.iter().filter(matches).cloned().collect();
        let listing = list(store.as_ref(), &filter, 7, 2);
        assert_eq!(listing.total, u64::try_from(expected.len()).unwrap(), "{filter:?}");
        assert_eq!(listing.data, expected[2..expected.len().min(9)], "{filter:?}");
    }
}

/// PostgreSQL takes no such text at all.
pub(super) fn a_filter_that_no_message_can_match_matches_none(place: &Place) {
    let store = place.open();
    store.insert_messages(&[message("m", "+1", NOON, Some("a"))]).unwrap();
    for filter in [
        Filter { from: Some("+1\0".to_owned()), ..Filter::default() },
        Filter { to: Some("\0".to_owned()), ..Filter::default() },
        Filter { search: Some(Search::new("a\0")), ..Filter::default() },
    ] {
        let listing = list(store.as_ref(), &filter, 100, 0);
        assert_eq!((listing.data.len(), listing.total), (0, 0), "{filter:?}");
    }
}

pub(super) fn a_search_is_literal_and_ignores_case(place: &Place) {
    let store = place.open();
    let texts = ["100 %", "100_", "a*b?c[d]", "Straße", "ПРИВЕТ", "", "'quote'", "back\\slash"];
    let batch: Vec<_> =
        (0..).zip(texts).map(|(n, text)| message(&format!("{n}"), "+1", NOON, Some(text))).collect();
    store.insert_messages(&batch).unwrap();
    store.insert_messages(&[message("none", "+1", NOON, None)]).unwrap();
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

pub(super) fn a_page_may_begin_anywhere(place: &Place) {
    let store = place.open();
    store.insert_messages(&[plain("a"), plain("b"), plain("c")]).unwrap();
    for (offset, expected) in [(0, vec!["a", "b", "c"]), (2, vec!["c"]), (3, vec![]), (4, vec![])] {
        assert_eq!(ids(&list(store.as_ref(), &Filter::default(), 100, offset).data), expected);
    }
    let signed_max = u64::try_from(i64::MAX).unwrap();
    for offset in [u64::from(u32::MAX), signed_max - 1, signed_max, signed_max + 1, u64::MAX] {
        let listing = list(store.as_ref(), &Filter::default(), 100, offset);
        assert_eq!((listing.data.len(), listing.total), (0, 3), "{offset}");
    }
}

pub(super) fn an_empty_store_can_be_read(place: &Place) {
    let store = place.open();
    assert_eq!(store.insert_messages(&[]).unwrap(), []);
    assert_eq!(
        list(store.as_ref(), &Filter::default(), 50, 0),
        Listing { data: vec![], total: 0, limit: 50, offset: 0, next: None, prev: None }
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
pub(super) fn stats_agree_with_the_rows(place: &Place) {
    let store = place.open();
    let counts = [9, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 2, 7, 1, 3];
    let batch: Vec<_> = (1..)
        .zip(counts)
        .flat_map(|(sender, count)| (0..count).map(move |n| plain_from(&format!("+{sender}"), n)))
        .collect();
    store.insert_messages(&batch).unwrap();
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

pub(super) fn a_reader_never_sees_half_a_batch(place: &Place) {
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
            assert_eq!(by_sender, stats.total_messages, "the aggregates are of two snapshots");
        }
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(|| reader(&done)), scope.spawn(|| reader(&done))];
        for batch in 0..60 {
            let sender = format!("+{}", batch % 5);
            let messages: Vec<_> =
                (0..BATCH).map(|n| message(&format!("{batch} {n}"), &sender, NOON, None)).collect();
            store.insert_messages(&messages).unwrap();
            // The very next read finds it.
            assert_eq!(store.stats().unwrap().total_messages, (batch + 1) * BATCH);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
