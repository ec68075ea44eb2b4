//! HTTP: the routes, the layers around them, and their shared state. No SQL here, and no sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::routing::{any, delete, get, post};
use axum::{Router, middleware};
use tower::Service as _;

use crate::clock::Clock;
use crate::config::Secret;
use crate::erasure::KeptFor;
use crate::event::Source;
use crate::inbox::Inbox;
use crate::metrics::{Gauges, Metrics, Process};
use crate::server::{Handler, Registry, RequestBody};
use crate::session::Sessions;
use crate::signature::Keys;
use crate::store::{Backlog, Space, Store};
use crate::tail::{Seat, Tail};
use crate::telemetry::Log;

mod accept;
mod body;
mod cursors;
mod erasure;
mod error;
mod events;
mod export;
mod framing;
mod health;
mod messages;
mod metrics;
mod observe;
mod page;
mod reads;
mod session;
mod source;
mod stats;
mod volume;
mod webhook;

use export::{EXPORT_READS_MAX, Exports};
use reads::{
    BODIES_KIB_MAX, Budget, CONCURRENT_MAX, FOLLOWER_READS_MAX, Failures, LOG_READS_MAX, Limiter, MOVES_MAX,
    OWN_CHUNKS_KIB_MAX, PAGES_KIB_MAX, Reads, VERIFYING_MAX,
};

/// The shared state of the routes, one for each running service.
#[derive(Debug)]
pub struct App {
    inbox: Arc<Inbox>,
    tail: Arc<Tail>,
    reads: Reads,
    /// Pages of the log.
    log_reads: Reads,
    /// What followers who are behind read of the log.
    follower_reads: Reads,
    /// The memory for that, as far as streams hold it.
    own_chunks: Budget,
    /// The memory for pages of the log.
    pages: Budget,
    exports: Exports,
    /// The configured sources.
    sources: source::Sources,
    /// The memory for their bodies.
    bodies: Budget,
    /// Changes of cursors.
    cursor_moves: Reads,
    store: Arc<dyn Store>,
    keys: Keys,
    page: page::Page,
    /// The sessions of the page; `None` if nobody has to sign in, or there is no page.
    sessions: Option<Sessions>,
    settings: Settings,
    metrics: Arc<Metrics>,
    connections: Arc<Registry>,
    log: Log,
    request_ids: observe::RequestIds,
    /// Large deliveries that are verified at a time, lest they keep reads and probes waiting.
    verifying: Limiter,
    /// One readiness check at a time.
    readiness: Limiter,
    /// One token at a time is tried for a session.
    signing_in: Limiter,
    /// One erasure at a time.
    erasing: Limiter,
    /// One measurement of the disk at a time.
    measuring: Limiter,
    /// One read of the cursors' lags at a time.
    lags: Limiter,
    draining: AtomicBool,
}

/// The settings of the routes.
#[derive(Debug)]
pub struct Settings {
    /// The keys that deliveries may be signed with; the current one first, each in all its forms.
    pub webhook_secrets: Vec<Vec<Secret>>,
    /// The configured sources.
    pub sources: crate::source::Config,
    /// The clock that signed times are judged by, and that events of configured sources are received at.
    pub clock: Clock,
    /// The bearer token that reads need; without one everybody may read.
    pub read_token: Option<Secret>,
    /// The bearer token that erasing needs; without one there is no such route.
    pub admin_token: Option<Secret>,
    /// Whether there is a page for people.
    pub page: bool,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Maximum queue length, in messages.
    pub queue_max: usize,
    /// Maximum number of followers that wait at once.
    pub followers_max: usize,
}

/// The part of a response's latency that is a wait for events, and no work. An extension of the response.
#[derive(Debug, Clone, Copy)]
struct Waited(Duration);

impl Settings {
    fn sessions(&self) -> Option<Sessions> {
        self.read_token.as_ref().filter(|_| self.page).map(|token| Sessions::new(token.expose()))
    }
}

