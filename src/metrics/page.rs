//! The page that Prometheus reads: every metric with its help text.

use std::sync::atomic::Ordering::Relaxed;

use super::sources;
use super::text::Page;
use super::{
    CloseReason, ErasureRule, Gauges, METHODS, Metrics, PATHS, Route, STATUSES, SignIn, WebhookResult,
};
use crate::event::Source;

impl Metrics {
    /// The page, in Prometheus' text format 0.0.4.
    pub fn page(&self, gauges: &Gauges) -> String {
        let mut page = Page(String::with_capacity(16 << 10));
        self.write_requests(&mut page);
        self.write_webhook(&mut page);
        self.write_store(&mut page, gauges);
        self.write_followers(&mut page, gauges);
        self.write_connections(&mut page, gauges);
        page.head("sign_ins_total", "counter", "Tokens given to sign in to the page, by result.");
        for (result, counter) in SignIn::ALL.iter().zip(&self.sign_ins) {
            page.line("sign_ins_total", &format!("{{result=\"{}\"}}", result.label()), counter.get());
        }
        let help = "Log lines dropped because standard output did not take them.";
        page.counter("log_lines_dropped_total", help, gauges.log_lines_dropped);
        page.head("lyftr_build_info", "gauge", "The version that runs, as a label.");
        page.line("lyftr_build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        if let Some(process) = &gauges.process {
            process.write(&mut page);
        }
        page.0
    }

    fn write_requests(&self, page: &mut Page) {
        let help =
            "HTTP requests, by method, route and status; 499 means that the client left before the response.";
        page.head("http_requests_total", "counter", help);
        for (method, path, route) in self.routes() {
            let statuses = STATUSES.iter().map(ToString::to_string).chain(["other".to_owned()]);
            for (status, counter) in statuses.zip(&route.statuses) {
                if counter.get() > 0 || expected(method, path, &status) {
                    let labels = format!("{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}}");
                    page.line("http_requests_total", &labels, counter.get());
                }
            }
        }
        let help = "Seconds from the complete header of a request to its response, by method and route.";
        page.head("http_request_duration_seconds", "histogram", help);
        for (method, path, route) in self.routes() {
            if route.duration_seconds.total() > 0 || expected(method, path, "200") {
                let labels = format!("method=\"{method}\",path=\"{path}\"");
                page.series("http_request_duration_seconds", &labels, &route.duration_seconds);
            }
        }
        let help = "Milliseconds from the complete header of a request to its response, over all requests.";
        page.histogram("request_latency_ms", help, &self.request_latency_ms);
    }

    fn write_webhook(&self, page: &mut Page) {
        let sources = self.sources.all();
        let help = "Requests to POST /webhook, by result; of a configured source, by source and result.";
        page.head("webhook_requests_total", "counter", help);
        for (result, counter) in WebhookResult::ALL.iter().zip(&self.webhook) {
            let labels = format!("{{result=\"{}\"}}", result.label());
            page.line("webhook_requests_total", &labels, counter.get());
        }
        sources::write_requests(&sources, page);
        let names: Vec<_> = (0..self.keys.len()).map(key_name).collect();
        let source = Source::WEBHOOK;
        let built_in = names.iter().zip(&self.keys).map(|(name, key)| (source.as_str(), name.as_str(), key));
        let keys: Vec<_> = built_in.chain(sources::keys(&sources)).collect();
        page.head("webhook_verified_total", "counter", "Requests verified, by the secret that signed them.");
        for (source, key, used) in &keys {
            let labels = format!("{{source=\"{source}\",key=\"{key}\"}}");
            page.line("webhook_verified_total", &labels, used.requests.get());
        }
        let help =
            "Unix time of the last request that the secret signed; 0 if it signed none since the start.";
        page.head("webhook_key_last_used_timestamp_seconds", "gauge", help);
        for (source, key, used) in &keys {
            let labels = format!("{{source=\"{source}\",key=\"{key}\"}}");
            page.line("webhook_key_last_used_timestamp_seconds", &labels, used.last_s.load(Relaxed));
        }
        sources::write(&sources, page);
    }

