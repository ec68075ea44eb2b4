//! The requests: POST /webhook as bytes ready to be sent, each with its own id and a right
//! signature.
//!
//! Everything dear is done before the clock starts. What is kept for a request is its signature
//! alone, 32 bytes; head and body are copied from a template and patched in place, which costs
//! about 0.1 µs and keeps ten seconds at 100,000 a second in 32 MB, where the rendered bytes
//! would fill half a gigabyte. A run that outlives its signatures signs as it goes (about 0.3 µs
//! a request with SHA extensions).

use std::ops::Range;

use anyhow::{Context, Result};
use clap::ValueEnum;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of an HMAC-SHA256 in bytes.
const SIGNATURE_BYTES: usize = 32;
/// How many different phone numbers send.
const SENDERS: u64 = 10_000;
/// Messages that share one second in `ts`.
const MESSAGES_PER_SECOND: u64 = 1_000;
const SECONDS_PER_DAY: u64 = 86_400;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// What people write: with these a body has 200 to 250 bytes.
const TEXTS: [&str; 6] = [
    "Hi, my order arrived today but one of the two boxes was already open. Can somebody call me back?",
    "Is the shop open on Sunday? I would like to pick up the blue one, size M, that you kept for me.",
    "Thanks a lot for the quick help yesterday, everything works now \u{1F64F} I will tell my friends!",
    "Please move my appointment from Tuesday 10:00 to Thursday, any time after 14:00 suits me well.",
    "The code you sent does not work: it says \\\"expired\\\". Could you send me a new one, please? Asha",
    "Invoice 4711 is paid as of this morning, reference 2025-01-15. Please confirm when it reaches you.",
];

/// How the ids follow one another. Ids in order are kind to an index, random ones are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ids {
    /// `m-000000001`, `m-000000002`, …
    Ordered,
    /// 32 hex digits from the seed
    Random,
}

/// What all requests of a run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The `Host` header.
    pub host: &'a str,
    /// The key of the signatures.
    pub secret: &'a str,
    /// How the ids follow one another.
    pub ids: Ids,
    /// Decides random ids and senders.
    pub seed: u64,
    /// Index of the first request; a second run against one store starts behind the first.
    pub first: u64,
}

/// An endless, repeatable row of signed requests, addressed by index.
#[derive(Debug)]
pub struct Requests {
    templates: Vec<Template>,
    key: Hmac<Sha256>,
    ids: Ids,
    seed: u64,
    first: u64,
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

/// A whole request whose changing places hold zeros, all of fixed width.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    signature: Range<usize>,
    body: usize,
    id: Range<usize>,
    sender: Range<usize>,
    time: Range<usize>,
}

impl Requests {
    /// Renders the templates; signs nothing yet.
    pub fn new(settings: Settings<'_>) -> Result<Self> {
        let templates = TEXTS.iter().map(|text| Template::new(settings.host, settings.ids, text)).collect();
        Ok(Self {
            templates,
            key: key(settings.secret)?,
            ids: settings.ids,
            seed: settings.seed,
            first: settings.first,
            signatures: Vec::new(),
        })
    }

    /// Signs the first `count` requests, so that sending them costs no signature.
    pub fn sign_ahead(&mut self, count: usize) {
        let mut buffer = Vec::new();
        for index in self.signatures.len()..count {
            let template = self.render_unsigned(index as u64, &mut buffer);
            let signature = self.sign(&buffer[template.body..]);
            self.signatures.push(signature);
        }
    }

    /// Writes request number `index` into `buffer`, in place of what was there.
    pub fn render(&self, index: u64, buffer: &mut Vec<u8>) {
        let template = self.render_unsigned(index, buffer);
        let ahead = usize::try_from(index).ok().and_then(|index| self.signatures.get(index));
        let signature = match ahead {
            Some(signature) => *signature,
            None => self.sign(&buffer[template.body..]),
        };
        write_hex(&signature, &mut buffer[template.signature.clone()]);
    }

    fn render_unsigned(&self, index: u64, buffer: &mut Vec<u8>) -> &Template {
        let index = self.first.wrapping_add(index);
        let chance = scramble(self.seed ^ scramble(index));
        let which = usize::try_from(chance % self.templates.len() as u64).unwrap_or_default();
        let template = &self.templates[which];
        buffer.clear();
        buffer.extend_from_slice(&template.bytes);
        match self.ids {
            Ids::Ordered => write_decimal(index + 1, &mut buffer[template.id.clone()]),
            Ids::Random => {
                // `scramble` is a bijection, so the second half alone keeps all ids apart.
                let halves = [chance, scramble(self.seed.wrapping_add(index))];
                for (half, digits) in halves.iter().zip(buffer[template.id.clone()].chunks_mut(16)) {
                    write_hex(&half.to_be_bytes(), digits);
                }
            }
        }
        write_decimal(chance % SENDERS, &mut buffer[template.sender.clone()]);
        write_time(index / MESSAGES_PER_SECOND, &mut buffer[template.time.clone()]);
        template
    }

    fn sign(&self, body: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut mac = self.key.clone();
        mac.update(body);
        mac.finalize().into_bytes().into()
    }
}

