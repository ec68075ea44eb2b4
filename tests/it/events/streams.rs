//! `GET /events` as a stream of Server-Sent Events.

use std::time::Duration;

use lyftr::server::Limits;

use super::{next, store};
use crate::support::client::request;
use crate::support::service::{Fault, Service};
use crate::support::stream::Stream;
use crate::support::{eventually, message};

#[test]
fn a_stream_begins_with_its_place_and_has_an_event_a_block() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    let first = next(&client.json("/events")).to_owned();
    let mut stream = Stream::open(service.address(), "/events?after=now", &[]);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(stream.header(name), Some(value));
    }
    assert!(stream.header("x-request-id").is_some());
    assert_eq!(stream.block().unwrap().0, format!("id: {first}\nretry: 2000"));
    store(&mut client, ["m2"]);
    let block = stream.block().unwrap();
    let second = next(&client.json("/events")).to_owned();
    let json = client.get(&format!("/events/{second}")).text().to_owned();
    assert_eq!(block.0, format!("id: {second}\nevent: message\ndata: {json}"));
}

#[test]
fn a_stream_begins_anywhere() {
    let service = Service::start();
    let mut client = service.client();
    let mut of_empty_log = Stream::open(service.address(), "/events?after=now", &[]);
    assert_eq!(of_empty_log.block().unwrap().0, "id:\nretry: 2000");
    store(&mut client, ["m1", "m2", "m3"]);
    let page = client.json("/events");
    let position = |nth: usize| page["data"][nth]["position"].as_str().unwrap();
    let body = serde_json::json!({"position": position(1)}).to_string();
    assert_eq!(client.request("PUT", "/cursors/c", &[("If-None-Match", "*")], body.as_bytes()).status, 200);
    let after = format!("?after={}", position(0));
    let id = [("Last-Event-ID", position(1))];
    for (target, headers, place, expected) in [
        ("", &[][..], "", &["m1", "m2", "m3"][..]),
        (&*after, &[], position(0), &["m2", "m3"]),
        (&*after, &id, position(1), &["m3"]),
        ("?cursor=c", &[], position(1), &["m3"]),
        // A stream has no pages, and waits in any case.
        ("?limit=1&wait=1", &[], "", &["m1", "m2", "m3"]),
    ] {
        let mut stream = Stream::open(service.address(), &format!("/events{target}"), headers);
        assert_eq!(stream.block().unwrap().id(), place, "{target}");
        let keys: Vec<_> = expected.iter().map(|_| stream.event().unwrap()["key"].clone()).collect();
        assert_eq!(keys, expected, "{target}");
    }
    let keys: Vec<_> = (0..3).map(|_| of_empty_log.event().unwrap()["key"].clone()).collect();
    assert_eq!(keys, ["m1", "m2", "m3"]);
}

#[test]
fn what_a_stream_refuses_is_refused_as_json() {
    let service = Service::start();
    let mut client = service.client();
    let unknown = format!("/events?after={:016x}{:016x}", 5, 7);
    for (target, status) in [("/events?kind=x", 422), ("/events?cursor=c", 404), (&unknown, 410)] {
        let reply = client.request("GET", target, &[("Accept", "text/event-stream")], b"");
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (status, Some("application/json")),
            "{target}"
        );
    }
    service.faulty().logs.all(Fault::Unavailable);
    let reply = client.request("GET", "/events?after=now", &[("Accept", "text/event-stream")], b"");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(client.metric("followers_open"), 0.0);
}

#[test]
fn data_with_line_ends_is_on_one_line() {
    let service = Service::start();
    let mut client = service.client();
    let mut stream = Stream::open(service.address(), "/events", &[]);
    let body = "{\"message_id\":\"m1\",\"from\":\"+1\",\r\n\"to\":\"+2\",\"ts\":\"2025-01-15T10:00:00Z\",\n\"text\":\"a\\nb\\u2028c\u{2028}d\",\"n\":1.0e40}";
    assert_eq!(client.send_bytes(body.as_bytes()).status, 200);
    stream.block().unwrap();
    let block = stream.block().unwrap();
    assert!(block.event().is_some());
    let data = body.replace(['\r', '\n'], " ");
    assert!(
        block.0.ends_with(&format!("\"text\":\"a\\nb\u{2028}c\u{2028}d\",\"data\":{data}}}")),
        "{}",
        block.0
    );
}

