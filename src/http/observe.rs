//! The layer around every request: its id, its log line, its metrics. One place, so that the three agree.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::middleware::Next;
use tracing::Level;

use super::source::Served;
use super::webhook::Record;
use super::{App, Waited, error, framing, last_segment};
use crate::message::Name;
use crate::metrics::{METHODS, PATHS};
use crate::telemetry::{RequestLine, WebhookFields};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a request id that is taken over from a client, in characters.
const REQUEST_ID_CHARS_MAX: usize = 64;
/// The status for a client that left before it was answered, as nginx has it.
const CLIENT_LEFT: u16 = 499;
/// The word in log and metrics for a method or a path that no route has.
const OTHER: &str = "other";

/// Makes request ids that are unique: a random prefix for the process, and a count.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    count: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { prefix: RandomState::new().hash_one(0), count: AtomicU64::new(0) }
    }
}

impl RequestIds {
    fn next(&self) -> String {
        format!("{:016x}-{:x}", self.prefix, self.count.fetch_add(1, Relaxed))
    }
}

/// The outermost layer.
pub(super) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let observed = Observed::begin(app, &request);
    if let Some(source) = &observed.source {
        request.extensions_mut().insert(Arc::clone(source));
    }
    let response = match framing::check(&request) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => error::closing(error::detail(status, why)),
    };
    observed.finish(response)
}

/// The response to a header that hyper could not read. Logs and counts it, with `other` for the method and the path, which
/// are unknown.
pub(super) fn unreadable(app: &Arc<App>, status: StatusCode) -> Response<String> {
    let observed = Observed {
        id: app.request_ids.next(),
        app: Arc::clone(app),
        begin: Instant::now(),
        method: OTHER,
        path: OTHER,
        source: None,
        finished: false,
    };
    let why = match status {
        StatusCode::URI_TOO_LONG => "request target is too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "header is too large",
        _ => "malformed request",
    };
    let (parts, _) = observed.finish(error::detail(status, why)).into_parts();
    Response::from_parts(parts, serde_json::json!({ "detail": why }).to_string())
}

/// A request that is being handled. If it is dropped before it is finished, it counts as one whose client has left.
struct Observed {
    app: Arc<App>,
    begin: Instant,
    id: String,
    method: &'static str,
    path: &'static str,
    /// The configured source that the path names.
    source: Option<Arc<Served>>,
    finished: bool,
}

impl Observed {
    fn begin(app: Arc<App>, request: &Request) -> Self {
        let template = request.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str);
        let is_source = template == "/webhook/{name}";
        Self {
            source: is_source.then(|| app.sources.find(&last_segment(request.uri().path()))).flatten(),
            id: taken_over(request.headers()).unwrap_or_else(|| app.request_ids.next()),
            app,
            begin: Instant::now(),
            // Never as sent: a client may put a phone number or a secret into a method or a path.
            method: known(&METHODS, request.method().as_str()),
            path: known(&PATHS, template),
            finished: false,
        }
    }

    fn finish(mut self, mut response: Response<Body>) -> Response<Body> {
        self.finished = true;
        let record = response.extensions_mut().remove::<Record>();
        let record = record.or_else(|| self.is_webhook().then(Record::refused_header));
        let waited = response.extensions_mut().remove::<Waited>().map_or(Duration::ZERO, |Waited(time)| time);
        self.record(response.status().as_u16(), waited, record.as_ref());
        if let Ok(id) = HeaderValue::try_from(std::mem::take(&mut self.id)) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }

    /// Whether this is a delivery to the built-in source or to a configured one, each of which has a record.
    fn is_webhook(&self) -> bool {
        (self.path == "/webhook" || self.source.is_some()) && self.method == Method::POST.as_str()
    }

    /// `waited` is the time that the request waited for events: the log has it, and the metrics have not.
    fn record(&self, status: u16, waited: Duration, record: Option<&Record>) {
        let latency = self.begin.elapsed();
        self.app.metrics.request(self.method, self.path, status, latency.saturating_sub(waited));
        if let Some(record) = record {
            match &self.source {
                None => self.app.metrics.webhook(record.result),
                Some(source) => source.metrics.request(record.result, record.refusal),
            }
        }
        self.app.log.request(&RequestLine {
            level: record.map_or_else(|| level(status), |record| record.level),
            request_id: &self.id,
            method: self.method,
            path: self.path,
            status,
            latency,
            webhook: record.map(|record| WebhookFields {
                message_id: record.message_id.as_ref().map(Name::as_str),
                source: self.source.as_ref().map(|source| source.metrics.name().as_str()),
                events: record.events,
                result: record.result,
                refusal: record.refusal,
            }),
        });
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.finished {
            self.record(CLIENT_LEFT, Duration::ZERO, self.is_webhook().then(Record::client_left).as_ref());
        }
    }
}

fn level(status: u16) -> Level {
    match status {
        500.. => Level::ERROR,
        400..500 => Level::WARN,
        _ => Level::INFO,
    }
}

fn known(values: &[&'static str], value: &str) -> &'static str {
    values.iter().find(|known| **known == value).copied().unwrap_or(OTHER)
}

/// The request id of the client, if it is short and plain.
fn taken_over(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_plain_and_differ() {
        let ids = RequestIds::default();
        let (one, two) = (ids.next(), ids.next());
        assert_ne!(one, two);
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, one.parse().unwrap());
        assert_eq!(taken_over(&headers), Some(one), "our own ids are of the form that is taken over");
        assert_ne!(RequestIds::default().next(), RequestIds::default().next());
    }

    #[test]
    fn only_short_and_plain_ids_are_taken_over() {
        for (id, taken) in
            [("a", true), ("A-z_0.9", true), ("", false), ("a b", false), ("a\"b", false), ("é", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            assert_eq!(taken_over(&headers).is_some(), taken, "{id:?}");
        }
        for (len, taken) in [(64, true), (65, false)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, "a".repeat(len).parse().unwrap());
            assert_eq!(taken_over(&headers).is_some(), taken, "{len}");
        }
    }
}
