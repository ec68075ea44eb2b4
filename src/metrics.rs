//! The metrics, typed, one [`Metrics`] for each running service, and the page that Prometheus reads.
//!
//! Labels come from closed sets, so that no request can add a series. docs/operations/watch.md explains each metric, and a test
//! compares it with the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::cursor::CursorName;
use crate::event::Source;

mod histogram;
mod labels;
mod page;
mod process;
mod sources;
mod text;

use histogram::{BATCH, COMMIT_SECONDS, DURATION_SECONDS, LATENCY_MS};
pub use histogram::{Histogram, Observed};
pub use labels::{CloseReason, ErasureRule, METHODS, PATHS, STATUSES, SignIn, WebhookResult};
pub use process::Process;
pub use sources::SourceMetrics;

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of one service.
#[derive(Debug)]
pub struct Metrics {
    /// By method and path, in the order of [`METHODS`] and [`PATHS`].
    routes: [[Route; PATHS.len()]; METHODS.len()],
    webhook: [Counter; WebhookResult::ALL.len()],
    closed: [Counter; CloseReason::ALL.len()],
    erased: [Counter; ErasureRule::ALL.len()],
    sign_ins: [Counter; SignIn::ALL.len()],
    /// One for each valid secret of the built-in source, the current one first.
    keys: Vec<KeyUse>,
    /// The configured sources.
    sources: sources::Sources,
    /// Time from the complete header of a request to its response, over all requests, in milliseconds.
    pub request_latency_ms: Histogram<{ LATENCY_MS.len() }>,
    /// Duration of `Store::insert` for a batch: a due checkpoint, the transaction and its sync.
    pub commit_seconds: Histogram<{ COMMIT_SECONDS.len() }>,
    /// Messages in a batch.
    pub batch_messages: Histogram<{ BATCH.len() }>,
    /// Failed writes and reads of the store.
    pub store_errors: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Followers that found no seat.
    pub followers_refused: Counter,
}

/// The requests of one method to one path.
#[derive(Debug)]
struct Route {
    /// One counter for each of [`STATUSES`], and a last one for every other status.
    statuses: [Counter; STATUSES.len() + 1],
    duration_seconds: Histogram<{ DURATION_SECONDS.len() }>,
}

impl Default for Route {
    fn default() -> Self {
        Self { statuses: Default::default(), duration_seconds: Histogram::new(DURATION_SECONDS, 9) }
    }
}

/// Values that are read at the moment of the scrape.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Messages in the queue.
    pub queue_messages: u64,
    /// Maximum queue length, in messages.
    pub queue_messages_max: u64,
    /// Open connections.
    pub connections_open: u64,
    /// Bytes of bodies to configured sources that take room.
    pub source_bodies_bytes: u64,
    /// Maximum of these.
    pub source_bodies_bytes_max: u64,
    /// Followers that wait.
    pub followers: u64,
    /// Maximum number of followers that wait.
    pub followers_max: u64,
    /// The lag of each cursor, by name; empty if it could not be read.
    pub cursor_lags: Vec<(CursorName, u64)>,
    /// Bytes in the store's write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in all files of the store; absent from the page if unknown.
    pub store_bytes: Option<u64>,
    /// Bytes that are free for the store on its file system; absent from the page if unknown, since 0 is a full disk.
    pub disk_free_bytes: Option<u64>,
    /// Messages above the watermark of the aggregates and the party index.
    pub index_behind: u64,
    /// Messages above the watermark of the search index.
    pub search_behind: u64,
    /// Log lines that were dropped because standard output did not take them.
    pub log_lines_dropped: u64,
    /// The resources of the process; absent from the page if the operating system does not tell.
    pub process: Option<Process>,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// The use of one secret.
#[derive(Debug, Default)]
struct KeyUse {
    requests: Counter,
    /// Unix time; 0 for never.
    last_s: AtomicU64,
}

impl Default for Metrics {
    /// The metrics of a service with one secret.
    fn default() -> Self {
        Self::new(1)
    }
}

impl Metrics {
    /// Metrics at zero, for this many secrets of the built-in source.
    pub fn new(secrets: usize) -> Self {
        Self {
            routes: Default::default(),
            webhook: Default::default(),
            closed: Default::default(),
            erased: Default::default(),
            sign_ins: Default::default(),
            keys: std::iter::repeat_with(KeyUse::default).take(secrets).collect(),
            sources: sources::Sources::default(),
            request_latency_ms: Histogram::new(LATENCY_MS, 6),
            commit_seconds: Histogram::new(COMMIT_SECONDS, 9),
            batch_messages: Histogram::new(BATCH, 0),
            store_errors: Counter::default(),
            connections: Counter::default(),
            followers_refused: Counter::default(),
        }
    }
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds a number.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metrics {
    /// Counts an answered request. A method, path or status outside the closed sets counts as `other`.
    pub fn request(&self, method: &str, path: &str, status: u16, latency: Duration) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let path = PATHS.iter().position(|known| *known == path).unwrap_or(PATHS.len() - 1);
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        if let Some(route) = self.routes.get(method).and_then(|paths| paths.get(path)) {
            if let Some(counter) = route.statuses.get(status) {
                counter.increment();
            }
            route.duration_seconds.observe(latency);
        }
        self.request_latency_ms.observe(latency);
    }

    /// Counts a `POST /webhook` of the built-in source by its result.
    pub fn webhook(&self, result: WebhookResult) {
        if let Some(counter) = labels::counter(&WebhookResult::ALL, &self.webhook, &result) {
            counter.increment();
        }
    }

    /// Counts events that were erased.
    pub fn erased(&self, rule: ErasureRule, events: u64) {
        if let Some(counter) = labels::counter(&ErasureRule::ALL, &self.erased, &rule) {
            counter.add(events);
        }
    }

    /// Counts a token that was given for a session.
    pub fn sign_in(&self, result: SignIn) {
        if let Some(counter) = labels::counter(&SignIn::ALL, &self.sign_ins, &result) {
            counter.increment();
        }
    }

    /// Counts a connection that ended or was aborted.
    pub fn connection_closed(&self, reason: CloseReason) {
        if let Some(counter) = labels::counter(&CloseReason::ALL, &self.closed, &reason) {
            counter.increment();
        }
    }

    /// The number of connections that ended for this reason.
    pub fn connections_closed(&self, reason: CloseReason) -> u64 {
        labels::counter(&CloseReason::ALL, &self.closed, &reason).map_or(0, Counter::get)
    }

    /// Counts a request whose signature the `nth` secret of the built-in source verified, at this Unix time.
    pub fn verified(&self, nth: usize, now_s: u64) {
        if let Some(key) = self.keys.get(nth) {
            key.count(now_s);
        }
    }

    /// Replaces the configured sources, each given by its name and those of its secrets, and returns their metrics in the same
    /// order. What was counted for a source or a secret that stays goes on.
    pub fn replace_sources<'a>(
        &self,
        sources: impl IntoIterator<Item = (&'a Source, Vec<&'a str>)>,
    ) -> Vec<Arc<SourceMetrics>> {
        self.sources.replace(sources)
    }
}
