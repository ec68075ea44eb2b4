//! What an operator sees: the log and the metrics, and what neither of them ever shows.

mod log;
mod metrics;
mod output;
mod privacy;

use crate::support::client::{Client, Reply};
use crate::support::{message, sign};

/// One request of every kind, `(method, path as logged, answer)`. Eleven of them are `POST /webhook`.
fn traffic(client: &mut Client) -> Vec<(&'static str, &'static str, Reply)> {
    let good = message("m1");
    let mut conflict = message("m1");
    conflict["text"] = "Another".into();
    let body = good.to_string();
    let mut seen = vec![
        ("POST", "/webhook", client.send(&good)),
        ("POST", "/webhook", client.send(&good)),
        ("POST", "/webhook", client.send(&conflict)),
        ("POST", "/webhook", client.post(body.as_bytes(), &[])),
        ("POST", "/webhook", client.post(body.as_bytes(), &["x"])),
        ("POST", "/webhook", client.post(body.as_bytes(), &[&sign(b"other")])),
        ("POST", "/webhook", client.send_bytes(b"{")),
        ("POST", "/webhook", client.send_bytes(b"[]")),
        ("POST", "/webhook", client.send_bytes(br#"{"message_id":"m2"}"#)),
        ("POST", "/webhook", client.send_bytes(br#"{"message_id":""}"#)),
        ("POST", "/webhook", client.send_bytes(&vec![b' '; 262_145])),
        ("PUT", "/webhook", client.request("PUT", "/webhook", &[], b"")),
        ("GET", "other", client.get("/nowhere")),
        ("other", "other", client.request("BREW", "/pot", &[], b"")),
        ("other", "/stats", client.request("BREW", "/stats", &[], b"")),
        ("GET", "/messages", client.get("/messages?limit=x")),
        ("DELETE", "/messages", client.request("DELETE", "/messages", &[], b"")),
        ("GET", "/stats", client.request("GET", "/stats", &[("Host", "another")], b"")),
        ("other", "other", client.raw("?", "?", b"garbage\r\n\r\n")),
    ];
    for path in ["/messages", "/stats", "/metrics", "/health/live", "/health/ready"] {
        seen.push(("GET", path, client.get(path)));
        seen.push(("HEAD", path, client.head(path)));
    }
    seen
}
