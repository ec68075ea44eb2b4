//! `wait`: a page that is waited for.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{keys, next, store};
use crate::support::client::{Connection, request};
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message_with, on_sqlite};

/// Asks for a page that is not there yet, in a thread; it waits when this returns.
fn waiting(service: &Service, query: &str) -> JoinHandle<(Value, Duration)> {
    let before = followers(service);
    let (mut client, target) = (service.client(), format!("/events?wait=60&{query}"));
    let thread = std::thread::spawn(move || {
        let begin = Instant::now();
        (client.json(&target), begin.elapsed())
    });
    eventually("it waits", || (followers(service) > before).then_some(()));
    thread
}

fn followers(service: &Service) -> f64 {
    service.client().metric("followers_open")
}

#[test]
fn a_wait_ends_with_what_comes_and_not_before() {
    let service = Service::start();
    let mut client = service.client();
    for (n, query) in ["", "after=now", "after=now&source=webhook"].into_iter().enumerate() {
        if n > 0 {
            assert_eq!(client.json("/events?after=now")["data"], json!([]));
        }
        let thread = waiting(&service, query);
        assert!(!thread.is_finished());
        let id = format!("m{n}");
        store(&mut client, [&id]);
        let (page, _) = thread.join().unwrap();
        assert_eq!((keys(&page), &page["end"]), (vec![&*id], &true.into()), "{query}");
        assert_eq!(page["next"], page["data"][0]["position"]);
    }
    assert_eq!(followers(&service), 0.0);
}

#[test]
fn a_wait_goes_on_over_what_the_filter_leaves_out() {
    let service = Service::start();
    let mut client = service.client();
    let thread = waiting(&service, "from=+7&after=now");
    store(&mut client, ["m1", "m2"]);
    client.store(&message_with("m3", "+7", "2025-01-15T10:00:00Z", None));
    let (page, _) = thread.join().unwrap();
    assert_eq!(keys(&page), ["m3"]);
}

#[test]
fn a_wait_for_a_key_ends_when_its_event_arrives() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    let thread = waiting(&service, "source=webhook&key=m3");
    store(&mut client, ["m2", "m3"]);
    let (page, _) = thread.join().unwrap();
    assert_eq!(keys(&page), ["m3"]);
    // One that is there is not waited for, and none comes after it.
    let page = client.json("/events?wait=60&source=webhook&key=m1");
    assert_eq!((keys(&page), next(&page)), (vec!["m1"], next(&client.json("/events?after=now"))));
}

#[test]
fn a_wait_that_is_over_tells_how_far_it_has_come() {
    let service = Service::start();
    let mut client = service.client();
    let empty = client.json("/events?wait=1");
    assert_eq!(empty, json!({"data": [], "next": null, "end": true}));
    let (tell, told) = mpsc::sync_channel(1);
    let mut waiter = service.client();
    let thread = std::thread::spawn(move || {
        tell.send(()).unwrap();
        waiter.json("/events?wait=2&kind=call")
    });
    told.recv().unwrap();
    store(&mut client, ["m1", "m2"]);
    let page = thread.join().unwrap();
    assert_eq!((keys(&page).len(), &page["end"]), (0, &true.into()));
    assert_eq!(next(&page), next(&client.json("/events?after=now")));
}

#[test]
fn a_filter_that_leaves_very_much_out_does_not_hold_a_wait_up() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    service.faulty().logs.all(Fault::Nothing { end: false });
    let page = client.json("/events?kind=call&wait=60");
    assert_eq!((keys(&page).len(), &page["end"]), (0, &false.into()));
}

#[test]
fn a_wait_is_over_in_time_also_while_the_store_is_read() {
    if !on_sqlite() {
        // The tail reads at times of its own there.
        return;
    }
    for leaves in [false, true] {
        let service = Service::start();
        let mut client = service.client();
        store(&mut client, ["m1"]);
        // The page is empty, then the tail begins after the event, and so the follower has to ask the store.
        service.faulty().logs.nth(1, Fault::Nothing { end: true });
        service.faulty().logs.nth(3, Fault::Block);
        let mut connection = service.connect();
        let target = if leaves { "/events?wait=60" } else { "/events?wait=2" };
        connection.write(request("GET", target, &[], b""));
        service.faulty().logs.wait_blocked(1);
        if leaves {
            connection.end_writing();
        }
        let page = connection.reply("GET", "/events").json();
        assert_eq!(page, json!({"data": [], "next": null, "end": false}));
        assert_eq!(followers(&service), 0.0);
        service.faulty().heal();
    }
}

#[test]
fn what_is_there_is_not_waited_for_and_needs_no_seat() {
    let service = Service::builder().followers_max(0).start();
    let mut client = service.client();
    store(&mut client, ["m1", "m2"]);
    assert_eq!(keys(&client.json("/events?wait=60&limit=1")), ["m1"]);
    let reply = client.get("/events?wait=60&after=now");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(client.get("/events?wait=0&after=now").status, 200);
}

#[test]
fn a_wait_holds_no_permit_of_a_read() {
    let service = Service::start();
    let mut client = service.client();
    let threads: Vec<_> = (0..20).map(|_| waiting(&service, "after=now")).collect();
    assert_eq!(client.get("/messages").status, 200);
    assert_eq!(client.get("/events").status, 200);
    store(&mut client, ["m1"]);
    for thread in threads {
        assert_eq!(keys(&thread.join().unwrap().0), ["m1"]);
    }
}

#[test]
fn the_log_reads_of_a_store_that_hangs_hold_up_neither_other_reads_nor_storing() {
    let service = Service::start();
    let mut client = service.client();
    store(&mut client, ["m1"]);
    service.faulty().logs.all(Fault::Block);
    let mut reading: Vec<_> = (0..5)
        .map(|_| {
            let mut connection = service.connect();
            connection.write(request("GET", "/events", &[], b""));
            connection
        })
        .collect();
    service.faulty().logs.wait_blocked(4);
    assert_eq!(client.json("/messages")["total"], 1);
    store(&mut client, ["m2"]);
    let late = eventually("one finds no place", || reading.iter_mut().position(Connection::has_arrived));
    let reply = reading.remove(late).reply("GET", "/events");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    service.faulty().heal();
    for mut connection in reading {
        assert_eq!(keys(&connection.reply("GET", "/events").json()), ["m1", "m2"]);
    }
}

#[test]
fn a_client_that_leaves_gives_its_seat_back_and_one_that_only_ends_its_half_is_answered() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write(request("GET", "/events?after=now&wait=60", &[], b""));
    eventually("it waits", || (followers(&service) == 1.0).then_some(()));
    connection.end_writing();
    let reply = connection.reply("GET", "/events");
    assert_eq!(reply.json(), json!({"data": [], "next": null, "end": true}));
    let mut connection = service.connect();
    connection.write(request("GET", "/events?after=now&wait=60", &[], b""));
    eventually("it waits", || (followers(&service) == 1.0).then_some(()));
    drop(connection);
    eventually("its seat is free", || (followers(&service) == 0.0).then_some(()));
}

#[test]
fn the_time_of_a_wait_is_in_the_log_and_not_in_the_latencies() {
    let service = Service::start();
    let mut client = service.client();
    let id = client.get("/events?wait=1").request_id().to_owned();
    assert!(service.log().of_request(&id)["latency_ms"].as_f64().unwrap() >= 1_000.0);
    let sum = client.metric(r#"http_request_duration_seconds_sum{method="GET",path="/events"}"#);
    assert!(sum < 1.0, "{sum}");
}
