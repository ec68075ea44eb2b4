//! What followers cost: ingestion with and without them, side by side in each round, and the CPU of those who only wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tempfile::tempdir_in;

use crate::load::{self, Ids, Load, Requests};
use crate::machine::{cpu_time, peak_memory_mib};
use crate::options::{Options, Plan, warm_up};
use crate::report::{Bound, Goal, Table, decimals, goals_table, median, thousands};
use crate::server::{HOST, Kind, SECRET, Server, sqlite_url};

/// Connections that store messages.
const SENDERS: usize = 64;
/// How long followers are watched while nothing arrives.
const IDLE: Duration = Duration::from_secs(20);
/// How long followers may take to catch up when the load has ended.
const CATCH_UP: Duration = Duration::from_mins(5);

#[derive(Debug, Args)]
#[group(id = "follow")]
pub struct Arguments {
    /// Numbers of followers to measure with
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    followers: Vec<usize>,
    #[command(flatten)]
    options: Options,
}

/// What was measured with so many followers, 0 for none.
#[derive(Debug)]
struct Run {
    followers: usize,
    per_second: f64,
    /// Events delivered in a second under load, over all followers.
    delivered: f64,
    /// Seconds until the last follower had the last event, from the end of the load.
    caught_up: f64,
    /// CPU time of the server in the idle time, in percent of one core.
    idle_percent: f64,
    memory: f64,
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let plan = Plan::new(&arguments.options, 5, 3)?;
    let mut faults = Vec::new();
    let mut rounds: Vec<Vec<Run>> = Vec::new();
    for round in 0..plan.rounds {
        let mut runs = Vec::new();
        for followers in std::iter::once(0).chain(arguments.followers.iter().copied()) {
            match measure(&plan, followers, u64::from(round)) {
                Ok(run) => {
                    eprintln!("round {}, {run:?}", round + 1);
                    runs.push(run);
                }
                Err(error) => faults.push(format!("round {}, {followers} followers: {error:#}", round + 1)),
            }
        }
        rounds.push(runs);
    }
    println!("{plan}\n{}", table(&rounds, &arguments.followers));
    let most = arguments.followers.iter().copied().max().unwrap_or(0);
    let with = |followers: usize, value: fn(&Run) -> f64| -> Vec<f64> {
        let found = rounds.iter().flatten().filter(|run| run.followers == followers);
        found.map(value).collect()
    };
    let ratios = rounds.iter().filter_map(|runs| {
        let rate = |followers| runs.iter().find(|run| run.followers == followers).map(|run| run.per_second);
        Some(rate(most)? / rate(0)?)
    });
    let goals: [Goal; 2] = [
        ("ingestion with the most followers / without any", Bound::AtLeast(0.7), "", ratios.collect()),
        (
            "CPU of the most followers while nothing arrives",
            Bound::AtMost(2.0),
            " %",
            with(most, |run| run.idle_percent),
        ),
    ];
    println!("{}", goals_table(&goals));
    Ok(faults)
}

fn table(rounds: &[Vec<Run>], followers: &[usize]) -> Table {
    let heads = [
        "followers",
        "req/s",
        "delivered events/s",
        "caught up after, s",
        "idle CPU, % of a core",
        "peak MiB",
    ];
    let mut table = Table::new(heads);
    for followers in std::iter::once(0).chain(followers.iter().copied()) {
        let runs = || rounds.iter().flatten().filter(move |run| run.followers == followers);
        let middle = |value: fn(&Run) -> f64| median(runs().map(value));
        let count = |value| middle(value).map_or_else(|| "–".to_owned(), thousands);
        table.row([
            followers.to_string(),
            count(|run| run.per_second),
            count(|run| run.delivered),
            decimals(middle(|run| run.caught_up), 2),
            decimals(middle(|run| run.idle_percent), 1),
            decimals(middle(|run| run.memory), 1),
        ]);
    }
    table
}

