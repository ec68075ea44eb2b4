//! Connections: silent, slow, idle, deaf, and too many.

use std::time::Duration;

use lyftr::server::Limits;

use crate::support::client::{Connection, request};
use crate::support::process::Process;
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message, message_with};

const SHORT: Duration = Duration::from_millis(300);
/// Longer than any test takes, so that it is another limit that is met.
const NEVER: Duration = Duration::from_mins(10);

/// Limits that nothing meets.
fn none() -> Limits {
    Limits { header_timeout: NEVER, idle_timeout: NEVER, write_timeout: NEVER, ..Limits::default() }
}

fn service(limits: Limits) -> Service {
    Service::builder().limits(limits).start()
}

#[test]
fn a_silent_client_is_closed() {
    let service = service(Limits { header_timeout: SHORT, ..none() });
    service.connect().expect_end();
    assert_eq!(service.client().closed("header_timeout"), 1.0);
}

#[test]
fn a_header_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let service = service(Limits { header_timeout: SHORT, ..none() });
    let mut connection = service.connect();
    connection.write("GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    eventually("the connection is closed", || {
        std::thread::sleep(Duration::from_millis(20));
        (connection.try_write("x").is_err() || connection.is_ended()).then_some(())
    });
    connection.expect_end();
}

#[test]
fn the_second_header_on_a_connection_has_no_more_time_than_the_first() {
    let service = service(Limits { header_timeout: SHORT, ..none() });
    let mut connection = service.connect();
    connection.write(request("GET", "/health/live", &[], b""));
    assert_eq!(connection.reply("GET", "/health/live").status, 200);
    connection.write("GET /heal");
    connection.expect_end();
}

#[test]
fn an_idle_connection_is_closed() {
    let service = service(Limits { idle_timeout: SHORT, ..none() });
    let mut connection = service.connect();
    for _ in 0..2 {
        connection.write(request("GET", "/health/live", &[], b""));
        assert_eq!(connection.reply("GET", "/health/live").status, 200);
    }
    connection.expect_end();
}

#[test]
fn the_time_for_which_an_unused_connection_is_kept_is_a_setting() {
    let process = Process::builder().env("KEEP_ALIVE_SECS", "1").start();
    let mut connection = process.connect();
    connection.write(request("GET", "/health/live", &[], b""));
    assert_eq!(connection.reply("GET", "/health/live").status, 200);
    connection.expect_end();
}

#[test]
fn a_full_registry_evicts_the_connection_unused_longest_however_long_they_are_kept() {
    let service = service(Limits { max_connections: 3, ..none() });
    let mut unused: Vec<Connection> = Vec::new();
    for _ in 0..3 {
        let mut connection = service.connect();
        connection.write(request("GET", "/health/live", &[], b""));
        assert_eq!(connection.reply("GET", "/health/live").status, 200);
        unused.push(connection);
        // The service counts time in tenths of a second; the connections must differ in age.
        std::thread::sleep(Duration::from_millis(300));
    }
    service.client().store(&message("m1"));
    unused.remove(0).expect_end();
    let mut newest = unused.pop().unwrap();
    newest.write(request("GET", "/health/live", &[], b""));
    assert_eq!(newest.reply("GET", "/health/live").status, 200);
}

#[test]
fn a_connection_that_is_waiting_for_its_answer_is_not_closed() {
    let service =
        service(Limits { header_timeout: SHORT, idle_timeout: SHORT, write_timeout: SHORT, ..none() });
    service.faulty().inserts.nth(1, Fault::Delay(4 * SHORT));
    let mut client = service.client();
    client.store(&message("m1"));
}

/// So many answers are more than the buffers of both sides hold.
const ANSWERS: usize = 40;

#[test]
fn a_client_that_does_not_read_its_answers_is_closed() {
    let service = service(Limits { write_timeout: SHORT, ..none() });
    let mut client = service.client();
    let text = "😀".repeat(4096);
    for n in 0..50 {
        client.store(&message_with(&format!("m{n}"), "+1", "2025-01-15T10:00:00Z", Some(&text)));
    }
    let mut deaf = service.connect();
    deaf.write(request("GET", "/messages", &[], b"").repeat(ANSWERS));
    eventually("the connection is cut", || (client.closed("write_timeout") == 1.0).then_some(()));
    eventually("only ours is open", || (client.metric("connections_open") == 1.0).then_some(()));
    let answer = client.get("/messages").body.len();
    assert!(deaf.read_all().len() < ANSWERS * answer);
}

#[test]
fn a_full_registry_evicts_the_connection_that_waits_longest() {
    let service = service(Limits { max_connections: 4, ..none() });
    let mut waiting: Vec<Connection> = Vec::new();
    for _ in 0..4 {
        let mut connection = service.connect();
        // Half a header is no reason to stay.
        connection.write("GET /health/live HTTP/1.1\r\nHost: a\r\n");
        waiting.push(connection);
        // The service counts time in tenths of a second; the connections must differ in age.
        std::thread::sleep(Duration::from_millis(300));
    }
    let mut client = service.client();
    client.store(&message("m1"));
    assert_eq!(client.metric("connections_open"), 4.0);
    assert_eq!(client.closed("evicted"), 1.0);
    waiting.remove(0).expect_end();
    for mut connection in waiting {
        connection.write("\r\n");
        assert_eq!(connection.reply("GET", "/health/live").status, 200);
    }
}

#[test]
fn a_full_registry_does_not_evict_a_connection_that_is_being_served() {
    let service = service(Limits { max_connections: 2, ..none() });
    service.faulty().reads.all(Fault::Block);
    let mut served: Vec<_> = (0..2).map(|_| service.connect()).collect();
    for connection in &mut served {
        connection.write(request("GET", "/stats", &[], b""));
    }
    service.faulty().reads.wait_blocked(2);
    let mut late = service.connect();
    late.write(request("GET", "/health/live", &[], b""));
    service.faulty().heal();
    for connection in &mut served {
        assert_eq!(connection.reply("GET", "/stats").status, 200);
    }
    assert_eq!(late.reply("GET", "/health/live").status, 200);
}

#[test]
fn a_flood_of_half_open_connections_keeps_nobody_out() {
    let service = service(Limits { max_connections: 50, ..none() });
    let flood: Vec<_> = (0..300)
        .map(|n| {
            let mut connection = service.connect();
            // It may have been evicted before it could say anything.
            drop(connection.try_write(&"GET /messages HTTP/1.1\r\nHost: a\r\n"[..n % 30]));
            connection
        })
        .collect();
    for n in 0..20 {
        let mut client = service.client();
        client.store(&message(&format!("m{n}")));
        assert_eq!(client.json("/messages?limit=1")["total"], n + 1);
    }
    assert!(service.client().metric("connections_open") <= 50.0);
    drop(flood);
}
