//! `GET /messages`: recipient, end of time, order, and how pages lie in the list.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::message_with;
use crate::support::service::Service;

const TEN: &str = "2025-01-15T10:00:00Z";

/// Whether a message is one that a filter leaves.
type Matches = fn(&Value) -> bool;

#[track_caller]
pub(super) fn listing(client: &mut Client, query: &str) -> Value {
    client.json(&format!("/messages?{query}"))
}

pub(super) fn ids(listing: &Value) -> Vec<String> {
    let id = |message: &Value| message["message_id"].as_str().unwrap().to_owned();
    listing["data"].as_array().unwrap().iter().map(id).collect()
}

/// The ids on a page, with spaces between them.
#[track_caller]
pub(super) fn found(client: &mut Client, query: &str) -> String {
    ids(&listing(client, query)).join(" ")
}

/// `type`, `loc` and `input` of the one error about a query.
#[track_caller]
pub(super) fn error(client: &mut Client, query: &str) -> String {
    let reply = client.get(&format!("/messages?{query}"));
    assert_eq!(reply.status, 422, "{query}: {}", reply.line());
    let detail = reply.json()["detail"].clone();
    assert_eq!(detail.as_array().unwrap().len(), 1, "{detail}");
    format!("{} {} {}", detail[0]["type"].as_str().unwrap(), detail[0]["loc"], detail[0]["input"])
}

pub(super) fn store_at(client: &mut Client, id: &str, ts: &str) {
    client.store(&message_with(id, "+1", ts, None));
}

/// 23 messages from two senders, some of one instant; the ids in the order of lists.
pub(super) fn store_some(client: &mut Client) -> Vec<String> {
    let mut sorted = Vec::new();
    for n in 0..23 {
        // 5 has no divisor in common with 23, so this is each number once, in another order.
        let nth = n * 5 % 23;
        let (id, ts) = (format!("m{nth:02}"), format!("2025-01-15T10:00:{:02}Z", nth / 4));
        let text = ["a red one", "a blue one", "neither"][nth % 3];
        client.store(&message_with(&id, ["+1", "+2"][nth % 2], &ts, Some(text)));
        sorted.push(id);
    }
    sorted.sort();
    sorted
}

/// Follows `next` or `prev` from this page on to the end; the pages that are met, this one first.
#[track_caller]
fn follow(client: &mut Client, query: &str, first: Value, side: &str) -> Vec<Value> {
    let mut pages = vec![first];
    while let Some(cursor) = pages.last().unwrap()[side].as_str() {
        assert!(pages.len() < 100, "it does not end: {query}");
        let page = listing(client, &format!("{query}&cursor={cursor}"));
        assert!(!ids(&page).is_empty(), "{side} led to an empty page: {query}");
        pages.push(page);
    }
    pages
}

/// From the first page on by `next` to the last, and back by `prev`.
#[track_caller]
pub(super) fn assert_walks(client: &mut Client, query: &str, expected: &[String]) {
    let first = listing(client, query);
    assert_eq!(first["prev"], Value::Null, "nothing comes before the first page: {query}");
    let pages = follow(client, query, first, "next");
    assert_eq!(pages.iter().flat_map(ids).collect::<Vec<_>>(), expected, "{query}");
    for page in &pages {
        assert_eq!((&page["total"], &page["offset"]), (&json!(expected.len()), &json!(0)), "{query}");
    }
    for page in pages.iter().skip(1) {
        assert!(page["prev"].is_string(), "pages come before this one: {query}");
    }
    let mut back = follow(client, query, pages.last().unwrap().clone(), "prev");
    back.reverse();
    assert_eq!(back.iter().flat_map(ids).collect::<Vec<_>>(), expected, "backwards: {query}");
}

#[test]
fn to_is_an_exact_match_and_read_like_from() {
    let service = Service::start();
    let mut client = service.client();
    for (id, to) in [("a", "+919876543210"), ("b", "+91987654321"), ("c", "+14155550100")] {
        client.store(&json!({"message_id": id, "from": "+1", "to": to, "ts": TEN}));
    }
    for to in ["+919876543210", "%2B919876543210", "%2b919876543210", "%20919876543210"] {
        assert_eq!(found(&mut client, &format!("to={to}")), "a", "{to}");
    }
    for none in ["919876543210", "%2B9198765432100", "%2B1", "x", "+", "%00", "%25", "%ff"] {
        let listing = listing(&mut client, &format!("to={none}"));
        assert_eq!((ids(&listing), &listing["total"]), (vec![], &json!(0)), "{none}");
    }
    assert_eq!(found(&mut client, "to="), "a b c", "an empty one is no filter");
    assert_eq!(found(&mut client, "to=x&to=%2B14155550100"), "c", "the last one counts");
    assert_eq!(found(&mut client, "from=%2B14155550100"), "", "nobody's sender");
}

