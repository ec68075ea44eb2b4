//! Bodies: too large, too slow, and those that end in the middle.

use std::time::{Duration, Instant};

use crate::support::client::{Connection, request, signed};
use crate::support::service::Service;
use crate::support::{DEADLINE, message, sign};

const SOME_SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_declared_size_over_the_limit_is_refused_while_the_client_still_sends() {
    let service = Service::start();
    for size in [300_000, 800_000] {
        let mut connection = service.connect();
        let body = "x".repeat(size);
        // All of it, and only then does this client read.
        connection.write(request("POST", "/webhook", &[("X-Signature", SOME_SIGNATURE)], body.as_bytes()));
        let reply = connection.reply("POST", "/webhook");
        assert_eq!((reply.status, reply.header("connection")), (413, Some("close")), "{size}");
        connection.expect_end();
    }
}

#[test]
fn a_body_without_end_is_refused_at_the_limit() {
    let service = Service::start();
    let mut connection = service.connect();
    let headers = [("X-Signature", SOME_SIGNATURE), ("Transfer-Encoding", "chunked")];
    connection.write(request("POST", "/webhook", &headers, b""));
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let mut sent = 0_usize;
    while !connection.has_arrived() && connection.try_write(&chunk).is_ok() {
        sent += 0x1000;
        assert!(sent < 100 << 20, "100 MiB were taken");
    }
    let reply = connection.reply("POST", "/webhook");
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
}

#[test]
fn the_limit_of_the_body_can_be_set() {
    let service = Service::builder().max_body_bytes(200).start();
    let mut client = service.client();
    client.store(&message("m1"));
    let mut large = message("m2");
    large["text"] = "x".repeat(200).into();
    assert_eq!(client.send(&large).status, 413);
}

/// Sends the rest of a request in pieces, with a pause after each, until it is answered; its status.
fn send_slowly(mut connection: Connection, rest: &[u8], piece: usize) -> u16 {
    let begin = Instant::now();
    for piece in rest.chunks(piece) {
        if connection.has_arrived() || connection.try_write(piece).is_err() || begin.elapsed() > DEADLINE {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    connection.reply("POST", "/webhook").status
}

#[test]
fn a_body_that_comes_slower_than_1_kb_a_second_is_not_waited_for() {
    let service = Service::start();
    let begin = Instant::now();
    let mut body = message("slow").to_string().into_bytes();
    body.resize(60_000, b' ');
    let bytes = signed(&body);
    let header = bytes.len() - body.len();
    let open = |count: usize| {
        let mut connection = service.connect();
        connection.write(&bytes[..count]);
        connection
    };
    let rest = &bytes[header..];
    let statuses = std::thread::scope(|scope| {
        [
            // Nothing, a half, a byte now and then, and 12 KB a second.
            scope.spawn(|| send_slowly(open(header), b"", 1)),
            scope.spawn(|| send_slowly(open(header + 30_000), b"", 1)),
            scope.spawn(|| send_slowly(open(header + 10), &rest[10..], 10)),
            scope.spawn(|| send_slowly(open(header), rest, 1200)),
        ]
        .map(|thread| thread.join().unwrap())
    });
    assert_eq!(statuses, [408, 408, 408, 200]);
    assert!(begin.elapsed() < Duration::from_secs(30));
    let mut client = service.client();
    assert_eq!(client.metric(r#"http_requests_total{method="POST",path="/webhook",status="408"}"#), 3.0);
    assert_eq!(client.json("/messages")["total"], 1);
}

#[test]
fn half_a_body_is_not_stored() {
    let service = Service::start();
    let body = message("m1").to_string();
    let bytes = signed(body.as_bytes());
    let mut connection = service.connect();
    connection.write(&bytes[..bytes.len() - 1]);
    connection.end_writing();
    if let Some(reply) = connection.reply_or_end("POST", "/webhook") {
        assert_eq!(reply.status, 400);
    }
    connection.expect_end();
    // The same, in chunks whose last one is missing.
    let headers = [("X-Signature", &*sign(body.as_bytes())), ("Transfer-Encoding", "chunked")];
    let mut connection = service.connect();
    connection.write(request("POST", "/webhook", &headers, b""));
    connection.write(format!("{:x}\r\n{body}\r\n", body.len()));
    connection.end_writing();
    if let Some(reply) = connection.reply_or_end("POST", "/webhook") {
        assert_eq!(reply.status, 400);
    }
    connection.expect_end();
    assert_eq!(service.client().json("/messages")["total"], 0);
}