impl Template {
    fn new(host: &str, ids: Ids, text: &str) -> Self {
        let (prefix, digits) = match ids {
            Ids::Ordered => ("m-", 9),
            Ids::Random => ("", 32),
        };
        let mut body = Vec::new();
        let mut put = |text: &str| {
            body.extend_from_slice(text.as_bytes());
            body.len()
        };
        let id = put(&format!(r#"{{"message_id":"{prefix}"#));
        put(&"0".repeat(digits));
        let sender = put(r#"","from":"+919876"#);
        put("000000");
        let time = put(r#"","to":"+14155550100","ts":"2025-01-15T"#);
        put(&format!(r#"00:00:00Z","text":"{text}"}}"#));

        let mut bytes = format!("POST /webhook HTTP/1.1\r\nHost: {host}\r\nX-Signature: ").into_bytes();
        let signature = bytes.len();
        let rest = format!(
            "{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            "0".repeat(2 * SIGNATURE_BYTES),
            body.len()
        );
        bytes.extend_from_slice(rest.as_bytes());
        let start = bytes.len();
        bytes.extend_from_slice(&body);
        Self {
            bytes,
            signature: signature..signature + 2 * SIGNATURE_BYTES,
            body: start,
            id: start + id..start + id + digits,
            sender: start + sender..start + sender + 6,
            time: start + time..start + time + 8,
        }
    }
}

fn key(secret: &str) -> Result<Hmac<Sha256>> {
    Hmac::new_from_slice(secret.as_bytes()).context("the secret cannot be a key")
}

/// One step of splitmix64: a bijection on 64 bits that leaves no pattern.
pub fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
}

/// Writes the last digits of `value`, as many as there is room for, with leading zeros.
fn write_decimal(mut value: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = HEX[(value % 10) as usize];
        value /= 10;
    }
}

/// Writes `HH:MM:SS`; after a day it starts again at midnight.
fn write_time(seconds: u64, digits: &mut [u8]) {
    let seconds = seconds % SECONDS_PER_DAY;
    write_decimal(seconds / 3600, &mut digits[0..2]);
    write_decimal(seconds / 60 % 60, &mut digits[3..5]);
    write_decimal(seconds % 60, &mut digits[6..8]);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn requests(ids: Ids) -> Requests {
        let secret = "It's a Secret to Everybody";
        Requests::new(Settings { host: "127.0.0.1:8000", secret, ids, seed: 7, first: 0 }).unwrap()
    }

    fn rendered(requests: &Requests, index: u64) -> (String, String) {
        let mut buffer = Vec::new();
        requests.render(index, &mut buffer);
        let text = String::from_utf8(buffer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn signature_matches_the_published_vector() {
        let mut hex = [0; 64];
        write_hex(&requests(Ids::Ordered).sign(b"Hello, World!"), &mut hex);
        let expected = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(std::str::from_utf8(&hex).unwrap(), expected);
    }

    #[test]
    fn a_request_is_whole_and_signed_over_its_body() {
        let requests = requests(Ids::Ordered);
        let (head, body) = rendered(&requests, 3_661_000);
        assert!(body.starts_with(r#"{"message_id":"m-003661001","from":"+91987600"#), "{body}");
        assert!(body.contains(r#","to":"+14155550100","ts":"2025-01-15T01:01:01Z","text":""#), "{body}");
        assert!(body.ends_with("\"}"));
        let mut hex = [0; 64];
        write_hex(&requests.sign(body.as_bytes()), &mut hex);
        let lines: Vec<_> = head.split("\r\n").collect();
        let expected = [
            "POST /webhook HTTP/1.1".to_owned(),
            "Host: 127.0.0.1:8000".to_owned(),
            format!("X-Signature: {}", std::str::from_utf8(&hex).unwrap()),
            "Content-Type: application/json".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn signing_ahead_changes_nothing_but_the_time_it_takes() {
        let mut ahead = requests(Ids::Random);
        ahead.sign_ahead(10);
        let late = requests(Ids::Random);
        for index in 0..20 {
            assert_eq!(rendered(&ahead, index), rendered(&late, index));
        }
    }

    #[test]
    fn bodies_have_the_size_of_real_ones_and_ids_are_unique() {
        for (ids, width) in [(Ids::Ordered, 11), (Ids::Random, 32)] {
            let requests = requests(ids);
            let mut seen = HashSet::new();
            for index in 0..5_000 {
                let (_, body) = rendered(&requests, index);
                assert!((195..=255).contains(&body.len()), "{} bytes", body.len());
                let id = body.split('"').nth(3).unwrap().to_owned();
                assert_eq!(id.len(), width);
                assert!(seen.insert(id));
            }
        }
    }

    #[test]
    fn a_later_run_goes_on_where_the_first_one_ended() {
        let settings = Settings { host: "h", secret: "s", ids: Ids::Random, seed: 1, first: 0 };
        let from_start = Requests::new(settings).unwrap();
        let from_five = Requests::new(Settings { first: 5, ..settings }).unwrap();
        assert_eq!(rendered(&from_start, 5), rendered(&from_five, 0));
    }
}
