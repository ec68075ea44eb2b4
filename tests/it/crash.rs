//! A 200 survives `kill -9` at any moment. An oracle remembers what was sent and what was acknowledged; after
//! each restart everything is read back and held against it.
//!
//! `LYFTR_KILLS` says how often to kill (30), `LYFTR_SEED` repeats the choices of an earlier run.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::{Client, signed};
use crate::support::process::Process;
use crate::support::{DEADLINE, eventually, message, message_with};

const SENDERS: u64 = 6;

/// `SplitMix64`: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What is known of one id.
#[derive(Default)]
struct Known {
    /// The contents that may be stored. Once something is known to be stored, one sent later cannot be it.
    candidates: Vec<Value>,
    /// Some answer was 200, or a read has found it.
    stored: bool,
}

#[derive(Default)]
struct Oracle(Mutex<BTreeMap<String, Known>>);

impl Oracle {
    /// To be called before the first byte is sent.
    fn sending(&self, message: &Value) {
        let mut known = self.0.lock().unwrap();
        let known = known.entry(id(message).to_owned()).or_default();
        if !known.stored && !known.candidates.contains(message) {
            known.candidates.push(message.clone());
        }
    }

    fn acknowledged(&self, message: &Value) {
        self.0.lock().unwrap().get_mut(id(message)).unwrap().stored = true;
    }

    /// Something that was sent before, by anybody.
    fn any(&self, dice: &mut Dice) -> Option<Value> {
        let known = self.0.lock().unwrap();
        let nth = usize::try_from(dice.roll(u64::try_from(known.len()).unwrap().max(1))).unwrap();
        known.values().nth(nth).map(|known| known.candidates[0].clone())
    }

    /// Holds everything that was read against everything that is known; returns how many of the messages that
    /// were never acknowledged were found.
    fn judge(&self, rows: &[Value]) -> usize {
        let mut known = self.0.lock().unwrap();
        let mut wrong = Vec::new();
        let mut seen = HashSet::new();
        let mut unknown_found = 0;
        for row in rows {
            if !seen.insert(id(row)) {
                wrong.push(format!("doubled: {row}"));
            }
            match known.get_mut(id(row)) {
                None => wrong.push(format!("invented: {row}")),
                Some(known) if !known.candidates.iter().any(|sent| same(sent, row)) => {
                    wrong.push(format!("altered: {row}\n  may be: {:?}", known.candidates));
                }
                Some(known) => {
                    unknown_found += usize::from(!known.stored);
                    known.stored = true;
                    known.candidates.retain(|sent| same(sent, row));
                }
            }
        }
        let lost = known.iter().filter(|(id, known)| known.stored && !seen.contains(id.as_str()));
        wrong.extend(lost.map(|(id, known)| format!("lost: {id} {:?}", known.candidates)));
        let cut = |text: &String| text.chars().take(300).collect::<String>();
        assert!(
            wrong.is_empty(),
            "{} wrong:\n{}",
            wrong.len(),
            wrong.iter().take(10).map(cut).collect::<Vec<_>>().join("\n")
        );
        unknown_found
    }
}

fn id(message: &Value) -> &str {
    message["message_id"].as_str().unwrap()
}

/// A text that is absent comes back as null.
fn same(sent: &Value, row: &Value) -> bool {
    ["message_id", "from", "to", "ts", "text"]
        .iter()
        .all(|field| sent.get(field).unwrap_or(&Value::Null) == &row[field])
}

/// What all senders share.
struct Load {
    address: SocketAddr,
    oracle: Oracle,
    /// Held for reading while a request is under way, for writing while everything is read back.
    gate: RwLock<()>,
    stop: AtomicBool,
    count: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    /// Requests that were sent in full and never answered.
    broken_off: AtomicU64,
}

impl Load {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            oracle: Oracle::default(),
            gate: RwLock::default(),
            stop: AtomicBool::new(false),
            count: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            broken_off: AtomicU64::new(0),
        }
    }

    fn send_until_stopped(&self, mut dice: Dice) {
        let mut link = None;
        while !self.stop.load(Relaxed) {
            // Poisoned when a check has failed, which says enough.
            let Ok(_gate) = self.gate.read() else { break };
            let Some(mut open) = link.take().or_else(|| Link::open(self.address)) else {
                // Nobody listens at the moment.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let message = self.choose(&mut dice);
            self.oracle.sending(&message);
            match open.post(message.to_string().as_bytes()) {
                Exchange::Answer(200, body) => {
                    assert_eq!(body, br#"{"status":"ok"}"#);
                    self.oracle.acknowledged(&message);
                    self.acknowledged.fetch_add(1, Relaxed);
                    link = Some(open);
                }
                // While it stops, or when the machine is very slow.
                Exchange::Answer(503, _) => drop(self.refused.fetch_add(1, Relaxed)),
                Exchange::Answer(status, body) => {
                    panic!("{status} {} to {message}", String::from_utf8_lossy(&body));
                }
                Exchange::NotSent => {}
                Exchange::BrokenOff => drop(self.broken_off.fetch_add(1, Relaxed)),
            }
        }
    }

    fn choose(&self, dice: &mut Dice) -> Value {
        let n = self.count.fetch_add(1, Relaxed);
        match dice.roll(10) {
            // Raced: the senders that come here at about the same time all say the same.
            0 | 1 => content(&format!("race {}", n / SENDERS / 2), n / SENDERS / 2),
            // Conflicting: the same, and each says something else.
            2 | 3 => content(&format!("conflict {}", n / SENDERS / 2), n),
            // Repeated.
            4 => self.oracle.any(dice).unwrap_or_else(|| content("first", 0)),
            // A later conflict.
            5 => match self.oracle.any(dice) {
                Some(message) => content(id(&message), n),
                None => content("first", 0),
            },
            _ => content(&format!("unique {n}"), n),
        }
    }

    /// Reads everything back, in pages, while nothing is sent.
    fn check(&self) -> usize {
        let _gate = self.gate.write().unwrap();
        let mut client = Client::new(self.address);
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
        let mut length = None;
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let mut body = vec![0; length?];
        self.0.read_exact(&mut body).ok()?;
        Some((status, body))
    }
}

/// A port that the operating system gives to nobody by itself: the service comes back to it again and again.
pub(crate) fn lasting_port() -> u16 {
    let mut dice = Dice(std::process::id().into());
    let ports = std::iter::repeat_with(|| 20_000 + u16::try_from(dice.roll(12_000)).unwrap()).take(100);
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}

#[expect(clippy::disallowed_methods, reason = "how often to kill is not a setting of the service")]
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} should be a number: {value}")))
}

