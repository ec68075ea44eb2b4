//! A store that fails, delays or hangs when it is told to, around one that does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lyftr::cursor::{Cursor, CursorName, Move, Moved};
use lyftr::erasure::{Erasure, Step, Tombstone, Tombstones, Wiped};
use lyftr::event::{Arrived, Event, LogRead, Position, Reached, Recorded, Source, Start};
use lyftr::message::{Message, Name};
use lyftr::query::{Filter, Listing, Page, Stats, Volume};
use lyftr::store::{Backlog, Error, Outcome, Space, Store};

use crate::support::DEADLINE;

/// The reason that a fault gives.
pub(crate) const REASON: &str = "the store was told to fail";

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `Error::Unavailable`, and nothing is done.
    Unavailable,
    /// `Error::Failed`, and nothing is done.
    Failed,
    /// The work is done, but the answer is `Error::Unavailable`: as when the answer to a COMMIT is lost.
    LostAnswer,
    /// The call panics, and nothing is done.
    Panic,
    /// The work is done after this time.
    Delay(Duration),
    /// The work is done after [`Calls::heal`] or [`Faulty::heal`].
    Block,
    /// A read of the log that goes on from somewhere finds nothing there: as when the rest is held back by a batch that is late
    /// (`end`), or was left out by a filter.
    Nothing { end: bool },
}

/// Calls of one kind, and what is to go wrong with them. The first call has the number 1.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    count: u64,
    blocked: usize,
    every: Option<Fault>,
    one: BTreeMap<u64, Fault>,
    /// Goes up at each healing, which lets go what is blocked.
    heals: u64,
}

impl Calls {
    /// From now on this happens to every call.
    pub(crate) fn all(&self, fault: Fault) {
        self.lock().every = Some(fault);
    }

    /// This happens to the `n`-th call from now on, 1 being the next one.
    pub(crate) fn nth(&self, n: u64, fault: Fault) {
        let mut state = self.lock();
        let number = state.count + n;
        state.one.insert(number, fault);
    }

    /// From now on nothing goes wrong, and what is blocked goes on.
    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.every = None;
        state.one.clear();
        state.heals += 1;
        self.changed.notify_all();
    }

    /// How many calls there were so far, those under way included.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// How many calls are blocked.
    pub(crate) fn blocked(&self) -> usize {
        self.lock().blocked
    }

    /// Waits until so many calls are blocked.
    #[track_caller]
    pub(crate) fn wait_blocked(&self, count: usize) {
        super::eventually(&format!("{count} calls of the store are blocked"), || {
            (self.blocked() >= count).then_some(())
        });
    }

    fn call<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.suffer(self.fault(), work)
    }

    fn suffer<T>(&self, fault: Option<Fault>, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        match fault {
            Some(Fault::Unavailable) => return Err(unavailable()),
            Some(Fault::Failed) => return Err(Error::Failed(REASON.into())),
            Some(Fault::Panic) => panic!("{REASON}"),
            Some(Fault::Delay(time)) => std::thread::sleep(time),
            Some(Fault::Block) => self.block(),
            Some(Fault::LostAnswer | Fault::Nothing { .. }) | None => {}
        }
        let done = work();
        if fault == Some(Fault::LostAnswer) { done.and(Err(unavailable())) } else { done }
    }

    fn fault(&self) -> Option<Fault> {
        let mut state = self.lock();
        state.count += 1;
        let number = state.count;
        state.one.remove(&number).or(state.every)
    }

    /// Waits to be healed, and not for ever: a test that fails must end.
    fn block(&self) {
        let mut state = self.lock();
        let heals = state.heals;
        state.blocked += 1;
        let deadline = Instant::now() + 2 * DEADLINE;
        while state.heals == heals && Instant::now() < deadline {
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.blocked -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable() -> Error {
    Error::Unavailable { reason: REASON, source: None }
}

/// The store. Does what the inner one does until one of its `Calls` is told otherwise:
///
/// ```ignore
/// service.faulty().inserts.nth(2, Fault::Unavailable); // the next but one fails
/// service.faulty().reads.all(Fault::Block);            // every read hangs …
/// service.faulty().heal();                             // … until now
/// ```
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Store>,
    /// Calls of `insert`, one for each batch.
    pub(crate) inserts: Calls,
    /// Calls of `list`, `messages` and `stats`.
    pub(crate) reads: Calls,
    /// Calls of `read_log` and `event_at`.
    pub(crate) logs: Calls,
    /// Calls of `cursors`, which the page of metrics makes, too.
    pub(crate) cursors: Calls,
    /// Calls of `ready`.
    pub(crate) checks: Calls,
    /// Calls of `space`.
    pub(crate) spaces: Calls,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            inserts: Calls::default(),
            reads: Calls::default(),
            logs: Calls::default(),
            cursors: Calls::default(),
            checks: Calls::default(),
            spaces: Calls::default(),
        }
    }

    /// Nothing goes wrong any more, and what is blocked goes on.
    pub(crate) fn heal(&self) {
        self.inserts.heal();
        self.reads.heal();
        self.logs.heal();
        self.cursors.heal();
        self.checks.heal();
        self.spaces.heal();
    }
}

