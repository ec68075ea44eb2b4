//! One thread of the load generator: its share of the connections on one epoll.
//!
//! Plain nonblocking sockets and no runtime, because every microsecond spent here is taken from
//! the server when both share the cores: a request costs one write, one read and a part of one
//! `epoll_wait`. A connection has one request in flight at most; there is no pipelining.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::request::Requests;
use crate::response::{self, Answer};

/// The one right answer.
const EXPECTED_BODY: &[u8] = br#"{"status":"ok"}"#;
/// An answer longer than this is wrong anyway.
const ANSWER_BYTES_MAX: usize = 4096;
/// Bytes of a wrong answer that are shown.
const SHOWN_BYTES_MAX: usize = 200;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_mins(1);
/// How long to wait, after the last request was due, for answers that are still missing.
const DRAIN: Duration = Duration::from_secs(10);

/// The instants all threads of a run share.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first request is sent.
    pub start: Instant,
    /// The warm-up is over: from here on requests count.
    pub measure_from: Instant,
    /// The last request is due before this.
    pub end: Instant,
}

/// When this thread's requests are due.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// Closed loop: the next one as soon as a connection is free.
    WhenFree,
    /// Open loop: one every `interval`, the first `offset` after the start.
    Every {
        /// Time between two requests of this thread.
        interval: Duration,
        /// Keeps the threads out of step with one another.
        offset: Duration,
    },
}

/// What one thread has counted.
#[derive(Debug)]
pub struct Tally {
    /// Latencies in nanoseconds of all requests that were due in the measured window, counted
    /// from the moment they were due.
    pub latency: Histogram<u64>,
    /// Right answers that arrived in the measured window.
    pub right_in_window: u64,
    /// All right answers, warm-up and drain included.
    pub right: u64,
    /// Wrong answers, missing answers and broken connections.
    pub errors: u64,
    /// The first of the errors, in plain words.
    pub first_error: Option<String>,
    /// Requests of the open loop that were due and never sent, as no connection came free.
    pub unsent: u64,
}

/// The connections of one thread and their state.
#[derive(Debug)]
pub struct Engine<'a> {
    requests: &'a Requests,
    next_index: &'a AtomicU64,
    schedule: Schedule,
    arrivals: Arrivals,
    /// Arrivals that were taken from the schedule.
    taken: u32,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    idle: VecDeque<usize>,
    in_flight: usize,
    tally: Tally,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Box<[u8; ANSWER_BYTES_MAX]>,
    filled: usize,
    /// When the request in flight was due.
    due: Option<Instant>,
}

/// What a read brought.
enum Received {
    /// Not the whole answer yet.
    Partial,
    /// A whole answer: right, or in words what is wrong with it.
    Answer(Result<(), String>),
    /// The connection is of no more use.
    Lost(String),
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Result<Self> {
        let max = u64::try_from(LATENCY_MAX.as_nanos())?;
        Ok(Self {
            latency: Histogram::new_with_bounds(1, max, 3)?,
            right_in_window: 0,
            right: 0,
            errors: 0,
            first_error: None,
            unsent: 0,
        })
    }

    /// Adds what another thread has counted.
    pub fn add(&mut self, other: Self) -> Result<()> {
        self.latency.add(other.latency)?;
        self.right_in_window += other.right_in_window;
        self.right += other.right;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.unsent += other.unsent;
        Ok(())
    }

    fn record_latency(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanos);
    }

    fn error(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }
}

