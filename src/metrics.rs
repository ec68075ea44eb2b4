//! Everything that is counted, typed, one [`Metrics`] for each running service, and its page in Prometheus'
//! text format 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Labels come from closed sets, so that no request can add a series. docs/operations.md explains each metric,
//! and a test holds it to the list here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

mod histogram;
mod page;

use histogram::{BATCH, COMMIT_SECONDS, LATENCY_MS};
pub use histogram::{Histogram, Observed};
use page::Page;

/// The media type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Values of the label `method`; what is none of them is `other`.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// Values of the label `path`: the routes' templates; what is none of them is `other`.
pub const PATHS: [&str; 7] =
    ["/webhook", "/messages", "/stats", "/metrics", "/health/live", "/health/ready", "other"];
/// Values of the label `status`. 499: the client left before it was answered.
pub const STATUSES: [u16; 14] = [200, 400, 401, 404, 405, 408, 413, 414, 422, 431, 499, 500, 503, 505];
/// Values of the label `result`.
pub const RESULTS: [&str; 8] = [
    "created",
    "duplicate",
    "conflict",
    "invalid_signature",
    "validation_error",
    "too_large",
    "overloaded",
    "error",
];
/// Statuses that `POST /webhook` is known to give, whose series exist from the start.
const WEBHOOK_STATUSES: [u16; 7] = [200, 401, 408, 413, 422, 499, 503];

/// The metrics of one service.
#[derive(Debug)]
pub struct Metrics {
    requests: [[[Counter; STATUSES.len()]; PATHS.len()]; METHODS.len()],
    webhook: [Counter; RESULTS.len()],
    /// One for each secret that is valid, the current one first.
    keys: Vec<KeyUse>,
    /// From the complete header to the answer, all requests, in milliseconds.
    pub request_latency_ms: Histogram<{ LATENCY_MS.len() }>,
    /// From the begin of a batch's transaction until it is synced.
    pub commit_seconds: Histogram<{ COMMIT_SECONDS.len() }>,
    /// Messages in a batch.
    pub batch_messages: Histogram<{ BATCH.len() }>,
    /// Failures of the store, writing and reading.
    pub store_errors: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections closed for a limit: too slow, idle too long, or the table was full.
    pub connections_cut: Counter,
}

/// Figures that are read at the moment of the scrape.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Messages waiting to be stored.
    pub queue_messages: u64,
    /// Most messages that may wait.
    pub queue_messages_max: u64,
    /// Open connections.
    pub connections_open: u64,
    /// Bytes in the store's write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in all files of the store. Not on the page if that is not known.
    pub store_bytes: Option<u64>,
    /// Bytes that the store's file system has left. Not on the page if that is not known: 0 is a full disk.
    pub disk_free_bytes: Option<u64>,
    /// Messages that are not in the index of numbers yet.
    pub index_behind: u64,
    /// Messages that are not in the index of texts yet.
    pub search_behind: u64,
    /// Log lines that were dropped, because standard output did not take them.
    pub log_lines_dropped: u64,
}

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// What was verified with one of the secrets.
#[derive(Debug, Default)]
struct KeyUse {
    requests: Counter,
    /// Unix time; 0 for never.
    last_s: AtomicU64,
}

impl Default for Metrics {
    /// For one secret.
    fn default() -> Self {
        Self::new(1)
    }
}

impl Metrics {
    /// Nothing counted yet, for this many secrets.
    pub fn new(secrets: usize) -> Self {
        Self {
            requests: Default::default(),
            webhook: Default::default(),
            keys: std::iter::repeat_with(KeyUse::default).take(secrets).collect(),
            request_latency_ms: Histogram::new(LATENCY_MS, 6),
            commit_seconds: Histogram::new(COMMIT_SECONDS, 9),
            batch_messages: Histogram::new(BATCH, 0),
            store_errors: Counter::default(),
            connections: Counter::default(),
            connections_cut: Counter::default(),
        }
    }
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metrics {
    /// Counts an answered request; what is not in the closed sets is counted as `other`, or as status 500.
    pub fn request(&self, method: &str, path: Option<&str>, status: u16, latency: Duration) {
        let method = index(&METHODS, &method);
        let path = path.map_or(PATHS.len() - 1, |path| index(&PATHS, &path));
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUS_500);
        if let Some(counter) = self.requests.get(method).and_then(|m| m.get(path)).and_then(|p| p.get(status))
        {
            counter.increment();
        }
        self.request_latency_ms.observe(latency);
    }