    fn write_store(&self, page: &mut Page, gauges: &Gauges) {
        let help = "Seconds that the store took for a batch, until it was synced.";
        page.histogram("store_commit_seconds", help, &self.commit_seconds);
        let help = "Messages in a batch, which is one transaction.";
        page.histogram("store_batch_messages", help, &self.batch_messages);
        page.counter("store_errors_total", "Failed writes and reads of the store.", self.store_errors.get());
        page.head("events_erased_total", "counter", "Events erased, by the rule that they were erased by.");
        for (rule, counter) in ErasureRule::ALL.iter().zip(&self.erased) {
            page.line("events_erased_total", &format!("{{rule=\"{}\"}}", rule.label()), counter.get());
        }
        page.gauge("inbox_queue_messages", "Messages in the queue.", gauges.queue_messages);
        let help = "Maximum queue length; a message beyond it is answered 503.";
        page.gauge("inbox_queue_messages_max", help, gauges.queue_messages_max);
        let help =
            "Bytes of bodies to configured sources that are in flight, beyond the first 64 KiB of each.";
        page.gauge("source_bodies_bytes", help, gauges.source_bodies_bytes);
        let help = "Maximum of source_bodies_bytes; a body beyond it is answered 503.";
        page.gauge("source_bodies_bytes_max", help, gauges.source_bodies_bytes_max);
        page.gauge("store_wal_bytes", "Bytes in the write-ahead log of the store.", gauges.wal_bytes);
        if let Some(bytes) = gauges.store_bytes {
            page.gauge("store_bytes", "Bytes in all files of the store.", bytes);
        }
        if let Some(bytes) = gauges.disk_free_bytes {
            let help = "Bytes that are free for the store on its file system.";
            page.gauge("store_disk_free_bytes", help, bytes);
        }
        let help =
            "Messages that are not in the aggregates and the party index yet; every read includes them.";
        page.gauge("store_index_behind_messages", help, gauges.index_behind);
        let help = "Messages that are not in the search index yet; a search finds them too, more slowly.";
        page.gauge("store_search_behind_messages", help, gauges.search_behind);
    }

    fn write_followers(&self, page: &mut Page, gauges: &Gauges) {
        let help = "Followers of the log: streams, and requests that wait for an event.";
        page.gauge("followers_open", help, gauges.followers);
        let help = "Maximum number of followers; one beyond it is answered 503.";
        page.gauge("followers_max", help, gauges.followers_max);
        let help = "Followers answered 503 because all seats were taken.";
        page.counter("followers_refused_total", help, self.followers_refused.get());
        page.head(
            "event_cursor_lag",
            "gauge",
            "Events after each cursor, a million at most; large numbers are estimates.",
        );
        for (name, lag) in &gauges.cursor_lags {
            page.line("event_cursor_lag", &format!("{{cursor=\"{}\"}}", name.as_str()), *lag);
        }
    }

    fn write_connections(&self, page: &mut Page, gauges: &Gauges) {
        page.gauge("connections_open", "Open connections.", gauges.connections_open);
        page.counter("connections_total", "Connections accepted.", self.connections.get());
        page.head("connections_closed_total", "counter", "Connections closed, by reason.");
        for (reason, counter) in CloseReason::ALL.iter().zip(&self.closed) {
            let labels = format!("{{reason=\"{}\"}}", reason.label());
            page.line("connections_closed_total", &labels, counter.get());
        }
    }

    fn routes(&self) -> impl Iterator<Item = (&'static str, &'static str, &Route)> {
        METHODS.into_iter().zip(&self.routes).flat_map(|(method, paths)| {
            PATHS.into_iter().zip(paths).map(move |(path, route)| (method, path, route))
        })
    }
}

/// Whether a series is on the page before its first request.
fn expected(method: &str, path: &str, status: &str) -> bool {
    match (method, path) {
        ("POST", "/webhook") => ["200", "401", "408", "413", "422", "499", "503"].contains(&status),
        // An alert divides failed checks by all checks, and needs both series also while no check has failed.
        ("GET", "/health/ready") => ["200", "503"].contains(&status),
        ("GET", "/messages" | "/stats" | "/events" | "/metrics" | "/health/live") => status == "200",
        _ => false,
    }
}

/// The name of a secret of the built-in source: its number in the settings, never a part of it.
fn key_name(nth: usize) -> String {
    if nth == 0 { "current".to_owned() } else { format!("previous_{nth}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            metrics.request("BREW", &format!("/pot/{i}"), 418, Duration::from_millis(100));
        }
        let page = metrics.page(&Gauges::default());
        assert!(page.contains("http_requests_total{method=\"other\",path=\"other\",status=\"other\"} 100\n"));
    }

    #[test]
    fn a_bucket_holds_its_bound_and_all_below() {
        let metrics = Metrics::default();
        for ms in [1, 100, 101, 20_000] {
            metrics.request("GET", "other", 404, Duration::from_millis(ms));
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
