//! The tail: the newest part of the log, read once and kept in memory for all who follow it.
//!
//! A thread sleeps until something is committed, and only then reads the log on from where it has come to; while nobody follows
//! the log it does nothing. Followers sleep until it has read something. Who is older than what the tail knows reads the store.
//! Knows neither HTTP nor SQL.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

mod chunk;
mod pace;
mod window;

pub use chunk::{Chunk, Encoder};
pub use window::{Bounds, Look};

use crate::event::{EVENTS_MAX, LogFilter, LogRead, Position, Reached, Recorded, Start};
use crate::inbox::Commits;
use crate::store::{Error, Store};
use crate::telemetry::chain;
use pace::{Counted, Pace};
use window::Window;

/// Size at which a chunk ends, in bytes of its blocks; it is larger if its last event is.
pub const CHUNK_BYTES: usize = 64 << 10;
/// How long the tail goes on when nobody follows any more: who polls is away for a moment after each answer.
const LONELY: Duration = Duration::from_secs(10);
/// Pause between two reads while much is being stored, so that many events reach a follower together.
const GATHER: Duration = Duration::from_millis(25);
/// Pause between two reads for each follower, since all of them are woken: a few times what it takes to wake one.
const GATHER_FOR_EACH: Duration = Duration::from_micros(100);
/// Maximum length of this pause.
const GATHER_MAX: Duration = Duration::from_millis(250);
/// Pause after a read that failed.
const RETRY: Duration = Duration::from_millis(500);
/// First pause until the tail looks again for an event that this process has committed, but that is held back because one
/// with a smaller arrival number may still appear.
const HELD_BACK: Duration = Duration::from_millis(5);

/// The tail of one service.
#[derive(Debug)]
pub struct Tail {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The settings of a tail.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Pause between two looks for events that other processes have committed; `None` if there are no other processes.
    pub pause: Option<Duration>,
    /// Maximum number of followers at once.
    pub followers_max: usize,
}

/// How far the tail has come, for whoever sleeps until it goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Goes up with each change.
    version: u64,
    /// No follower shall wait any more.
    pub stopping: bool,
}

/// The seat of a follower: the right to wait.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    commits: Arc<Commits>,
    settings: Settings,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    followers: AtomicUsize,
    stopped: AtomicBool,
    pace: Pace,
}

#[derive(Debug, Default)]
struct State {
    /// While somebody follows, and the store could be read.
    window: Option<Window>,
    /// Goes up when the tail's own position names no event any more: then no follower's may be trusted.
    epoch: u64,
    /// Goes up when events were erased: what was read before may hold them.
    erasures: u64,
}