#[test]
fn a_heartbeat_comes_after_ten_seconds_of_silence() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    let place = next(&client.json("/events")).to_owned();
    let mut stream = Stream::open(service.address(), "/events?after=now", &[]);
    stream.block().unwrap();
    assert_eq!(stream.block().unwrap().0, format!("id: {place}"));
    store(&mut client, ["m2"]);
    assert_eq!(stream.event().unwrap()["key"], "m2");
}

#[test]
fn no_limit_of_a_connection_ends_a_stream_that_is_read() {
    let short = Duration::from_millis(200);
    let limits = Limits {
        header_timeout: short,
        idle_timeout: short,
        write_timeout: short,
        linger_timeout: short,
        max_connections: 1,
        ..Limits::default()
    };
    let service = Service::builder().limits(limits).start();
    let mut stream = Stream::open(service.address(), "/events", &[]);
    stream.block().unwrap();
    // There is room for one connection, which is not evicted for another one.
    let mut second = service.connect();
    second.write(request("GET", "/health/live", &[], b""));
    std::thread::sleep(10 * short);
    assert!(!second.has_arrived(), "it has no place yet");
    let event = lyftr::event::Event::of_message(crate::support::parsed(&message("m1")), None, None);
    service.store().insert(&[event]).unwrap();
    assert_eq!(stream.event().unwrap()["key"], "m1");
    drop(stream);
    assert_eq!(second.reply("GET", "/health/live").status, 200);
}

#[test]
fn a_connection_can_be_used_again_after_a_page_and_ends_well_after_a_stream() {
    let mut service = Service::start();
    let mut connection = service.connect();
    connection.write(request("GET", "/events", &[], b""));
    assert_eq!(connection.reply("GET", "/events").status, 200);
    let mut stream = Stream::try_open(connection, "/events", &[]).unwrap();
    stream.block().unwrap();
    service.begin_stop();
    assert!(stream.block().is_none() && stream.is_whole(), "it ends as a whole response");
    stream.connection().expect_end();
}

#[test]
fn a_client_that_leaves_gives_its_seat_back() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    let streams: Vec<_> = (0..20).map(|_| Stream::open(service.address(), "/events", &[])).collect();
    assert_eq!(client.metric("followers_open"), 20.0);
    drop(streams);
    eventually("their seats are free", || (client.metric("followers_open") == 0.0).then_some(()));
    // Who only ends its half gets what there is, and the end.
    let mut stream = Stream::open(service.address(), "/events", &[]);
    stream.connection().end_writing();
    stream.block().unwrap();
    assert_eq!(stream.event().unwrap()["key"], "m1");
    assert!(stream.block().is_none() && stream.is_whole());
}

#[test]
fn a_stream_outlives_a_store_that_fails_for_a_while() {
    let service = Service::start();
    let mut client = service.client();
    let mut stream = Stream::open(service.address(), "/events", &[]);
    stream.block().unwrap();
    for (n, fault) in [Fault::Unavailable, Fault::Failed, Fault::Panic].into_iter().enumerate() {
        let seen = service.faulty().logs.count();
        service.faulty().logs.all(fault);
        let id = format!("m{n}");
        store(&mut client, [&id]);
        eventually("the tail has failed", || (service.faulty().logs.count() > seen + 1).then_some(()));
        service.faulty().heal();
        assert_eq!(stream.event().unwrap()["key"], id);
    }
}

#[test]
fn the_log_is_read_once_for_all_followers_and_by_nobody_while_nobody_follows() {
    let service = Service::start();
    let mut client = service.client();
    let count = || service.faulty().logs.count();
    store(&mut client, ["m1", "m2"]);
    assert_eq!(count(), 0);
    let mut streams: Vec<_> =
        (0..50).map(|_| Stream::open(service.address(), "/events?after=now", &[])).collect();
    for stream in &mut streams {
        stream.block().unwrap();
    }
    let seated = count();
    for n in 0..5 {
        let id = format!("n{n}");
        store(&mut client, [&id]);
        for stream in &mut streams {
            assert_eq!(stream.event().unwrap()["key"], id);
        }
    }
    // With PostgreSQL the tail looks by itself, too, ten times a second.
    if crate::support::on_sqlite() {
        assert!(count() - seated < 50, "{} reads for 50 followers and 5 events", count() - seated);
    }
}
