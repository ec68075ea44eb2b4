//! `GET /messages`: walking by `next` and `prev`.

use insta::assert_snapshot;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::pages::{assert_walks, error, found, ids, listing, store_at, store_some};
use crate::support::message_with;
use crate::support::service::Service;

/// Whether the message with this number is one that a filter leaves.
type Matches = fn(usize) -> bool;

#[test]
fn a_walk_by_cursors_gives_each_message_once_there_and_back() {
    let service = Service::start();
    let mut client = service.client();
    let all = store_some(&mut client);
    let number = |id: &String| id[1..].parse::<usize>().unwrap();
    let filters: [(&str, Matches); 6] = [
        ("", |_| true),
        ("from=%2B2", |n| n % 2 == 1),
        ("q=red", |n| n % 3 == 0),
        ("q=ed", |n| n % 3 == 0),
        ("from=%2B2&q=blue", |n| n % 2 == 1 && n % 3 == 1),
        ("since=2025-01-15T10:00:01Z&until=2025-01-15T10:00:05Z", |n| (1..5).contains(&(n / 4))),
    ];
    for (filter, matches) in filters {
        let expected: Vec<String> = all.iter().filter(|id| matches(number(id))).cloned().collect();
        let backwards: Vec<String> = expected.iter().rev().cloned().collect();
        assert!(expected.len() > 2, "{filter}");
        for limit in 1..=7 {
            assert_walks(&mut client, &format!("{filter}&limit={limit}"), &expected);
            assert_walks(&mut client, &format!("{filter}&limit={limit}&order=desc"), &backwards);
        }
    }
}

#[test]
fn equal_instants_are_walked_through_by_their_ids() {
    let service = Service::start();
    let mut client = service.client();
    let mut expected = Vec::new();
    for n in 0..30 {
        // The same instant however it is written, in an order of arrival that is not that of the ids.
        let id = format!("{:02}", n * 7 % 30);
        store_at(&mut client, &id, ["2025-01-15T10:00:00Z", "2025-01-15T10:00:00.000Z"][n % 2]);
        expected.push(id);
    }
    store_at(&mut client, "before", "2025-01-15T09:59:59.999999999Z");
    store_at(&mut client, "beyond", "2025-01-15T10:00:00.000000001Z");
    expected.sort();
    expected.insert(0, "before".into());
    expected.push("beyond".into());
    let backwards: Vec<String> = expected.iter().rev().cloned().collect();
    for limit in 1..=7 {
        for filter in ["", "&from=%2B1"] {
            assert_walks(&mut client, &format!("limit={limit}{filter}"), &expected);
            assert_walks(&mut client, &format!("limit={limit}{filter}&order=desc"), &backwards);
        }
    }
}

/// Walks in pages of three, while before each turn four messages arrive: at both ends of the list, and on both
/// sides of the place in it. Of those that were there at the start, none is met twice and none is passed over.
#[track_caller]
fn assert_stays(filter: &str, order: &str, side: &str) {
    let service = Service::start();
    let mut client = service.client();
    let instant = |n: usize, fraction: &str| format!("2025-01-15T10:00:{n:02}.{fraction}Z");
    let mut expected: Vec<String> = (0..20).map(|n| format!("m{n:02}")).collect();
    for (n, id) in expected.iter().enumerate() {
        client.store(&message_with(id, "+1", &instant(n, "5"), Some("a red one")));
    }
    let query = format!("{filter}&limit=3&order={order}");
    let last = format!("{query}&offset=17");
    let mut page = listing(&mut client, if side == "next" { &query } else { &last });
    if (order == "desc") != (side == "prev") {
        expected.reverse();
    }
    let mut met = Vec::new();
    for turn in 0.. {
        let mut rows = ids(&page);
        if side == "prev" {
            rows.reverse();
        }
        met.extend(rows);
        let Some(cursor) = page[side].as_str().map(ToOwned::to_owned) else { break };
        let place: usize = met.iter().rfind(|id| id.starts_with('m')).unwrap()[1..].parse().unwrap();
        let arrivals = [
            (format!("first {turn}"), format!("2024-01-01T00:00:{turn:02}Z")),
            (format!("below {turn}"), instant(place, "4")),
            // Of the very instant of the place, before and after it by their ids.
            (format!("a {turn}"), instant(place, "50")),
            (format!("z {turn}"), instant(place, "50")),
            (format!("above {turn}"), instant(place, "6")),
            (format!("zlast {turn}"), format!("2026-01-01T00:00:{turn:02}Z")),
        ];
        for (id, ts) in arrivals {
            client.store(&message_with(&id, "+1", &ts, Some("another red one")));
        }
        // Each turn adds some ahead, too, so it ends only if it does not stand still.
        let ahead = met.iter().filter(|id| id.starts_with('m')).count();
        if ahead == 20 {
            break;
        }
        assert!(turn < 60, "{query} {side}: {met:?}");
        page = listing(&mut client, &format!("{query}&cursor={cursor}"));
    }
    let mut all = met.clone();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), met.len(), "met twice: {met:?}");
    met.retain(|id| id.starts_with('m'));
    assert_eq!(met, expected, "{query} {side}");
}

#[test]
fn a_cursor_stays_where_it_is_while_messages_arrive() {
    for filter in ["", "from=%2B1", "q=red", "q=ed"] {
        for (order, side) in [("asc", "next"), ("desc", "next"), ("asc", "prev"), ("desc", "prev")] {
            assert_stays(filter, order, side);
        }
    }
}

