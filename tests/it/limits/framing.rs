//! Headers that are too large, or that could be read in two ways: refused, and the connection closed.

use insta::assert_snapshot;

use crate::support::client::{Reply, request};
use crate::support::message;
use crate::support::service::Service;
use crate::support::sign;

/// Sends bytes that must be refused: an answer, then the end.
#[track_caller]
fn refused(service: &Service, bytes: impl AsRef<[u8]>, method: &str, target: &str) -> Reply {
    let mut connection = service.connect();
    drop(connection.try_write(bytes));
    let reply = connection.reply(method, target);
    assert_eq!(reply.header("connection"), Some("close"), "{}", reply.line());
    connection.expect_end();
    reply
}

/// `GET /health/live` with these lines more in its header.
fn live(lines: &str) -> String {
    format!("GET /health/live HTTP/1.1\r\n{lines}\r\n")
}

#[test]
fn a_header_may_have_64_fields_and_16_kib() {
    let service = Service::start();
    // `Host` is one of them.
    let fields = |count: usize| (1..count).map(|n| format!("X-{n}: y\r\n")).collect::<Vec<_>>().concat();
    let mut client = service.client();
    let bytes = live(&format!("Host: a\r\n{}", fields(64)));
    assert_eq!(client.raw("GET", "/health/live", bytes.as_bytes()).status, 200);
    for count in [65, 99, 100, 101, 500] {
        let reply = refused(&service, live(&format!("Host: a\r\n{}", fields(count))), "GET", "/health/live");
        assert_eq!(reply.status, 431, "{count} fields");
    }
    let wide = |bytes: usize| live(&format!("Host: a\r\nX-Wide: {}\r\n", "x".repeat(bytes)));
    assert_eq!(client.raw("GET", "/health/live", wide(16_000).as_bytes()).status, 200);
    assert_eq!(client.connections, 1);
    for bytes in [16_400, 20_000, 32_700, 40_000, 100_000, 500_000] {
        assert_eq!(refused(&service, wide(bytes), "GET", "/health/live").status, 431, "{bytes} bytes");
    }
    let reply = refused(&service, wide(100_000), "GET", "/health/live");
    assert_snapshot!(reply.line(), @r#"431 {"detail":"header is too large"}"#);
    let reply = refused(&service, wide(20_000), "GET", "/health/live");
    assert_snapshot!(reply.line(), @r#"431 {"detail":"header has more than 64 fields or 16 KiB"}"#);
}

#[test]
fn a_target_may_have_8_kib() {
    let service = Service::start();
    let mut client = service.client();
    let target = |bytes: usize| format!("/messages?x={}", "x".repeat(bytes - "/messages?x=".len()));
    assert_eq!(client.get(&target(8192)).status, 200);
    for bytes in [8193, 10_000, 16_000, 30_000, 40_000, 70_000, 200_000] {
        let target = target(bytes);
        let reply = refused(&service, request("GET", &target, &[], b""), "GET", &target);
        // What does not fit into the buffer for a header is refused before it is known to be a target.
        let status = if bytes <= 30_000 { 414..=414 } else { 414..=431 };
        assert!(status.contains(&reply.status), "{bytes} bytes: {}", reply.line());
    }
    let path = format!("/{}", "x".repeat(8191));
    assert_eq!(client.get(&path).status, 404);
}

#[test]
fn a_request_has_exactly_one_host() {
    let service = Service::start();
    for lines in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a\r\nX: y\r\nhOST: a\r\n"] {
        let reply = refused(&service, live(lines), "GET", "/health/live");
        assert_eq!(reply.line(), r#"400 {"detail":"Host header should be there exactly once"}"#, "{lines:?}");
    }
    for host in ["a b", "a/b", "a@b", "a\\b", "a,b", "é", "<a>", "a?b", "a#b"] {
        let reply = refused(&service, live(&format!("Host: {host}\r\n")), "GET", "/health/live");
        assert_eq!(reply.status, 400, "{host}");
    }
    let mut client = service.client();
    for host in ["a", "a.example:8000", "127.0.0.1", "[::1]:80", ""] {
        let bytes = live(&format!("Host: {host}\r\n"));
        assert_eq!(client.raw("GET", "/health/live", bytes.as_bytes()).status, 200, "{host}");
    }
}

/// A signed message whose header says how long its body is in the words given.
fn with_length(lines: &str, body: &str) -> String {
    let signature = sign(message("m1").to_string().as_bytes());
    format!("POST /webhook HTTP/1.1\r\nHost: a\r\nX-Signature: {signature}\r\n{lines}\r\n{body}")
}

#[test]
fn a_body_has_one_length() {
    let service = Service::start();
    let body = message("m1").to_string();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let length = body.len();
    for (lines, body) in [
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), &chunked),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"), &chunked),
        (format!("transfer-encoding: chunked\r\nX: y\r\ncontent-length: {}\r\n", chunked.len()), &chunked),
        (format!("Content-Length: {length}\r\nContent-Length: {}\r\n", length + 1), &body),
        (format!("Content-Length: {length}, {}\r\n", length + 1), &body),
        (format!("Content-Length: +{length}\r\n"), &body),
        (format!("Content-Length: 0x{length:x}\r\n"), &body),
        (format!("Content-Length: {length} {length}\r\n"), &body),
        ("Content-Length: -1\r\n".to_owned(), &body),
        ("Content-Length: \r\n".to_owned(), &body),
        (format!("Content-Length: {length},\r\n"), &body),
        (format!("Content-Length: {length}, {length}\r\n"), &body),
        (format!("Content-Length: {length};\r\n"), &body),
        (format!("Content-Length: {length}.0\r\n"), &body),
        (format!("Content-Length: {length}\0\r\n"), &body),
        (format!("Content-Length: \u{b}{length}\r\n"), &body),
        (format!("Content-Length : {length}\r\n"), &body),
        (format!("Content-Length:\r\n {length}\r\n"), &body),
        (format!("Content-Length: 0\r\n {length}\r\n"), &body),
        (format!("X: y\rContent-Length: {length}\r\n"), &body),
        (format!("Content-Length: {length}\r\nX: y\r\nCONTENT-LENGTH: 0\r\n"), &body),
        ("Content-Length: 99999999999999999999999\r\n".to_owned(), &body),
        ("Transfer-Encoding: gzip, chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: chunked, chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: identity\r\n".to_owned(), &body),
        ("Transfer-Encoding: xchunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: chunked, identity\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: \u{b}chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding : chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding:\r\n chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: chunked,\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: chunked;a=b\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: \"chunked\"\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n".to_owned(), &chunked),
        ("X: y\rTransfer-Encoding: chunked\r\n".to_owned(), &chunked),
    ] {
        let reply = refused(&service, with_length(&lines, body), "POST", "/webhook");
        assert_eq!(reply.status, 400, "{lines:?}: {}", reply.line());
    }
    assert_eq!(service.client().json("/messages")["total"], 0);
}

