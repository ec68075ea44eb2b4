//! Followers that bear whatever happens to the service: by pages, by streams that break off anywhere, and `lyftr tail`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use crate::support::process::Process;
use crate::support::{DEADLINE, eventually};

/// Pause after an answer that did not come.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest time for an answer, more than any long poll here waits.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time after which the followers, once nothing is stored any more, must have seen all: the longest pause between two
/// tries of `lyftr tail`, and more.
const CATCH_UP: Duration = DEADLINE.saturating_mul(2);

/// The position and the key of an event.
type Place = (String, String);

/// What one follower has seen, in order.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<Place>,
    /// Where it goes on.
    next: Option<String>,
}

/// What all followers share.
#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// The last position of all, once nothing is stored any more.
    last: Arc<Mutex<Option<String>>>,
}

/// Followers at work.
pub(super) struct Followers {
    addresses: Vec<SocketAddr>,
    at_work: Vec<(Arc<Shared>, JoinHandle<()>)>,
    last: Arc<Mutex<Option<String>>>,
    tail: Process,
}

/// The whole log, as it is at the end.
pub(super) struct Log {
    pub(super) events: Vec<Value>,
    last: String,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false);
    config.timeout_global(Some(TIMEOUT)).build().into()
}

/// The body of an answer; `None` if there was none, or a 503, after which one tries again. A position is never wrong.
fn text(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>, target: &str) -> Option<String> {
    let mut answer = answer.ok()?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(64 << 20).read_to_string().ok()?;
    assert!(matches!(status, 200 | 502..=504), "{target}: {status} {body}");
    (status == 200).then_some(body)
}

fn place(event: &Value) -> Place {
    let word = |name: &str| event[name].as_str().unwrap().to_owned();
    (word("position"), word("key"))
}

impl Log {
    /// Reads it from a service that is well.
    pub(super) fn read(address: SocketAddr) -> Self {
        let (agent, mut events, mut next) = (agent(), Vec::new(), None::<String>);
        loop {
            let after = next.as_ref().map_or(String::new(), |next| format!("&after={next}"));
            let target = format!("http://{address}/events?limit=1000{after}");
            let page = eventually("a page", || text(agent.get(&target).call(), &target));
            let mut page: Value = serde_json::from_str(&page).unwrap();
            events.append(page["data"].as_array_mut().unwrap());
            next = page["next"].as_str().map(ToOwned::to_owned);
            if page["end"] == true {
                return Self { events, last: next.expect("something is stored") };
            }
        }
    }
}

impl Followers {
    /// Starts so many of each kind, that ask any of these addresses, and one `lyftr tail` that asks `whole`.
    pub(super) fn start(addresses: &[SocketAddr], whole: SocketAddr, each: usize, rng: &mut Rng) -> Self {
        let last = Arc::<Mutex<Option<String>>>::default();
        let kinds = [by_pages, by_streams].into_iter().flat_map(|kind| std::iter::repeat_n(kind, each));
        let at_work = kinds.map(|kind| {
            let shared = Arc::new(Shared { last: Arc::clone(&last), ..Shared::default() });
            let (addresses, rng, known) = (addresses.to_vec(), rng.fork(), Arc::clone(&shared));
            (shared, std::thread::spawn(move || kind(&addresses, rng, &known)))
        });
        let at_work = at_work.collect();
        let url = format!("http://{whole}");
        let arguments =
            ["tail", "--url", &url, "--from", "beginning", "--cursor", "tail", "--retries", "1000000"];
        let tail = Process::builder().env_remove("DATABASE_URL").args(&arguments).spawn();
        Self { addresses: addresses.to_vec(), at_work, last, tail }
    }

    /// A process that can be asked.
    pub(super) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Asks for some events that have been seen by their positions.
    #[track_caller]
    pub(super) fn assert_nothing_seen_has_changed(&self, rng: &mut Rng) {
        let agent = agent();
        for (shared, _) in &self.at_work {
            let seen = {
                let seen = shared.seen.lock().unwrap();
                let nth = rng.usize(..seen.events.len().max(1));
                seen.events.get(nth).cloned()
            };
            let Some((position, key)) = seen else { continue };
            let target =
                format!("http://{}/events/{position}", self.addresses[rng.usize(..self.addresses.len())]);
            let event = eventually("an event", || text(agent.get(&target).call(), &target));
            assert_eq!(serde_json::from_str::<Value>(&event).unwrap()["key"], key, "{position}");
        }
    }

