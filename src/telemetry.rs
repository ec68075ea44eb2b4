//! The log: one flat JSON object a line on standard output, and nothing else there.
//!
//! A line is appended to a buffer in memory, which a thread writes out: no request waits for the terminal or the disk. The
//! buffer is bounded: while standard output takes nothing, further lines are dropped and counted. The rest of the code logs
//! with `tracing`. Only the line of a request goes past it, through [`Log::request`], since it has the same fields for
//! every request and must cost little.

use std::fmt::{self, Write as _};
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::clock;
use crate::metrics::WebhookResult;
use crate::source::Refusal;

/// Maximum size of the buffer.
const BUFFER_BYTES_MAX: usize = 8 << 20;
/// Time in which lines are gathered to be written together.
const GATHER: Duration = Duration::from_millis(2);
/// Maximum time that the end of the program waits for standard output.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of a running service; clones are the same log.
#[derive(Debug, Clone)]
pub struct Log {
    sink: Arc<Sink>,
    level: Level,
}

/// The line of a request: its fields, in this order, after the time.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// The level of the line.
    pub level: Level,
    /// The value of `X-Request-ID`.
    pub request_id: &'a str,
    /// The method, or `other` for one that no route has.
    pub method: &'a str,
    /// The route's path, or `other`; never the path as sent, which may hold a phone number or a secret.
    pub path: &'a str,
    /// The status of the response.
    pub status: u16,
    /// Time from the complete header to the response.
    pub latency: Duration,
    /// The fields that only deliveries have.
    pub webhook: Option<WebhookFields<'a>>,
}

/// The fields of a delivery.
#[derive(Debug, Clone, Copy)]
pub struct WebhookFields<'a> {
    /// The name of the source, if it is a configured one.
    pub source: Option<&'a str>,
    /// Of the built-in source: the `message_id`, if it is known.
    pub message_id: Option<&'a str>,
    /// Of a configured source: the number of events, if it is known. Their keys may hold phone numbers.
    pub events: Option<usize>,
    /// How the request ended, as in the metric `webhook_requests_total`.
    pub result: WebhookResult,
    /// Of a configured source: why the signature was refused.
    pub refusal: Option<Refusal>,
}

impl Log {
    /// Starts the thread that writes to `out`; lines below `level` are left out.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(level: Level, out: impl Write + Send + 'static) -> std::io::Result<(Self, LogGuard)> {
        let sink = Arc::new(Sink::default());
        let thread = {
            let sink = Arc::clone(&sink);
            std::thread::Builder::new().name("lyftr-log".into()).spawn(move || sink.run(out))?
        };
        Ok((Self { sink: Arc::clone(&sink), level }, LogGuard { sink, thread: Some(thread) }))
    }

    /// A log that drops every line.
    pub fn none() -> Self {
        Self { sink: Arc::new(Sink { closed: true.into(), ..Sink::default() }), level: Level::ERROR }
    }

    /// Makes this log the one that takes the events of `tracing`, and panics, in the whole process.
    pub fn install(&self) {
        use tracing_subscriber::layer::SubscriberExt as _;
        let subscriber = tracing_subscriber::registry().with(self.clone());
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            tracing::warn!("another log was installed before");
        }
        std::panic::set_hook(Box::new(|panic| {
            // The payload is left out, since it may hold the text of a message.
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "panic");
        }));
    }

    /// Writes the line of a request.
    pub fn request(&self, line: &RequestLine<'_>) {
        if line.level > self.level {
            return;
        }
        let mut text = begin(line.level);
        member(&mut text, "request_id", line.request_id);
        member(&mut text, "method", line.method);
        member(&mut text, "path", line.path);
        let _infallible = write!(
            text,
            ",\"status\":{},\"latency_ms\":{:.3}",
            line.status,
            line.latency.as_secs_f64() * 1e3
        );
        if let Some(webhook) = &line.webhook {
            if let Some(source) = webhook.source {
                member(&mut text, "source", source);
            }
            if let Some(events) = webhook.events {
                let _infallible = write!(text, ",\"events\":{events}");
            }
            if let Some(id) = webhook.message_id {
                member(&mut text, "message_id", id);
            }
            let _infallible = write!(text, ",\"dup\":{}", webhook.result.is_dup());
            member(&mut text, "result", webhook.result.label());
            if let Some(refusal) = webhook.refusal {
                member(&mut text, "reason", refusal.label());
            }
        }
        text.push_str("}\n");
        self.sink.append(&text);
    }

    /// The number of lines dropped so far because standard output did not take them.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped.load(Ordering::Relaxed)
    }
}

