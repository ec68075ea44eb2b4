//! Connections: accepting them, setting limits to them, and ending them in good order.
//!
//! Our own loop over hyper's HTTP/1 connection, since axum's `serve` has none of the limits. Knows nothing of
//! messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

mod body;
mod listener;
mod registry;
mod wire;

pub use body::RequestBody;
pub use listener::{Listener, Unbound, bind};
pub use registry::Registry;
use registry::{Guard, Phase, TICK};
use wire::{Refuse, Wire};

use crate::telemetry::chain;

/// What connections may do, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most open connections.
    pub max_connections: usize,
    /// For a complete header, from the connection's begin or the header's first byte.
    pub header_timeout: Duration,
    /// For the next request, from the last answer. Longer than a proxy in front keeps an unused connection, so that
    /// none is ended at the moment when the proxy sends a request on it.
    pub idle_timeout: Duration,
    /// For the client to take anything of an answer.
    pub write_timeout: Duration,
    /// For the client to end its half after we ended ours.
    pub linger_timeout: Duration,
    /// After the stop, for requests that came one behind the other, before each answer ends its connection and with it
    /// those behind.
    pub pipelined_timeout: Duration,
    /// For everything that is under way when the server stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 12_000,
            header_timeout: Duration::from_secs(4),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(1),
            pipelined_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(7),
        }
    }
}

/// Hyper's buffer for a header; larger than the largest header we accept, so that it is we who refuse it.
const HEADER_BUFFER_BYTES: usize = 32 << 10;
/// After the stop, requests that have arrived are still read from connections that seemed idle.
const ARRIVED: Duration = Duration::from_millis(200);
/// After the stop, connections that wait already are accepted yet: until none has come for so long.
const LAST_ACCEPT: Duration = Duration::from_millis(20);
/// But not for longer than this, where they never end.
const LAST_ACCEPTS: Duration = Duration::from_millis(300);
/// Pause after the operating system refused a connection, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Marks a request whose header says in two ways how long its body is.
#[derive(Debug, Clone, Copy)]
pub struct AmbiguousLength;

/// What answers the requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers a request.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Body>> + Send;

    /// Answers a header that cannot be read, with this status and a body that is not empty.
    fn refuse(&self, status: StatusCode) -> Response<String>;
}

/// Serves connections until `stop` is done, then accepts no more, answers every request that had arrived, and
/// returns when all connections are closed, or after the drain timeout.
pub async fn serve<H: Handler>(
    listener: Listener,
    handler: H,
    registry: Arc<Registry>,
    stop: impl Future<Output = ()>,
) {
    let server = Server {
        refuse: {
            let handler = handler.clone();
            Arc::new(move |status| wire_form(&handler.refuse(status)))
        },
        handler,
        registry,
        stopping: Arc::default(),
        closing: Arc::default(),
    };
    let ticker = tokio::spawn(tick(Arc::clone(&server.registry), Arc::clone(&server.stopping)));
    tokio::select! {
        () = server.accept(&listener) => {}
        () = stop => {}
    }
    // The operating system may have accepted connections whose requests we have not seen.
    let end = Instant::now() + LAST_ACCEPTS;
    while timeout_at(end.min(Instant::now() + LAST_ACCEPT), server.accept_one(&listener)).await.is_ok() {}
    drop(listener);
    server.drain().await;
    ticker.abort();
}

/// Looks after the limits.
async fn tick(registry: Arc<Registry>, stopping: Arc<AtomicBool>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        registry.tick(stopping.load(Relaxed));
    }
}

#[derive(Clone)]
struct Server<H> {
    handler: H,
    refuse: Refuse,
    registry: Arc<Registry>,
    /// Connections on which nothing is under way are ended.
    stopping: Arc<AtomicBool>,
    /// Every answer ends its connection.
    closing: Arc<AtomicBool>,
}

impl<H: Handler> Server<H> {
    async fn accept(&self, listener: &Listener) {
        loop {
            self.accept_one(listener).await;
        }
    }

    async fn accept_one(&self, listener: &Listener) {
        match listener.accept().await {
            Ok(stream) => self.start(stream).await,
            Err(error) => {
                tracing::warn!(error = chain(&error), "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    /// Gives a connection a task of its own; waits while the registry is full of requests being served.
    async fn start(&self, stream: TcpStream) {
        let guard = loop {
            match self.registry.register() {
                Some(guard) => break guard,
                None => self.registry.removal().await,
            }
        };
        // Without it an answer could wait 40 ms for the client's acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        tokio::spawn(self.clone().connection(stream, guard));
    }

    async fn connection(self, stream: TcpStream, guard: Guard) {
        let entry = &guard.connection;
        let mut wire = Wire::new(stream, Arc::clone(entry), Arc::clone(&self.refuse));
        // Whether a request may still come: not when the server stops before one has begun to.
        let mut wanted = true;
        while wanted {
            tokio::select! {
                // Hyper will meet an error, and the end, again.
                _ = wire.first_header() => break,
                aborted = entry.ended() => {
                    if aborted {
                        return;
                    }
                    wanted = !entry.is_waiting();
                }
            }
        }
        let ambiguous = wire.ambiguous();
        let unread = Arc::<AtomicBool>::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            entry.enter(Phase::Serving);
            if ambiguous.load(Relaxed) {
                request.extensions_mut().insert(AmbiguousLength);
            }
            // Where one body ends in chunks and the next request begins has been read in different ways by
            // different programs, so nothing comes after it.
            let last = request.headers().contains_key(TRANSFER_ENCODING);
            let answer = self.handler.call(request.map(|body| RequestBody::new(body, Arc::clone(&unread))));
            let (closing, unread) = (&self.closing, &unread);
            async move {
                let mut response = answer.await;
                if last || unread.load(Relaxed) || closing.load(Relaxed) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                entry.enter(Phase::Idle);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .half_close(true)
            .max_buf_size(HEADER_BUFFER_BYTES)
            .writev(false)
            .serve_connection(TokioIo::new(wire), service);
        let mut connection = std::pin::pin!(connection);
        if !wanted {
            connection.as_mut().graceful_shutdown();
        }
        loop {
            tokio::select! {
                // What ends a connection with an error is the client's doing, and was answered if it could be.
                _ = connection.as_mut() => break,
                aborted = entry.ended() => {
                    if aborted {
                        break;
                    }
                    // Not between two requests that came one behind the other.
                    if entry.is_waiting() {
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }

    /// Lets what is under way come to its end.
    async fn drain(&self) {
        let begin = Instant::now();
        while !self.registry.is_empty() {
            let waited = begin.elapsed();
            self.stopping.store(waited >= ARRIVED, Relaxed);
            self.closing.store(waited >= self.registry.limits().pipelined_timeout, Relaxed);
            if waited >= self.registry.limits().drain_timeout {
                self.registry.abort_all();
                break;
            }
            self.registry.removal().await;
        }
    }
}

/// An answer as it goes over the wire, ending its connection.
fn wire_form(response: &Response<String>) -> Vec<u8> {
    let status = response.status();
    let mut text =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default())
            .into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let body = response.body();
    text.extend_from_slice(
        format!("connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    text
}