impl Tail {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        store: &Arc<dyn Store>,
        commits: &Arc<Commits>,
        settings: Settings,
    ) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            store: Arc::clone(store),
            commits: Arc::clone(commits),
            settings,
            state: Mutex::default(),
            progress: watch::Sender::default(),
            followers: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            pace: Pace::new(),
        });
        let reader = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("lyftr-tail".into()).spawn(move || reader.run())?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Takes a seat; `None` if all are taken.
    pub fn follow(&self) -> Option<Seat> {
        let Shared { followers, settings, .. } = &*self.shared;
        let room = |count| (count < settings.followers_max).then_some(count + 1);
        let before = followers.fetch_update(SeqCst, SeqCst, room).ok()?;
        let seat = Seat { shared: Arc::clone(&self.shared) };
        if before == 0 {
            self.shared.commits.wake();
        }
        Some(seat)
    }

    /// The number of followers.
    pub fn followers(&self) -> usize {
        self.shared.followers.load(SeqCst)
    }

    /// Tells when the tail goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// The epoch. Whoever was told by the store that a position names an event, and has asked for the epoch before that, may
    /// trust the position for as long as the epoch lasts.
    pub fn epoch(&self) -> u64 {
        self.shared.lock().epoch
    }

    /// What comes after a place, which was trusted in this epoch; `None` is the beginning of the log.
    pub fn look(&self, place: Option<Position>, epoch: u64) -> Look {
        let mut state = self.shared.lock();
        if state.epoch != epoch {
            return Look::Elsewhere;
        }
        // Until the tail has begun nobody knows better than to wait for that.
        state.window.as_mut().map_or(Look::End, |window| window.look(place))
    }

    /// Drops everything that is in memory, since events were erased. Followers keep their places, and read on from there.
    pub fn forget(&self) {
        self.shared.lock().forget();
    }

    /// Reads a chunk that the tail has dropped, and puts it back; `None` if it cannot be had whole: its begin or its end names no
    /// event any more, or the store holds a part of it back. Blocks.
    ///
    /// # Errors
    /// [`Error`]
    pub fn restore(&self, bounds: Bounds) -> Result<Option<Arc<Chunk>>, Error> {
        let mut encoder = Encoder::default();
        let mut after = bounds.after;
        let erasures = self.shared.lock().erasures;
        loop {
            let mut is_whole = false;
            let reached = self.shared.store.read_log(&LogRead::on_from(after), &mut |recorded| {
                let seq = recorded.position.seq;
                if seq <= bounds.through.seq {
                    encoder.push(recorded);
                }
                is_whole = seq >= bounds.through.seq;
                !is_whole
            })?;
            let Some(Reached { next, end, .. }) = reached else { return Ok(None) };
            if is_whole || end || next == after {
                break;
            }
            after = next;
        }
        if encoder.last() != Some(bounds.through) {
            return Ok(None);
        }
        let chunk = Arc::new(encoder.finish());
        let mut state = self.shared.lock();
        if state.erasures == erasures
            && let Some(window) = &mut state.window
        {
            window.restore(bounds, &chunk);
        }
        Ok(Some(chunk))
    }

    /// Waits until it is the turn of work for a follower that costs as much as the delivery of so many bytes: while much is
    /// being stored, followers give way to that.
    pub async fn turn(&self, bytes: usize) {
        self.shared.pace.turn(bytes).await;
    }

    /// The same for a delivery of so many bytes.
    pub async fn delivery(&self, bytes: usize) {
        self.turn(bytes + pace::DELIVERY_BYTES).await;
    }

    /// Whether much is being stored.
    pub fn is_busy(&self) -> bool {
        self.shared.pace.is_busy()
    }

    /// Tells the followers to wait no longer, and the thread to begin no further read.
    pub fn stop(&self) {
        self.shared.progress.send_modify(|progress| progress.stopping = true);
        self.shared.stopped.store(true, SeqCst);
        self.shared.commits.wake();
    }

    /// Stops the thread. Blocks until it has ended.
    pub fn close(&self) {
        self.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the tail panicked");
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.followers.fetch_sub(1, SeqCst);
    }
}

impl LogRead {
    /// A read of everything that comes after a place; `None` is the beginning of the log.
    pub fn on_from(place: Option<Position>) -> Self {
        let start = place.map_or(Start::Beginning, Start::After);
        Self { start, filter: LogFilter::default(), limit: EVENTS_MAX }
    }
}

impl State {
    fn forget(&mut self) {
        self.erasures += 1;
        if let Some(window) = &mut self.window {
            window.forget();
        }
    }
}

impl Shared {
    /// The work of the thread.
    fn run(&self) {
        loop {
            self.commits.wait_while(None, || !self.is_stopped() && !self.is_followed());
            if self.is_stopped() {
                return;
            }
            // A panic of the store's is logged, and no reason to leave the followers alone.
            let session = catch_unwind(AssertUnwindSafe(|| self.follow_log()));
            if session.is_err() {
                tracing::error!("the tail begins anew after a panic");
                self.sleep(RETRY);
            }
            if self.is_stopped() {
                // Followers may still say how far they have come.
                return;
            }
            self.lock().window = None;
        }
    }

    /// Follows the log until nobody else does.
    fn follow_log(&self) {
        let mut reader =
            Reader { shared: self, end: None, erasures: None, counted: Counted::new(), failing: false };
        let mut seen = self.commits.count();
        if !reader.begin() {
            return;
        }
        let mut held_back = HELD_BACK;
        let mut lonely_since = Instant::now();
        loop {
            let wake = self.settings.pause.map(|pause| Instant::now() + pause.min(held_back));
            let wake = wake.unwrap_or(lonely_since + LONELY);
            let idle = || !self.is_stopped() && self.commits.count() == seen;
            self.commits.wait_while(Some(wake), idle);
            if self.is_followed() {
                lonely_since = Instant::now();
            }
            if self.is_stopped() || lonely_since.elapsed() >= LONELY {
                return;
            }
            let committed = self.commits.count();
            match reader.read_on() {
                Some(0) if committed == seen => held_back = (2 * held_back).min(LONELY),
                Some(0) => held_back = HELD_BACK,
                Some(_) => {
                    held_back = LONELY;
                    self.sleep(self.gathering());
                }
                None => self.sleep(RETRY),
            }
            if self.lock().window.is_none() {
                // It was to begin anew, and nobody followed any more.
                return;
            }
            seen = if reader.failing { seen } else { committed };
        }
    }

