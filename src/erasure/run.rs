//! Carries out an erasure, step by step, and gives way to messages meanwhile. Blocks.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Erasure, Step, Wiped};
use crate::store::{Error, Store};

/// While messages wait to be stored, a step is followed by a pause of so many times its length.
const GIVE_WAY: u32 = 4;
/// Maximum length of a pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Pause between two tries to wipe, while a reader keeps an old snapshot.
const HELD_PAUSE: Duration = Duration::from_millis(100);

/// An erasure that is carried out.
pub struct Run<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Whether messages wait to be stored.
    pub is_busy: &'a dyn Fn() -> bool,
    /// Whether to go on; asked between two steps.
    pub goes_on: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("store", &self.store).finish_non_exhaustive()
    }
}

/// How far an erasure has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that were erased, or counted.
    pub events: u64,
    /// No event that was selected at the begin is left.
    pub is_complete: bool,
}

impl Run<'_> {
    /// Erases what an erasure selects.
    ///
    /// # Errors
    /// [`Error`] of a step, beside what was erased before.
    pub fn erase(&self, erasure: &Erasure) -> (Progress, Result<(), Error>) {
        self.steps(0, |after| self.store.erase(erasure, after))
    }

    /// Counts what an erasure selects.
    ///
    /// # Errors
    /// [`Error`]
    pub fn count(&self, erasure: &Erasure) -> Result<Progress, Error> {
        let (progress, result) = self.steps(0, |after| self.store.count_selected(erasure, after));
        result.map(|()| progress)
    }

    /// Takes steps until there is no further one, or the work shall not go on.
    fn steps(
        &self,
        after: i64,
        mut step: impl FnMut(i64) -> Result<Step, Error>,
    ) -> (Progress, Result<(), Error>) {
        let (mut progress, mut after) = (Progress::default(), after);
        while (self.goes_on)() {
            let begin = Instant::now();
            let Step { events, next } = match step(after) {
                Ok(step) => step,
                Err(error) => return (progress, Err(error)),
            };
            progress.events += events;
            let Some(next) = next else {
                progress.is_complete = true;
                break;
            };
            after = next;
            self.give_way(begin.elapsed(), events > 0);
        }
        (progress, Ok(()))
    }

    /// A pause after work that took so long, and that messages may have waited for.
    pub(super) fn give_way(&self, took: Duration, has_written: bool) {
        if (self.is_busy)() {
            std::thread::sleep((took * GIVE_WAY).min(PAUSE_MAX));
        } else if has_written {
            // Messages that come now find the store free.
            std::thread::yield_now();
        }
    }

    /// Wipes what is left of erased events in the files, for so long at most.
    ///
    /// # Errors
    /// [`Error`]
    pub fn wipe(&self, patience: Duration) -> Result<Wiped, Error> {
        let begin = Instant::now();
        loop {
            let piece = Instant::now();
            let wiped = self.store.wipe()?;
            let is_ended = matches!(wiped, Wiped::Done | Wiped::ByServer);
            if is_ended || begin.elapsed() >= patience || !(self.goes_on)() {
                return Ok(wiped);
            }
            if wiped == Wiped::Held {
                std::thread::sleep(HELD_PAUSE);
            }
            self.give_way(piece.elapsed(), true);
        }
    }
}
