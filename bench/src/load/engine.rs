//! One thread of the load generator: its share of the connections on one epoll.
//!
//! Nonblocking sockets without a runtime or a client library, because the generator shares the cores with the
//! server: a request costs one write, one read and a part of one `epoll_wait`. A connection has one request in
//! flight at most; there is no pipelining.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::Requests;
use crate::http::{self, Response};

/// The one right body.
const EXPECTED_BODY: &[u8] = br#"{"status":"ok"}"#;
/// A response longer than this is wrong anyway.
const RESPONSE_BYTES_MAX: usize = 4096;
/// Bytes of a wrong response that are shown.
const SHOWN_BYTES_MAX: usize = 200;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_mins(1);
/// How long to wait, after the last request was due, for responses that are still missing.
const DRAIN: Duration = Duration::from_secs(10);

/// When the requests of one thread are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub first: Instant,
    /// Time between two requests of the open loop; none for the closed loop.
    pub interval: Option<Duration>,
    /// The warm-up is over: from here on requests count.
    pub measure_from: Instant,
    /// The last request is due before this.
    pub end: Instant,
}

/// The counts of one thread, or of all.
#[derive(Debug)]
pub struct Tally {
    /// Latencies in nanoseconds of all requests that were due in the measured window, from the moment they were due.
    pub latency: Histogram<u64>,
    pub right_in_window: u64,
    /// All right responses, warm-up and drain included.
    pub right: u64,
    /// Wrong responses, missing responses and broken connections.
    pub errors: u64,
    pub first_error: Option<String>,
    /// Requests of the open loop that were due and never sent, as no connection came free.
    pub unsent: u64,
}

/// The connections of one thread and their state.
pub struct Engine<'a> {
    requests: &'a Requests,
    next_index: &'a AtomicU64,
    /// Requests that were taken from the schedule.
    taken: u32,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    in_flight: usize,
    tally: Tally,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    response: Box<[u8; RESPONSE_BYTES_MAX]>,
    filled: usize,
    /// When the request in flight was due.
    due: Option<Instant>,
}

impl Tally {
    pub fn new() -> Result<Self> {
        let latency = Histogram::new_with_max(u64::try_from(LATENCY_MAX.as_nanos())?, 3)?;
        Ok(Self { latency, right_in_window: 0, right: 0, errors: 0, first_error: None, unsent: 0 })
    }

    pub fn add(&mut self, other: Self) -> Result<()> {
        self.latency.add(other.latency)?;
        self.right_in_window += other.right_in_window;
        self.right += other.right;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.unsent += other.unsent;
        Ok(())
    }