    /// How long events gather before the followers are woken once more.
    fn gathering(&self) -> Duration {
        let followers = u32::try_from(self.followers.load(SeqCst)).unwrap_or(u32::MAX);
        let for_all = GATHER_FOR_EACH.saturating_mul(followers).min(GATHER_MAX);
        if self.pace.is_busy() || followers == 0 { for_all.max(GATHER) } else { for_all }
    }

    fn is_followed(&self) -> bool {
        self.followers.load(SeqCst) > 0
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    /// Sleeps for a while, unless the thread shall end.
    fn sleep(&self, time: Duration) {
        self.commits.wait_while(Some(Instant::now() + time), || !self.is_stopped());
    }

    fn tell(&self) {
        self.progress.send_modify(|progress| progress.version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The position where a read of the tail began names no event any more.
struct Lost;

/// Reads the log for the tail.
struct Reader<'a> {
    shared: &'a Shared,
    /// The position that it has come to; `None` at the beginning of an empty log.
    end: Option<Position>,
    /// What the store said of erasures in the last read.
    erasures: Option<i64>,
    counted: Counted,
    /// The last read failed.
    failing: bool,
}

impl Reader<'_> {
    /// Begins at the end of the log. Returns false if nobody follows any more before that works.
    fn begin(&mut self) -> bool {
        let now = LogRead { start: Start::Now, filter: LogFilter::default(), limit: 1 };
        while self.shared.is_followed() && !self.shared.is_stopped() {
            if let Some(Ok(reached)) = self.read(&now, &mut |_| true) {
                self.end = reached.next;
                self.shared.lock().window = Some(Window::after(self.end));
                self.shared.tell();
                return true;
            }
            self.shared.sleep(RETRY);
        }
        false
    }

    /// Reads on to the end of the log. Returns the number of events that were read; `None` if a read failed.
    fn read_on(&mut self) -> Option<usize> {
        let mut total = 0;
        loop {
            let (mut chunks, mut encoder, mut events) = (Vec::new(), Encoder::default(), 0);
            let read = LogRead::on_from(self.end);
            let erasures = self.shared.lock().erasures;
            let reached = self.read(&read, &mut |recorded| {
                events += 1;
                encoder.push(recorded);
                if encoder.len() >= CHUNK_BYTES {
                    chunks.push(std::mem::take(&mut encoder).finish());
                }
                chunks.len() < 16
            });
            let end = match reached {
                Some(Ok(reached)) => reached.end,
                Some(Err(Lost)) => {
                    self.begin_anew();
                    return Some(total);
                }
                None => return None,
            };
            chunks.push(encoder.finish());
            if events > 0 {
                total += events;
                self.shared.pace.note(&mut self.counted, events);
                let mut state = self.shared.lock();
                let is_stale = state.erasures != erasures;
                if let Some(window) = &mut state.window {
                    for chunk in chunks {
                        window.push(chunk);
                    }
                    self.end = window.end();
                    if is_stale {
                        window.forget();
                    }
                }
                drop(state);
                self.shared.tell();
            }
            if end || events == 0 || self.shared.is_stopped() {
                return Some(total);
            }
        }
    }

    /// Begins once more at the end of the log, after the position that was reached has turned out to name no event any more:
    /// the database has lost events, or is another one.
    fn begin_anew(&mut self) {
        tracing::warn!("the log has lost events that were read: whoever follows it has to begin anew");
        {
            let mut state = self.shared.lock();
            state.epoch += 1;
            state.window = None;
        }
        self.shared.tell();
        self.begin();
    }

    /// Reads the log; `None` if that failed, which is logged the first time.
    fn read(
        &mut self,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Option<Result<Reached, Lost>> {
        match self.shared.store.read_log(read, each) {
            Ok(reached) => {
                self.failing = false;
                let erasures = reached.map(|reached| reached.erasures);
                // Another process may have erased something.
                if self.erasures.is_some() && erasures.is_some() && erasures != self.erasures {
                    self.shared.lock().forget();
                }
                self.erasures = erasures.or(self.erasures);
                Some(reached.ok_or(Lost))
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(error = chain(&error), "the tail cannot read the log, and tries again");
                }
                self.failing = true;
                None
            }
        }
    }
}
