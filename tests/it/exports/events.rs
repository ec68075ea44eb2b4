//! `GET /events` as an export: which events are in it, and in which order.

use lyftr::event::{Data, Event, Kind};
use serde_json::Value;

use super::{MANY, event, exported, filled, turned};
use crate::support::message;

#[test]
fn an_export_has_what_the_pages_have_in_their_order_whatever_the_filters() {
    let service = filled();
    let mut client = service.client();
    let events: Vec<Event> = (0..1_200).map(|n| event("shop", &format!("status {n}"))).collect();
    service.store().insert(&events).unwrap();
    for filter in [
        "",
        "from=%2B49173",
        "to=%2B1",
        "source=shop",
        "source=webhook&thread=%2B49174",
        "kind=status",
        "kind=call",
        "kind=message&source=shop&from=%2B49173&to=%2B0",
    ] {
        let pages = turned(&mut client, &format!("/events?limit=1000&{filter}"), "after");
        let all = exported(&service, &format!("/events?{filter}"));
        assert!(all == pages, "{filter}: {} and {}", all.len(), pages.len());
        let mut backwards = exported(&service, &format!("/events?before=now&{filter}"));
        backwards.reverse();
        assert!(backwards == all, "{filter}: {}", backwards.len());
    }
    assert_eq!(exported(&service, "/events").len(), MANY + 1_200);
}

#[test]
fn an_export_begins_and_ends_where_it_is_told_to() {
    let service = filled();
    let mut client = service.client();
    let all = exported(&service, "/events");
    let place = |nth: usize| all[nth]["position"].as_str().unwrap().to_owned();
    let some = |query: &str| exported(&service, &format!("/events?{query}"));
    assert!(some(&format!("after={}", place(1_234))) == all[1_235..]);
    assert!(some("limit=1001") == all[..1_001]);
    assert!(some(&format!("limit=5000&after={}&wait=0", place(7))) == all[8..]);
    let mut before = some(&format!("before={}&limit=2000", place(2_500)));
    before.reverse();
    assert!(before == all[500..2_500]);
    assert!(some("after=now").is_empty());
    let body = format!("{{\"position\":\"{}\"}}", place(99));
    let made = client.request("PUT", "/cursors/c", &[("If-None-Match", "*")], body.as_bytes());
    assert_eq!(made.status, 200, "{}", made.line());
    assert!(some("cursor=c") == all[100..]);
    let last = [("Last-Event-ID", &*place(2_990))];
    let reply = crate::support::chunked::Chunked::open(service.address(), "/events?format=ndjson", &last);
    assert_eq!(reply.whole().text().lines().count(), 9);
    for (query, status) in [
        ("cursor=none", 404),
        ("after=ffffffffffffffff0000000000000000", 422),
        ("after=7fffffffffffffff0000000000000000", 410),
        ("wait=1", 422),
        ("before=now&after=now", 422),
    ] {
        assert_eq!(client.get(&format!("/events?format=ndjson&{query}")).status, status, "{query}");
    }
}

#[test]
fn data_is_as_it_was_sent_but_for_its_line_ends() {
    let service = filled();
    let data = "{\r\n \"n\": 1e400,\n\"x\":\"\\u00e9\" }";
    let whole = Event { data: Some(Data::from_json(data)), kind: Kind::Call, ..event("shop", "c") };
    service.store().insert(&[whole]).unwrap();
    let text = |format: &str| {
        let target = format!("/events?kind=call&format={format}");
        crate::support::chunked::Chunked::open(service.address(), &target, &[]).whole().text().to_owned()
    };
    let line = text("ndjson");
    assert!(line.ends_with("\"data\":{   \"n\": 1e400, \"x\":\"\\u00e9\" }}\n"), "{line}");
    assert_eq!(line.lines().count(), 1);
    let csv = text("csv");
    assert!(csv.ends_with(",\"{   \"\"n\"\": 1e400, \"\"x\"\":\"\"\\u00e9\"\" }\"\r\n"), "{csv}");
}

#[test]
fn an_event_is_in_every_export_that_begins_after_its_acknowledgement() {
    let service = filled();
    let mut client = service.client();
    for n in 0..20 {
        client.store(&message(&format!("m{n}")));
        let all: Vec<Value> = exported(&service, "/events?source=webhook&from=%2B919876543210");
        assert_eq!(all.len(), n + 1);
    }
}
