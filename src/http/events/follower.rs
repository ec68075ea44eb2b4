//! One who follows the log: reads on from a place, from the tail as far as that reaches back, else from the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use tokio::sync::watch;

use crate::event::{LogFilter, LogRead, Position, Reached};
use crate::http::App;
use crate::http::reads::{Permit, Room};
use crate::tail::{Bounds, CHUNK_BYTES, Chunk, Encoder, Look, Progress};

/// While much is being stored, a read for a follower who is behind is followed by a pause of so many times its length.
const GIVE_WAY: u32 = 3;
/// Maximum length of that pause.
const GIVE_WAY_MAX: Duration = Duration::from_millis(250);

/// Pause until a follower asks the store again for what the tail has and the store holds back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One who follows the log.
#[derive(Debug)]
pub(super) struct Follower {
    app: Arc<App>,
    filter: LogFilter,
    /// The position of the last event that was looked at; `None` at the beginning of the log.
    place: Option<Position>,
    /// The epoch of the tail in which the store has found the place to be right.
    epoch: u64,
    progress: watch::Receiver<Progress>,
}

/// The next step of a follower.
#[derive(Debug)]
pub(super) enum Step {
    /// Events come next. The follower is where it was: [`Follower::reach`] moves it.
    Events(Next),
    /// There is nothing more yet.
    End,
    /// The place names no event any more.
    Gone,
    /// The store failed; the response for who can still be told.
    Failed(Response<Body>),
}

/// What comes next.
#[derive(Debug)]
pub(super) struct Next {
    /// The events, and perhaps some before them.
    pub(super) chunk: Arc<Chunk>,
    /// The number of these.
    pub(super) first: usize,
    /// The place after all of them.
    pub(super) end: Option<Position>,
    /// The memory for a chunk that no other follower shares. Held until its events are on their way.
    pub(super) room: Option<Room>,
}

impl Follower {
    /// A follower at a place that the store has found to be right, in this epoch of the tail.
    pub(super) fn new(app: &Arc<App>, filter: LogFilter, place: Option<Position>, epoch: u64) -> Self {
        Self { app: Arc::clone(app), filter, place, epoch, progress: app.tail.progress() }
    }

    pub(super) fn filter(&self) -> &LogFilter {
        &self.filter
    }

    pub(super) fn place(&self) -> Option<Position> {
        self.place
    }

    /// Moves on to an event that was looked at.
    pub(super) fn reach(&mut self, place: Option<Position>) {
        self.place = place.or(self.place);
    }

    /// Whether there is nothing more, as far as the tail knows.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.app.tail.look(self.place, self.epoch), Look::End)
    }

    /// Whether nobody shall wait any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.progress.borrow().stopping
    }

    /// Waits until nobody shall wait any more.
    pub(super) async fn stopping(&self) {
        // It fails only when the service is gone.
        drop(self.progress.clone().wait_for(|progress| progress.stopping).await);
    }

    /// Waits until the log goes on, or nobody shall wait any more. Holds nothing meanwhile.
    pub(super) async fn more(&mut self) {
        if self.is_stopping() {
            return;
        }
        // Where the store, read a moment ago, has no more than the place, and the tail has: a batch that is late holds back
        // what was there already. The tail may have nothing to tell when that is over.
        let is_held_back = !self.is_at_end();
        tokio::select! {
            // It fails only when the service is gone.
            _ = self.progress.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN), if is_held_back => {}
        }
    }

    /// The next step, if it takes nothing but a look at the tail.
    pub(super) fn look(&mut self) -> Option<Step> {
        // What changes from here on is noticed by `more`.
        self.progress.mark_unchanged();
        match self.app.tail.look(self.place, self.epoch) {
            Look::Chunk(chunk, first) => Some(Step::within(chunk, first)),
            Look::End => Some(Step::End),
            Look::Dropped(_) | Look::Elsewhere => None,
        }
    }

    /// The next step, from the store if need be.
    pub(super) async fn step(&mut self) -> Step {
        if let Some(step) = self.look() {
            return step;
        }
        let permit = self.app.follower_reads.patient_permit().await;
        match self.app.tail.look(self.place, self.epoch) {
            // Another follower was faster.
            Look::Chunk(chunk, first) => Step::within(chunk, first),
            Look::End => Step::End,
            Look::Dropped(bounds) => self.restored(permit, bounds).await,
            Look::Elsewhere => self.read(permit).await,
        }
    }

    /// From a chunk that the tail has dropped, and that it is given back.
    async fn restored(&mut self, permit: Permit, bounds: Bounds) -> Step {
        let tail = Arc::clone(&self.app.tail);
        let chunk = match self.app.follower_reads.run_with(permit, move |_| tail.restore(bounds)).await {
            Ok(chunk) => chunk,
            Err(response) => return Step::Failed(response),
        };
        let place = |chunk: &Chunk| match self.place {
            place if place == bounds.after => Some(0),
            place => chunk.through(place?),
        };
        if let Some(chunk) = chunk
            && let Some(first) = place(&chunk)
        {
            return Step::within(chunk, first);
        }
        let permit = self.app.follower_reads.patient_permit().await;
        self.read(permit).await
    }

    /// From the store, as much as a chunk holds.
    async fn read(&mut self, permit: Permit) -> Step {
        let epoch = self.app.tail.epoch();
        let read = LogRead { filter: self.filter.clone(), ..LogRead::on_from(self.place) };
        let tail = Arc::clone(&self.app.tail);
        let looked = self.app.follower_reads.run_keeping(permit, move |store| {
            let begin = Instant::now();
            let mut encoder = Encoder::default();
            let reached = store.read_log(&read, &mut |recorded| {
                encoder.push(recorded);
                encoder.len() < CHUNK_BYTES
            })?;
            if tail.is_busy() {
                // With the permit: all followers together read for no more than a part of the time.
                std::thread::sleep((begin.elapsed() * GIVE_WAY).min(GIVE_WAY_MAX));
            }
            Ok(reached.map(|reached| (reached, encoder.finish())))
        });
        match looked.await {
            Ok((Some((Reached { next, end: true, .. }, chunk)), _)) if chunk.is_empty() => {
                self.epoch = epoch;
                self.reach(next);
                Step::End
            }
            Ok((Some((Reached { next, .. }, chunk)), permit)) => {
                self.epoch = epoch;
                let room = self.app.own_chunks.room(chunk.size()).await;
                // Not before: who waits for room holds a chunk already, and there are no more of them than permits.
                drop(permit);
                match room {
                    Ok(room) => {
                        Step::Events(Next { chunk: Arc::new(chunk), first: 0, end: next, room: Some(room) })
                    }
                    Err(response) => Step::Failed(response),
                }
            }
            Ok((None, _)) => Step::Gone,
            Err(response) => Step::Failed(response),
        }
    }
}

impl Step {
    fn within(chunk: Arc<Chunk>, first: usize) -> Self {
        Self::Events(Next { first, end: chunk.last(), chunk, room: None })
    }
}