impl App {
    /// The state of a service that begins.
    pub fn new(
        mut settings: Settings,
        store: Arc<dyn Store>,
        inbox: Arc<Inbox>,
        tail: Arc<Tail>,
        metrics: Arc<Metrics>,
        connections: Arc<Registry>,
        log: Log,
    ) -> Self {
        let calls = |concurrent_max, failures| {
            Reads::new(Arc::clone(&store), Arc::clone(&metrics), concurrent_max, failures)
        };
        let reads = |concurrent_max| calls(concurrent_max, Failures::Each("a read failed"));
        Self {
            inbox,
            tail,
            reads: reads(CONCURRENT_MAX),
            log_reads: reads(LOG_READS_MAX),
            follower_reads: calls(FOLLOWER_READS_MAX, Failures::First(AtomicBool::new(false))),
            own_chunks: Budget::new(OWN_CHUNKS_KIB_MAX),
            pages: Budget::new(PAGES_KIB_MAX),
            exports: Exports::new(calls(EXPORT_READS_MAX, Failures::Each("an export broke off"))),
            sources: source::Sources::new(std::mem::take(&mut settings.sources), Arc::clone(&metrics)),
            bodies: Budget::new(BODIES_KIB_MAX),
            cursor_moves: calls(MOVES_MAX, Failures::Each("a cursor could not be changed")),
            store,
            page: page::Page::new(),
            sessions: settings.sessions(),
            keys: Keys::new(settings.webhook_secrets.iter().map(|forms| forms.iter().map(Secret::expose))),
            settings,
            metrics,
            connections,
            log,
            request_ids: observe::RequestIds::default(),
            verifying: Limiter::new(VERIFYING_MAX),
            readiness: Limiter::new(1),
            signing_in: Limiter::new(1),
            erasing: Limiter::new(1),
            measuring: Limiter::new(1),
            lags: Limiter::new(1),
            draining: AtomicBool::new(false),
        }
    }

    /// Makes `/health/ready` say from now on that the service is stopping, and lets nobody wait for events any more.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.tail.stop();
    }

    /// Serves these sources from now on, and no others.
    pub fn replace_sources(&self, sources: crate::source::Config) {
        self.sources.replace(sources);
    }

    /// The configured sources whose events are kept for another time than those of others.
    pub fn kept_otherwise(&self) -> Vec<(Source, KeptFor)> {
        self.sources.kept_otherwise()
    }

    /// Takes a seat for a follower; `None` if all are taken, which is counted.
    fn follow(&self) -> Option<Seat> {
        let seat = self.tail.follow();
        if seat.is_none() {
            self.metrics.followers_refused.increment();
        }
        seat
    }

    /// The gauges of this moment. Does not touch the disk: `space` holds its measurement.
    fn gauges(&self, space: Option<Space>) -> Gauges {
        let Backlog { wal_bytes, behind } = self.store.backlog();
        let (source_bodies_bytes, source_bodies_bytes_max) = self.bodies.bytes();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Gauges {
            queue_messages: count(self.inbox.waiting()),
            queue_messages_max: count(self.settings.queue_max),
            connections_open: count(self.connections.len()),
            source_bodies_bytes,
            source_bodies_bytes_max,
            followers: count(self.tail.followers()),
            followers_max: count(self.settings.followers_max),
            wal_bytes,
            store_bytes: space.map(|space| space.used),
            disk_free_bytes: space.map(|space| space.free),
            index_behind: behind.index,
            search_behind: behind.search,
            log_lines_dropped: self.log.dropped(),
            process: Process::read(),
            cursor_lags: Vec::new(),
        }
    }
}

/// Every route and every layer, outermost last.
fn router(app: Arc<App>) -> Router {
    let reads = Router::new()
        .route("/messages", get(messages::list))
        .route("/stats", get(stats::show))
        .route("/stats/volume", get(volume::show))
        .route("/events", get(events::read))
        .route("/events/{position}", get(events::one))
        .route("/cursors", get(cursors::list))
        .route("/cursors/{name}", get(cursors::show).put(cursors::put).delete(cursors::delete))
        .route("/metrics", get(metrics::show))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), reads::authorize));
    let mut page = Router::new();
    if app.settings.page {
        page = page.route("/", get(page::show)).route("/assets/{name}", get(page::asset));
    }
    if app.sessions.is_some() {
        page = page.route("/session", post(session::begin).delete(session::end));
    }
    let mut erasing = Router::new();
    if app.settings.admin_token.is_some() {
        erasing = erasing
            .route("/events", delete(erasure::erase))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&app), reads::authorize_admin));
    }
    Router::new()
        .route("/webhook", post(webhook::receive))
        .route("/webhook/{name}", any(source::handle))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .merge(page)
        .merge(reads)
        .merge(erasing)
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

/// The last segment of a path, decoded. Bytes that are not UTF-8 become U+FFFD, which is in no name and in no position.
fn last_segment(path: &str) -> String {
    let segment = path.rsplit('/').next().unwrap_or_default();
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// Every route over one [`App`], as the handler that the server calls.
#[derive(Clone, Debug)]
pub struct Routes {
    app: Arc<App>,
    router: Router,
}

impl Routes {
    /// The routes over `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { router: router(Arc::clone(&app)), app }
    }
}

impl Handler for Routes {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        match self.router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn refuse(&self, status: StatusCode) -> Response<String> {
        observe::unreadable(&self.app, status)
    }
}
