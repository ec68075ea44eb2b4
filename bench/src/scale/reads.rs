//! Reading from a store over HTTP: one connection that stays open, one request after another.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::chance::Chance;
use super::questions::{Ask, Counts, Known};
use crate::procfs;
use crate::response::{self, Answer};
use crate::target::{self, Server};

/// The longest answer that is taken: a hundred messages need a tenth of it.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// Pages that are turned by `next` before the walk begins elsewhere.
const WALK_PAGES: u32 = 50;
/// Requests between two looks at the CPU time.
const CPU_EVERY: u64 = 10;

/// How long each kind is measured.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// So many requests are enough …
    pub requests: u64,
    /// … or so much time …
    pub time: Duration,
    /// … once the server has used so much CPU, which is counted in steps of 10 ms …
    pub cpu: Duration,
    /// … or so much time has passed in any case.
    pub time_max: Duration,
}

/// What a kind of read costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Median time from the request to the whole answer, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// CPU time of the server for a request, in microseconds.
    pub cpu_us: f64,
}

/// A store that is read from.
pub struct Reader<'a> {
    server: &'a Server,
    store: Box<dyn Counts + 'a>,
    known: Known,
}

impl<'a> Reader<'a> {
    /// For a store that `server` has open, and that is looked at past it.
    pub fn new(server: &'a Server, store: impl Counts + 'a) -> Result<Self> {
        let known = Known::count(&store)?;
        Ok(Self { server, store: Box::new(store), known })
    }

    /// Checks one answer of a kind, then measures it. The same seed asks the same.
    pub fn measure(&self, ask: Ask, mut chance: Chance, windows: Windows) -> Result<Cost> {
        check(self.server, &*self.store, &self.known, ask, &mut chance)?;
        Requests::open(self.server, &self.known, ask, chance)?.run(windows)
    }
}

/// Compares one answer with what plain SQL counts.
fn check(server: &Server, store: &dyn Counts, known: &Known, ask: Ask, chance: &mut Chance) -> Result<()> {
    let (path, name, total, rows) = match ask {
        Ask::Messages(ask) | Ask::Walk(ask) => {
            let question = ask(known, chance);
            let total = store.count(&question)?;
            (question.target(), "total", total, question.rows(total))
        }
        Ask::Stats => ("/stats".to_owned(), "total_messages", known.total, 0),
    };
    let (status, body) = target::get(server.address(), &path).with_context(|| format!("GET {path}"))?;
    ensure!(status == 200, "GET {path} was answered {status} {body}");
    let said = number(&body, name).with_context(|| format!("GET {path} told no {name}"))?;
    ensure!(said == total, "GET {path} told {name} {said}, and SQL counts {total}");
    let there = body.matches(r#"{"message_id":"#).count() as u64;
    ensure!(there == rows, "GET {path} gave {there} messages, and should have given {rows}");
    Ok(())
}

/// The requests of one kind on their connection.
struct Requests<'a> {
    server: &'a Server,
    known: &'a Known,
    ask: Ask,
    chance: Chance,
    client: Client,
    /// Where the walk goes on, and how many pages are left of it.
    walk: Option<(String, u32)>,
    times: Vec<Duration>,
    sent: u64,
}

impl<'a> Requests<'a> {
    fn open(server: &'a Server, known: &'a Known, ask: Ask, chance: Chance) -> Result<Self> {
        let client = Client::connect(server.address())?;
        Ok(Self { server, known, ask, chance, client, walk: None, times: Vec::new(), sent: 0 })
    }

    fn run(mut self, windows: Windows) -> Result<Cost> {
        // The first one finds statements that are not prepared and pages that are not cached.
        self.next()?;
        (self.times, self.sent) = (Vec::new(), 0);
        let cpu_time = || procfs::cpu_time(self.server.pid());
        let (begin, cpu_before) = (Instant::now(), cpu_time()?);
        let cpu = loop {
            let cpu = procfs::cpu_time(self.server.pid())?.saturating_sub(cpu_before);
            let passed = begin.elapsed();
            let enough = self.sent >= windows.requests || passed >= windows.time;
            if enough && (cpu >= windows.cpu || passed >= windows.time_max) {
                break cpu;
            }
            for _ in 0..CPU_EVERY {
                self.next()?;
                if begin.elapsed() >= windows.time_max {
                    break;
                }
            }
        };
        self.times.sort_unstable();
        Ok(Cost {
            p50_ms: percentile_ms(&self.times, 50),
            p99_ms: percentile_ms(&self.times, 99),
            cpu_us: cpu.as_secs_f64() * 1e6 / self.sent as f64,
        })
    }

