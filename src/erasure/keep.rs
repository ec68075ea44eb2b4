//! Erases what is too old to be kept, on a thread of its own.
//!
//! Events arrive about in the order of their receipt, so a pass begins at the first event and ends where nothing is due. A copy
//! into the store, or a clock that was set, can put older events behind newer ones: a pass over all of them, at the begin and once a
//! day, finds these.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Erasure, Run, Step};
use crate::message::Timestamp;
use crate::store::{Error, Store};
use crate::telemetry::chain;

/// Pause between two passes.
const PAUSE: Duration = Duration::from_mins(10);
/// Time between two passes over all events.
const WHOLE_PAUSE: Duration = Duration::from_hours(24);
/// A pass over all events rests for so many times the length of each step.
const REST: u32 = 9;
/// Maximum length of this rest.
const REST_MAX: Duration = Duration::from_millis(500);
/// How long a pass waits until what it has erased is wiped from the files.
const WIPE_PATIENCE: Duration = Duration::from_mins(10);
const DAY_SECONDS: i64 = 86_400;

/// What is kept, and for how long.
#[derive(Clone)]
pub struct Keep {
    /// How many days an event is kept after its receipt.
    pub days: u32,
    /// The clock by which events are received.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Whether messages wait to be stored.
    pub is_busy: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Told after a pass how many events it has erased, if any.
    pub told: Arc<dyn Fn(u64) + Send + Sync>,
}

/// The thread. Dropping it ends it between two steps.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_set: Mutex<bool>,
    set: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.set.notify_all();
    }

    /// Sleeps for a while, or until it is set.
    fn wait(&self, time: Duration) {
        let guard = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.set.wait_timeout_while(guard, time, |is_set| !*is_set));
    }
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(store: &Arc<dyn Store>, keep: Keep) -> std::io::Result<Self> {
        let stop = Arc::<Stop>::default();
        let (store, stopped) = (Arc::clone(store), Arc::clone(&stop));
        let run = move || keep.run(store.as_ref(), &stopped);
        let thread = std::thread::Builder::new().name("lyftr-keep".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.set();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that erases old events panicked");
        }
    }
}

impl Keep {
    fn run(&self, store: &dyn Store, stop: &Stop) {
        let mut whole_pass = None::<Instant>;
        while !stop.is_set() {
            let is_whole = whole_pass.is_none_or(|begin| begin.elapsed() >= WHOLE_PAUSE);
            let begin = Instant::now();
            match self.pass(store, stop, is_whole) {
                Ok(true) if is_whole => whole_pass = Some(begin),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "old events could not be erased; the next pass goes on"
                    );
                }
            }
            stop.wait(PAUSE);
        }
    }

    /// Erases what is due: all of it, or what is due up to the first part of the log where nothing is. Returns whether it was for
    /// this process to do so, and it came to its end.
    fn pass(&self, store: &dyn Store, stop: &Stop, is_whole: bool) -> Result<bool, Error> {
        if !store.is_keeper()? {
            return Ok(false);
        }
        let Some(until) = self.due_before() else { return Ok(true) };
        let erasure = Erasure::received_before(until);
        let goes_on = || !stop.is_set();
        let run = Run { store, is_busy: &*self.is_busy, goes_on: &goes_on };
        let (mut after, mut total, mut result) = (Some(0), 0, Ok(()));
        while let Some(seq) = after.filter(|_| goes_on()) {
            let begin = Instant::now();
            match store.erase(&erasure, seq) {
                Ok(Step { events, next }) => {
                    total += events;
                    after = next.filter(|_| is_whole || events > 0);
                    run.give_way(begin.elapsed(), events > 0);
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if is_whole && after.is_some() {
                stop.wait((begin.elapsed() * REST).min(REST_MAX));
            }
        }
        if total > 0 {
            (self.told)(total);
        }
        result?;
        if total > 0 {
            run.wipe(WIPE_PATIENCE)?;
        }
        Ok(after.is_none())
    }

    /// The instant before which everything was received that is due now; `None` before there can be any such event.
    fn due_before(&self) -> Option<Timestamp> {
        let now = (self.clock)();
        let second = now.second() - i64::from(self.days) * DAY_SECONDS;
        Timestamp::from_parts(second, now.nanosecond(), 9).ok()
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep").field("days", &self.days).finish_non_exhaustive()
    }
}