#[test]
fn the_first_page_has_no_prev_and_the_last_one_no_next() {
    let service = Service::start();
    let mut client = service.client();
    let ends = |page: &Value| (page["prev"].is_string(), page["next"].is_string());
    for query in ["", "order=desc", "q=x", "q=xyz", "from=%2B1", "offset=5", "order=desc&offset=5"] {
        assert_eq!(ends(&listing(&mut client, query)), (false, false), "empty: {query}");
    }
    store_some(&mut client);
    for order in ["asc", "desc"] {
        for (query, expected) in [
            ("limit=23", (false, false)),
            ("limit=100", (false, false)),
            ("limit=22", (false, true)),
            ("limit=22&offset=1", (true, false)),
            ("limit=21&offset=1", (true, true)),
            ("limit=1&offset=22", (true, false)),
        ] {
            let query = format!("order={order}&{query}");
            assert_eq!(ends(&listing(&mut client, &query)), expected, "{query}");
        }
    }
}

#[test]
fn the_last_page_has_a_next_one_once_more_messages_arrive() {
    let service = Service::start();
    let mut client = service.client();
    for (id, second) in [("a", 1), ("b", 2), ("d", 4)] {
        store_at(&mut client, id, &format!("2025-01-15T10:00:{second:02}Z"));
    }
    let after_b = listing(&mut client, "limit=2")["next"].as_str().unwrap().to_owned();
    let before_d = listing(&mut client, "offset=2")["prev"].as_str().unwrap().to_owned();
    let after_b = |more: &str| format!("cursor={after_b}{more}");
    assert_eq!(found(&mut client, &after_b("")), "d");
    store_at(&mut client, "c", "2025-01-15T10:00:03Z");
    store_at(&mut client, "e", "2025-01-15T10:00:05Z");
    assert_eq!(found(&mut client, &after_b("")), "c d e");
    assert_eq!(found(&mut client, &after_b("&limit=2")), "c d", "another limit");
    assert_eq!(found(&mut client, &after_b("&limit=1")), "c");
    assert_eq!(found(&mut client, &after_b("&order=desc")), "a", "after it in the order that is asked for");
    assert_eq!(found(&mut client, &format!("cursor={before_d}&limit=2")), "b c", "the nearest before it");
    assert_eq!(found(&mut client, &after_b("&since=2025-01-15T10:00:04Z")), "d e", "another filter");
    let empty = listing(&mut client, &after_b("&until=2025-01-15T10:00:03Z"));
    assert_eq!((ids(&empty), &empty["total"]), (vec![], &json!(2)));
    assert_eq!((&empty["next"], &empty["prev"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_cursor_and_an_offset_exclude_each_other() {
    let service = Service::start();
    let mut client = service.client();
    store_some(&mut client);
    let next = listing(&mut client, "limit=2")["next"].as_str().unwrap().to_owned();
    for none in ["&offset=0", "&offset=", "&offset=5&offset=0"] {
        assert_eq!(found(&mut client, &format!("limit=2&cursor={next}{none}")), "m02 m03", "{none}");
    }
    let expected = format!(r#"value_error ["query","cursor"] "{next}""#);
    for offset in ["1", "18446744073709551615"] {
        assert_eq!(error(&mut client, &format!("cursor={next}&offset={offset}")), expected);
        assert_eq!(error(&mut client, &format!("offset={offset}&cursor={next}")), expected);
    }
    assert_eq!(found(&mut client, "cursor=&limit=2&offset=2"), "m02 m03", "an empty one is none");
}

#[test]
fn a_malformed_cursor_is_refused() {
    let service = Service::start();
    let mut client = service.client();
    store_some(&mut client);
    let good = listing(&mut client, "limit=2")["next"].as_str().unwrap().to_owned();
    let odd = good[..good.len() - 1].to_owned();
    let mangled = [
        "x".to_owned(),
        "0".to_owned(),
        "01".to_owned(),
        "null".to_owned(),
        "5".to_owned(),
        " ".to_owned(),
        // An id that is cut off, empty, no UTF-8, or with a control character in it.
        odd,
        good[..26].to_owned(),
        format!("{good}ff"),
        format!("{good}0a"),
        format!("{good}{}", "61".repeat(255)),
        format!(" {good}"),
        format!("{good}="),
        format!("03{}", &good[2..]),
        format!("g1{}", &good[2..]),
        "ff".repeat(100),
    ];
    for bad in mangled {
        let sent = utf8_percent_encode(&bad, NON_ALPHANUMERIC).to_string();
        let expected = format!(r#"value_error ["query","cursor"] "{bad}""#);
        assert_eq!(error(&mut client, &format!("cursor={sent}")), expected);
        assert_eq!(error(&mut client, &format!("cursor={good}&cursor={sent}")), expected);
    }
    assert_snapshot!(client.get("/messages?cursor=x").line(), @r#"422 {"detail":[{"type":"value_error","loc":["query","cursor"],"msg":"Input should be the next or prev of an earlier answer, unchanged","input":"x"}]}"#);
}

#[test]
fn a_made_up_cursor_is_a_place_like_any_other() {
    let service = Service::start();
    let mut client = service.client();
    store_some(&mut client);
    // The least and the greatest moment that fit, which no message has.
    for (moment, rows) in [("8".to_owned() + &"0".repeat(23), 23), ("7".to_owned() + &"f".repeat(23), 0)] {
        for filter in
            ["", "&from=%2B1", "&to=%2B14155550100", "&q=o", "&q=one", "&since=0000-01-01T00:00:00Z"]
        {
            let after = listing(&mut client, &format!("cursor=01{moment}61{filter}"));
            let before = listing(&mut client, &format!("cursor=02{moment}61{filter}"));
            let total = usize::try_from(after["total"].as_u64().unwrap()).unwrap();
            let expected = if rows == 0 { (0, total) } else { (total, 0) };
            assert_eq!((ids(&after).len(), ids(&before).len()), expected, "{moment}{filter}");
        }
    }
}
