//! The requests: each `POST /webhook` has its own message id and a right signature.

use std::io::Write as _;

use clap::ValueEnum;
use lyftr::signature::Key;

use crate::random::{pick, rng};

/// Different phone numbers that send.
const SENDERS: u64 = 10_000;
/// Messages that share one second in `ts`.
const MESSAGES_PER_SECOND: u64 = 1_000;
/// Texts with which a body has 200 to 250 bytes, as JSON.
const TEXTS: [&str; 6] = [
    "Hi, my order arrived today but one of the two boxes was already open. Can somebody call me back?",
    "Is the shop open on Sunday? I would like to pick up the blue one, size M, that you kept for me.",
    "Thanks a lot for the quick help yesterday, everything works now \u{1F64F} I will tell my friends!",
    "Please move my appointment from Tuesday 10:00 to Thursday, any time after 14:00 suits me well.",
    "The code you sent does not work: it says \\\"expired\\\". Could you send me a new one, please? Asha",
    "Invoice 4711 is paid as of this morning, reference 2025-01-15. Please confirm when it reaches you.",
];

/// How the ids follow one another. Ordered ids touch the last page of an index, random ids a page each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// `m-000000001`, `m-000000002`, …
    Ordered,
    /// 32 hex digits from the seed
    Random,
}

/// An endless, repeatable series of signed requests, addressed by index.
pub struct Requests {
    /// The `Host` header.
    host: String,
    key: Key,
    ids: Ids,
    seed: u64,
}

impl Requests {
    /// Requests to `host`, signed with `secret`.
    pub fn new(host: &str, secret: &str, ids: Ids, seed: u64) -> Self {
        Self { host: host.to_owned(), key: Key::new(secret.as_bytes()), ids, seed }
    }

    /// Writes request number `index` into `buffer`, in place of its content. Body and signature are made only now:
    /// kept from before the run, they would fill the memory.
    pub fn render(&self, index: u64, buffer: &mut Vec<u8>) {
        let body = self.body(index);
        let (host, signature, length) = (&self.host, self.key.sign(body.as_bytes()), body.len());
        buffer.clear();
        // Writing into a Vec cannot fail.
        let _ = write!(
            buffer,
            "POST /webhook HTTP/1.1\r\nHost: {host}\r\nX-Signature: {signature}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
    }

    fn body(&self, index: u64) -> String {
        // The complement keeps these ids apart from those of the messages that a store is filled with.
        let mut rng = rng(!self.seed, index);
        let id = match self.ids {
            Ids::Ordered => format!("m-{:09}", index + 1),
            Ids::Random => format!("{:032x}", rng.u128(..)),
        };
        let sender = rng.u64(..SENDERS);
        let second = index / MESSAGES_PER_SECOND;
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
        let text = pick(&mut rng, &TEXTS);
        format!(
            r#"{{"message_id":"{id}","from":"+919876{sender:06}","to":"+14155550100","ts":"2025-01-15T{hour:02}:{minute:02}:{second:02}Z","text":"{text}"}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn rendered(requests: &Requests, index: u64) -> (String, String) {
        let mut buffer = Vec::new();
        requests.render(index, &mut buffer);
        let text = String::from_utf8(buffer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn a_request_is_whole_and_signed_over_its_body() {
        let requests = Requests::new("127.0.0.1:8000", "secret", Ids::Ordered, 7);
        let (head, body) = rendered(&requests, 3_661_000);
        assert!(body.starts_with(r#"{"message_id":"m-003661001","from":"+91987600"#), "{body}");
        assert!(body.contains(r#","to":"+14155550100","ts":"2025-01-15T01:01:01Z","text":""#), "{body}");
        lyftr::message::parse(body.as_bytes()).unwrap();
        let signature = Key::new(b"secret").sign(body.as_bytes());
        let expected = format!(
            "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nX-Signature: {signature}\r\n\
             Content-Type: application/json\r\nContent-Length: {}",
            body.len()
        );
        assert_eq!(head, expected);
    }

    #[test]
    fn all_ids_differ_also_from_those_of_another_seed() {
        let mut seen = HashSet::new();
        for (ids, seed) in [(Ids::Ordered, 1), (Ids::Random, 1), (Ids::Random, 2)] {
            let requests = Requests::new("h", "s", ids, seed);
            for index in 0..2_000 {
                let (_, body) = rendered(&requests, index);
                assert!((195..=255).contains(&body.len()), "{} bytes", body.len());
                assert!(seen.insert(body.split('"').nth(3).unwrap().to_owned()));
            }
        }
    }
}