/// Writes the buffer out when it is dropped, so that no line is lost at a normal exit.
#[derive(Debug)]
pub struct LogGuard {
    sink: Arc<Sink>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut buffer = self.sink.lock();
        buffer.closing = true;
        self.sink.changed.notify_all();
        // A terminal or pipe that takes nothing must not keep the program from ending.
        let (buffer, waited) = self
            .sink
            .changed
            .wait_timeout_while(buffer, CLOSE_TIMEOUT, |buffer| !buffer.done)
            .unwrap_or_else(PoisonError::into_inner);
        drop(buffer);
        if let Some(thread) = self.thread.take().filter(|_| !waited.timed_out()) {
            drop(thread.join());
        }
    }
}

#[derive(Debug, Default)]
struct Sink {
    buffer: Mutex<Buffer>,
    changed: Condvar,
    dropped: AtomicU64,
    closed: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    closing: bool,
    done: bool,
}

impl Sink {
    fn append(&self, line: &str) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut buffer = self.lock();
        if buffer.lines.len() + line.len() > BUFFER_BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let wake = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line.as_bytes());
        drop(buffer);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Writes out the appended lines until the guard is dropped.
    fn run(&self, out: impl Write) {
        let mut writer = LineWriter { out, begun: Vec::new() };
        let mut lines = Vec::new();
        loop {
            let mut buffer = self.lock();
            while buffer.lines.is_empty() && !buffer.closing {
                buffer = self.changed.wait(buffer).unwrap_or_else(PoisonError::into_inner);
            }
            if !buffer.closing {
                drop(buffer);
                std::thread::sleep(GATHER);
                buffer = self.lock();
            }
            lines.clear();
            std::mem::swap(&mut buffer.lines, &mut lines);
            let closing = buffer.closing;
            drop(buffer);
            let lost = writer.write(&lines);
            self.dropped.fetch_add(lost, Ordering::Relaxed);
            if closing && lines.is_empty() {
                break;
            }
        }
        self.lock().done = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes lines so that a failed write, on a full disk for example, leaves every line whole: the next write that succeeds
/// completes a line whose beginning was written.
struct LineWriter<W> {
    out: W,
    /// The missing end of the line that was begun.
    begun: Vec<u8>,
}

impl<W: Write> LineWriter<W> {
    /// Completes the line that was begun, then writes `lines`; returns how many of `lines` are lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let begun = std::mem::take(&mut self.begun);
        let (_, missing) = self.write_most(&begun);
        if !missing.is_empty() {
            self.begun = missing.to_vec();
            return count(lines);
        }
        let (written, unwritten) = self.write_most(lines);
        if written.last().is_none_or(|byte| *byte == b'\n') {
            return count(unwritten);
        }
        let mut rest = unwritten.split_inclusive(|byte| *byte == b'\n');
        self.begun = rest.next().unwrap_or_default().to_vec();
        u64::try_from(rest.count()).unwrap_or(u64::MAX)
    }

    /// Writes bytes as far as that succeeds; returns the written and the unwritten part.
    fn write_most<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(some @ 1..) => written += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        bytes.split_at_checked(written).unwrap_or((bytes, &[]))
    }
}

/// The number of lines.
fn count(lines: &[u8]) -> u64 {
    u64::try_from(lines.split_inclusive(|byte| *byte == b'\n').count()).unwrap_or(u64::MAX)
}

/// Events of our own code, flat: `ts`, `level`, `message`, then the event's fields.
impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Only events of our own code: those of libraries may hold secrets, in headers for example.
        *metadata.level() <= self.level && metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields { message: String::new(), others: String::new() };
        event.record(&mut fields);
        let mut text = begin(*event.metadata().level());
        member(&mut text, "message", &fields.message);
        text.push_str(&fields.others);
        text.push_str("}\n");
        self.sink.append(&text);
    }
}

/// An error and everything that caused it, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _infallible = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => member(&mut self.others, name, &text),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        member(&mut self.others, field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let _infallible = write!(self.others, ",\"{}\":{value}", field.name());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        let _infallible = write!(self.others, ",\"{}\":{value}", field.name());
    }
}

/// The beginning of a line: the time and the level.
fn begin(level: Level) -> String {
    let mut text = String::with_capacity(256);
    let _infallible = write!(text, "{{\"ts\":\"{:.6}\",\"level\":\"{level}\"", clock::now());
    text
}

/// `,"name":"value"`, the value escaped as JSON asks (RFC 8259, section 7).
fn member(text: &mut String, name: &str, value: &str) {
    let _infallible = write!(text, ",\"{name}\":");
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        let _infallible = write!(text, "\"{value}\"");
    } else {
        text.push_str(&serde_json::Value::from(value).to_string());
    }
}
