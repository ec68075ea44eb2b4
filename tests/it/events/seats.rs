//! The bounds on followers: their number, and what they do not read.

use std::time::Duration;

use lyftr::server::Limits;

use super::{read_on, store};
use crate::support::client::{Client, Connection, request};
use crate::support::service::{Fault, Service};
use crate::support::stream::Stream;
use crate::support::{eventually, message, on_sqlite};

#[test]
fn one_follower_more_than_there_are_seats_is_asked_to_try_again() {
    let service = Service::builder().followers_max(3).start();
    let mut client = service.client();
    let mut streams: Vec<_> =
        (0..2).map(|_| Stream::open(service.address(), "/events?after=now", &[])).collect();
    let mut poll = service.connect();
    poll.write(request("GET", "/events?after=now&wait=60", &[], b""));
    eventually("all are seated", || (client.metric("followers_open") == 3.0).then_some(()));
    for accept in ["text/event-stream", "*/*"] {
        let reply = client.request("GET", "/events?after=now&wait=60", &[("Accept", accept)], b"");
        assert_eq!(reply.line(), r#"503 {"detail":"too many followers are waiting for events"}"#);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(client.metric("followers_refused_total"), 2.0);
    assert_eq!(client.metric("followers_max"), 3.0);
    assert_eq!(client.get("/events").status, 200, "who does not wait needs no seat");
    store(&mut client, ["m1"]);
    assert_eq!(poll.reply("GET", "/events").json()["data"][0]["key"], "m1");
    for stream in &mut streams {
        assert_eq!(stream.event().unwrap()["key"], "m1");
    }
    eventually("a seat is free", || (client.metric("followers_open") == 2.0).then_some(()));
    drop(Stream::open(service.address(), "/events?after=now", &[]));
}

#[test]
fn a_follower_that_does_not_read_is_closed_and_loses_nothing() {
    let limits = Limits { write_timeout: Duration::from_secs(1), ..Limits::default() };
    let service = Service::builder().limits(limits).max_body_bytes(4 << 20).start();
    let mut client = service.client();
    let mut deaf = Stream::open(service.address(), "/events", &[]);
    let mut keen = Stream::open(service.address(), "/events", &[]);
    deaf.block().unwrap();
    for n in 0..16 {
        let mut message = message(&format!("m{n:02}"));
        message["more"] = "x".repeat(1 << 20).into();
        client.store(&message);
        assert_eq!(keen.event().unwrap()["key"], format!("m{n:02}"), "another one is not held up");
    }
    eventually("it is closed", || (client.closed("write_timeout") == 1.0).then_some(()));
    // What was on its way is still there to be read; the rest follows from there.
    let mut seen = Vec::new();
    let mut place = None;
    while let Some(block) = deaf.block() {
        if let Some(event) = block.event() {
            seen.push(event["key"].as_str().unwrap().to_owned());
            place = Some(block.id().to_owned());
        }
    }
    assert!(seen.len() < 16 && !deaf.is_whole());
    let (rest, _) = read_on(&mut client, place, "limit=1");
    seen.extend(rest.iter().map(|event| event["key"].as_str().unwrap().to_owned()));
    assert_eq!(seen, (0..16).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
}

#[test]
fn a_follower_that_falls_out_of_the_tail_reads_on_from_the_store() {
    // Each event is larger than the connection takes, and all of them are more than the tail keeps.
    let limits = Limits { write_timeout: Duration::from_mins(10), ..Limits::default() };
    let service = Service::builder().limits(limits).max_body_bytes(8 << 20).start();
    let mut client = service.client();
    let mut slow: Vec<_> = ["", "?after=now", "?from=+919876543210"]
        .map(|query| Stream::open(service.address(), &format!("/events{query}"), &[]))
        .into();
    for stream in &mut slow {
        stream.block().unwrap();
    }
    for n in 0..14 {
        let mut message = message(&format!("m{n:02}"));
        message["more"] = "x".repeat(3 << 20).into();
        client.store(&message);
    }
    for stream in &mut slow {
        for n in 0..14 {
            assert_eq!(stream.event().unwrap()["key"], format!("m{n:02}"));
        }
    }
    store(&mut client, ["at the end again"]);
    for stream in &mut slow {
        assert_eq!(stream.event().unwrap()["key"], "at the end again");
    }
}

#[test]
fn what_is_held_back_when_a_part_of_the_tail_is_read_again_is_not_left_out() {
    let limits = Limits { write_timeout: Duration::from_mins(10), ..Limits::default() };
    let service = Service::builder().limits(limits).max_body_bytes(8 << 20).start();
    let mut client = service.client();
    let [mut slow, mut keen] = [(); 2].map(|()| Stream::open(service.address(), "/events", &[]));
    slow.block().unwrap();
    for n in 0..14 {
        let mut message = message(&format!("m{n:02}"));
        message["more"] = "x".repeat(3 << 20).into();
        client.store(&message);
        assert_eq!(keen.event().unwrap()["key"], format!("m{n:02}"));
    }
    // The tail has read all, and has dropped what the slow one reads next.
    let before = service.faulty().logs.count();
    service.faulty().logs.all(Fault::Nothing { end: true });
    let slow = std::thread::spawn(move || {
        (0..14).map(|_| slow.event().unwrap()["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    eventually("it has asked the store", || (service.faulty().logs.count() > before + 1).then_some(()));
    // Nothing is stored that would wake it.
    service.faulty().heal();
    assert_eq!(slow.join().unwrap(), (0..14).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
}

#[test]
fn no_snapshot_stays_open_while_followers_wait() {
    if !on_sqlite() {
        return;
    }
    let service = Service::builder().max_body_bytes(4 << 20).start();
    let mut client = service.client();
    store(&mut client, ["m0"]);
    let mut streams: Vec<_> = (0..10)
        .map(|n| Stream::open(service.address(), ["/events?kind=call", "/events?after=now&to=x"][n % 2], &[]))
        .collect();
    for stream in &mut streams {
        stream.block().unwrap();
    }
    let polls: Vec<Connection> = (0..10)
        .map(|_| {
            let mut connection = service.connect();
            connection.write(request("GET", "/events?kind=call&wait=60", &[], b""));
            connection
        })
        .collect();
    eventually("all wait", || (client.metric("followers_open") == 20.0).then_some(()));
    let mut numbers = 1..;
    let mut store_large = |client: &mut Client| {
        let mut message = message(&format!("m{}", numbers.next().unwrap()));
        message["more"] = "x".repeat(1 << 20).into();
        client.store(&message);
    };
    (0..16).for_each(|_| store_large(&mut client));
    // A checkpoint can move all of the log only if no snapshot needs it; the last 4 MiB may stay. One that the indexer kept
    // incomplete is tried again when more has been stored.
    eventually("the log was moved", || {
        store_large(&mut client);
        (client.metric("store_wal_bytes") < 4.0 * 1024.0 * 1024.0).then_some(())
    });
    assert_eq!(client.metric("followers_open"), 20.0, "they still wait");
    drop(polls);
}
