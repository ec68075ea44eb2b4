//! `DELETE /events`, and what is too old to be kept: who may erase, what is erased, and who notices.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::{Client, Reply, request};
use crate::support::service::{Fault, Service};
use crate::support::{Engine, Messages as _, engine, eventually, message_with, parsed};

mod command;
pub(crate) mod keep;
mod killed;

const TOKEN: &str = "a-token-for-whoever-erases";
const PERSON: &str = "%2B999000111222";

fn authorized() -> String {
    format!("Bearer {TOKEN}")
}

fn delete(client: &mut Client, query: &str) -> Reply {
    client.request("DELETE", &format!("/events{query}"), &[("Authorization", &authorized())], b"")
}

/// A service that holds messages of two persons, every third one of whom may be erased.
fn filled(count: usize) -> Service {
    let service = Service::builder().admin_token(TOKEN).start();
    let nth = |n| {
        let (id, from) = (format!("m{n}"), if n % 3 == 0 { "+999000111222" } else { "+4912345" });
        parsed(&message_with(&id, from, "2025-01-15T10:00:00Z", Some(&format!("text {n}"))))
    };
    service.store().insert_messages(&(0..count).map(nth).collect::<Vec<_>>()).unwrap();
    service
}

fn keys(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|event| event["key"].as_str().unwrap()).collect()
}