impl Store for Faulty {
    fn insert(&self, batch: &[Event]) -> Result<Vec<Outcome>, Error> {
        self.inserts.call(|| self.inner.insert(batch))
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error> {
        self.reads.call(|| self.inner.list(filter, page))
    }

    fn messages(&self, filter: &Filter, page: &Page) -> Result<Vec<Message>, Error> {
        self.reads.call(|| self.inner.messages(filter, page))
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.reads.call(|| self.inner.stats())
    }

    fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error> {
        self.reads.call(|| self.inner.arrived(after, limit))
    }

    fn find(&self, keys: &[(Source, Name)]) -> Result<Vec<Event>, Error> {
        self.reads.call(|| self.inner.find(keys))
    }

    fn volume(&self, filter: &Filter, step_seconds: u32) -> Result<Option<Volume>, Error> {
        self.reads.call(|| self.inner.volume(filter, step_seconds))
    }

    fn read_log(
        &self,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Result<Option<Reached>, Error> {
        let fault = self.logs.fault();
        let next = match read.start {
            Start::After(position) => Some(Some(position)),
            Start::Beginning => Some(None),
            _ => None,
        };
        self.logs.suffer(fault, || match (fault, next) {
            (Some(Fault::Nothing { end }), Some(next)) => Ok(Some(Reached { next, end, erasures: 0 })),
            _ => self.inner.read_log(read, each),
        })
    }

    fn event_at(&self, position: Position) -> Result<Option<Recorded>, Error> {
        self.logs.call(|| self.inner.event_at(position))
    }

    fn cursors(&self) -> Result<Vec<Cursor>, Error> {
        self.cursors.call(|| self.inner.cursors())
    }

    fn cursor(&self, name: &CursorName) -> Result<Option<Cursor>, Error> {
        self.reads.call(|| self.inner.cursor(name))
    }

    fn move_cursor(&self, to: &Move) -> Result<Moved, Error> {
        self.inserts.call(|| self.inner.move_cursor(to))
    }

    fn delete_cursor(&self, name: &CursorName) -> Result<bool, Error> {
        self.inserts.call(|| self.inner.delete_cursor(name))
    }

    fn erase(&self, erasure: &Erasure, after: i64) -> Result<Step, Error> {
        self.inserts.call(|| self.inner.erase(erasure, after))
    }

    fn count_selected(&self, erasure: &Erasure, after: i64) -> Result<Step, Error> {
        self.reads.call(|| self.inner.count_selected(erasure, after))
    }

    fn wipe(&self) -> Result<Wiped, Error> {
        self.inserts.call(|| self.inner.wipe())
    }

    fn is_keeper(&self) -> Result<bool, Error> {
        self.inner.is_keeper()
    }

    fn tombstones(&self, after: Option<&Tombstone>, limit: u32) -> Result<Option<Tombstones>, Error> {
        self.reads.call(|| self.inner.tombstones(after, limit))
    }

    fn adopt_tombstones(&self, tombstones: &Tombstones) -> Result<bool, Error> {
        self.inserts.call(|| self.inner.adopt_tombstones(tombstones))
    }

    fn erased(&self, keys: &[(Source, Name)]) -> Result<Vec<bool>, Error> {
        self.reads.call(|| self.inner.erased(keys))
    }

    fn ready(&self) -> Result<(), Error> {
        self.checks.call(|| self.inner.ready())
    }

    fn backlog(&self) -> Backlog {
        self.inner.backlog()
    }

    fn space(&self) -> Option<Space> {
        self.spaces.call(|| Ok(self.inner.space())).ok().flatten()
    }

    fn close(&self) {
        self.inner.close();
    }
}