#[test]
fn until_is_compared_as_an_instant_and_leaves_its_own_out() {
    let service = Service::start();
    let mut client = service.client();
    for (id, ts) in [("a", TEN), ("b", "2025-01-15T10:00:00.000000001Z"), ("c", "2025-01-15T10:00:00.5Z")] {
        store_at(&mut client, id, ts);
    }
    let mut until = |ts: &str| found(&mut client, &format!("until={ts}"));
    assert_eq!(until("0000-01-01T00:00:00Z"), "");
    assert_eq!(until("2025-01-15T10:00:00Z"), "");
    assert_eq!(until("2025-01-15T10:00:00.000Z"), "");
    assert_eq!(until("2025-01-15T10:00:00.000000001Z"), "a");
    assert_eq!(until("2025-01-15T10:00:00.000000002Z"), "a b");
    assert_eq!(until("2025-01-15T10:00:00.500000Z"), "a b");
    assert_eq!(until("2025-01-15T10%3A00%3A00.500000001Z"), "a b c");
    assert_eq!(until("9999-12-31T23:59:59.999999999Z"), "a b c");
    for (since, until) in [(TEN, TEN), ("2025-01-15T10:00:01Z", TEN)] {
        let listing = listing(&mut client, &format!("since={since}&until={until}"));
        assert_eq!((ids(&listing), &listing["total"]), (vec![], &json!(0)), "{since} to {until}");
    }
    assert_eq!(
        found(&mut client, "since=2025-01-15T10:00:00.000000001Z&until=2025-01-15T10:00:00.5Z"),
        "b",
        "the end of one range is the begin of the next"
    );
    for bad in ["2025-01-15", "2025-01-15T10:00:00", "2025-02-29T10:00:00Z", "tomorrow"] {
        let error = error(&mut client, &format!("until={bad}"));
        assert_eq!(error, format!(r#"datetime_parsing ["query","until"] "{bad}""#));
    }
}

#[test]
fn every_filter_combines_with_every_other() {
    let service = Service::start();
    let mut client = service.client();
    let rows: Vec<Value> = (0..32)
        .map(|n| {
            let ts = format!("2025-01-15T10:00:{:02}Z", n / 4);
            let text = ["Hello", "HELLO, world", "bye", "shell oil"][n / 8];
            let (from, to) = (["+1", "+12"][n % 2], ["+5", "+6"][n / 2 % 2]);
            json!({"message_id": format!("{n:02}"), "from": from, "to": to, "ts": ts, "text": text})
        })
        .collect();
    for row in &rows {
        client.store(row);
    }
    let (since, until) = ("2025-01-15T10:00:02Z", "2025-01-15T10:00:07Z");
    let filters: [(String, Matches); 5] = [
        ("from=%2B12".into(), |row| row["from"] == "+12"),
        ("to=%2B5".into(), |row| row["to"] == "+5"),
        (format!("since={since}"), |row| row["ts"].as_str().unwrap() >= "2025-01-15T10:00:02Z"),
        (format!("until={until}"), |row| row["ts"].as_str().unwrap() < "2025-01-15T10:00:07Z"),
        ("q=hel".into(), |row| row["text"].as_str().unwrap().to_lowercase().contains("hel")),
    ];
    for chosen in 0..1_usize << filters.len() {
        let chosen = || (0..filters.len()).filter(|n| chosen >> n & 1 == 1);
        let query = chosen().map(|n| filters[n].0.as_str()).collect::<Vec<_>>().join("&");
        let mut expected: Vec<String> = rows
            .iter()
            .filter(|row| chosen().all(|n| filters[n].1(row)))
            .map(|row| row["message_id"].as_str().unwrap().to_owned())
            .collect();
        assert_walks(&mut client, &format!("{query}&limit=3"), &expected);
        expected.reverse();
        assert_walks(&mut client, &format!("{query}&order=desc&limit=3"), &expected);
    }
}

#[test]
fn desc_is_the_same_list_backwards_in_pages_of_every_size() {
    let service = Service::start();
    let mut client = service.client();
    let mut expected = store_some(&mut client);
    assert_eq!(ids(&listing(&mut client, "order=asc")), expected);
    assert_eq!(ids(&listing(&mut client, "order=")), expected, "an empty one is the default");
    expected.reverse();
    for limit in 1..=24 {
        let mut rows = Vec::new();
        while rows.len() < 23 {
            let query = format!("order=desc&limit={limit}&offset={}", rows.len());
            let page = listing(&mut client, &query);
            let (before, after) = (!rows.is_empty(), rows.len() + limit < 23);
            assert_eq!((page["prev"].is_string(), page["next"].is_string()), (before, after), "{query}");
            rows.extend(ids(&page));
        }
        assert_eq!(rows, expected, "limit={limit}");
    }
}

#[test]
fn an_order_is_asc_or_desc() {
    let service = Service::start();
    let mut client = service.client();
    for bad in ["DESC", "descending", "-1", "ts"] {
        let error = error(&mut client, &format!("order={bad}"));
        assert_eq!(error, format!(r#"literal_error ["query","order"] "{bad}""#));
    }
}

#[test]
fn a_page_past_the_end_has_no_messages_and_no_cursor() {
    let service = Service::start();
    let mut client = service.client();
    store_some(&mut client);
    let mut line = |query: &str| client.get(&format!("/messages?{query}")).line();
    assert_snapshot!(line("offset=23"), @r#"200 {"data":[],"total":23,"limit":50,"offset":23,"next":null,"prev":null}"#);
    for offset in ["23", "24", "9223372036854775808", "18446744073709551615"] {
        for filter in ["", "&order=desc", "&from=%2B1", "&q=red", "&q=r&order=desc"] {
            let answer = line(&format!("offset={offset}{filter}"));
            assert!(answer.starts_with(r#"200 {"data":[],"total":"#), "{offset}{filter}: {answer}");
            assert!(answer.ends_with(r#""next":null,"prev":null}"#), "{offset}{filter}: {answer}");
        }
    }
}
