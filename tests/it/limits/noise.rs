//! Requests with random damage: whatever comes, the service answers in its own words or closes, and goes on.

use fastrand::Rng;

use crate::support::client::{request, signed, statuses};
use crate::support::message;
use crate::support::service::Service;

const ROUNDS: usize = 1500;

/// Bytes that mean something to a parser of HTTP or JSON.
const TELLING: &[u8] = b"\r\n\0 :;,/?%&=+\"\\{}[]0159aZ\t\x7f\xc3\xff-";

/// Changes, removes, adds or doubles some bytes.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.usize(..4) {
        if bytes.len() < 2 {
            return;
        }
        let at = rng.usize(..bytes.len());
        let byte = TELLING[rng.usize(..TELLING.len())];
        match rng.usize(..5) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let end = (at + rng.usize(..40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

#[test]
fn damaged_requests_are_answered_with_what_is_documented_or_not_at_all() {
    let service = Service::start();
    let chunked = [("Transfer-Encoding", "chunked"), ("X-Signature", &crate::support::sign(b"{}"))];
    let mut in_chunks = request("POST", "/webhook", &chunked, b"");
    in_chunks.extend_from_slice(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
    let good = [
        signed(message("m1").to_string().as_bytes()),
        request(
            "GET",
            "/messages?limit=3&offset=0&q=a%20b&since=2025-01-15T10:00:00Z",
            &[("X-Request-ID", "a")],
            b"",
        ),
        [request("GET", "/stats", &[], b""), request("HEAD", "/health/ready", &[], b"")].concat(),
        in_chunks,
    ];
    let mut rng = Rng::with_seed(42);
    for round in 0..ROUNDS {
        let mut bytes = good[round % good.len()].clone();
        damage(&mut bytes, &mut rng);
        let mut connection = service.connect();
        drop(connection.try_write(&bytes));
        connection.end_writing();
        for status in statuses(&connection.read_all()) {
            let documented = [100, 200, 400, 401, 404, 405, 413, 414, 422, 431].contains(&status);
            assert!(documented, "{status} to {:?}", String::from_utf8_lossy(&bytes));
        }
    }
    let mut client = service.client();
    client.store(&message("m2"));
    assert_eq!(client.get("/health/ready").status, 200);
    let lines = service.stop().values();
    assert!(lines.iter().all(|line| line["status"].as_u64().unwrap() < 500), "no 500, no 503");
}
