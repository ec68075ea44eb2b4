//! Many writers, and followers of every kind: each sees every acknowledged event exactly once, and all in one order.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use fastrand::Rng;
use serde_json::Value;

use super::read_on;
use crate::support::client::{Client, Connection};
use crate::support::message;
use crate::support::service::{Fault, Service};
use crate::support::stream::Stream;

const WRITERS: usize = 8;
const EACH: usize = 150;

/// The last event, which tells the followers that they have seen all.
const LAST: &str = "last";

/// What a follower has seen.
#[derive(Default)]
struct Seen {
    keys: Vec<String>,
    place: Option<String>,
}

impl Seen {
    fn note(&mut self, event: &Value) {
        self.keys.push(event["key"].as_str().unwrap().to_owned());
        self.place = Some(event["position"].as_str().unwrap().to_owned());
    }

    fn is_done(&self) -> bool {
        self.keys.last().is_some_and(|key| key == LAST)
    }

    fn after(&self) -> String {
        self.place.as_ref().map_or(String::new(), |place| format!("&after={place}"))
    }
}

/// Reads pages that it waits for.
fn by_pages(mut client: Client, limit: usize, wait: usize) -> Vec<String> {
    let mut seen = Seen::default();
    while !seen.is_done() {
        let page = client.json(&format!("/events?limit={limit}&wait={wait}{}", seen.after()));
        page["data"].as_array().unwrap().iter().for_each(|event| seen.note(event));
        seen.place = page["next"].as_str().map(ToOwned::to_owned);
    }
    seen.keys
}

/// Follows one stream.
fn by_stream(address: std::net::SocketAddr) -> Vec<String> {
    let mut seen = Seen::default();
    let mut stream = Stream::open(address, "/events", &[]);
    while !seen.is_done() {
        seen.note(&stream.event().expect("the stream goes on"));
    }
    seen.keys
}

/// Follows streams that break off after any number of bytes, each taken up from the last whole block.
fn by_broken_streams(address: std::net::SocketAddr, mut rng: Rng) -> Vec<String> {
    let mut seen = Seen::default();
    while !seen.is_done() {
        let connection = Connection::open(address);
        let socket = connection.stream().try_clone().unwrap();
        let id = seen.place.clone();
        let headers: Vec<_> = id.iter().map(|id| ("Last-Event-ID", id.as_str())).collect();
        let Some(mut stream) = Stream::try_open(connection, "/events", &headers) else { continue };
        for _ in 0..rng.usize(..60) {
            match stream.block() {
                Some(block) => match block.event() {
                    Some(event) => seen.note(&event),
                    None => assert_eq!(block.id(), seen.place.as_deref().unwrap_or_default()),
                },
                None => break,
            }
            if seen.is_done() {
                break;
            }
        }
        drop(socket.shutdown(Shutdown::Both));
    }
    seen.keys
}

/// Comes now and then, and reads all that it has missed.
fn by_visits(mut client: Client, done: &AtomicBool) -> Vec<String> {
    let mut seen = Seen::default();
    while !seen.is_done() {
        let is_last_visit = done.load(SeqCst);
        let (events, place) = read_on(&mut client, seen.place.clone(), "limit=37");
        for event in &events {
            seen.note(event);
        }
        seen.place = place;
        assert!(!is_last_visit || seen.is_done(), "something is missing");
        std::thread::sleep(std::time::Duration::from_millis(40));
    }
    seen.keys
}

#[test]
fn each_follower_sees_every_acknowledged_event_once_and_in_one_order() {
    let service = Service::start();
    let address = service.address();
    let done = AtomicBool::new(false);
    let all = std::thread::scope(|scope| {
        let mut followers = vec![
            scope.spawn(|| by_pages(service.client(), 1000, 60)),
            scope.spawn(|| by_pages(service.client(), 7, 1)),
            scope.spawn(|| by_pages(service.client(), 100, 0)),
            scope.spawn(|| by_visits(service.client(), &done)),
        ];
        followers.extend((0..3).map(|_| scope.spawn(move || by_stream(address))));
        followers.extend((0..3).map(|n| scope.spawn(move || by_broken_streams(address, Rng::with_seed(n)))));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let mut client = service.client();
                scope.spawn(move || {
                    for n in 0..EACH {
                        let message = message(&format!("{writer} {n}"));
                        // A batch that is given up is sent again.
                        while client.send(&message).status != 200 {}
                    }
                })
            })
            .collect();
        for n in 0..30 {
            let fault = [Fault::Unavailable, Fault::LostAnswer][n % 2];
            service.faulty().inserts.nth(5, fault);
            std::thread::sleep(std::time::Duration::from_millis(7));
        }
        for writer in writers {
            writer.join().unwrap();
        }
        service.client().store(&message(LAST));
        done.store(true, SeqCst);
        followers.into_iter().map(|follower| follower.join().unwrap()).collect::<Vec<_>>()
    });
    let (order, _) = read_on(&mut service.client(), None, "limit=1000");
    let order: Vec<_> = order.iter().map(|event| event["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order.len(), WRITERS * EACH + 1);
    for (n, seen) in all.iter().enumerate() {
        assert!(*seen == order, "follower {n} has seen {} of {}", seen.len(), order.len());
    }
}
