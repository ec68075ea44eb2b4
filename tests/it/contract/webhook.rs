//! `POST /webhook`: stored once, acknowledged always, refused without a signature.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::client::{Client, request};
use crate::support::service::Service;
use crate::support::{message, message_with, sign};

/// The `webhook_requests_total` that are not 0.
fn results(client: &mut Client) -> String {
    let page = client.metrics();
    let counts = page.lines().filter_map(|line| line.strip_prefix("webhook_requests_total{result=\""));
    counts
        .map(|line| line.replace("\"} ", "="))
        .filter(|line| !line.ends_with("=0"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_message_is_stored_and_comes_back_as_it_was_sent() {
    let service = Service::start();
    let mut client = service.client();
    let sent = r#"{"message_id":"m1","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T10:00:00Z","text":"Hello"}"#;
    assert_snapshot!(client.send_bytes(sent.as_bytes()).line(), @r#"200 {"status":"ok"}"#);
    assert_eq!(
        client.get("/messages").text(),
        format!(r#"{{"data":[{sent}],"total":1,"limit":50,"offset":0,"next":null,"prev":null}}"#)
    );
    assert_snapshot!(results(&mut client), @"created=1");
}

#[test]
fn a_signature_made_by_other_programs_is_right() {
    // By `printf '%s' "$BODY" | openssl dgst -sha256 -hmac a-secret-for-the-tests-of-lyftr`.
    let body = br#"{"message_id":"m1","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#;
    assert_eq!(sign(body), "f914e4027f5f086017e3926df376634e3999c788ec5743a31bf062df30a1efc2");
    let service = Service::start();
    assert_eq!(
        service
            .client()
            .post(body, &["f914e4027f5f086017e3926df376634e3999c788ec5743a31bf062df30a1efc2"])
            .status,
        200
    );
}

#[test]
fn duplicate_is_acknowledged_and_not_stored() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    let before = client.get("/messages").text().to_owned();
    for _ in 0..3 {
        assert_eq!(client.send(&message("m1")).line(), r#"200 {"status":"ok"}"#);
    }
    assert_eq!(client.get("/messages").text(), before);
    assert_snapshot!(results(&mut client), @"created=1 duplicate=3");
}

#[test]
fn the_same_content_in_other_json_is_a_duplicate() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message_with("m1", "+1", "2025-01-15T10:00:00Z", None));
    for body in [
        r#"{"ts":"2025-01-15T10:00:00Z","to":"+14155550100","from":"+1","message_id":"m1"}"#,
        r#" { "message_id" : "m1", "from" : "+1", "to" : "+14155550100", "ts" : "2025-01-15T10:00:00Z" } "#,
        r#"{"message_id":"\u006d1","from":"\u002b1","to":"+14155550100","ts":"2025-01-15T10:00:00Z","text":null}"#,
        r#"{"message_id":"m1","from":"+1","to":"+14155550100","ts":"2025-01-15T10:00:00Z","channel":7}"#,
    ] {
        assert_eq!(client.send_bytes(body.as_bytes()).status, 200, "{body}");
    }
    assert_snapshot!(results(&mut client), @"created=1 duplicate=4");
}

#[test]
fn conflict_is_acknowledged_and_the_first_content_stays() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    let before = client.get("/messages").text().to_owned();
    let changes = [
        json!({"from": "+1"}),
        json!({"to": "+1"}),
        json!({"ts": "2025-01-15T10:00:01Z"}),
        // The same instant, written otherwise: what comes back would not be what was sent.
        json!({"ts": "2025-01-15T10:00:00.0Z"}),
        json!({"text": "hello"}),
        json!({"text": ""}),
        json!({"text": null}),
    ];
    for change in &changes {
        let mut other = message("m1");
        for (key, value) in change.as_object().unwrap() {
            other[key] = value.clone();
        }
        assert_eq!(client.send(&other).line(), r#"200 {"status":"ok"}"#);
    }
    assert_eq!(client.get("/messages").text(), before);
    assert_snapshot!(results(&mut client), @"created=1 conflict=7");
}

#[test]
fn an_empty_text_is_a_text_and_null_is_none() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message_with("empty", "+1", "2025-01-15T10:00:00Z", Some("")));
    client.store(
        &json!({"message_id": "null", "from": "+1", "to": "+2", "ts": "2025-01-15T10:00:00Z", "text": null}),
    );
    client.store(&message_with("absent", "+1", "2025-01-15T10:00:00Z", None));
    let data = client.json("/messages")["data"].clone();
    let texts: Vec<_> = data.as_array().unwrap().iter().map(|m| (&m["message_id"], &m["text"])).collect();
    assert_snapshot!(json!(texts), @r#"[["absent",null],["empty",""],["null",null]]"#);
}

#[test]
fn every_bad_signature_is_refused_in_the_same_way_and_nothing_is_stored() {
    let service = Service::start();
    let mut client = service.client();
    let body = message("m1").to_string();
    let right = sign(body.as_bytes());
    let of_other_secret = lyftr::signature::Key::new(b"another secret of some length").sign(body.as_bytes());
    let (prefixed, short, long) = (format!("sha256={right}"), &right[1..], format!("{right}0"));
    let wrong_digit = format!("{}{}", if right.starts_with('0') { '1' } else { '0' }, &right[1..]);
    let (not_hex, not_ascii) = (format!("g{}", &right[1..]), format!("é{}", &right[2..]));
    let (joined, spaced) = (format!("{right}, {right}"), format!("{} {}", &right[..32], &right[32..]));
    let (fullwidth, base64) = ("０".repeat(64), "o5p+7VbmVVXzFHw0Xcu5JbWJ3bOAXo1E0lWfzwGgFHM=");
    let cases: [&[&str]; 19] = [
        &[],
        &[""],
        &["x"],
        &["invalid"],
        &[&of_other_secret],
        &[&sign(b"another body")],
        &[&prefixed],
        &[short],
        &[&long],
        &[&wrong_digit],
        &[&not_hex],
        &[&not_ascii],
        &[&joined],
        &[&spaced],
        &[&fullwidth],
        &[base64],
        &[&right, &right],
        &[&right, &wrong_digit],
        &[&wrong_digit, &right],
    ];
    let mut seen: Vec<Vec<(String, String)>> = Vec::new();
    for signatures in cases {
        let reply = client.post(body.as_bytes(), signatures);
        assert_eq!(reply.line(), r#"401 {"detail":"invalid signature"}"#, "{signatures:?}");
        let mut headers = reply.headers;
        // What is no signature by its form is refused before the body is read, which ends the connection.
        headers.retain(|(name, _)| !["x-request-id", "date", "connection"].contains(&name.as_str()));
        seen.push(headers);
    }
    assert!(seen.iter().all(|headers| *headers == seen[0]), "the answers differ: {seen:#?}");
    assert_eq!(client.json("/messages")["total"], 0);
    assert_snapshot!(results(&mut client), @"invalid_signature=19");
}

#[test]
fn hex_of_either_case_is_accepted() {
    let service = Service::start();
    let mut client = service.client();
    for (id, change) in [("lower", str::to_lowercase as fn(&str) -> String), ("upper", str::to_uppercase)] {
        let body = message(id).to_string();
        assert_eq!(client.post(body.as_bytes(), &[&change(&sign(body.as_bytes()))]).status, 200, "{id}");
    }
    let body = message("mixed").to_string();
    let right = sign(body.as_bytes());
    let mixed = format!("{}{}", right[..32].to_uppercase(), &right[32..]);
    assert_eq!(client.post(body.as_bytes(), &[&mixed]).status, 200);
    assert_eq!(client.json("/messages")["total"], 3);
}

#[test]
fn the_signature_is_over_the_raw_bytes() {
    let service = Service::start();
    let mut client = service.client();
    let body = message("m1").to_string();
    let signature = sign(body.as_bytes());
    for changed in [format!("{body} "), format!("{body}\n"), body.replace("Hello", "hello"), String::new()] {
        assert_eq!(client.post(changed.as_bytes(), &[&signature]).status, 401, "{changed:?}");
    }
    assert_eq!(client.json("/messages")["total"], 0);
}

#[test]
fn content_type_and_content_encoding_are_ignored() {
    let service = Service::start();
    let mut client = service.client();
    for (id, name, value) in [
        ("text", "Content-Type", "text/plain"),
        ("form", "Content-Type", "application/x-www-form-urlencoded"),
        ("utf-16", "Content-Type", "application/json; charset=utf-16"),
        ("garbage", "Content-Type", ";;;"),
        ("gzip", "Content-Encoding", "gzip"),
    ] {
        let body = message(id).to_string();
        let headers = [("X-Signature", &*sign(body.as_bytes())), (name, value)];
        assert_eq!(client.request("POST", "/webhook", &headers, body.as_bytes()).status, 200, "{id}");
    }
}

#[test]
fn the_query_and_the_case_of_header_names_do_not_matter() {
    let service = Service::start();
    let mut client = service.client();
    let body = message("m1").to_string();
    let headers = [("x-sIgNaTuRe", &*sign(body.as_bytes()))];
    assert_eq!(client.request("POST", "/webhook?a=b", &headers, body.as_bytes()).status, 200);
}

/// A message padded with spaces to exactly this many bytes.
fn padded(id: &str, bytes: usize) -> Vec<u8> {
    let mut body = message(id).to_string().into_bytes();
    body.resize(bytes, b' ');
    body
}

/// A signed request in chunks of this many bytes.
fn chunked(body: &[u8], chunk: usize) -> Vec<u8> {
    let headers = [("X-Signature", &*sign(body)), ("Transfer-Encoding", "chunked")];
    let mut bytes = request("POST", "/webhook", &headers, b"");
    for part in body.chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn a_body_may_be_as_large_as_the_limit_and_not_a_byte_larger() {
    const MAX: usize = 262_144;
    let service = Service::start();
    let mut client = service.client();
    assert_eq!(client.send_bytes(&padded("m1", MAX)).status, 200);
    assert_eq!(client.raw("POST", "/webhook", &chunked(&padded("m2", MAX), 10_000)).status, 200);
    let declared = client.send_bytes(&padded("m3", MAX + 1));
    assert_snapshot!(declared.line(), @r#"413 {"detail":"request body is larger than MAX_BODY_BYTES"}"#);
    let in_chunks = client.raw("POST", "/webhook", &chunked(&padded("m4", MAX + 1), 10_000));
    assert_eq!(in_chunks.line(), declared.line());
    assert_eq!(client.json("/messages")["total"], 2);
    assert_snapshot!(results(&mut client), @"created=2 too_large=2");
}

#[test]
fn a_body_in_many_small_chunks_is_read_whole() {
    let service = Service::start();
    let mut client = service.client();
    let body = message("m1").to_string();
    assert_eq!(client.raw("POST", "/webhook", &chunked(body.as_bytes(), 1)).status, 200);
    assert_eq!(client.json("/messages")["data"][0], message("m1"));
}

#[test]
fn every_character_comes_back_as_it_was_sent() {
    let service = Service::start();
    let mut client = service.client();
    let texts: Vec<Value> = [
        "\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}\u{80}\u{9f}",
        r#""\/ \" \\ \u0041"#,
        "e\u{301} é ﬁ \u{feff} \u{200b}\u{202e}\u{2028}\u{2029}",
        "\u{d7ff}\u{e000}\u{fffd}\u{fffe}\u{ffff}\u{10000}\u{10ffff}😀👩‍👩‍👧",
        "<script>alert('&amp;')</script> %00 '; DROP TABLE message; --",
        " ",
        "\r\n",
    ]
    .map(Value::from)
    .to_vec();
    for (n, text) in texts.iter().enumerate() {
        client.store(&message_with(&format!("m{n}"), "+1", "2025-01-15T10:00:00Z", text.as_str()));
    }
    let data = client.json("/messages")["data"].clone();
    let back: Vec<Value> = data.as_array().unwrap().iter().map(|m| m["text"].clone()).collect();
    assert_eq!(back, texts);
}

#[test]
fn any_character_but_control_may_stand_in_an_id() {
    let service = Service::start();
    let mut client = service.client();
    let mut ids = [" ", "é", "e\u{301}", "a/b?c&d=e#f%20", "\"\\'", "😀", "\u{200b}", "\u{a0}"];
    for id in ids {
        client.store(&message(id));
    }
    ids.sort_unstable();
    let data = client.json("/messages")["data"].clone();
    let back: Vec<_> = data.as_array().unwrap().iter().map(|m| m["message_id"].as_str().unwrap()).collect();
    assert_eq!(back, ids, "ordered by their bytes");
}
