//! How exports end: at their end, or for all to see before it.

use std::time::{Duration, Instant};

use lyftr::server::Limits;

use super::{filled, store_large};
use crate::support::chunked::Chunked;
use crate::support::client::{Connection, request};
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message, on_sqlite};

/// Longer than any test takes, so that it is another limit that is met.
const NEVER: Duration = Duration::from_mins(10);

/// A service that has more than connections hold that nobody reads from.
fn large(write_timeout: Duration) -> Service {
    let service = Service::builder().limits(Limits { write_timeout, ..Limits::default() }).start();
    store_large(&service);
    service
}

/// What came of an export that was cut off is the beginning of it, and not all.
#[track_caller]
fn assert_begins(whole: &[u8], part: &[u8]) {
    assert!(whole.starts_with(part) && part.len() < whole.len(), "{} of {}", part.len(), whole.len());
}

/// An export, once there is room for it.
#[track_caller]
fn one_more(service: &Service, target: &str) -> Chunked {
    eventually("there is room", || Chunked::ask(service.connect(), target, &[])?.ok())
}

#[test]
fn an_export_is_cut_off_when_the_store_fails() {
    let service = filled();
    let faulty = service.faulty();
    for (path, calls, nth) in [("messages", &faulty.reads, 3), ("events", &faulty.logs, 2)] {
        for format in ["ndjson", "csv"] {
            let target = format!("/{path}?format={format}");
            let export = || Chunked::open(service.address(), &target, &[]);
            let whole = export().whole().body;
            for fault in [Fault::Unavailable, Fault::Failed, Fault::Panic] {
                calls.nth(nth, fault);
                assert_begins(&whole, &export().part());
            }
        }
    }
    // A panic is told by its own words.
    assert_eq!(service.client().metric("store_errors_total"), 8.0);
}

#[test]
fn an_export_whose_first_read_fails_is_a_503() {
    let service = filled();
    let mut client = service.client();
    for (path, calls) in [("/messages", &service.faulty().reads), ("/events", &service.faulty().logs)] {
        calls.nth(1, Fault::Unavailable);
        let reply = client.get(&format!("{path}?format=ndjson"));
        assert_eq!(reply.line(), r#"503 {"detail":"the store was told to fail"}"#);
        assert_eq!((reply.header("retry-after"), reply.header("content-disposition")), (Some("1"), None));
    }
}

#[test]
fn an_export_whose_place_is_lost_is_cut_off() {
    if !on_sqlite() {
        return;
    }
    let service = filled();
    let export = || Chunked::open(service.address(), "/events?format=ndjson", &[]);
    let whole = export().whole().body;
    service.faulty().logs.nth(2, Fault::Block);
    let export = export();
    service.faulty().logs.wait_blocked(1);
    service.run_sql("DELETE FROM event");
    service.faulty().heal();
    assert_begins(&whole, &export.part());
}

#[test]
fn a_client_that_does_not_read_is_closed_and_makes_room_for_others() {
    let service = large(Duration::from_secs(1));
    let mut client = service.client();
    let mut deaf: Vec<Connection> = (0..4).map(|_| service.connect()).collect();
    for connection in &mut deaf {
        connection.write(request("GET", "/events?format=ndjson", &[], b""));
    }
    eventually("they are closed", || (client.closed("write_timeout") == 4.0).then_some(()));
    assert_eq!(one_more(&service, "/events?format=ndjson").whole().text().lines().count(), 24);
}

#[test]
fn one_export_more_than_there_may_be_is_asked_to_try_again() {
    let service = large(NEVER);
    let mut client = service.client();
    let mut underway: Vec<_> = (0..4)
        .map(|n| {
            Chunked::open(service.address(), ["/events?format=csv", "/events?format=ndjson"][n % 2], &[])
        })
        .collect();
    for path in ["/messages", "/events"] {
        let reply = client.get(&format!("{path}?format=ndjson"));
        assert_eq!(reply.line(), r#"503 {"detail":"too many exports are under way"}"#);
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(client.head(&format!("{path}?format=ndjson")).status, 200);
        assert_eq!(client.get(path).status, 200, "pages have their own reads");
    }
    assert_eq!(underway.pop().unwrap().whole().text().lines().count(), 24);
    underway.push(one_more(&service, "/events?format=csv"));
    assert_eq!(client.get("/events?format=csv").status, 503);
    drop(underway.pop());
    underway.push(one_more(&service, "/events?format=csv"));
    assert_eq!(client.get("/events?format=csv").status, 503);
}

#[test]
fn an_export_under_way_is_cut_off_when_the_service_stops() {
    let service = large(NEVER);
    let mut deaf = service.connect();
    deaf.write(request("GET", "/events?format=ndjson", &[], b""));
    let mut keen = Chunked::open(service.address(), "/events?format=csv", &[]);
    assert!(keen.fill());
    let begin = Instant::now();
    let stopping = std::thread::spawn(move || drop(service.stop()));
    assert!(keen.part().len() < 24 << 20);
    eventually("the service ends", || stopping.is_finished().then_some(()));
    stopping.join().unwrap();
    println!("ended after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn an_export_that_waits_for_the_store_is_cut_off_when_the_service_stops() {
    let mut service = filled();
    let export = |service: &Service| Chunked::open(service.address(), "/messages?format=ndjson", &[]);
    let whole = export(&service).whole().body;
    service.faulty().reads.nth(2, Fault::Block);
    let export = export(&service);
    service.faulty().reads.wait_blocked(1);
    service.begin_stop();
    assert_begins(&whole, &export.part());
}

#[test]
fn no_snapshot_stays_open_while_nobody_reads() {
    if !on_sqlite() {
        return;
    }
    let service = large(NEVER);
    let mut client = service.client();
    let underway: Vec<_> =
        (0..4).map(|_| Chunked::open(service.address(), "/events?format=ndjson", &[])).collect();
    let mut numbers = 1..;
    // A checkpoint can move all of the log only if no snapshot needs it; the last 4 MiB may stay.
    eventually("the log was moved", || {
        let mut message = message(&format!("m{}", numbers.next().unwrap()));
        message["more"] = "x".repeat(200 << 10).into();
        client.store(&message);
        (client.metric("store_wal_bytes") < 4.0 * 1024.0 * 1024.0).then_some(())
    });
    assert_eq!(client.get("/events?format=ndjson").status, 503, "they are under way still");
    drop(underway);
}
