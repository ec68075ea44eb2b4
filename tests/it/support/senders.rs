//! Senders that go on whatever happens to the service, and tell the oracle of every message and every 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::RwLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::client::{Client, signed};
use super::{DEADLINE, message_with};

mod oracle;

pub(crate) use oracle::Judgement;
use oracle::{Oracle, id};

/// Senders at work at once.
pub(crate) const SENDERS: u64 = 6;

/// How long a sender waits after a 503: far less than it is asked to, but so that the senders leave the service some
/// of the machine that they share.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// Lets so many senders work, each of which asks whether to go on, until `work` is done. They end also when `work` fails.
pub(crate) fn while_sending<T>(
    senders: usize,
    sender: impl Fn(usize, &dyn Fn() -> bool) + Sync,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for nth in 0..senders {
            let (sender, done) = (&sender, &done);
            scope.spawn(move || sender(nth, &|| !done.load(Relaxed)));
        }
        let worked = catch_unwind(AssertUnwindSafe(work));
        done.store(true, Relaxed);
        worked.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Sleeps up to so many milliseconds.
pub(crate) fn pause(rng: &mut Rng, ms: u64) {
    std::thread::sleep(Duration::from_micros(rng.u64(..ms * 1000)));
}

/// What all senders share.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    oracle: Oracle,
    /// Held for reading while a request is under way, for writing while everything is read back.
    gate: RwLock<()>,
    count: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    /// The plug was pulled: what is answered now, nobody would hear.
    unplugged: AtomicBool,
    /// Requests that were answered 503.
    pub(crate) refused: AtomicU64,
    /// Requests that were sent in full and never answered.
    pub(crate) broken_off: AtomicU64,
}

