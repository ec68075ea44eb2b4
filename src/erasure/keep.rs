//! Erases what is too old to be kept, on a thread of its own.
//!
//! Events arrive about in the order of their receipt, so a pass begins in the part of the log in which the last one has come to
//! events that are not due, and ends where nothing is due and younger events follow. A copy into the store, or a clock that was
//! set, can put older events behind newer ones: a pass over all of them, at the begin, after a change of the rules and once a day,
//! finds these.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Erasure, Run, Step};
use crate::event::{Arrived, Source};
use crate::message::Timestamp;
use crate::store::{Error, Store};
use crate::telemetry::chain;

/// Time between two passes over all events.
const WHOLE_PAUSE: Duration = Duration::from_hours(24);
/// A pass over all events rests for so many times the length of each step.
const REST: u32 = 9;
/// Maximum length of this rest.
const REST_MAX: Duration = Duration::from_millis(500);
/// How long a pass waits until what it has erased is wiped from the files.
const WIPE_PATIENCE: Duration = Duration::from_mins(10);
const DAY_SECONDS: i64 = 86_400;

/// How long events are kept after their receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFor {
    /// So many days.
    Days(u32),
    /// Until somebody erases them.
    Ever,
}

/// How long the events of which source are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The sources that have a time of their own.
    pub of_sources: Vec<(Source, KeptFor)>,
    /// All others.
    pub of_others: KeptFor,
}

/// One rule by which events are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The source whose events it is about; `None` for all that have no rule of their own.
    pub source: Option<Source>,
    /// How many days they are kept.
    pub days: u32,
}

impl Rules {
    /// What is to be done: each rule with the erasure of what was received before an instant.
    fn erasures(&self, now: Timestamp) -> Vec<(Rule, Timestamp, Erasure)> {
        let sources = || self.of_sources.iter().map(|(source, _)| source.clone());
        let all = std::iter::once((None, self.of_others));
        let all = all.chain(self.of_sources.iter().map(|(source, kept)| (Some(source.clone()), *kept)));
        let rules = all.filter_map(|(source, kept)| match kept {
            KeptFor::Days(days) => Some(Rule { source, days }),
            KeptFor::Ever => None,
        });
        let due = |rule: Rule| {
            let until = due_before(now, rule.days)?;
            let erasure = Erasure::received_before(until);
            let erasure = match &rule.source {
                Some(source) => erasure.of(source),
                None => erasure.except(sources().collect()),
            };
            Some((rule, until, erasure))
        };
        rules.filter_map(due).collect()
    }
}

/// The instant before which everything was received that is due now; `None` before there can be any such event.
fn due_before(now: Timestamp, days: u32) -> Option<Timestamp> {
    let second = now.second() - i64::from(days) * DAY_SECONDS;
    Timestamp::from_parts(second, now.nanosecond(), 9).ok()
}

/// Takes a rule and a number of events.
pub type Told = dyn Fn(&Rule, u64) + Send + Sync;

/// What the thread works with.
#[derive(Clone)]
pub struct Keep {
    /// The rules, asked before each pass.
    pub rules: Arc<dyn Fn() -> Rules + Send + Sync>,
    /// The clock by which events are received.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Whether messages wait to be stored.
    pub is_busy: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Told after a pass how many events a rule has erased, if any.
    pub told: Arc<Told>,
    /// Pause between two passes.
    pub pause: Duration,
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
        // When the last pass over all events began, and by which rules.
        let mut whole_pass = None::<(Instant, Rules)>;
        // Where the next pass of each rule begins.
        let mut places = HashMap::<Option<Source>, i64>::new();
        while !stop.is_set() {
            let (begin, rules) = (Instant::now(), (self.rules)());
            // A source that has no time of its own any more may have older events than the place of all others.
            let is_whole =
                whole_pass.as_ref().is_none_or(|(last, by)| last.elapsed() >= WHOLE_PAUSE || *by != rules);
            match self.pass(store, stop, is_whole, &rules, &mut places) {
                Ok(true) if is_whole => whole_pass = Some((begin, rules)),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = chain(&error),
                        "old events could not be erased; the next pass goes on"
                    );
                }
            }
            stop.wait(self.pause);
        }
    }

    /// Erases what is due by each rule. Returns whether it was for this process to do so, and it came to its end.
    fn pass(
        &self,
        store: &dyn Store,
        stop: &Stop,
        is_whole: bool,
        rules: &Rules,
        places: &mut HashMap<Option<Source>, i64>,
    ) -> Result<bool, Error> {
        let erasures = rules.erasures((self.clock)());
        if erasures.is_empty() || !store.is_keeper()? {
            return Ok(false);
        }
        let goes_on = || !stop.is_set();
        let run = Run { store, is_busy: &*self.is_busy, goes_on: &goes_on };
        let mut has_erased = false;
        for (rule, until, erasure) in erasures {
            let place = places.entry(rule.source.clone()).or_default();
            let mut total = 0;
            let result = Self::carry_out(&run, stop, is_whole, (&erasure, until), place, &mut total);
            if total > 0 {
                has_erased = true;
                (self.told)(&rule, total);
            }
            result?;
        }
        // Otherwise it is wiped little by little: looking through the files each time would cost more than erasing.
        if has_erased && is_whole {
            run.wipe(WIPE_PATIENCE)?;
        }
        Ok(goes_on())
    }

    /// Erases what one rule says: all of it, or from the place on what is due up to the first part of the log where nothing is,
    /// and behind which something younger stands. Moves the place to the first part behind which something younger stands: in
    /// it some events may be due soon. Adds the number of events that were erased to `total`.
    fn carry_out(
        run: &Run<'_>,
        stop: &Stop,
        is_whole: bool,
        (erasure, until): (&Erasure, Timestamp),
        place: &mut i64,
        total: &mut u64,
    ) -> Result<(), Error> {
        let mut after = Some(if is_whole { 0 } else { *place });
        let mut has_place = false;
        while let Some(seq) = after.filter(|_| (run.goes_on)()) {
            let begin = Instant::now();
            let Step { events, next } = run.store.erase(erasure, seq)?;
            *total += events;
            if !has_place && is_younger(run.store, next, until)? {
                (*place, has_place) = (seq, true);
            }
            after = next.filter(|_| is_whole || !has_place || events > 0);
            run.give_way(begin.elapsed(), events > 0);
            if is_whole && after.is_some() {
                stop.wait((begin.elapsed() * REST).min(REST_MAX));
            }
        }
        Ok(())
    }
}

/// Whether the event after an arrival number, if there is one, was received at an instant or later.
fn is_younger(store: &dyn Store, after: Option<i64>, until: Timestamp) -> Result<bool, Error> {
    let Some(after) = after else { return Ok(true) };
    let arrived = store.arrived(after, 1)?;
    let received_at = |arrived: &Arrived| arrived.event.received_at.map(Timestamp::moment);
    Ok(arrived.first().is_none_or(|arrived| received_at(arrived).is_some_and(|at| at >= until.moment())))
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep").finish_non_exhaustive()
    }
}