#[test]
fn two_lengths_are_noticed_in_whatever_pieces_they_come() {
    let service = Service::start();
    let body = message("m1").to_string();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let bytes = with_length(lines, "");
        let first = bytes.len() - lines.len() - 2;
        for cut in first..bytes.len() {
            let mut connection = service.connect();
            connection.write(&bytes[..cut]);
            // Long enough, nearly always, for the service to read the pieces one by one.
            std::thread::sleep(std::time::Duration::from_millis(2));
            connection.write(&bytes[cut..]);
            drop(connection.try_write(&chunked));
            let reply = connection.reply("POST", "/webhook");
            assert_eq!(reply.status, 400, "cut at {:?}", &bytes[..cut]);
            connection.expect_end();
        }
    }
    assert_eq!(service.client().json("/messages")["total"], 0);
}

#[test]
fn malformed_chunks_are_refused() {
    let service = Service::start();
    let body = message("m1").to_string();
    let size = format!("{:x}", body.len());
    for chunks in [
        "x\r\n".to_owned(),
        "-1\r\n".to_owned(),
        "0x5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "+5\r\nhello\r\n0\r\n\r\n".to_owned(),
        " \r\n\r\n".to_owned(),
        "\r\n".to_owned(),
        "fffffffffffffffffff\r\n".to_owned(),
        format!("{size}\r\n{body}X\r\n0\r\n\r\n"),
        format!("{size}\r\n{body}0\r\n\r\n"),
        format!("{size}\n{body}\n0\n\n"),
        format!("{size}\r\n{body}\r\n0\r\nX\0: y\r\n\r\n"),
        format!("{size}_\r\n{body}\r\n0\r\n\r\n"),
        format!("{size} 0\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\0\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\r\r\n{body}\r\n0\r\n\r\n"),
        format!("{size};\n{body}\r\n0\r\n\r\n"),
        format!("{size};a\rb\r\n{body}\r\n0\r\n\r\n"),
        format!("100000000000000{size}\r\n{body}\r\n0\r\n\r\n"),
        format!("{size}\r\n{body}\n0\r\n\r\n"),
    ] {
        let reply =
            refused(&service, with_length("Transfer-Encoding: chunked\r\n", &chunks), "POST", "/webhook");
        assert_eq!(reply.status, 400, "{chunks:?}: {}", reply.line());
    }
    assert_eq!(service.client().json("/messages")["total"], 0);
}

