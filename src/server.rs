//! The server: accepts connections, keeps them within limits, and ends them in good order.
//!
//! It is a loop of our own over hyper's HTTP/1 connection, since `axum::serve` has none of the limits. Knows nothing of
//! messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

mod body;
mod listener;
mod presence;
mod registry;
mod wire;

pub use body::RequestBody;
use body::StreamBody;
pub(crate) use listener::is_loopback;
pub use listener::{BindError, Listener, bind};
pub use presence::Presence;
pub use registry::Registry;
use registry::{Guard, Phase, TICK};
use wire::{RefusalEncoder, Wire};

use crate::telemetry::chain;

/// The limits of connections, in number and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Time for a complete header, from the start of the connection or the first byte of the header.
    pub header_timeout: Duration,
    /// Time for the next request, from the last response. Longer than a proxy in front keeps an idle connection, so that
    /// the server does not end one at the moment when the proxy sends a request on it.
    pub idle_timeout: Duration,
    /// Time for the client to take some bytes of a response.
    pub write_timeout: Duration,
    /// Time for the client to end its half of the connection after the server ended its own.
    pub linger_timeout: Duration,
    /// Time for pipelined requests after the stop. Then each response ends its connection, and with it the requests behind it.
    pub pipelined_timeout: Duration,
    /// Time for the requests that are under way when the server stops.
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

/// Size of hyper's buffer for a header. It is larger than the largest accepted header, so that a header between the two
/// gets our response instead of hyper's.
const HEADER_BUFFER_BYTES: usize = 32 << 10;
/// How long connections that seem idle are still read after the stop, for requests that have arrived.
const ARRIVED: Duration = Duration::from_millis(200);
/// Connections that wait already are still accepted after the stop, until none has come for this time.
const LAST_ACCEPT_WAIT: Duration = Duration::from_millis(20);
/// How long a stream may take to end after the stop. It loses nothing: its client goes on from where it was.
const STREAMS_DRAIN: Duration = Duration::from_millis(600);
/// How long connections are accepted after the stop at most.
const LAST_ACCEPTS_MAX: Duration = Duration::from_millis(300);
/// How long what was sent may stay unacknowledged by the client's operating system, or three write timeouts if that is longer.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// Pause after the operating system refused a connection, mostly because file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Marks a request whose header gives the length of its body in two ways.
#[derive(Debug, Clone, Copy)]
pub struct AmbiguousLength;

/// The code that answers the requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers a request.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Response<Body>> + Send;

    /// The response to a header that cannot be read. It has this status, and its body is not empty.
    fn refuse(&self, status: StatusCode) -> Response<String>;
}

/// Serves connections until `stop` is done, then accepts only those that wait already, answers every request that had
/// arrived, and returns when all connections are closed, or after the drain timeout.
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
    let end = Instant::now() + LAST_ACCEPTS_MAX;
    while timeout_at(end.min(Instant::now() + LAST_ACCEPT_WAIT), server.accept_one(&listener)).await.is_ok() {
    }
    drop(listener);
    server.drain().await;
    ticker.abort();
}

/// Enforces the limits on connections, forever.
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
    refuse: RefusalEncoder,
    registry: Arc<Registry>,
    /// Connections without a request under way are ended.
    stopping: Arc<AtomicBool>,
    /// Every response ends its connection.
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

    /// Starts the task of a connection; waits while the registry is full of connections that are served.
    async fn start(&self, stream: TcpStream) {
        let guard = loop {
            match self.registry.register() {
                Some(guard) => break guard,
                None => self.registry.removal().await,
            }
        };
        // Otherwise a response could wait 40 ms until the client's TCP acknowledges the one before.
        drop(stream.set_nodelay(true));
        #[cfg(target_os = "linux")]
        self.limit_unacknowledged(&stream);
        tokio::spawn(self.clone().connection(stream, guard));
    }

    /// Has the operating system give up a client that is gone without a word, its machine or its network with it. Otherwise it
    /// would count as open for a quarter of an hour, for as long as what it does not acknowledge is sent again. Includes the time
    /// in which the client makes no room, so it is far longer than the write timeout, which is to end that.
    #[cfg(target_os = "linux")]
    fn limit_unacknowledged(&self, stream: &TcpStream) {
        let limit = UNACKNOWLEDGED_MAX.max(3 * self.registry.limits().write_timeout);
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let _best_effort = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds);
    }

    async fn connection(self, stream: TcpStream, guard: Guard) {
        let entry = &guard.connection;
        let mut wire = Wire::new(stream, Arc::clone(entry), Arc::clone(&self.refuse));
        // False if the server stops before a request has begun to arrive.
        let mut wanted = true;
        while wanted {
            tokio::select! {
                // Hyper meets an error or the end of the stream again.
                _ = wire.first_header() => break,
                aborted = entry.ended() => {
                    if aborted {
                        return;
                    }
                    wanted = !entry.is_waiting();
                }
            }
        }
        let (ambiguous, presence) = (wire.ambiguous(), wire.presence());
        let unread = Arc::<AtomicBool>::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            entry.enter(Phase::Serving);
            if ambiguous.load(Relaxed) {
                request.extensions_mut().insert(AmbiguousLength);
            }
            if [Method::GET, Method::DELETE].contains(request.method()) {
                request.extensions_mut().insert(presence.clone());
            }
            // Programs have disagreed on where a chunked body ends and the next request begins, so such a request is the
            // last one of its connection.
            let last = request.headers().contains_key(TRANSFER_ENCODING);
            let answer = self.handler.call(request.map(|body| RequestBody::new(body, Arc::clone(&unread))));
            let (closing, unread) = (&self.closing, &unread);
            async move {
                let mut response = answer.await;
                if last || unread.load(Relaxed) || closing.load(Relaxed) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if response.body().size_hint().exact().is_none() {
                    return Ok(response.map(|body| Body::new(StreamBody::new(body, entry))));
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
                // An error is the client's doing, and was answered if that was possible.
                _ = connection.as_mut() => break,
                aborted = entry.ended() => {
                    if aborted {
                        break;
                    }
                    // Not between two pipelined requests.
                    if entry.is_waiting() {
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }

    /// Waits until every connection has ended, and aborts the rest after the drain timeout.
    async fn drain(&self) {
        let begin = Instant::now();
        while !self.registry.is_empty() {
            let waited = begin.elapsed();
            self.stopping.store(waited >= ARRIVED, Relaxed);
            self.closing.store(waited >= self.registry.limits().pipelined_timeout, Relaxed);
            if waited >= STREAMS_DRAIN {
                self.registry.abort_streams();
            }
            if waited >= self.registry.limits().drain_timeout {
                self.registry.abort_all();
                break;
            }
            self.registry.removal().await;
        }
    }
}

/// The bytes of a response that ends its connection.
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