fn measure(plan: &Plan, followers: usize, seed: u64) -> Result<Run> {
    let folder = tempdir_in(&plan.folder)?;
    let server = Server::start(Kind::Lyftr, plan, &sqlite_url(folder.path()))?;
    let audience = Audience::seat(server.address, followers)?;
    let before = cpu_time(server.pid())?;
    std::thread::sleep(if plan.quick { IDLE / 10 } else { IDLE });
    let idle = cpu_time(server.pid())?.saturating_sub(before);
    let idle_seconds = if plan.quick { IDLE / 10 } else { IDLE }.as_secs_f64();
    let requests = Requests::new(HOST, SECRET, Ids::Random, plan.seed.wrapping_add(seed));
    let (warm_up, measured) = (warm_up(plan.measured), plan.measured);
    let load = Load { address: server.address, connections: SENDERS, rate: None, warm_up, measured };
    let heard = || Ok(audience.heard.load(Relaxed));
    let (tally, [first, last]) = load::run(&load, &requests, heard)?;
    ensure!(tally.errors == 0, "{} wrong responses; the first: {:?}", tally.errors, tally.first_error);
    let end = Instant::now();
    let stored = server.total_messages()?;
    while audience.heard.load(Relaxed) < stored * followers as u64 {
        ensure!(end.elapsed() < CATCH_UP, "followers are behind {CATCH_UP:?} after the load");
        ensure!(!audience.thread.is_finished(), "a stream has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let caught_up = end.elapsed().as_secs_f64();
    let memory = peak_memory_mib(server.pid())?;
    audience.leave()?;
    server.stop()?;
    Ok(Run {
        followers,
        per_second: tally.right_in_window as f64 / measured.as_secs_f64(),
        delivered: (last - first) as f64 / measured.as_secs_f64(),
        caught_up,
        idle_percent: idle.as_secs_f64() / idle_seconds * 100.0,
        memory,
    })
}

/// Followers, all read by one thread.
struct Audience {
    /// Events that all of them together have received.
    heard: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Audience {
    /// Opens streams from the end of the log.
    fn seat(address: SocketAddr, followers: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut streams = Vec::new();
        for number in 0..followers {
            let mut stream = TcpStream::connect(address)?;
            let request =
                format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut head = [0; 4096];
            let length = stream.read(&mut head)?;
            let head = head.get(..length).unwrap_or_default();
            ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(head));
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            streams.push(stream);
        }
        let (heard, ends) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (heard, ends) = (Arc::clone(&heard), Arc::clone(&ends));
            std::thread::spawn(move || listen(&epoll, streams, &heard, &ends))
        };
        Ok(Self { heard, ends, thread })
    }

    fn leave(self) -> Result<()> {
        self.ends.store(true, Relaxed);
        self.thread.join().ok().context("the thread of the followers panicked")?
    }
}

/// Counts the events of all streams: each has one line that begins with `event`.
fn listen(epoll: &OwnedFd, mut streams: Vec<TcpStream>, heard: &AtomicU64, ends: &AtomicBool) -> Result<()> {
    const MARK: &[u8] = b"\nevent: ";
    let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 256 << 10];
    // The end of what each stream has sent, in which a mark may have begun.
    let mut tails: Vec<Vec<u8>> = vec![Vec::new(); streams.len()];
    while !ends.load(Relaxed) {
        events.clear();
        epoll::wait(epoll, spare_capacity(&mut events), Some(&timeout))?;
        for event in &events {
            let number = usize::try_from(event.data.u64())?;
            let (Some(stream), Some(tail)) = (streams.get_mut(number), tails.get_mut(number)) else {
                continue;
            };
            let kept = tail.len();
            buffer[..kept].copy_from_slice(tail);
            let read = match stream.read(&mut buffer[kept..]) {
                Ok(0) => anyhow::bail!("a stream has ended"),
                Ok(read) => kept + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let new = &buffer[..read];
            heard.fetch_add(marks_in(new, MARK), Relaxed);
            tail.clear();
            tail.extend_from_slice(&new[new.len().saturating_sub(MARK.len() - 1)..]);
        }
    }
    Ok(())
}

/// How often `mark` is in `bytes`. Looks at line ends alone, of which an event has four.
fn marks_in(bytes: &[u8], mark: &[u8]) -> u64 {
    let mut count = 0;
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        rest = &rest[at..];
        if rest.starts_with(mark) {
            count += 1;
        }
        rest = &rest[1..];
    }
    count
}