    /// Sends one request; that which begins a walk is not among the measured ones.
    fn next(&mut self) -> Result<()> {
        let walk = self.walk.take();
        let (path, left) = match (self.ask, walk) {
            (_, Some((cursor, left))) => (format!("/messages?cursor={cursor}"), left),
            (Ask::Messages(ask), None) => (ask(self.known, &mut self.chance).target(), 0),
            (Ask::Walk(ask), None) => (ask(self.known, &mut self.chance).target(), WALK_PAGES + 1),
            (Ask::Stats, None) => ("/stats".to_owned(), 0),
        };
        let begin = Instant::now();
        let body = self.client.get(&path)?;
        let time = begin.elapsed();
        self.sent += 1;
        if left <= WALK_PAGES {
            self.times.push(time);
        }
        if left > 1 {
            self.walk = next_cursor(body).map(|cursor| (cursor, left - 1));
        }
        Ok(())
    }
}

/// A connection that stays open.
struct Client {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream, address, buffer: vec![0; ANSWER_BYTES_MAX] })
    }

    /// The body of the answer, which must be a 200.
    fn get(&mut self, path: &str) -> Result<&[u8]> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        while matches!(response::read(&self.buffer[..filled]), Answer::Partial) {
            ensure!(filled < self.buffer.len(), "GET {path}: an answer over {ANSWER_BYTES_MAX} bytes");
            let read = self.stream.read(&mut self.buffer[filled..]).with_context(|| format!("GET {path}"))?;
            ensure!(read > 0, "GET {path}: the server closed the connection");
            filled += read;
        }
        match response::read(&self.buffer[..filled]) {
            Answer::Whole { status: 200, body, length } if length == filled => Ok(body),
            Answer::Whole { status, body, .. } => {
                bail!("GET {path} was answered {status} {}", String::from_utf8_lossy(body))
            }
            Answer::Broken(reason) => bail!("GET {path}: {reason}"),
            Answer::Partial => bail!("GET {path}: half an answer"),
        }
    }
}

/// The number behind the last `"name":` of an answer, which stands behind all texts.
fn number(body: &str, name: &str) -> Option<u64> {
    let (_, value) = body.rsplit_once(&format!(r#""{name}":"#))?;
    value.split([',', '}']).next()?.trim().parse().ok()
}

/// The `next` of an answer, which stands behind all texts; none on the last page.
fn next_cursor(body: &[u8]) -> Option<String> {
    let tail = &body[body.len().saturating_sub(2048)..];
    let tail = String::from_utf8_lossy(tail);
    let (_, value) = tail.rsplit_once(r#""next":""#)?;
    Some(value.split('"').next()?.to_owned())
}

/// A percentile of sorted times in milliseconds: the least time that so many percent are not above.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        for (percent, expected) in [(50, 100.0), (99, 198.0), (100, 200.0)] {
            assert!((percentile_ms(&times, percent) - expected).abs() < 1e-9, "{percent}");
        }
        assert!((percentile_ms(&times[..1], 99) - 1.0).abs() < 1e-9);
        assert!(percentile_ms(&[], 50).is_nan());
    }

    #[test]
    fn figures_are_read_behind_the_texts() {
        let body = r#"{"data":[{"text":"\"total\":7"}],"total":12,"limit":50,"next":"01ab","prev":null}"#;
        assert_eq!(number(body, "total"), Some(12));
        assert_eq!(next_cursor(body.as_bytes()).as_deref(), Some("01ab"));
        assert_eq!(next_cursor(br#"{"total":1,"next":null,"prev":"01"}"#), None);
        assert_eq!(number(r#"{"total_messages":5,"senders_count":2}"#, "total_messages"), Some(5));
    }
}
