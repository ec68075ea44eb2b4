//! The requests: each `POST /webhook` has its own message id and a right signature.

use std::io::Write as _;
use std::ops::Range;

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

/// What a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A message for the built-in source.
    Message,
    /// So many text messages, as WhatsApp sends them.
    WhatsApp(u64),
}

impl Delivery {
    /// The events in it.
    pub const fn events(self) -> u64 {
        match self {
            Self::Message => 1,
            Self::WhatsApp(events) => events,
        }
    }
}

/// The source that deliveries of WhatsApp go to, in the configuration of the service.
pub const SOURCES: &str = r#"
[[source]]
name = "wa"
kind = "whatsapp"
secrets = [{ name = "current", env = "WEBHOOK_SECRET" }]
"#;

/// An endless, repeatable series of signed requests, addressed by index.
pub struct Requests {
    /// The `Host` header.
    host: String,
    key: Key,
    ids: Ids,
    seed: u64,
    delivery: Delivery,
}

impl Requests {
    /// Requests to `host`, signed with `secret`.
    pub fn new(host: &str, secret: &str, ids: Ids, seed: u64) -> Self {
        let (host, key) = (host.to_owned(), Key::new(secret.as_bytes()));
        Self { host, key, ids, seed, delivery: Delivery::Message }
    }

    /// The same with other deliveries.
    pub fn of(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// Writes request number `index` into `buffer`, in place of its content. Body and signature are made only now:
    /// kept from before the run, they would fill the memory.
    pub fn render(&self, index: u64, buffer: &mut Vec<u8>) {
        let (target, header, body) = match self.delivery {
            Delivery::Message => ("/webhook", "X-Signature: ", self.body(index)),
            Delivery::WhatsApp(events) => (
                "/webhook/wa",
                "X-Hub-Signature-256: sha256=",
                self.whatsapp(index * events..(index + 1) * events),
            ),
        };
        let (host, signature, length) = (&self.host, self.key.sign(body.as_bytes()), body.len());
        buffer.clear();
        // Writing into a Vec cannot fail.
        let _ = write!(
            buffer,
            "POST {target} HTTP/1.1\r\nHost: {host}\r\n{header}{signature}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
    }

    /// What differs from message to message: id, number of the sender, text.
    fn fields(&self, index: u64) -> (String, u64, &'static str) {
        // The complement keeps these ids apart from those of the messages that a store is filled with.
        let mut rng = rng(!self.seed, index);
        let id = match self.ids {
            Ids::Ordered => format!("m-{:09}", index + 1),
            Ids::Random => format!("{:032x}", rng.u128(..)),
        };
        (id, rng.u64(..SENDERS), *pick(&mut rng, &TEXTS))
    }

    fn whatsapp(&self, indexes: Range<u64>) -> String {
        let message = |index: u64| {
            let (id, sender, text) = self.fields(index);
            let second = 1_736_935_200 + index / MESSAGES_PER_SECOND;
            format!(
                r#"{{"from":"919876{sender:06}","id":"wamid.{id}","timestamp":"{second}","text":{{"body":"{text}"}},"type":"text"}}"#
            )
        };
        let messages: Vec<_> = indexes.map(message).collect();
        format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"102290129340398","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"14155550100","phone_number_id":"106540352242922"}},"messages":[{}]}},"field":"messages"}}]}}]}}"#,
            messages.join(",")
        )
    }

    fn body(&self, index: u64) -> String {
        let (id, sender, text) = self.fields(index);
        let second = index / MESSAGES_PER_SECOND;
        let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
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
    fn a_delivery_of_whatsapp_is_signed_and_has_so_many_messages() {
        let requests = Requests::new("h", "secret", Ids::Random, 7).of(Delivery::WhatsApp(3));
        let (head, body) = rendered(&requests, 5);
        let signature = Key::new(b"secret").sign(body.as_bytes());
        assert!(head.starts_with("POST /webhook/wa HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nX-Hub-Signature-256: sha256={signature}\r\n")), "{head}");
        let source = lyftr::event::Source::new("wa").unwrap();
        let events =
            lyftr::source::whatsapp::events(body.as_bytes(), &source, lyftr::message::Timestamp::EPOCH);
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|event| event.kind == lyftr::event::Kind::Message && event.text.is_some()));
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
