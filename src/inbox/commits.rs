//! The count of committed events, for whoever sleeps until there are more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts the events that this process has committed. One thread may wait for it to go up.
#[derive(Debug, Default)]
pub struct Commits {
    count: AtomicU64,
    /// Whether a thread waits; while none does, a commit costs no lock.
    awaited: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Commits {
    /// Counts events that were committed just now.
    pub fn add(&self, events: usize) {
        // In this order, and the other way round in `wait_while`: one of the two notices the other.
        self.count.fetch_add(u64::try_from(events).unwrap_or(u64::MAX), SeqCst);
        if self.awaited.load(SeqCst) {
            self.wake();
        }
    }

    /// The count.
    pub fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }

    /// Makes the waiting thread look again at what it waits for.
    pub fn wake(&self) {
        // With the lock: it is either still about to look, or asleep.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Blocks while `goes_on` says so, which is asked again at each commit and [`wake`](Self::wake), and until `deadline` at
    /// most.
    pub fn wait_while(&self, deadline: Option<Instant>, mut goes_on: impl FnMut() -> bool) {
        let mut lock = self.lock();
        self.awaited.store(true, SeqCst);
        while goes_on() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            lock = match left {
                Some(Duration::ZERO) => break,
                Some(left) => self.changed.wait_timeout(lock, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(lock).unwrap_or_else(PoisonError::into_inner),
            };
        }
        self.awaited.store(false, SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
