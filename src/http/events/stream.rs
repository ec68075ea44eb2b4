//! The log as a stream of Server-Sent Events (WHATWG HTML, section 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Response};
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::time::Instant;

use super::follower::{Follower, Next, Step};
use super::{PIECE_BYTES, gone};
use crate::event::{LogRead, Position, Start};
use crate::http::reads::{Room, time_to_take};
use crate::http::{App, error};
use crate::server::Presence;
use crate::tail::{Chunk, Seat};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// nginx shall not gather what is sent.
const NOT_BUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
/// After so long without a block a stream sends one that tells nothing but how far it has come.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the client of a stream that broke off waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 2_000;
/// Pause after a read that failed.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// What it costs to look through a chunk in vain, in bytes.
const LOOK_BYTES: usize = 2 << 10;
/// When the service stops, a stream that has more left than this is cut in the middle of a block, which its client drops.
const LAST_BYTES_MAX: usize = 128 << 10;

/// The response that streams from where `read` begins.
pub(super) async fn answer(
    app: &Arc<App>,
    read: LogRead,
    presence: Presence,
) -> Result<Response<Body>, Response<Body>> {
    let Some(seat) = app.follow() else { return Err(error::too_many_followers()) };
    let epoch = app.tail.epoch();
    let place = place(app, read.start).await?;
    let stream = Stream {
        source: Source::Ready(Follower::new(app, read.filter, place, epoch)),
        app: Arc::clone(app),
        presence,
        place,
        pieces: vec![format!("id:{}\nretry: {RETRY_MS}\n\n", id(place)).into()],
        held: None,
        silent_until: Instant::now() + HEARTBEAT,
        _seat: seat,
    };
    let pieces = stream::unfold(stream, |mut stream| async {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOT_BUFFERED.0, NOT_BUFFERED.1);
    Ok(response)
}

/// The place where a stream begins, which the store has found to be right; `None` is the beginning of the log.
async fn place(app: &App, start: Start) -> Result<Option<Position>, Response<Body>> {
    if matches!(start, Start::Beginning | Start::Before(_) | Start::Latest) {
        return Ok(None);
    }
    let read = LogRead { start, limit: 1, ..LogRead::on_from(None) };
    let reached = app.log_reads.run(move |store| store.read_log(&read, &mut |_| false)).await?;
    let reached = reached.ok_or_else(gone)?;
    Ok(match start {
        // Not where the read has come to: what comes next is for the stream.
        Start::After(position) => Some(position),
        _ => reached.next,
    })
}

/// The value of the field `id` with the space before it; empty at the beginning of the log.
fn id(place: Option<Position>) -> String {
    place.map(|place| format!(" {place}")).unwrap_or_default()
}

/// A stream under way.
struct Stream {
    app: Arc<App>,
    source: Source,
    presence: Presence,
    /// The position that the client knows, or will know with the next block.
    place: Option<Position>,
    /// What is to be sent, the last piece first.
    pieces: Vec<Bytes>,
    /// Where they are, unless that is little.
    held: Option<Held>,
    /// When the next heartbeat is due.
    silent_until: Instant,
    _seat: Seat,
}

/// A chunk that a stream holds until its client has taken it.
struct Held {
    chunk: Arc<Chunk>,
    /// The memory for it, unless the tail has it in memory too.
    room: Option<Room>,
    since: Instant,
}

/// Where the next events come from.
enum Source {
    Ready(Follower),
    /// A step that reads the store, which may take a while.
    Stepping(BoxFuture<'static, (Follower, Step)>),
    /// There is nothing to come.
    Ended,
}

/// What a stream does next.
enum Turn {
    Step(Step),
    Heartbeat,
    Stop,
    Again,
}

impl Stream {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.piece() {
                return Some(piece);
            }
            match self.turn().await {
                Turn::Step(Step::Events(next)) => self.take(next).await,
                Turn::Step(Step::End) => {
                    if let Source::Ready(follower) = &self.source {
                        self.place = follower.place();
                    }
                    // A client that asks for nothing more gets what there is.
                    if self.presence.has_left() || !self.wait().await {
                        return None;
                    }
                }
                Turn::Step(Step::Failed(_)) => self.read_again(),
                Turn::Step(Step::Gone) | Turn::Stop => return None,
                Turn::Heartbeat => self.beat(),
                Turn::Again => {}
            }
        }
    }

    /// The next piece of what is to be sent.
    fn piece(&mut self) -> Option<Bytes> {
        let left: usize = self.pieces.iter().map(Bytes::len).sum();
        if self.source.is_stopping() && left > LAST_BYTES_MAX || left > 0 && !self.may_hold() {
            self.pieces.clear();
            self.source = Source::Ended;
        }
        let Some(mut first) = self.pieces.pop() else {
            self.held = None;
            return None;
        };
        let piece = first.split_to(first.len().min(PIECE_BYTES));
        if !first.is_empty() {
            self.pieces.push(first);
        }
        self.silent_until = Instant::now() + HEARTBEAT;
        Some(piece)
    }

    /// Whether it may hold the memory of what is to be sent for longer.
    fn may_hold(&mut self) -> bool {
        let Some(Held { chunk, room, since }) = &mut self.held else { return true };
        if room.is_none() && !chunk.is_kept() {
            // The tail has dropped it meanwhile.
            *room = self.app.own_chunks.room_now(chunk.size());
            if room.is_none() {
                return false;
            }
        }
        room.is_none() || since.elapsed() < time_to_take(chunk.size())
    }

    /// Finds out what comes next, without a wait for more events.
    async fn turn(&mut self) -> Turn {
        // Before the heartbeat, which must not stand in a block that was cut.
        if self.source.is_stopping() || matches!(self.source, Source::Ended) {
            return Turn::Stop;
        }
        if Instant::now() >= self.silent_until {
            return Turn::Heartbeat;
        }
        match &mut self.source {
            Source::Ended => Turn::Stop,
            Source::Ready(follower) => {
                if let Some(step) = follower.look() {
                    return Turn::Step(step);
                }
                if let Source::Ready(mut follower) = std::mem::replace(&mut self.source, Source::Ended) {
                    self.source = Source::Stepping(Box::pin(async move {
                        let step = follower.step().await;
                        (follower, step)
                    }));
                }
                Turn::Again
            }
            Source::Stepping(stepping) => {
                let mut progress = self.app.tail.progress();
                tokio::select! {
                    (follower, step) = stepping => {
                        self.source = Source::Ready(follower);
                        Turn::Step(step)
                    }
                    () = tokio::time::sleep_until(self.silent_until) => Turn::Heartbeat,
                    _ = progress.wait_for(|progress| progress.stopping) => Turn::Stop,
                }
            }
        }
    }

    /// Takes over the events that come next, when it is their turn.
    async fn take(&mut self, next: Next) {
        let Source::Ready(follower) = &mut self.source else { return };
        self.pieces = next.chunk.blocks(next.first, follower.filter());
        self.pieces.reverse();
        self.held = Some(Held { chunk: next.chunk, room: next.room, since: Instant::now() });
        follower.reach(next.end);
        self.place = follower.place();
        let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        let turn = async {
            if bytes > 0 {
                self.app.tail.delivery(bytes).await;
            } else {
                self.app.tail.turn(LOOK_BYTES).await;
                // Others shall go on, too, however long the filter leaves everything out.
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = turn => {}
            () = follower.stopping() => self.pieces.clear(),
        }
    }

    /// Waits until there is more, or a heartbeat is due. Returns false if the stream is to end.
    async fn wait(&mut self) -> bool {
        let Source::Ready(follower) = &mut self.source else { return false };
        tokio::select! {
            () = follower.more() => !follower.is_stopping(),
            () = self.presence.left() => true,
            () = tokio::time::sleep_until(self.silent_until) => true,
        }
    }

    /// Tells how far the stream has come.
    fn beat(&mut self) {
        self.pieces.push(format!("id:{}\n\n", id(self.place)).into());
    }

    /// Lets the next step begin after a pause.
    fn read_again(&mut self) {
        if let Source::Ready(mut follower) = std::mem::replace(&mut self.source, Source::Ended) {
            self.source = Source::Stepping(Box::pin(async move {
                tokio::time::sleep(READ_AGAIN).await;
                let step = follower.step().await;
                (follower, step)
            }));
        }
    }
}

impl Source {
    fn is_stopping(&self) -> bool {
        matches!(self, Self::Ready(follower) if follower.is_stopping())
    }
}