    /// Counts what became of a `POST /webhook`; `result` is one of [`RESULTS`].
    pub fn webhook(&self, result: &str) {
        if let Some(counter) = self.webhook.get(index(&RESULTS, &result)) {
            counter.increment();
        }
    }

    /// Counts a request whose signature the `nth` secret verified, at this Unix time.
    pub fn verified(&self, nth: usize, now_s: u64) {
        if let Some(key) = self.keys.get(nth) {
            key.requests.increment();
            key.last_s.store(now_s, Relaxed);
        }
    }

    /// The page that Prometheus reads.
    pub fn page(&self, gauges: &Gauges) -> String {
        let mut page = Page(String::with_capacity(8192));
        page.head(
            "http_requests_total",
            "counter",
            "HTTP requests answered, by method, route and status; 499 means that the client left first.",
        );
        for (method, paths) in METHODS.iter().zip(&self.requests) {
            for (path, statuses) in PATHS.iter().zip(paths) {
                for (status, counter) in STATUSES.iter().zip(statuses) {
                    if counter.get() > 0 || expected(method, path, *status) {
                        let labels = format!("{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}}");
                        page.line("http_requests_total", &labels, counter.get());
                    }
                }
            }
        }
        page.head("webhook_requests_total", "counter", "POST /webhook by what became of it.");
        for (result, counter) in RESULTS.iter().zip(&self.webhook) {
            page.line("webhook_requests_total", &format!("{{result=\"{result}\"}}"), counter.get());
        }
        page.head("webhook_verified_total", "counter", "Requests verified, by the secret that signed them.");
        for (nth, key) in self.keys.iter().enumerate() {
            page.line("webhook_verified_total", &key_label(nth), key.requests.get());
        }
        page.head(
            "webhook_key_last_used_timestamp_seconds",
            "gauge",
            "Unix time of the last request that the secret signed; 0 if there was none since the start.",
        );
        for (nth, key) in self.keys.iter().enumerate() {
            page.line("webhook_key_last_used_timestamp_seconds", &key_label(nth), key.last_s.load(Relaxed));
        }
        page.histogram(
            "request_latency_ms",
            "Milliseconds from a request's complete header to its answer.",
            &self.request_latency_ms,
        );
        page.histogram(
            "store_commit_seconds",
            "Seconds that the transaction of a batch took, until it was synced.",
            &self.commit_seconds,
        );
        page.histogram(
            "store_batch_messages",
            "Messages stored together in one transaction.",
            &self.batch_messages,
        );
        page.counter(
            "store_errors_total",
            "Times that the store failed to write or to read.",
            self.store_errors.get(),
        );
        page.counter("connections_total", "Connections accepted.", self.connections.get());
        page.counter(
            "connections_cut_total",
            "Connections closed for a limit: too slow, idle too long, or the table was full.",
            self.connections_cut.get(),
        );
        page.counter(
            "log_lines_dropped_total",
            "Log lines dropped because standard output did not take them.",
            gauges.log_lines_dropped,
        );
        page.gauge("connections_open", "Open connections.", gauges.connections_open);
        page.gauge("inbox_queue_messages", "Messages waiting to be stored.", gauges.queue_messages);
        page.gauge(
            "inbox_queue_messages_max",
            "Most messages that may wait; one more is answered 503.",
            gauges.queue_messages_max,
        );
        page.gauge("store_wal_bytes", "Bytes in the write-ahead log of the store.", gauges.wal_bytes);
        if let Some(bytes) = gauges.store_bytes {
            page.gauge("store_bytes", "Bytes in all files of the store.", bytes);
        }
        if let Some(bytes) = gauges.disk_free_bytes {
            let help = "Bytes that the store may still write to its file system.";
            page.gauge("store_disk_free_bytes", help, bytes);
        }
        page.gauge(
            "store_index_behind_messages",
            "Messages that are not in the index of numbers yet; they are found all the same.",
            gauges.index_behind,
        );
        page.gauge(
            "store_search_behind_messages",
            "Messages that are not in the index of texts yet; they are found all the same, more slowly.",
            gauges.search_behind,
        );
        page.head("lyftr_build_info", "gauge", "The version that runs, as a label.");
        page.line("lyftr_build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        page.0
    }
}

const STATUS_500: usize = 11;

/// The index of `value`, or the last one.
fn index<T: PartialEq>(values: &[T], value: &T) -> usize {
    values.iter().position(|known| known == value).unwrap_or(values.len() - 1)
}

/// The series that exist before the first request.
fn expected(method: &str, path: &str, status: u16) -> bool {
    match (method, path) {
        ("POST", "/webhook") => WEBHOOK_STATUSES.contains(&status),
        // An alert asks how often it was not ready, also when it never was.
        ("GET", "/health/ready") => [200, 503].contains(&status),
        ("GET", "/messages" | "/stats" | "/metrics" | "/health/live") => status == 200,
        _ => false,
    }
}

/// The secrets by their place in the settings, never by anything of themselves.
fn key_label(nth: usize) -> String {
    if nth == 0 { "{key=\"current\"}".to_owned() } else { format!("{{key=\"previous_{nth}\"}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_the_contract_exist_before_the_first_request() {
        let page = Metrics::default().page(&Gauges::default());
        for line in [
            "# TYPE http_requests_total counter",
            "http_requests_total{method=\"POST\",path=\"/webhook\",status=\"200\"} 0",
            "http_requests_total{method=\"POST\",path=\"/webhook\",status=\"401\"} 0",
            "webhook_requests_total{result=\"created\"} 0",
            "webhook_requests_total{result=\"error\"} 0",
            "request_latency_ms_bucket{le=\"100\"} 0",
            "request_latency_ms_bucket{le=\"500\"} 0",
            "request_latency_ms_bucket{le=\"+Inf\"} 0",
            "request_latency_ms_sum 0.000000",
            "request_latency_ms_count 0",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing:\n{page}");
        }
    }

    #[test]
    fn what_is_in_no_set_is_other() {
        let metrics = Metrics::default();
        for i in 0..100 {
            metrics.request("BREW", Some(&format!("/pot/{i}")), 418, Duration::from_millis(100));
        }
        let page = metrics.page(&Gauges::default());
        assert!(page.contains("http_requests_total{method=\"other\",path=\"other\",status=\"500\"} 100\n"));
        assert_eq!(STATUSES[STATUS_500], 500);
    }

    #[test]
    fn a_bucket_holds_its_bound_and_all_below() {
        let metrics = Metrics::default();
        for ms in [1, 100, 101, 20_000] {
            metrics.request("GET", None, 404, Duration::from_millis(ms));
        }
        let page = metrics.page(&Gauges::default());
        for line in [
            "request_latency_ms_bucket{le=\"0.5\"} 0",
            "request_latency_ms_bucket{le=\"1\"} 1",
            "request_latency_ms_bucket{le=\"100\"} 2",
            "request_latency_ms_bucket{le=\"200\"} 3",
            "request_latency_ms_bucket{le=\"10000\"} 3",
            "request_latency_ms_bucket{le=\"+Inf\"} 4",
            "request_latency_ms_sum 20202.000000",
            "request_latency_ms_count 4",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing:\n{page}");
        }
    }
}