#[test]
fn without_an_admin_token_there_is_no_such_route() {
    let service = Service::start();
    let mut client = service.client();
    for method in ["DELETE", "PUT", "BREW"] {
        let reply = client.request(method, "/events?person=a", &[("Authorization", &authorized())], b"");
        assert_eq!(reply.line(), r#"405 {"detail":"Method Not Allowed"}"#, "{method}");
        assert_eq!(reply.header("allow"), Some("GET,HEAD"));
    }
}

#[test]
fn only_who_has_the_admin_token_may_erase_and_only_who_has_the_read_token_may_read() {
    let service = Service::builder().admin_token(TOKEN).read_token("a-token-for-reading").start();
    let mut client = service.client();
    for token in ["", "Bearer a-token-for-reading", "Bearer ", TOKEN] {
        for query in ["?person=a", "", "?limit=x"] {
            let reply =
                client.request("DELETE", &format!("/events{query}"), &[("Authorization", token)], b"");
            assert_eq!(reply.line(), r#"401 {"detail":"missing or wrong admin token"}"#, "{token} {query}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(delete(&mut client, "?person=a").line(), r#"200 {"erased":0,"wiped":true}"#);
    assert_eq!(client.request("GET", "/events", &[("Authorization", &authorized())], b"").status, 401);
    assert_eq!(client.request("GET", &format!("/events?token={TOKEN}"), &[], b"").status, 401);
}

#[test]
fn what_could_erase_more_than_was_meant_is_refused() {
    let service = filled(3);
    let mut client = service.client();
    for query in [
        "",
        "?",
        "?dry_run=true",
        "?person=",
        "?form=a&source=webhook",
        "?kind=no",
        "?until=now",
        "?dry_run=1&source=a",
        "?key=m1",
        "?key=m1&source=",
    ] {
        let reply = delete(&mut client, query);
        assert_eq!(reply.status, 422, "{query}");
        assert_eq!(reply.json()["detail"][0]["loc"][0], "query", "{query}");
    }
    assert_eq!(
        delete(&mut client, "").line(),
        r#"422 {"detail":[{"type":"missing","loc":["query"],"msg":"Input should have at least one of source, kind, from, to, thread, ref, person and until","input":{}}]}"#
    );
    assert_eq!(client.json("/messages")["total"], 3);
}

#[test]
fn what_was_erased_is_in_no_answer_and_does_not_come_back() {
    let service = filled(30);
    let mut client = service.client();
    let counted = delete(&mut client, &format!("?person={PERSON}&dry_run=true"));
    assert_eq!(counted.line(), r#"200 {"selected":10}"#);
    assert_eq!(counted.header("cache-control"), Some("no-store"));
    assert_eq!(client.json("/messages")["total"], 30);
    let erased = delete(&mut client, &format!("?person={PERSON}"));
    assert_eq!((erased.status, &erased.json()["erased"]), (200, &10.into()));
    if engine() == Engine::Sqlite {
        assert_eq!(erased.json()["wiped"], true);
    }
    let left: Vec<_> = (0..30).filter(|n| n % 3 > 0).map(|n| format!("m{n}")).collect();
    assert_eq!(keys(&client.json("/events?limit=1000")), left);
    assert_eq!(client.json("/messages")["total"], 20);
    assert_eq!(client.json(&format!("/messages?from={PERSON}"))["total"], 0);
    assert_eq!(client.json("/messages?q=text+27")["total"], 0);
    assert_eq!(client.json("/messages?id=m27")["total"], 0);
    assert_eq!(client.json("/stats")["total_messages"], 20);
    assert_eq!(client.json("/stats")["senders_count"], 1);
    assert_eq!(client.json("/stats/volume?step=1d")["total"], 20);
    // A provider tries once more, with the same words or others.
    for text in ["text 27", "other"] {
        let again = message_with("m27", "+999000111222", "2025-01-15T10:00:00Z", Some(text));
        assert_eq!(client.send(&again).line(), r#"200 {"status":"ok"}"#);
    }
    assert_eq!(client.json("/messages")["total"], 20);
    assert!((client.metric("webhook_requests_total{result=\"duplicate\"}") - 2.0).abs() < 0.1);
    assert!((client.metric("events_erased_total{rule=\"request\"}") - 10.0).abs() < 0.1);
    assert!((client.metric("events_erased_total{rule=\"keep\"}")).abs() < 0.1);
    assert_eq!(delete(&mut client, &format!("?person={PERSON}")).json()["erased"], 0);
}

#[test]
fn one_message_is_erased_by_its_source_and_its_id() {
    let service = filled(9);
    let mut client = service.client();
    let key = "?source=webhook&key=m4";
    assert_eq!(delete(&mut client, &format!("{key}&dry_run=true")).line(), r#"200 {"selected":1}"#);
    for (other, erased) in [("?source=shop&key=m4", 0), (key, 1), (key, 0)] {
        assert_eq!(delete(&mut client, other).json()["erased"], erased, "{other}");
    }
    assert_eq!(keys(&client.json(&format!("/events{key}"))), [""; 0]);
    assert_eq!(client.json("/messages")["total"], 8);
}

#[test]
fn followers_go_on_and_see_nothing_that_was_erased() {
    let service = filled(30);
    let mut client = service.client();
    // One is in the middle, and the tail has everything in memory.
    let position = client.json("/events?limit=10")["next"].as_str().unwrap().to_owned();
    let mut stream = crate::support::stream::Stream::open(service.address(), "/events?after=now", &[]);
    assert!(stream.block().is_some(), "its place");
    let more: Vec<_> = (30..60).map(|n| format!("m{n}")).collect();
    for (n, key) in (30..).zip(&more) {
        let from = if n % 3 == 0 { "+999000111222" } else { "+4912345" };
        client.store(&message_with(key, from, "2025-01-15T10:00:00Z", None));
        assert_eq!(stream.event().unwrap()["key"], **key);
    }
    assert_eq!(delete(&mut client, &format!("?person={PERSON}")).json()["erased"], 20);
    let expected: Vec<_> = (10..60).filter(|n| n % 3 > 0).map(|n| format!("m{n}")).collect();
    assert_eq!(keys(&client.json(&format!("/events?after={position}&limit=100"))), expected);
    let mut late =
        crate::support::stream::Stream::open(service.address(), "/events", &[("Last-Event-ID", &position)]);
    for key in &expected {
        assert_eq!(late.event().unwrap()["key"], **key);
    }
    // Both are where they were, at the end.
    client.store(&message_with("last", "+1", "2025-01-15T10:00:00Z", None));
    assert_eq!(stream.event().unwrap()["key"], "last");
    assert_eq!(late.event().unwrap()["key"], "last");
}

#[test]
fn messages_are_stored_while_much_is_erased() {
    let service = filled(3_000);
    let stored = std::thread::scope(|scope| {
        let erasing = scope.spawn(|| delete(&mut service.client(), &format!("?person={PERSON}")));
        let (mut client, mut stored) = (service.client(), 0);
        while !erasing.is_finished() {
            let key = format!("new {stored}");
            client.store(&message_with(&key, "+4912345", "2025-01-15T10:00:00Z", None));
            stored += 1;
        }
        assert_eq!(erasing.join().unwrap().json()["erased"], 1_000);
        stored
    });
    assert!(stored > 0, "none came meanwhile");
    assert_eq!(service.client().json("/messages")["total"], 2_000 + stored);
}

#[test]
fn an_erasure_that_fails_says_so_and_is_repeated() {
    let service = filled(9);
    let mut client = service.client();
    service.faulty().inserts.all(Fault::Unavailable);
    let failed = delete(&mut client, &format!("?person={PERSON}"));
    assert_eq!((failed.status, failed.header("retry-after")), (503, Some("1")));
    service.faulty().heal();
    assert_eq!(delete(&mut client, &format!("?person={PERSON}")).json()["erased"], 3);
}

#[test]
fn a_client_that_leaves_ends_its_erasure_between_two_steps() {
    let service = filled(3_000);
    let mut client = service.client();
    service.faulty().inserts.all(Fault::Delay(Duration::from_millis(100)));
    let mut leaving = service.connect();
    leaving.write(request(
        "DELETE",
        &format!("/events?person={PERSON}"),
        &[("Authorization", &authorized())],
        b"",
    ));
    eventually("it has begun", || (service.store().stats().unwrap().total_messages < 3_000).then_some(()));
    drop(leaving);
    // Waits for its turn.
    let left = delete(&mut client, &format!("?person={PERSON}&dry_run=true")).json()["selected"].clone();
    assert!(left.as_u64().unwrap() > 0, "it went on to the end");
    service.faulty().heal();
    assert_eq!(delete(&mut client, &format!("?person={PERSON}")).json()["erased"], left);
}