    fn latency(&mut self, latency: Duration) {
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn error(&mut self, error: &dyn Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

impl Schedule {
    /// When the next request is due, after `taken` others; none when the schedule is over.
    fn due(&self, taken: u32, now: Instant) -> Option<Instant> {
        let due = self.interval.map_or(now.max(self.first), |interval| self.first + interval * taken);
        (due < self.end).then_some(due)
    }
}

impl<'a> Engine<'a> {
    /// Connects `connections` times; sends nothing yet. `next_index` hands out the requests to all threads
    /// together, so that ids stay in order.
    pub fn connect(
        address: SocketAddr,
        connections: usize,
        requests: &'a Requests,
        next_index: &'a AtomicU64,
    ) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
        let idle = (0..connections).collect();
        let connections = (0..connections as u64).map(|token| Connection::open(address, &epoll, token));
        let connections =
            connections.collect::<Result<_>>().with_context(|| format!("cannot connect to {address}"))?;
        let tally = Tally::new()?;
        Ok(Self { requests, next_index, taken: 0, epoll, connections, idle, in_flight: 0, tally })
    }

    /// Sends and receives until the schedule is over and every response is there or overdue.
    pub fn run(mut self, schedule: Schedule) -> Result<Tally> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            while let Some(due) = schedule.due(self.taken, now).filter(|due| *due <= now)
                && let Some(token) = self.idle.pop_front()
            {
                self.send(token, due);
            }
            let due = schedule.due(self.taken, now);
            let deadline = schedule.end + DRAIN;
            if self.in_flight == 0 && (due.is_none() || self.idle.is_empty()) || now >= deadline {
                break;
            }
            let wake = due.filter(|_| !self.idle.is_empty()).unwrap_or(deadline);
            let timeout = Timespec::try_from(wake.saturating_duration_since(now))?;
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait on the epoll"),
            }
            for event in &events {
                self.receive(usize::try_from(event.data.u64())?, &schedule);
            }
        }
        for _ in 0..self.in_flight {
            self.tally.error(&format_args!("no response {DRAIN:?} after the end"));
        }
        // A request that was never sent counts with the time it has waited, or the worst ones would be left out.
        let now = Instant::now();
        while schedule.interval.is_some()
            && let Some(due) = schedule.due(self.taken, now)
        {
            self.taken += 1;
            self.tally.unsent += 1;
            if due >= schedule.measure_from {
                self.tally.latency(now.saturating_duration_since(due));
            }
        }
        Ok(self.tally)
    }

    fn send(&mut self, token: usize, due: Instant) {
        self.taken += 1;
        let connection = &mut self.connections[token];
        self.requests.render(self.next_index.fetch_add(1, Ordering::Relaxed), &mut connection.request);
        // The kernel takes it whole: it is far smaller than the send buffer, which is empty by now.
        match connection.stream.write_all(&connection.request) {
            Ok(()) => {
                connection.due = Some(due);
                self.in_flight += 1;
            }
            Err(error) => self.lose(token, &error),
        }
    }

    fn receive(&mut self, token: usize, schedule: &Schedule) {
        let connection = &mut self.connections[token];
        let received = connection.receive();
        if matches!(received, Ok(None)) {
            return;
        }
        let due = connection.due.take();
        self.in_flight -= usize::from(due.is_some());
        let now = Instant::now();
        match received {
            Err(error) => return self.lose(token, &error),
            Ok(Some(Err(wrong))) => self.tally.error(&wrong),
            Ok(_) => {
                self.tally.right += 1;
                let in_window = (schedule.measure_from..schedule.end).contains(&now);
                self.tally.right_in_window += u64::from(in_window);
            }
        }
        if let Some(due) = due.filter(|due| *due >= schedule.measure_from) {
            self.tally.latency(now.duration_since(due));
        }
        // A request that waits for a connection comes first; only then is the connection idle.
        match schedule.due(self.taken, now).filter(|due| *due <= now) {
            Some(due) => self.send(token, due),
            None => self.idle.push_back(token),
        }
    }

    /// Gives a connection up: a server that drops connections shows as errors, not as a slower server.
    fn lose(&mut self, token: usize, error: &dyn Display) {
        self.tally.error(error);
        self.idle.retain(|idle| *idle != token);
        // Where it fails, the connection is no longer waited for either.
        let _ = epoll::delete(&self.epoll, &self.connections[token].stream);
    }
}

impl Connection {
    fn open(address: SocketAddr, epoll: &OwnedFd, token: u64) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(epoll, &stream, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        let response = Box::new([0; RESPONSE_BYTES_MAX]);
        Ok(Self { stream, request: Vec::new(), response, filled: 0, due: None })
    }

    /// Whether the response was right, or what it was; none until it is whole. After an error the connection is of no
    /// more use.
    fn receive(&mut self) -> Result<Option<Result<(), String>>> {
        match self.stream.read(&mut self.response[self.filled..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => self.filled += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
        let bytes = &self.response[..self.filled];
        let shown = |bytes: &[u8]| bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
        match http::parse(bytes) {
            Ok(None) if self.filled < RESPONSE_BYTES_MAX => Ok(None),
            Ok(Some(Response { status, body, length })) if length == self.filled && self.due.is_some() => {
                let is_right = status == 200 && body == EXPECTED_BODY;
                let verdict = if is_right { Ok(()) } else { Err(format!("{status} {}", shown(body))) };
                self.filled = 0;
                Ok(Some(verdict))
            }
            _ => bail!("not one response of HTTP: {}", shown(bytes)),
        }
    }
}