/// Kills the service once, in one of the ways; it has been found whole before where there was time for that.
fn kill_once(folder: &Path, load: &Load, dice: &mut Dice) -> usize {
    let way = dice.roll(4);
    let mut pause = |ms: u64| std::thread::sleep(Duration::from_micros(dice.roll(ms * 1000)));
    let builder = Process::builder().folder(folder).env("PORT", &load.address.port().to_string());
    let builder = builder.env("LOG_LEVEL", "ERROR");
    let mut process = builder.spawn();
    let (when, found) = match way {
        0 => {
            pause(40);
            ("while it starts", 0)
        }
        1 => {
            await_listening(&mut process, load.address);
            let found = load.check();
            pause(150);
            process.signal(Signal::TERM);
            pause(300);
            ("while it stops", found)
        }
        _ => {
            await_listening(&mut process, load.address);
            let found = load.check();
            pause(200);
            ("at work", found)
        }
    };
    process.kill9();
    let broken_off = load.broken_off.load(Relaxed);
    println!(
        "killed {when}; {broken_off} requests broken off so far; {found} of those before it were stored"
    );
    found
}

/// The log level hides the line that says so.
fn await_listening(process: &mut Process, address: SocketAddr) {
    eventually("the service listens", || {
        assert!(process.is_running(), "{:?} {}", process.log_lines(), process.stderr());
        TcpStream::connect(address).ok()
    });
}

fn dice() -> Dice {
    let random = || std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    let seed = number("LYFTR_SEED").unwrap_or_else(random);
    println!("LYFTR_SEED={seed}");
    Dice(seed)
}

/// Reading everything back takes longer the more there is, so a new database is begun now and then.
const KILLS_PER_DATABASE: u64 = 50;

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = number("LYFTR_KILLS").unwrap_or(30);
    let mut dice = dice();
    let mut broken_off = 0;
    let mut left = kills;
    while left > 0 {
        let now = left.min(KILLS_PER_DATABASE);
        broken_off += kill_again_and_again(now, &mut dice);
        left -= now;
    }
    assert!(broken_off > 0, "no kill hit a request that was under way: this run has shown nothing");
}

/// Returns how many requests were broken off.
fn kill_again_and_again(kills: u64, dice: &mut Dice) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let load = Load::new(([127, 0, 0, 1], lasting_port()).into());
    let unanswered_found: usize = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (load, dice) = (&load, Dice(dice.roll(u64::MAX)));
                scope.spawn(move || load.send_until_stopped(dice))
            })
            .collect();
        // Also when a check fails: the senders are waited for.
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..kills).map(|_| kill_once(folder.path(), &load, dice)).sum()
        }));
        load.stop.store(true, Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });

    let mut process =
        Process::builder().folder(folder.path()).env("PORT", &load.address.port().to_string()).start();
    let unanswered_found = unanswered_found + load.check();
    assert_eq!(process.terminate().code(), Some(0));
    let database = rusqlite::Connection::open(process.database()).unwrap();
    let sound: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let (acknowledged, broken_off) = (count(&load.acknowledged), count(&load.broken_off));
    println!(
        "{kills} kills, {acknowledged} acknowledged, {} refused, {broken_off} broken off, of which {unanswered_found} stored; \
         lost 0, doubled 0, altered 0, invented 0",
        count(&load.refused)
    );
    assert!(acknowledged > kills, "there was no load to speak of");
    broken_off
}

#[test]
fn a_first_start_that_is_killed_leaves_what_the_next_one_can_use() {
    let mut dice = dice();
    for n in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::builder().folder(folder.path()).spawn();
        std::thread::sleep(Duration::from_micros(dice.roll(30_000)));
        process.kill9();
        let process = Process::builder().folder(folder.path()).start();
        let mut client = process.client();
        client.store(&message("m"));
        assert_eq!(client.json("/messages")["total"], 1, "round {n}");
    }
}
