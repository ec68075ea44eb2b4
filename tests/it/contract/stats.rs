//! `GET /stats`.

use insta::assert_snapshot;

use crate::support::message_with;
use crate::support::service::Service;

#[test]
fn the_stats_of_an_empty_store_have_no_first_and_no_last_ts() {
    let service = Service::start();
    assert_snapshot!(service.client().get("/stats").line(), @r#"200 {"total_messages":0,"senders_count":0,"messages_per_sender":[],"first_message_ts":null,"last_message_ts":null}"#);
}

#[test]
fn the_ten_busiest_senders_come_by_count_and_then_by_phone_number() {
    let service = Service::start();
    let mut client = service.client();
    // "+10" sorts before "+9" by its bytes.
    let counts = [
        ("+9", 2),
        ("+10", 2),
        ("+3", 5),
        ("+2", 1),
        ("+1", 1),
        ("+4", 1),
        ("+5", 1),
        ("+6", 1),
        ("+7", 1),
        ("+8", 1),
        ("+11", 1),
        ("+12", 1),
    ];
    for (from, count) in counts {
        for n in 0..count {
            client.store(&message_with(&format!("{from}-{n}"), from, "2025-01-15T10:00:00Z", None));
        }
    }
    assert_snapshot!(client.get("/stats").line(), @r#"200 {"total_messages":18,"senders_count":12,"messages_per_sender":[{"from":"+3","count":5},{"from":"+10","count":2},{"from":"+9","count":2},{"from":"+1","count":1},{"from":"+11","count":1},{"from":"+12","count":1},{"from":"+2","count":1},{"from":"+4","count":1},{"from":"+5","count":1},{"from":"+6","count":1}],"first_message_ts":"2025-01-15T10:00:00Z","last_message_ts":"2025-01-15T10:00:00Z"}"#);
}

#[test]
fn first_and_last_ts_are_by_instant_whatever_the_order_of_arrival() {
    let service = Service::start();
    let mut client = service.client();
    for (id, ts) in [
        ("a", "2025-01-15T10:00:00.5Z"),
        ("b", "2025-01-15T10:00:00Z"),
        ("c", "2025-01-15T09:59:59.999999999Z"),
        ("d", "2025-01-15T10:00:00.50001Z"),
        ("e", "2025-01-15T10:00:00.499999999Z"),
    ] {
        client.store(&message_with(id, "+1", ts, None));
    }
    let stats = client.json("/stats");
    assert_eq!(stats["first_message_ts"], "2025-01-15T09:59:59.999999999Z");
    assert_eq!(stats["last_message_ts"], "2025-01-15T10:00:00.50001Z");
}

#[test]
fn stats_do_not_count_duplicates_and_conflicts() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message_with("m1", "+1", "2025-01-15T10:00:00Z", None));
    let before = client.get("/stats").line();
    client.store(&message_with("m1", "+1", "2025-01-15T10:00:00Z", None));
    client.store(&message_with("m1", "+2", "2026-01-15T10:00:00Z", None));
    assert_eq!(client.get("/stats").line(), before);
}

#[test]
fn stats_ignore_the_query() {
    let service = Service::start();
    let mut client = service.client();
    let before = client.get("/stats").line();
    assert_eq!(client.get("/stats?limit=x&from=+1").line(), before);
}