#[test]
fn a_body_in_chunks_hides_no_second_request() {
    let service = Service::start();
    let body = message("m1").to_string();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", body.len());
    let reply = refused(&service, with_length("Transfer-Encoding: chunked\r\n", &chunks), "POST", "/webhook");
    assert_eq!(reply.status, 200);
}

#[test]
fn a_header_that_could_be_read_in_two_ways_is_refused() {
    let service = Service::start();
    for lines in [
        "Host: a\r\nX: y\r\n z\r\n",
        "Host: a\r\n X: y\r\n",
        "Host: a\r\nX: y\0z\r\n",
        "Host: a\r\nX\0: y\r\n",
        "Host: a\r\nX: y\rz\r\n",
        "Host: a\rX: y\r\n",
        "Host : a\r\n",
        "Host: a\r\n: y\r\n",
        "Host: a\r\nno colon\r\n",
        "Host: a\r\nX Y: z\r\n",
        "Host: a\r\nX\u{e9}: y\r\n",
        "Host: a\r\nX: \u{1}\r\n",
        "Host: a\r\nX: \u{7f}\r\n",
    ] {
        let reply = refused(&service, live(lines), "?", "?");
        assert_eq!(reply.line(), r#"400 {"detail":"malformed request"}"#, "{lines:?}");
    }
}

#[test]
fn garbage_is_answered_400_in_our_form() {
    let service = Service::start();
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting in TLS\r\n\r\n".as_slice(),
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET / FTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / \r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\xc9T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"{\"message_id\":\"m1\"}\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let reply = refused(&service, garbage, "?", "?");
        assert_eq!(
            reply.line(),
            r#"400 {"detail":"malformed request"}"#,
            "{:?}",
            String::from_utf8_lossy(garbage)
        );
    }
    let page = service.client().metrics();
    assert!(
        page.contains("http_requests_total{method=\"other\",path=\"other\",status=\"400\"} 14\n"),
        "{page}"
    );
}

#[test]
fn a_greeting_in_tls_is_refused_before_it_has_an_end() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a greeting in TLS");
    assert_eq!(connection.reply("?", "?").line(), r#"400 {"detail":"malformed request"}"#);
    connection.expect_end();
}

#[test]
fn http_2_without_its_negotiation_is_refused() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if let Some(reply) = connection.reply_or_end("?", "?") {
        assert_eq!(reply.status, 400);
    }
    connection.expect_end();
}

#[test]
fn a_refusal_comes_after_the_answers_to_what_came_before_it() {
    let service = Service::start();
    let mut connection = service.connect();
    let good = request("GET", "/health/live", &[], b"");
    connection.write([&good, &good, b"garbage\r\n\r\n".as_slice(), &good].concat());
    assert_eq!(connection.reply("GET", "/health/live").status, 200);
    assert_eq!(connection.reply("GET", "/health/live").status, 200);
    assert_eq!(connection.reply("?", "?").status, 400);
    connection.expect_end();
}