impl Load {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            oracle: Oracle::default(),
            gate: RwLock::default(),
            count: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            unplugged: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            broken_off: AtomicU64::new(0),
        }
    }

    /// Requests that got no 200.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.refused.load(Relaxed) + self.broken_off.load(Relaxed)
    }

    /// From now on a 200 is as good as no answer.
    pub(crate) fn unplug(&self) {
        self.unplugged.store(true, SeqCst);
    }

    /// A 200 counts again, once nobody works on one from before.
    pub(crate) fn plug_in(&self) {
        let _gate = self.gate.write().unwrap();
        self.unplugged.store(false, SeqCst);
    }

    /// Lets senders work, each with a pause before its next message, until `work` is done.
    pub(crate) fn while_sending(&self, rng: &mut Rng, pause: Duration, work: impl FnOnce(&mut Rng)) {
        let rngs: Vec<Rng> = (0..SENDERS).map(|_| rng.fork()).collect();
        let sender = |sender: usize, goes_on: &dyn Fn() -> bool| {
            self.send_while(rngs[sender].clone(), || {
                std::thread::sleep(pause);
                goes_on()
            });
        };
        while_sending(rngs.len(), sender, || work(rng));
    }

    /// Sends one message after the other, each when the one before is answered or will not be, for as long as
    /// `goes_on` says so.
    pub(crate) fn send_while(&self, mut rng: Rng, goes_on: impl Fn() -> bool) {
        let mut link = None;
        while goes_on() {
            // Poisoned when a check has failed, which says enough.
            let Ok(_gate) = self.gate.read() else { break };
            let Some(mut open) = link.take().or_else(|| Link::open(self.address)) else {
                // Nobody listens at the moment.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let message = self.choose(&mut rng);
            self.oracle.sending(&message);
            match open.post(message.to_string().as_bytes()) {
                Exchange::Answer(200, _) if self.unplugged.load(SeqCst) => {
                    self.broken_off.fetch_add(1, Relaxed);
                }
                Exchange::Answer(200, body) => {
                    assert_eq!(body, br#"{"status":"ok"}"#);
                    self.oracle.acknowledged(&message);
                    self.acknowledged.fetch_add(1, Relaxed);
                    link = Some(open);
                }
                // The others are a proxy's, where a process has not answered, and the proxy could not ask another one.
                Exchange::Answer(502..=504, _) => {
                    self.refused.fetch_add(1, Relaxed);
                    link = Some(open);
                    std::thread::sleep(REFUSED_PAUSE);
                }
                Exchange::Answer(status, body) => {
                    panic!("{status} {} to {message}", String::from_utf8_lossy(&body));
                }
                Exchange::NotSent => {}
                Exchange::BrokenOff => drop(self.broken_off.fetch_add(1, Relaxed)),
            }
        }
    }

    fn choose(&self, rng: &mut Rng) -> Value {
        let n = self.count.fetch_add(1, Relaxed);
        match rng.u32(..10) {
            // Raced: the senders that come here at about the same time all say the same.
            0 | 1 => content(&format!("race {}", n / SENDERS / 2), n / SENDERS / 2),
            // Conflicting: the same, and each says something else.
            2 | 3 => content(&format!("conflict {}", n / SENDERS / 2), n),
            // Repeated.
            4 => self.oracle.any(rng).unwrap_or_else(|| content("first", 0)),
            // A later conflict.
            5 => match self.oracle.any(rng) {
                Some(message) => content(id(&message), n),
                None => content("first", 0),
            },
            _ => content(&format!("unique {n}"), n),
        }
    }

    /// Reads everything back, in pages, while nothing is sent.
    pub(crate) fn check(&self) -> Judgement {
        self.check_at(self.address)
    }

    /// The same from another process than the one that the messages are sent to.
    pub(crate) fn check_at(&self, address: SocketAddr) -> Judgement {
        let _gate = self.gate.write().unwrap();
        let mut client = Client::new(address);
        let mut rows: Vec<Value> = Vec::new();
        let total = loop {
            let page = client.json(&format!("/messages?limit=100&offset={}", rows.len()));
            let data = page["data"].as_array().unwrap();
            rows.extend(data.iter().cloned());
            if data.len() < 100 {
                break page["total"].clone();
            }
        };
        assert_eq!(total, rows.len(), "the total and the rows");
        assert_eq!(client.json("/stats")["total_messages"], rows.len(), "the stats and the rows");
        self.oracle.judge(&rows)
    }

    /// Holds these rows, which were read in another way, against everything that is known.
    pub(crate) fn judge(&self, rows: &[Value]) -> Judgement {
        self.oracle.judge(rows)
    }
}

/// A message with this id, and a content that is another one for each `n`.
fn content(id: &str, n: u64) -> Value {
    let fraction = ["", ".5", ".50", ".000000001"][usize::try_from(n % 4).unwrap()];
    let ts = format!("2025-01-{:02}T10:00:{:02}{fraction}Z", n % 28 + 1, n % 60);
    let text = match n % 13 {
        0 => None,
        // Long ones, so that the write-ahead log grows and is moved.
        1 => Some("😀".repeat(4000) + &n.to_string()),
        _ => Some(format!("text {n} of \"{id}\" \u{1}\u{2028}é")),
    };
    let mut message = message_with(id, &format!("+{}", n % 17 + 1), &ts, text.as_deref());
    message["to"] = json!(format!("+{n}"));
    message
}

enum Exchange {
    Answer(u16, Vec<u8>),
    NotSent,
    BrokenOff,
}

/// A connection that may break at any time, which is nothing to fail a test for.
struct Link(BufReader<TcpStream>);

impl Link {
    fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    fn post(&mut self, body: &[u8]) -> Exchange {
        if self.0.get_mut().write_all(&signed(body)).is_err() {
            return Exchange::NotSent;
        }
        self.answer().map_or(Exchange::BrokenOff, |(status, body)| Exchange::Answer(status, body))
    }

    fn answer(&mut self) -> Option<(u16, Vec<u8>)> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        let status = line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let (mut length, mut may_retry, mut is_a_proxys) = (None, false, true);
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            may_retry |= lower.starts_with("retry-after:");
            is_a_proxys &= !lower.starts_with("x-request-id:");
        }
        assert!(status != 503 || may_retry || is_a_proxys, "a 503 without Retry-After");
        let mut body = vec![0; length?];
        self.0.read_exact(&mut body).ok()?;
        Some((status, body))
    }
}
