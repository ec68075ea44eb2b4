//! In which order a `POST /webhook` is checked: what is cheap first, and nothing is read that need not be.

use crate::support::client::{Connection, Reply, request};
use crate::support::service::Service;
use crate::support::{message, sign};

/// A header as a well-formed signature could be.
const SOME_SIGNATURE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// Sends a header without the body it announces.
fn header_only(connection: &mut Connection, method: &str, target: &str, headers: Headers<'_>) -> Reply {
    connection.write(request(method, target, headers, b""));
    connection.reply(method, target)
}

#[test]
fn without_a_signature_the_body_is_not_waited_for() {
    let service = Service::start();
    for signature in [None, Some("sha256=00"), Some("x")] {
        let mut headers = vec![("Content-Length", "100")];
        headers.extend(signature.map(|signature| ("X-Signature", signature)));
        let reply = header_only(&mut service.connect(), "POST", "/webhook", &headers);
        assert_eq!(reply.line(), r#"401 {"detail":"invalid signature"}"#, "{signature:?}");
    }
    let chunked = [("Transfer-Encoding", "chunked")];
    assert_eq!(header_only(&mut service.connect(), "POST", "/webhook", &chunked).status, 401);
}

#[test]
fn a_refusal_is_not_preceded_by_100_continue() {
    let service = Service::start();
    let expect = ("Expect", "100-continue");
    let cases: [(&str, &str, Headers<'_>, u16); 6] = [
        ("POST", "/webhook", &[expect, ("Content-Length", "100")], 401),
        ("POST", "/webhook", &[expect, ("Content-Length", "100"), ("X-Signature", "x")], 401),
        ("POST", "/webhook", &[expect, ("Content-Length", "262145")], 413),
        ("POST", "/webhook", &[expect, ("Content-Length", "262145"), ("X-Signature", SOME_SIGNATURE)], 413),
        ("PUT", "/webhook", &[expect, ("Content-Length", "100")], 405),
        ("POST", "/nowhere", &[expect, ("Content-Length", "100")], 404),
    ];
    for (method, target, headers, status) in cases {
        let reply = header_only(&mut service.connect(), method, target, headers);
        assert_eq!((reply.status, reply.continues), (status, 0), "{method} {target} {headers:?}");
    }
}

/// A proxy that learns of the end only by the end has perhaps sent the next client's request by then.
#[test]
fn an_answer_that_leaves_a_body_unread_says_that_it_ends_the_connection() {
    let service = Service::start();
    let cases: [(&str, &str, Headers<'_>, u16); 5] = [
        ("POST", "/webhook", &[("Content-Length", "5")], 401),
        ("POST", "/webhook", &[("Content-Length", "262145"), ("X-Signature", SOME_SIGNATURE)], 413),
        ("PUT", "/webhook", &[("Content-Length", "5")], 405),
        ("POST", "/nowhere", &[("Content-Length", "5")], 404),
        ("GET", "/messages", &[("Content-Length", "5")], 200),
    ];
    for (method, target, headers, status) in cases {
        for body in ["", "12345"] {
            let mut connection = service.connect();
            connection.write([request(method, target, headers, b"").as_slice(), body.as_bytes()].concat());
            let reply = connection.reply(method, target);
            let case = format!("{method} {target} {headers:?} {body:?}");
            assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{case}");
            connection.write("1");
            connection.expect_end();
        }
    }
}

#[test]
fn a_body_that_will_be_read_is_asked_for_with_100_continue() {
    let service = Service::start();
    let mut connection = service.connect();
    let body = message("m1").to_string();
    let length = body.len().to_string();
    let headers =
        [("Expect", "100-continue"), ("Content-Length", &*length), ("X-Signature", &*sign(body.as_bytes()))];
    connection.write(request("POST", "/webhook", &headers, b""));
    connection.expect_continue();
    connection.write(&body);
    assert_eq!(connection.reply("POST", "/webhook").status, 200);
}

#[test]
fn route_and_method_come_before_the_declared_size() {
    let service = Service::start();
    let large = [("Content-Length", "999999999")];
    assert_eq!(header_only(&mut service.connect(), "POST", "/nowhere", &large).status, 404);
    assert_eq!(header_only(&mut service.connect(), "PUT", "/webhook", &large).status, 405);
}

#[test]
fn the_declared_size_comes_before_the_signature() {
    let service = Service::start();
    for length in ["262145", "999999999999", "18446744073709551613"] {
        let reply = header_only(&mut service.connect(), "POST", "/webhook", &[("Content-Length", length)]);
        assert_eq!(reply.status, 413, "{length}");
        let signed = [("Content-Length", length), ("X-Signature", SOME_SIGNATURE)];
        assert_eq!(header_only(&mut service.connect(), "POST", "/webhook", &signed).status, 413, "{length}");
    }
}

#[test]
fn the_size_that_came_is_checked_before_the_signature_over_it() {
    let service = Service::builder().max_body_bytes(100).start();
    let mut connection = service.connect();
    let headers = [("Transfer-Encoding", "chunked"), ("X-Signature", SOME_SIGNATURE)];
    connection.write(request("POST", "/webhook", &headers, b""));
    connection.write(format!("65\r\n{}\r\n", "x".repeat(0x65)));
    // The last chunk never comes.
    assert_eq!(connection.reply("POST", "/webhook").status, 413);
}

#[test]
fn the_signature_comes_before_the_json() {
    let service = Service::start();
    let mut client = service.client();
    for body in ["", "{", "[]", "\u{feff}{}", r#"{"message_id":""}"#] {
        assert_eq!(client.post(body.as_bytes(), &[SOME_SIGNATURE]).status, 401, "{body:?}");
        assert_eq!(client.post(body.as_bytes(), &[]).status, 401, "{body:?}");
        assert_eq!(client.send_bytes(body.as_bytes()).status, 422, "{body:?}");
    }
}

#[test]
fn the_fields_come_before_the_store() {
    let service = Service::start();
    service.faulty().inserts.all(crate::support::service::Fault::Unavailable);
    let mut client = service.client();
    assert_eq!(client.send_bytes(b"{}").status, 422);
    assert_eq!(client.send(&message("m1")).status, 503);
    assert_eq!(service.faulty().inserts.count(), 1);
}