impl<'a> Engine<'a> {
    /// Connects `connections` times; sends nothing yet. `next_index` hands out the requests, to
    /// all threads together, so that ids stay in order.
    pub fn connect(
        address: SocketAddr,
        connections: usize,
        arrivals: Arrivals,
        requests: &'a Requests,
        next_index: &'a AtomicU64,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
        let connections = (0..connections)
            .map(|token| Connection::open(address, &epoll, token as u64).map(Some))
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("cannot connect to {address}"))?;
        let now = Instant::now();
        Ok(Self {
            requests,
            next_index,
            schedule: Schedule { start: now, measure_from: now, end: now },
            arrivals,
            taken: 0,
            epoll,
            idle: (0..connections.len()).collect(),
            connections,
            in_flight: 0,
            tally: Tally::new()?,
        })
    }

    /// Sends and receives until the schedule is over and every answer is there or overdue.
    pub fn run(mut self, schedule: Schedule) -> Result<Tally> {
        self.schedule = schedule;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            self.send_due(now);
            let Some(wake) = self.next_wake(now) else {
                break;
            };
            let timeout = Timespec::try_from(wake.saturating_duration_since(now))?;
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait on the epoll"),
            }
            for event in &events {
                self.receive(usize::try_from(event.data.u64())?);
            }
        }
        self.settle();
        Ok(self.tally)
    }

    /// When the next request is due; none when the schedule is over.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        let Schedule { start, end, .. } = self.schedule;
        let due = match self.arrivals {
            Arrivals::WhenFree => now.max(start),
            Arrivals::Every { interval, offset } => start + offset + interval * self.taken,
        };
        (due < end).then_some(due)
    }

    fn send_due(&mut self, now: Instant) {
        while let Some(due) = self.next_due(now).filter(|due| *due <= now)
            && let Some(token) = self.idle.pop_front()
        {
            self.send(token, due);
        }
    }

    /// When to look again if nothing arrives before; none when all is done or given up.
    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let deadline = self.schedule.end + DRAIN;
        let due = self.next_due(now);
        let all_done = due.is_none() && self.in_flight == 0;
        let all_lost = self.idle.is_empty() && self.in_flight == 0;
        if all_done || all_lost || now >= deadline {
            return None;
        }
        Some(due.filter(|_| !self.idle.is_empty()).unwrap_or(deadline))
    }

    fn send(&mut self, token: usize, due: Instant) {
        self.taken += 1;
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else {
            return;
        };
        self.requests.render(index, &mut connection.request);
        match connection.send(due) {
            Ok(()) => self.in_flight += 1,
            Err(reason) => self.lose(token, reason),
        }
    }

    fn receive(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else {
            return;
        };
        let verdict = match connection.receive() {
            Received::Partial => return,
            Received::Answer(verdict) => verdict,
            Received::Lost(reason) => {
                self.in_flight -= usize::from(connection.due.is_some());
                return self.lose(token, reason);
            }
        };
        let now = Instant::now();
        let due = connection.due.take();
        self.in_flight -= 1;
        if let Some(due) = due.filter(|due| *due >= self.schedule.measure_from) {
            self.tally.record_latency(now.duration_since(due));
        }
        match verdict {
            Ok(()) => {
                self.tally.right += 1;
                let in_window = (self.schedule.measure_from..self.schedule.end).contains(&now);
                self.tally.right_in_window += u64::from(in_window);
            }
            Err(what) => self.tally.error(what),
        }
        // Those that wait for a connection come first; only then is it idle.
        match self.next_due(now).filter(|due| *due <= now) {
            Some(due) => self.send(token, due),
            None => self.idle.push_back(token),
        }
    }

    /// Closes a connection for good. It is not opened again: a server that drops connections
    /// shows as errors, not as a slower server.
    fn lose(&mut self, token: usize, reason: String) {
        self.tally.error(reason);
        self.idle.retain(|idle| *idle != token);
        if let Some(connection) = self.connections.get_mut(token) {
            *connection = None;
        }
    }

    /// Counts what is still missing when the run is over. A request that was never sent enters
    /// the latencies with the time it has waited, or the worst ones would be left out.
    fn settle(&mut self) {
        for _ in 0..self.in_flight {
            self.tally.error(format!("no answer {DRAIN:?} after the end"));
        }
        if matches!(self.arrivals, Arrivals::WhenFree) {
            return;
        }
        let now = Instant::now();
        while let Some(due) = self.next_due(now) {
            self.taken += 1;
            self.tally.unsent += 1;
            if due >= self.schedule.measure_from {
                self.tally.record_latency(now.saturating_duration_since(due));
            }
        }
    }
}

impl Connection {
    fn open(address: SocketAddr, epoll: &OwnedFd, token: u64) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(token);
        epoll::add(epoll, &stream, data, epoll::EventFlags::IN)?;
        Ok(Self {
            stream,
            request: Vec::new(),
            answer: Box::new([0; ANSWER_BYTES_MAX]),
            filled: 0,
            due: None,
        })
    }

    /// Sends the rendered request. The kernel takes it whole: it is far smaller than the send
    /// buffer, which is empty once the answer before it has arrived.
    fn send(&mut self, due: Instant) -> Result<(), String> {
        match self.stream.write(&self.request) {
            Ok(written) if written == self.request.len() => {
                self.due = Some(due);
                Ok(())
            }
            Ok(_) => Err("the kernel took only a part of a request".to_owned()),
            Err(error) => Err(format!("cannot send: {error}")),
        }
    }

    fn receive(&mut self) -> Received {
        let read = match self.stream.read(&mut self.answer[self.filled..]) {
            Ok(0) if self.filled == ANSWER_BYTES_MAX => {
                return Received::Lost(format!("an answer over {ANSWER_BYTES_MAX} bytes"));
            }
            Ok(0) => return Received::Lost("the server closed the connection".to_owned()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Received::Partial;
            }
            Err(error) => return Received::Lost(format!("cannot receive: {error}")),
        };
        self.filled += read;
        let bytes = &self.answer[..self.filled];
        match response::read(bytes) {
            Answer::Partial => Received::Partial,
            Answer::Broken(reason) => Received::Lost(format!("{reason}: {}", shown(bytes))),
            Answer::Whole { length, .. } if length < self.filled || self.due.is_none() => {
                Received::Lost(format!("more than one answer: {}", shown(bytes)))
            }
            Answer::Whole { status, body, .. } => {
                self.filled = 0;
                if status == 200 && body == EXPECTED_BODY {
                    Received::Answer(Ok(()))
                } else {
                    Received::Answer(Err(format!("{status} {}", shown(body))))
                }
            }
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
