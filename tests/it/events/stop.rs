//! How followers end when the service stops.

use std::time::{Duration, Instant};

use lyftr::server::Limits;
use rustix::process::Signal;

use super::store;
use crate::support::client::{Connection, request};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::service::Service;
use crate::support::stream::Stream;

/// What every stop has to keep to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn a_thousand_streams_end_with_the_service() {
    let mut process = Process::builder().env("FOLLOWERS_MAX", "1100").start();
    let mut client = process.client();
    store(&mut client, ["m1"]);
    let mut streams: Vec<_> =
        (0..1000).map(|_| Stream::open(process.address(), "/events?after=now", &[])).collect();
    for stream in &mut streams {
        stream.block().unwrap();
    }
    store(&mut client, ["m2"]);
    for stream in &mut streams {
        assert_eq!(stream.event().unwrap()["key"], "m2");
    }
    assert_eq!(client.metric("followers_open"), 1000.0);
    let begin = Instant::now();
    process.signal(Signal::TERM);
    for stream in &mut streams {
        assert!(stream.block().is_none() && stream.is_whole());
    }
    assert_eq!(process.wait().code(), Some(0));
    println!("ended after {:?}", begin.elapsed());
    assert!(begin.elapsed() < STOP_TIMEOUT, "{:?}", begin.elapsed());
}

#[test]
fn a_page_that_is_waited_for_comes_at_once_when_the_service_stops() {
    let mut process = Process::start();
    let mut client = process.client();
    let mut polls: Vec<_> = (0..10).map(|_| process.connect()).collect();
    for poll in &mut polls {
        poll.write(request("GET", "/events?wait=60", &[], b""));
    }
    eventually("they wait", || (client.metric("followers_open") == 10.0).then_some(()));
    let begin = Instant::now();
    process.signal(Signal::TERM);
    for poll in &mut polls {
        let reply = poll.reply("GET", "/events");
        assert_eq!(reply.line(), r#"200 {"data":[],"next":null,"end":true}"#);
    }
    assert_eq!(process.wait().code(), Some(0));
    assert!(begin.elapsed() < STOP_TIMEOUT, "{:?}", begin.elapsed());
}

#[test]
fn a_stream_that_is_cut_at_the_stop_is_cut_within_a_block_for_its_client_to_see() {
    let limits = Limits { write_timeout: Duration::from_mins(10), ..Limits::default() };
    let service = Service::builder().limits(limits).max_body_bytes(8 << 20).start();
    let mut client = service.client();
    let mut stream = Stream::open(service.address(), "/events", &[]);
    stream.block().unwrap();
    for n in 0..2 {
        let mut message = crate::support::message(&format!("m{n}"));
        message["more"] = "x".repeat(7 << 20).into();
        client.store(&message);
    }
    // So long that a heartbeat is due.
    std::thread::sleep(Duration::from_secs(11));
    let stopping = std::thread::spawn(move || drop(service.stop()));
    let mut seen = Vec::new();
    while let Some(block) = stream.block() {
        // Half an event with an id after it would be no JSON.
        seen.extend(block.event().map(|event| event["key"].as_str().unwrap().to_owned()));
    }
    assert!(seen.len() < 2, "{seen:?}");
    stopping.join().unwrap();
}

#[test]
fn followers_that_do_not_read_do_not_hold_up_the_end() {
    // Nothing else ends them.
    let never = Duration::from_mins(10);
    let limits = Limits { write_timeout: never, drain_timeout: never, ..Limits::default() };
    let service = Service::builder().limits(limits).max_body_bytes(8 << 20).start();
    let mut client = service.client();
    let mut deaf: Vec<Connection> = (0..5).map(|_| service.connect()).collect();
    for connection in &mut deaf {
        connection.write(request("GET", "/events", &[("Accept", "text/event-stream")], b""));
    }
    eventually("they follow", || (client.metric("followers_open") == 5.0).then_some(()));
    for n in 0..2 {
        let mut message = crate::support::message(&format!("m{n}"));
        message["more"] = "x".repeat(7 << 20).into();
        client.store(&message);
    }
    let stopping = std::thread::spawn(move || drop(service.stop()));
    eventually("the service ends", || stopping.is_finished().then_some(()));
    stopping.join().unwrap();
}
