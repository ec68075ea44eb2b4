//! What is in no line of the log, whatever is sent: secrets, signatures, texts, phone numbers, query strings.

use serde_json::json;

use crate::support::SECRET;
use crate::support::client::{Client, request};
use crate::support::process::Process;
use crate::support::sign;

/// Stands in everything that must not be logged.
const MARK: &str = "PRIVATE";
const PHONES: [&str; 3] = ["+15550001111", "+15550002222", "15550003333"];
const TOKEN: &str = "the-PRIVATE-token-of-this-test";

/// Sends the mark in every place that a client can put something in.
fn send_it_everywhere(client: &mut Client) -> Vec<String> {
    let good = json!({"message_id": "m1", "from": PHONES[0], "to": PHONES[1], "ts": "2025-01-15T10:00:00Z", "text": MARK});
    let mut conflict = good.clone();
    conflict["text"] = "another PRIVATE text".into();
    let mut bodies = vec![good.to_string(), good.to_string(), conflict.to_string()];
    for (key, value) in [
        ("from", json!(PHONES[2])),
        ("to", json!({PHONES[2]: MARK})),
        ("ts", json!(MARK)),
        ("text", json!(format!("{MARK}\0"))),
        ("text", json!([MARK])),
        ("message_id", json!([MARK])),
        ("message_id", json!(format!("{MARK}\n"))),
    ] {
        let mut bad = good.clone();
        bad["message_id"] = "m2".into();
        bad[key] = value;
        bodies.push(bad.to_string());
    }
    bodies.extend(
        [MARK, r#"{"PRIVATE":1,"PRIVATE":2}"#, r#""PRIVATE""#, r#"{"text":"PRIVATE"#].map(ToOwned::to_owned),
    );
    let signatures: Vec<_> = bodies.iter().map(|body| sign(body.as_bytes())).collect();
    let everywhere = [
        ("User-Agent", MARK),
        ("Referer", "http://PRIVATE/PRIVATE"),
        ("Cookie", "a=PRIVATE"),
        ("Authorization", "Bearer PRIVATE"),
        ("X-Request-ID", "PRIVATE id"),
        ("X-Forwarded-For", PHONES[0]),
        ("Content-Type", MARK),
        (MARK, MARK),
    ];
    for (body, signature) in bodies.iter().zip(&signatures) {
        let mut headers = everywhere.to_vec();
        headers.push(("X-Signature", signature));
        client.request("POST", "/webhook?PRIVATE=PRIVATE", &headers, body.as_bytes());
        headers.push(("X-Signature", "00PRIVATE"));
        client.request("POST", "/webhook", &headers, body.as_bytes());
    }
    for target in [
        "/PRIVATE",
        "/messages/PRIVATE",
        "/webhook/PRIVATE",
        "/messages?q=PRIVATE",
        "/messages?from=%2B15550001111",
        "/messages?limit=PRIVATE",
        "/messages?since=PRIVATE",
        "/stats?PRIVATE",
        "/health/live?PRIVATE",
        "/health/ready?token=PRIVATE",
        "/metrics?PRIVATE",
        "/+15550001111",
        "http://PRIVATE/messages",
    ] {
        client.request("GET", target, &everywhere, b"");
        client.request("PRIVATE", target, &everywhere, b"PRIVATE");
        client.request("GET", target, &[("Authorization", &format!("Bearer {TOKEN}"))], b"");
    }
    let long = format!("/messages?q={}", MARK.repeat(2000));
    client.request("GET", &long, &[], b"");
    for bytes in ["PRIVATE\r\n\r\n", "GET /PRIVATE HTTP/1.1\r\nHost: PRIVATE\r\nPRIVATE\0\r\n\r\n"] {
        client.raw("?", "?", bytes.as_bytes());
    }
    let two_hosts = request("GET", "/PRIVATE", &[("Host", MARK)], b"");
    client.raw("GET", "/PRIVATE", &two_hosts);
    signatures
}

#[test]
fn nothing_private_is_logged() {
    for level in ["INFO", "DEBUG"] {
        let mut process = Process::builder().env("LOG_LEVEL", level).env("READ_TOKEN", TOKEN).start();
        let mut client = process.client();
        let signatures = send_it_everywhere(&mut client);
        // And while the store is in trouble.
        process.break_store();
        send_it_everywhere(&mut client);
        assert!(process.terminate().success());
        let said = process.log_lines().join("\n") + &process.stderr();
        assert!(said.len() > 10_000, "much was logged: {said}");
        let lower = said.to_lowercase();
        for word in [MARK, SECRET, TOKEN].iter().chain(&PHONES) {
            let word = word.trim_start_matches('+').to_lowercase();
            assert!(!lower.contains(&word), "{word}:\n{said}");
        }
        for signature in signatures {
            assert!(!lower.contains(&signature[..16]), "{signature}:\n{said}");
        }
    }
}

#[test]
fn nothing_private_is_on_the_page_of_metrics() {
    let process = Process::start();
    let mut client = process.client();
    send_it_everywhere(&mut client);
    let page = client.metrics().to_lowercase();
    for word in [MARK, SECRET].iter().chain(&PHONES) {
        assert!(!page.contains(&word.trim_start_matches('+').to_lowercase()), "{word}:\n{page}");
    }
}
