//! A store that is slow, hangs or fails: bounded queues, quick refusals, and a service that recovers.

use std::time::Duration;

use insta::assert_snapshot;
use lyftr::query::{Filter, Page};
use lyftr::server::Limits;

use crate::support::client::{Connection, request, signed};
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message};

/// Posts a message and does not wait for the answer.
fn post(service: &Service, id: &str) -> Connection {
    let mut connection = service.connect();
    connection.write(signed(message(id).to_string().as_bytes()));
    connection
}

/// Waits until so many messages wait in the queue.
#[track_caller]
fn wait_queued(service: &Service, count: f64) {
    let mut client = service.client();
    eventually("the queue fills", || (client.metric("inbox_queue_messages") == count).then_some(()));
}

#[test]
fn a_full_queue_is_answered_503_at_once_and_the_service_recovers() {
    let service = Service::builder().queue_max(2).one_writer().start();
    service.faulty().inserts.all(Fault::Block);
    let mut accepted = vec![post(&service, "m0")];
    service.faulty().inserts.wait_blocked(1);
    accepted.push(post(&service, "m1"));
    accepted.push(post(&service, "m2"));
    wait_queued(&service, 2.0);
    let mut client = service.client();
    for _ in 0..3 {
        let reply = client.send(&message("m3"));
        assert_eq!(reply.line(), r#"503 {"detail":"too many messages are waiting to be stored"}"#);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(service.faulty().inserts.blocked(), 1, "the store still hangs");
    service.faulty().heal();
    for mut connection in accepted {
        assert_eq!(connection.reply("POST", "/webhook").status, 200);
    }
    client.store(&message("m3"));
    assert_eq!(client.json("/messages")["total"], 4);
    assert_eq!(client.metric(r#"webhook_requests_total{result="overloaded"}"#), 3.0);
    assert_eq!(client.metric("inbox_queue_messages_max"), 2.0);
}

#[test]
fn messages_that_gather_while_a_batch_is_stored_are_stored_in_one() {
    let service = Service::builder().one_writer().start();
    service.faulty().inserts.nth(1, Fault::Block);
    let mut connections = vec![post(&service, "m0")];
    service.faulty().inserts.wait_blocked(1);
    connections.extend((1..=20).map(|n| post(&service, &format!("m{n}"))));
    wait_queued(&service, 20.0);
    service.faulty().heal();
    for mut connection in connections {
        assert_eq!(connection.reply("POST", "/webhook").status, 200);
    }
    assert_eq!(service.faulty().inserts.count(), 2);
}

#[test]
fn reads_and_probes_go_on_while_storing_hangs() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m0"));
    service.faulty().inserts.all(Fault::Block);
    let _waiting = post(&service, "m1");
    service.faulty().inserts.wait_blocked(1);
    assert_eq!(client.json("/messages")["total"], 1);
    assert_eq!(client.json("/stats")["total_messages"], 1);
    assert_eq!(client.get("/health/live").status, 200);
    assert_eq!(client.get("/metrics").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(client.post(b"{}", &[]).status, 401);
    assert_eq!(client.send_bytes(b"{}").status, 422);
    assert_eq!(service.faulty().inserts.blocked(), 1, "it still hangs");
}

#[test]
fn storing_and_probes_go_on_while_reads_hang() {
    let service = Service::start();
    service.faulty().reads.all(Fault::Block);
    let mut reading: Vec<_> = (0..6)
        .map(|_| {
            let mut connection = service.connect();
            connection.write(request("GET", "/messages", &[], b""));
            connection
        })
        .collect();
    service.faulty().reads.wait_blocked(4);
    let mut client = service.client();
    client.store(&message("m1"));
    assert_eq!(client.get("/health/live").status, 200);
    assert_eq!(client.get("/health/ready").status, 200);
    // Two find no place, and are told so after five seconds.
    for _ in 0..2 {
        let position = eventually("an answer", || reading.iter_mut().position(Connection::has_arrived));
        let reply = reading.remove(position).reply("GET", "/messages");
        assert_eq!(reply.line(), r#"503 {"detail":"too many reads are under way"}"#);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    service.faulty().heal();
    for mut connection in reading {
        assert_eq!(connection.reply("GET", "/messages").json()["total"], 1);
    }
}

#[test]
fn a_message_that_is_not_stored_in_time_is_answered_503_and_may_be_stored_all_the_same() {
    let service = Service::start();
    let mut client = service.client();
    service.faulty().inserts.nth(1, Fault::Block);
    let reply = client.send(&message("m1"));
    assert_snapshot!(reply.line(), @r#"503 {"detail":"the message was not stored in time"}"#);
    assert_eq!(reply.header("retry-after"), Some("1"));
    service.faulty().heal();
    client.store(&message("m1"));
    assert_eq!(client.json("/messages")["total"], 1);
    assert_eq!(client.metric(r#"webhook_requests_total{result="duplicate"}"#), 1.0);
    assert_eq!(client.metric(r#"webhook_requests_total{result="error"}"#), 1.0);
}

#[test]
fn a_store_that_says_no_is_answered_503_and_the_sender_can_try_again() {
    let service = Service::start();
    let mut client = service.client();
    for (n, fault) in [Fault::Unavailable, Fault::Failed, Fault::LostAnswer].into_iter().enumerate() {
        let message = message(&format!("m{n}"));
        service.faulty().inserts.nth(1, fault);
        let reply = client.send(&message);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{fault:?}");
        client.store(&message);
    }
    assert_eq!(client.json("/messages")["total"], 3);
    assert_eq!(client.metric("store_errors_total"), 3.0);
    // The one whose answer was lost had been stored, and the second try found it.
    assert_eq!(client.metric(r#"webhook_requests_total{result="created"}"#), 2.0);
    assert_eq!(client.metric(r#"webhook_requests_total{result="duplicate"}"#), 1.0);
}

#[test]
fn the_message_of_a_client_that_hangs_up_is_stored_all_the_same() {
    let service = Service::start();
    service.faulty().inserts.all(Fault::Block);
    drop(post(&service, "m1"));
    service.faulty().inserts.wait_blocked(1);
    service.faulty().heal();
    let mut client = service.client();
    eventually("the message is stored", || (client.json("/messages")["total"] == 1).then_some(()));
    eventually("its connection is gone", || (client.metric("connections_open") == 1.0).then_some(()));
    let lines: Vec<_> =
        service.stop().values().into_iter().filter(|line| line["path"] == "/webhook").collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!([200, 499].map(serde_json::Value::from).contains(&lines[0]["status"]), "{lines:?}");
}

#[test]
fn a_request_that_is_cut_off_is_counted_499_and_its_message_stored_all_the_same() {
    let limits = Limits { drain_timeout: Duration::from_millis(300), ..Limits::default() };
    let mut service = Service::builder().limits(limits).one_writer().start();
    service.faulty().inserts.all(Fault::Block);
    let mut cut_off = post(&service, "m1");
    service.faulty().inserts.wait_blocked(1);
    service.begin_stop();
    cut_off.expect_end();
    let store = service.store();
    let line =
        eventually("its line", || service.log().values().into_iter().find(|line| line["path"] == "/webhook"));
    assert_eq!((&line["status"], &line["result"]), (&499.into(), &"error".into()), "{line}");
    service.faulty().heal();
    eventually("the message is stored", || {
        store.list(&Filter::default(), &Page::default()).ok().filter(|listing| listing.total == 1)
    });
}