    /// Waits until all have come to the end, and holds what they have seen against the log.
    #[track_caller]
    pub(super) fn assert_all_have_seen(mut self, log: &Log) {
        let order: Vec<Place> = log.events.iter().map(place).collect();
        *self.last.lock().unwrap() = Some(log.last.clone());
        for (number, (shared, thread)) in self.at_work.drain(..).enumerate() {
            let begin = Instant::now();
            while !thread.is_finished() && begin.elapsed() < CATCH_UP {
                std::thread::sleep(PAUSE);
            }
            assert!(thread.is_finished(), "follower {number} does not come to the end");
            assert!(thread.join().is_ok(), "follower {number} has failed");
            compare(&format!("follower {number}"), &shared.seen.lock().unwrap().events, &order);
        }
        let begin = Instant::now();
        while self.tail.log_lines().len() < order.len() && begin.elapsed() < CATCH_UP {
            assert!(self.tail.is_running(), "lyftr tail has ended: {}", self.tail.stderr());
            std::thread::sleep(PAUSE);
        }
        assert_eq!(self.tail.terminate().code(), Some(0), "{}", self.tail.stderr());
        let printed: Vec<Place> = self.tail.log_values().iter().map(place).collect();
        compare("lyftr tail", &printed, &order);
        let (agent, target) = (agent(), format!("http://{}/cursors/tail", self.addresses[0]));
        let cursor = eventually("the cursor", || text(agent.get(&target).call(), &target));
        assert_eq!(serde_json::from_str::<Value>(&cursor).unwrap()["position"], log.last);
    }
}

#[track_caller]
fn compare(who: &str, seen: &[Place], order: &[Place]) {
    let differs = seen.iter().zip(order).position(|(seen, there)| seen != there);
    if let Some(at) = differs {
        panic!("{who} has seen {:?} in the place of {:?}, at {at}", seen[at], order[at]);
    }
    assert_eq!(seen.len(), order.len(), "{who} has not seen as much as there is");
}

impl Shared {
    /// Where to go on; `None` if there is nothing more to come.
    #[expect(clippy::option_option, reason = "the beginning of the log is a place without a position")]
    fn next(&self) -> Option<Option<String>> {
        let next = self.seen.lock().unwrap().next.clone();
        let is_over = next.is_some() && *self.last.lock().unwrap() == next;
        (!is_over).then_some(next)
    }

    fn note(&self, event: &Value) {
        let place = place(event);
        let mut seen = self.seen.lock().unwrap();
        seen.next = Some(place.0.clone());
        seen.events.push(place);
    }
}

/// Asks for one page after the other, of any length, with any time to wait, each of any process.
fn by_pages(addresses: &[SocketAddr], mut rng: Rng, shared: &Shared) {
    let agent = agent();
    while let Some(next) = shared.next() {
        let after = next.map_or(String::new(), |next| format!("&after={next}"));
        let (limit, wait) = ([1, 7, 100, 1000][rng.usize(..4)], rng.u32(..3));
        let address = addresses[rng.usize(..addresses.len())];
        let target = format!("http://{address}/events?limit={limit}&wait={wait}{after}");
        let Some(page) = text(agent.get(&target).call(), &target) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let page: Value = serde_json::from_str(&page).unwrap();
        page["data"].as_array().unwrap().iter().for_each(|event| shared.note(event));
        if let Some(next) = page["next"].as_str() {
            shared.seen.lock().unwrap().next = Some(next.to_owned());
        }
    }
}

/// Follows one stream after the other, each up to any byte.
fn by_streams(addresses: &[SocketAddr], mut rng: Rng, shared: &Shared) {
    let agent = agent();
    while let Some(next) = shared.next() {
        let target = format!("http://{}/events", addresses[rng.usize(..addresses.len())]);
        let request = agent.get(&target).header("Accept", "text/event-stream");
        let request = match next {
            Some(next) => request.header("Last-Event-ID", next),
            None => request,
        };
        let answer = match request.call() {
            Ok(answer) if answer.status() == 200 => answer,
            other => {
                drop(text(other, &target));
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let most = [100, 2_000, 1_000_000][rng.usize(..3)];
        let bytes = rng.u64(..most);
        let stream = std::io::Read::take(answer.into_body().into_reader(), bytes);
        let mut data = None;
        for line in BufReader::new(stream).split(b'\n') {
            // The connection is lost, or cut, within this line.
            let Ok(line) = line.map(|line| String::from_utf8_lossy(&line).into_owned()) else { break };
            if let Some(json) = line.strip_prefix("data: ") {
                data = Some(json.to_owned());
            } else if line.is_empty() {
                // Only now the block is whole, and its data JSON.
                if let Some(json) = data.take() {
                    shared.note(&serde_json::from_str(&json).unwrap());
                }
                if shared.next().is_none() {
                    return;
                }
            }
        }
    }
}
