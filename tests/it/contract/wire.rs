//! Connections in ordinary use: kept open, pipelined, and of HTTP/1.0.

use crate::support::client::{request, signed};
use crate::support::message;
use crate::support::service::Service;

#[test]
fn a_connection_serves_any_number_of_requests() {
    let service = Service::start();
    let mut client = service.client();
    for n in 0..30 {
        client.store(&message(&format!("m{n}")));
        assert_eq!(client.get("/messages").status, 200);
        assert_eq!(client.get("/nowhere").status, 404);
        assert_eq!(client.send_bytes(b"{}").status, 422);
        assert_eq!(client.head("/stats").status, 200);
    }
    assert_eq!(client.connections, 1);
    assert_eq!(client.metric("connections_total"), 1.0);
}

#[test]
fn a_refusal_that_left_no_body_unread_keeps_the_connection() {
    let service = Service::start();
    let mut client = service.client();
    for _ in 0..3 {
        assert_eq!(client.post(b"", &[]).status, 401);
        assert_eq!(client.request("GET", "/webhook", &[], b"").status, 405);
    }
    assert_eq!(client.connections, 1);
}

#[test]
fn requests_in_one_write_are_answered_in_their_order() {
    let service = Service::start();
    let mut connection = service.connect();
    let mut bytes = Vec::new();
    for n in 0..10 {
        bytes.extend(signed(message(&format!("m{n}")).to_string().as_bytes()));
        bytes.extend(request("GET", &format!("/messages?limit={}", n + 1), &[], b""));
        bytes.extend(request("HEAD", "/stats", &[], b""));
        bytes.extend(request("GET", "/nowhere", &[("X-Request-ID", &format!("id{n}"))], b""));
    }
    connection.write(bytes);
    for n in 0..10_u64 {
        assert_eq!(connection.reply("POST", "/webhook").status, 200);
        let listing = connection.reply("GET", "/messages").json();
        assert_eq!((listing["limit"].as_u64(), listing["total"].as_u64()), (Some(n + 1), Some(n + 1)));
        assert_eq!(connection.reply("HEAD", "/stats").status, 200);
        assert_eq!(connection.reply("GET", "/nowhere").request_id(), format!("id{n}"));
    }
}

#[test]
fn requests_may_come_in_any_pieces() {
    let service = Service::start();
    let mut connection = service.connect();
    let bytes =
        [signed(message("m1").to_string().as_bytes()), request("GET", "/messages", &[], b"")].concat();
    for piece in bytes.chunks(7) {
        connection.write(piece);
    }
    assert_eq!(connection.reply("POST", "/webhook").status, 200);
    assert_eq!(connection.reply("GET", "/messages").json()["total"], 1);
}

#[test]
fn connection_close_is_obeyed() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write(request("GET", "/health/live", &[("Connection", "close")], b""));
    assert_eq!(connection.reply("GET", "/health/live").header("connection"), Some("close"));
    connection.expect_end();
}

#[test]
fn a_client_that_has_ended_its_half_is_answered() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write(signed(message("m1").to_string().as_bytes()));
    connection.write(request("GET", "/messages", &[], b""));
    connection.end_writing();
    assert_eq!(connection.reply("POST", "/webhook").status, 200);
    assert_eq!(connection.reply("GET", "/messages").json()["total"], 1);
    connection.expect_end();
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write("GET /health/live HTTP/1.0\r\n\r\n");
    assert_eq!(connection.reply("GET", "/health/live").line(), r#"200 {"status":"ok"}"#);
    connection.expect_end();

    let body = message("m1").to_string();
    let text = String::from_utf8(signed(body.as_bytes())).unwrap();
    let mut connection = service.connect();
    connection.write(text.replace("HTTP/1.1", "HTTP/1.0").replace("Host: lyftr.test\r\n", ""));
    assert_eq!(connection.reply("POST", "/webhook").status, 200);
    connection.expect_end();

    let mut connection = service.connect();
    for _ in 0..2 {
        connection.write("GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(connection.reply("GET", "/health/live").header("connection"), Some("keep-alive"));
    }
}

#[test]
fn the_body_of_a_request_that_has_no_use_for_it_is_not_taken_for_the_next_request() {
    let service = Service::start();
    let mut client = service.client();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (method, target) in [
        ("GET", "/messages"),
        ("GET", "/health/live"),
        ("DELETE", "/stats"),
        ("POST", "/nowhere"),
        ("POST", "/webhook"),
    ] {
        client.request(method, target, &[], smuggled.as_bytes());
        assert_eq!(client.get("/health/live").status, 200, "{method} {target}");
    }
    assert!(!service.log().text().contains("smuggled"));
    let others = client.metrics();
    assert!(!others.contains(r#"method="GET",path="other""#), "{others}");
}
