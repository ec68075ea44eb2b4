//! A page of the log as JSON, and the wait for its first event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;

use tokio::sync::watch;

use super::body::PageBody;
use super::follower::{Follower, Next, Step};
use super::{gone, page_of};
use crate::event::{LogFilter, LogRead, Position};
use crate::http::reads::Room;
use crate::http::{App, Waited, error};
use crate::server::Presence;
use crate::store::{self, Store};
use crate::tail::Progress;

/// Size at which a page ends, in bytes of its JSON. The event that crosses it is on the page.
const PAGE_BYTES: usize = 1 << 20;
/// How long one call looks for an event that the filter lets through before others get their turn.
const TURN: Duration = Duration::from_millis(200);
/// How long a read looks through the store for one. Then it tells how far it has come, and may be asked to go on.
const LOOK: Duration = Duration::from_secs(1);
/// What a page costs beside its bytes while followers give way to ingestion, in bytes: a request, and a read of the store.
const REQUEST_BYTES: usize = 64 << 10;

/// A page that is being made.
#[derive(Debug)]
struct Page {
    json: Vec<u8>,
    count: u32,
    /// The position that the read has come to.
    next: Option<Position>,
    /// There was nothing more.
    end: bool,
    /// The memory for its events.
    room: Option<Room>,
}

/// The end of a client's wait.
#[derive(Debug)]
struct Patience<'a> {
    deadline: tokio::time::Instant,
    presence: &'a Presence,
    progress: watch::Receiver<Progress>,
}

impl Patience<'_> {
    /// Waits until the time is over, nobody shall wait any more, or the client has ended its half of the connection.
    async fn ends(&self) {
        let mut progress = self.progress.clone();
        tokio::select! {
            () = tokio::time::sleep_until(self.deadline) => {}
            // It fails only when the service is gone.
            _ = progress.wait_for(|progress| progress.stopping) => {}
            () = self.presence.left() => {}
        }
    }
}

/// The response with the page that `read` asks for. If there is nothing yet, waits for it.
pub(super) async fn answer(
    app: &Arc<App>,
    read: LogRead,
    wait_seconds: u32,
    presence: &Presence,
) -> Result<Response<Body>, Response<Body>> {
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(wait_seconds.into());
    let patience = Patience { deadline: deadline.into(), presence, progress: app.tail.progress() };
    // A position that the store finds to be right now may be trusted as long as this lasts.
    let epoch = app.tail.epoch();
    let (mut page, limit) = (Page::new(), read.limit);
    let mut start = read.start;
    loop {
        page = match from_store(app, LogRead { start, ..read.clone() }, page).await? {
            Some(page) => page,
            None => return Err(gone()),
        };
        let is_stopping = patience.progress.borrow().stopping;
        if page.count > 0 || page.end || is_stopping || begin.elapsed() >= LOOK {
            break;
        }
        start = start.on_from(page.next);
    }
    let mut waited = Duration::ZERO;
    if page.count == 0 && page.end && Instant::now() < deadline {
        let Some(_seat) = app.follow() else { return Err(error::too_many_followers()) };
        let follower = Follower::new(app, read.filter, page.next, epoch);
        let begin = Instant::now();
        page = wait(app, follower, limit, &patience, page).await?;
        waited = begin.elapsed();
    }
    if wait_seconds > 0 && page.count > 0 {
        tokio::select! {
            () = app.tail.delivery(page.json.len() + REQUEST_BYTES) => {}
            () = patience.ends() => {}
        }
    }
    let mut response = page_of(Body::new(page.finish()));
    response.extensions_mut().insert(Waited(waited));
    Ok(response)
}

/// Reads the store until there is an event for the page, or the end is reached, or others shall have their turn. `None` if the
/// position where the read begins names no event.
async fn from_store(app: &App, mut read: LogRead, mut page: Page) -> Result<Option<Page>, Response<Body>> {
    let fill = move |store: &dyn Store| -> Result<Option<Page>, store::Error> {
        let begin = Instant::now();
        loop {
            let reached = store.read_log(&read, &mut |recorded| page.push(recorded.json().as_bytes()))?;
            let Some(reached) = reached else { return Ok(None) };
            (page.next, page.end) = (reached.next, reached.end);
            if page.count > 0 || page.end || begin.elapsed() >= TURN {
                return Ok(Some(page));
            }
            read.start = read.start.on_from(page.next);
        }
    };
    let permit = app.log_reads.permit().await?;
    let (page, _permit) = app.log_reads.run_keeping(permit, fill).await?;
    match page {
        Some(mut page) if page.count > 0 => {
            page.room = Some(app.pages.room(page.json.len()).await?);
            Ok(Some(page))
        }
        page => Ok(page),
    }
}

/// Waits for an event that the filter lets through.
async fn wait(
    app: &App,
    mut follower: Follower,
    limit: u32,
    patience: &Patience<'_>,
    mut page: Page,
) -> Result<Page, Response<Body>> {
    loop {
        // A step that is dropped loses nothing: the place is where it was.
        let step = tokio::select! {
            biased;
            () = patience.ends() => break,
            step = follower.step() => step,
        };
        match step {
            Step::Events(next) => {
                let room = tokio::select! {
                    biased;
                    () = patience.ends() => break,
                    room = app.pages.room(next.chunk.block_bytes()) => room?,
                };
                page.room = Some(room);
                let end = page.take(&next, follower.filter(), limit);
                follower.reach(end);
                page.next = follower.place();
                if page.count > 0 {
                    break;
                }
                page.room = None;
            }
            Step::End => {
                page.next = follower.place();
                tokio::select! {
                    () = follower.more() => {}
                    () = patience.ends() => break,
                }
            }
            Step::Gone => return Err(gone()),
            Step::Failed(response) => return Err(response),
        }
    }
    page.end = follower.is_at_end();
    Ok(page)
}

impl Page {
    fn new() -> Self {
        Self { json: br#"{"data":["#.to_vec(), count: 0, next: None, end: false, room: None }
    }

    /// Adds an event; returns whether the page has room for another one.
    fn push(&mut self, json: &[u8]) -> bool {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.count += 1;
        self.json.extend_from_slice(json);
        self.json.len() < PAGE_BYTES
    }

    /// Adds the events that come next, as far as there is room. Returns the place after those that were looked at.
    fn take(&mut self, next: &Next, filter: &LogFilter, limit: u32) -> Option<Position> {
        let Next { chunk, first, end, .. } = next;
        for nth in *first..chunk.len() {
            if chunk.lets_through(nth, filter) && !(self.push(chunk.json(nth)) && self.count < limit) {
                return if nth + 1 == chunk.len() { *end } else { chunk.position(nth) };
            }
        }
        *end
    }

    fn finish(mut self) -> PageBody {
        let next = self.next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
        let rest = format!("],\"next\":{next},\"end\":{}}}", self.end);
        self.json.extend_from_slice(rest.as_bytes());
        PageBody::new(self.json, self.room)
    }
}
