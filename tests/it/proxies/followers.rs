//! Followers through a proxy: they live as long as they like, hear of an event at once, are asked for once, and leave room
//! for others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use super::behind_each;
use super::program::{Program, Proxy};
use crate::support::client::{request, statuses};
use crate::support::fake::{Answer, Fake, Request, block, place};
use crate::support::{DEADLINE, eventually, message};

/// A request for the log, as a stream or as a page, or for something else.
fn ask(address: SocketAddr, target: &str, accept: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let bytes = request("GET", target, &[("Accept", accept), ("Connection", "close")], b"");
    stream.write_all(&bytes).unwrap();
    BufReader::new(stream)
}

/// Reads lines up to one that begins so.
#[track_caller]
fn until(stream: &mut BufReader<TcpStream>, begin: &str) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line);
        all.push_str(&line);
        match read {
            Ok(1..) if line.starts_with(begin) => return line,
            Ok(1..) => {}
            end => panic!("{end:?} before {begin}: {all}"),
        }
    }
}

#[test]
fn a_follower_hears_of_an_event_at_once() {
    behind_each(|program, service, proxy| {
        let mut stream = ask(proxy.address(), "/events?after=now", "text/event-stream");
        until(&mut stream, "id:");
        let mut poll = ask(proxy.address(), "/events?after=now&wait=60", "application/json");
        let poll = std::thread::spawn(move || until(&mut poll, r#"{"data":[{"position":"#));
        let mut sender = service.client();
        let mut n = 0;
        // The poll may have come to Lyftr after the first ones.
        while n < 3 || !poll.is_finished() {
            sender.store(&message(&format!("m{n}")));
            // Nothing else comes that would push it on.
            let data = until(&mut stream, "data:");
            assert!(data.contains(&format!("\"key\":\"m{n}\"")), "{program:?}: {data}");
            n += 1;
        }
        poll.join().unwrap();
    });
}

/// In haste as the proxies: a heartbeat each second for a stream, and an end of the long poll after its six.
fn in_haste(request: &Request, _: usize, answer: &mut Answer) {
    if request.header("accept") != Some("text/event-stream") {
        sleep(Duration::from_secs(6));
        return answer.json(200, "", r#"{"data":[],"next":null,"end":true}"#);
    }
    answer.stream();
    for n in 1..=9 {
        answer.chunk(&place(n));
        sleep(Duration::from_secs(1));
    }
    answer.chunk(&block(10));
    answer.hold();
}

#[test]
fn no_timeout_of_a_proxy_ends_a_follower() {
    for program in Program::ALL {
        let fake = Fake::start(in_haste);
        let Some(proxy) = Proxy::in_haste(program, fake.address()) else { return };
        let mut poll = ask(proxy.address(), "/events?wait=60", "application/json");
        let mut stream = ask(proxy.address(), "/events", "text/event-stream");
        until(&mut stream, "event: message");
        assert!(until(&mut poll, "HTTP/1.1").starts_with("HTTP/1.1 200"), "{program:?}");
    }
}

/// Ends each connection but those of health checks without an answer.
fn dies(request: &Request, _: usize, answer: &mut Answer) {
    if request.path() == "/health/ready" {
        answer.json(200, "", "{}");
    }
}

#[test]
fn what_has_reached_a_replica_is_asked_of_another_one_only_if_it_is_no_follower() {
    let replicas: Vec<Fake> = (0..3).map(|_| Fake::start(dies)).collect();
    let addresses: Vec<SocketAddr> = replicas.iter().map(Fake::address).collect();
    let Some(proxy) = Proxy::before_replicas(&addresses) else { return };
    proxy.await_ready(3);
    let asked = |path: &str| {
        let requests = replicas.iter().flat_map(Fake::requests);
        requests.filter(|request| request.path() == path).count()
    };
    for (target, accept) in
        [("/events", "text/event-stream"), ("/events?wait=60", "application/json"), ("/stats", "*/*")]
    {
        let mut answer = String::new();
        drop(ask(proxy.address(), target, accept).read_to_string(&mut answer));
        assert_eq!(statuses(answer.as_bytes()), [502], "{answer}");
    }
    assert_eq!(asked("/events"), 2);
    assert!(asked("/stats") > 1, "each other request goes to another one");
}

#[test]
fn many_followers_leave_room_for_everybody_else() {
    let fake = Fake::start(|request, before, answer| match request.path() {
        "/events" => in_haste(request, before, answer),
        _ => answer.json(200, "", "{}"),
    });
    let Some(proxy) = Proxy::shipped(fake.address()) else { return };
    proxy.await_ready(1);
    let follow = || ask(proxy.address(), "/events", "text/event-stream");
    let mut followers: Vec<_> = (0..20).map(|_| follow()).collect();
    for follower in &mut followers {
        drop(until(follower, "id:"));
    }
    let mut one_more = follow();
    assert!(until(&mut one_more, "HTTP/1.1").starts_with("HTTP/1.1 503"));
    until(&mut one_more, "retry-after: ");
    // All of them at once.
    let others: Vec<_> = (0..30).map(|_| TcpStream::connect(proxy.address()).unwrap()).collect();
    for mut other in others {
        other.write_all(&request("GET", "/stats", &[("Connection", "close")], b"")).unwrap();
        let mut answer = Vec::new();
        other.read_to_end(&mut answer).unwrap();
        assert_eq!(statuses(&answer), [200]);
    }
    followers.clear();
    eventually("a follower that is gone makes room", || {
        let line = until(&mut follow(), "HTTP/1.1");
        line.starts_with("HTTP/1.1 200").then_some(())
    });
}

/// More than all sockets on the way hold.
const MUCH_BYTES: usize = 64 << 20;

#[test]
fn a_follower_that_does_not_read_is_no_burden_to_a_proxy() {
    for program in Program::ALL {
        let (tell, held_back) = std::sync::mpsc::sync_channel(1);
        let fake = Fake::start(move |_, _, answer| {
            answer.stream();
            answer.chunk(&place(1));
            answer.give_up_after(Duration::from_secs(2));
            let piece = format!("data: {}\n\n", "x".repeat(64 << 10));
            let sent = (0..MUCH_BYTES >> 16).all(|_| answer.chunk(&piece));
            tell.send(!sent).unwrap();
        });
        let Some(proxy) = Proxy::start(program, fake.address()) else { return };
        let mut stream = ask(proxy.address(), "/events", "text/event-stream");
        until(&mut stream, "id:");
        assert!(held_back.recv_timeout(DEADLINE).unwrap(), "{program:?} keeps what nobody reads");
    }
}
