//! Positions that name no event of the database: they are told so, and never moved silently.

use serde_json::Value;

use super::{keys, next, store};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::service::Service;
use crate::support::stream::Stream;
use crate::support::{eventually, on_sqlite};

/// Asserts that nobody can go on from a position.
#[track_caller]
fn assert_gone(client: &mut Client, position: &str) {
    for query in ["after", "before"] {
        let reply = client.get(&format!("/events?{query}={position}"));
        assert_eq!(reply.status, 410, "{query}={position}: {}", reply.line());
        assert!(reply.json()["detail"].is_string());
    }
    let stream = [("Accept", "text/event-stream"), ("Last-Event-ID", position)];
    assert_eq!(client.request("GET", "/events", &stream, b"").status, 410, "{position}");
    assert_eq!(client.request("GET", "/events?wait=60", &stream[1..], b"").status, 410, "{position}");
    assert_eq!(client.get(&format!("/events/{position}")).status, 404, "{position}");
}

#[test]
fn a_position_beyond_the_end_or_between_or_with_another_hash_is_gone() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2"]);
    let position = next(&client.json("/events")).to_owned();
    let (seq, tag) = (&position[..16], &position[16..]);
    let number = u64::from_str_radix(seq, 16).unwrap();
    assert_gone(&mut client, &format!("{:016x}{tag}", number + 1));
    assert_gone(&mut client, &format!("{:016x}{tag}", number - 1));
    assert_gone(&mut client, &format!("{:016x}{tag}", i64::MAX));
    assert_gone(&mut client, &format!("{seq}{:016x}", u64::from_str_radix(tag, 16).unwrap() ^ 1));
}

#[test]
fn a_position_of_another_database_is_gone() {
    let (one, other) = (Service::start(), Service::start());
    let (mut one, mut other) = (one.client(), other.client());
    store(&mut one, ["m1", "m2"]);
    store(&mut other, ["m1", "m2"]);
    let positions: Vec<Value> = one.json("/events")["data"].as_array().unwrap().clone();
    for event in positions {
        assert_gone(&mut other, event["position"].as_str().unwrap());
    }
}

#[test]
fn a_position_after_a_backup_is_gone_when_that_is_restored_and_one_before_it_is_not() {
    if !on_sqlite() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::builder().folder(folder.path()).start();
    let mut client = process.client();
    store(&mut client, ["m1", "m2"]);
    let saved = next(&client.json("/events")).to_owned();
    process.terminate();
    let (database, backup) = (folder.path().join("app.db"), folder.path().join("backup.db"));
    std::fs::copy(&database, &backup).unwrap();
    let mut process = Process::builder().folder(folder.path()).start();
    let mut client = process.client();
    store(&mut client, ["m3", "m4"]);
    let lost: Vec<Value> = client.json(&format!("/events?after={saved}"))["data"].as_array().unwrap().clone();
    assert_eq!(lost.len(), 2);
    process.terminate();
    std::fs::copy(&backup, &database).unwrap();
    let process = Process::builder().folder(folder.path()).start();
    let mut client = process.client();
    // Before the lost ones are sent again, and after.
    for resent in [&[][..], &["m4", "m3"]] {
        store(&mut client, resent);
        for event in &lost {
            assert_gone(&mut client, event["position"].as_str().unwrap());
        }
        assert_eq!(keys(&client.json(&format!("/events?after={saved}"))), resent);
    }
}

#[test]
fn a_stream_whose_place_is_lost_ends_and_cannot_be_taken_up_again() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2", "m3"]);
    let page = client.json("/events");
    let (kept, lost) = (page["data"][0]["position"].as_str().unwrap(), next(&page));
    let mut ahead = Stream::open(service.address(), "/events?after=now", &[]);
    assert_eq!(ahead.block().unwrap().id(), lost);
    let mut poll = service.connect();
    poll.write(crate::support::client::request("GET", &format!("/events?wait=60&after={lost}"), &[], b""));
    eventually("both wait", || (client.metric("followers_open") == 2.0).then_some(()));
    // What a failover to a replica that had not got two events yet looks like. The next arrival number is then one that the
    // followers have passed.
    service.run_sql("DELETE FROM event WHERE seq > (SELECT min(seq) FROM event)");
    if on_sqlite() {
        service.run_sql("UPDATE log SET last_seq = 0");
    }
    store(&mut client, ["m4"]);
    assert!(ahead.block().is_none());
    assert_eq!(poll.reply("GET", "/events").status, 410);
    assert_gone(&mut client, lost);
    let mut stream = Stream::open(service.address(), &format!("/events?after={kept}"), &[]);
    assert_eq!(stream.event().unwrap()["key"], "m4");
    store(&mut client, ["m5"]);
    assert_eq!(stream.event().unwrap()["key"], "m5", "the tail goes on");
}
