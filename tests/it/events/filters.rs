//! The filters of `GET /events`, on pages and on streams.

use lyftr::event::Kind;

use super::{event_of, keys, next, read_on, store};
use crate::support::service::Service;
use crate::support::stream::Stream;
use crate::support::{message, message_with};

/// A log with one event of each kind and source in question.
fn mixed() -> Service {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message_with("m1", "+1", "2025-01-15T10:00:00Z", Some("text")));
    let mut other = event_of("shop", "s1", Kind::Status);
    service.store().insert(&[other.clone(), event_of("shop", "s2", Kind::Message)]).unwrap();
    other.source = lyftr::event::Source::new("desk").unwrap();
    (other.r#ref, other.thread, other.to) = (None, None, None);
    service.store().insert(&[other]).unwrap();
    client.store(&message_with("m2", "+2", "2025-01-15T10:00:00Z", None));
    service
}

const CASES: [(&str, &[&str]); 24] = [
    ("source=webhook", &["m1", "m2"]),
    ("source=shop", &["s1", "s2"]),
    ("source=desk", &["s1"]),
    ("source=unknown", &[]),
    ("source=No%20name%00", &[]),
    ("source=webhook&key=m2", &["m2"]),
    ("source=shop&key=s1", &["s1"]),
    ("source=desk&key=s1&kind=status", &["s1"]),
    ("source=desk&key=s1&kind=message", &[]),
    ("source=desk&key=m1", &[]),
    ("source=webhook&key=%1Fshop%1Fs1", &[]),
    ("source=shop&key=%00", &[]),
    ("kind=message", &["m1", "s2", "m2"]),
    ("kind=status", &["s1", "s1"]),
    ("kind=call", &[]),
    ("from=%2B1", &["m1"]),
    ("from=+1", &["m1"]),
    ("from=a%20person&kind=status", &["s1", "s1"]),
    ("to=+14155550100", &["m1", "m2"]),
    ("to=+2", &["s1", "s2"]),
    ("thread=+2", &["m2"]),
    ("thread=thread&source=shop&kind=message", &["s2"]),
    ("ref=about", &["s1", "s2"]),
    ("ref=about&from=+1", &[]),
];

#[test]
fn each_filter_lets_through_what_matches_and_next_moves_over_the_rest() {
    let service = mixed();
    let mut client = service.client();
    let end = next(&client.json("/events?after=now")).to_owned();
    for (query, expected) in CASES {
        let page = client.json(&format!("/events?{query}"));
        assert_eq!(keys(&page), expected, "{query}");
        assert_eq!((next(&page), &page["end"]), (&*end, &true.into()), "{query}");
        let (events, _) = read_on(&mut client, None, &format!("limit=1&{query}"));
        assert_eq!(events.len(), expected.len(), "{query}");
        let backwards = client.json(&format!("/events?before=now&{query}"));
        let mut backwards = keys(&backwards);
        backwards.reverse();
        assert_eq!(backwards, expected, "{query}");
    }
    // An empty parameter is no filter, and of a repeated one the last counts.
    assert_eq!(keys(&client.json("/events?source=&key=&kind=&from=&to=&thread=&ref=&limit=")).len(), 5);
    assert_eq!(keys(&client.json("/events?source=webhook&source=desk")), ["s1"]);
    assert_eq!(client.get("/events?kind=Message").status, 422);
    let alone = client.get("/events?key=m1");
    assert_eq!(
        alone.line(),
        r#"422 {"detail":[{"type":"value_error","loc":["query","key"],"msg":"key goes with source, within which it is unique; give both","input":"m1"}]}"#
    );
}

#[test]
fn a_stream_has_the_same_filters() {
    let service = mixed();
    let mut client = service.client();
    for (query, expected) in CASES.into_iter().filter(|(_, expected)| !expected.is_empty()) {
        let mut stream = Stream::open(service.address(), &format!("/events?{query}"), &[]);
        let found: Vec<_> = (0..expected.len()).map(|_| stream.event().unwrap()["key"].clone()).collect();
        assert_eq!(found, expected, "{query}");
    }
    // Once more for what arrives while they follow: what does not match comes first.
    let mut stream = Stream::open(service.address(), "/events?after=now&from=+7", &[]);
    stream.block().unwrap();
    store(&mut client, ["m3", "m4"]);
    client.store(&message_with("m5", "+7", "2025-01-15T10:00:00Z", None));
    assert_eq!(stream.event().unwrap()["key"], "m5");
    // The one event of a key, before it is there.
    let mut stream = Stream::open(service.address(), "/events?source=shop&key=m6", &[]);
    stream.block().unwrap();
    store(&mut client, ["m6"]);
    service.store().insert(&[event_of("shop", "m6", Kind::Status)]).unwrap();
    client.store(&message("m7"));
    assert_eq!(stream.event().unwrap()["source"], "shop");
}

#[test]
fn a_filter_that_matches_nothing_moves_on() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, (0..300).map(|n| format!("m{n}")));
    let page = client.json("/events?kind=call");
    assert_eq!((keys(&page).len(), &page["end"]), (0, &true.into()));
    store(&mut client, ["later"]);
    assert_eq!(keys(&client.json(&format!("/events?after={}", next(&page)))), ["later"]);
    let end = next(&client.json("/events?after=now")).to_owned();
    // On a stream, a heartbeat tells how far it has come.
    let mut stream = Stream::open(service.address(), "/events?kind=call", &[]);
    assert_eq!(stream.block().unwrap().id(), "");
    assert_eq!(stream.block().unwrap().0, format!("id: {end}"));
}
