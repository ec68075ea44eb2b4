//! What readers and the thread that derives share: a view of the newest messages, which is replaced and never changes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::files::beside;
use super::index::parties::NewNames;
use super::insert::latest;
use super::lock;
use super::recent::Part;
use crate::query::SenderCount;
use crate::store::Behind;

const STATE: &str = concat!(
    "SELECT name, ",
    latest!(),
    ", coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'removed'), 0) FROM edition"
);

/// The name of the messages that something was derived from; changes when one of them is changed manually.
pub(super) type DatasetId = [u8; 16];

/// Which messages there are, as of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) dataset_id: DatasetId,
    /// The greatest arrival number that was ever given.
    pub(super) latest: i64,
    /// The number of the last removal of a message.
    pub(super) removed: i64,
}

impl State {
    /// The state in the snapshot that a connection to the database reads.
    pub(super) fn read(messages: &Connection) -> rusqlite::Result<Self> {
        messages.prepare_cached(STATE)?.query_row((), |row| {
            Ok(Self { dataset_id: row.get(0)?, latest: row.get(1)?, removed: row.get(2)? })
        })
    }

    /// Whether everything of the messages `other` is in these.
    fn has_all_of(&self, other: &Self) -> bool {
        self.dataset_id == other.dataset_id && self.latest >= other.latest && self.removed >= other.removed
    }
}

/// The messages of one snapshot, as far as the index files do not hold them.
#[derive(Debug)]
pub(super) struct View {
    /// The snapshot.
    pub(super) state: State,
    /// Which index it goes with.
    pub(super) generation: u64,
    /// The index holds every message up to this arrival number, or more.
    pub(super) base: i64,
    /// Those after it, the oldest first.
    pub(super) parts: Vec<Part>,
    /// Names of senders and recipients that the index does not know yet.
    pub(super) names: NewNames,
    /// Messages in all.
    pub(super) total: u64,
    /// Senders in all.
    pub(super) senders: u64,
    /// The busiest of these.
    pub(super) top: Vec<SenderCount>,
}

/// The view that is current, and what else readers and the thread tell each other.
#[derive(Debug)]
pub(super) struct Shared {
    /// The index file.
    pub(super) path: PathBuf,
    /// The file of folded texts.
    pub(super) texts_path: PathBuf,
    current: Mutex<Current>,
    changed: Condvar,
    /// Wakes the thread.
    woken: Condvar,
    asked: Mutex<bool>,
    /// The index that a reader has seen to be damaged.
    distrusted: AtomicU64,
    stop: AtomicBool,
    /// The latest message that was stored, and the latest one that readers need not look for.
    latest: AtomicI64,
    upto: AtomicI64,
    /// The last removal that is in the index files for good.
    followed: AtomicI64,
}

#[derive(Debug)]
struct Current {
    view: Option<Arc<View>>,
    /// There is no view yet, but there will be in a moment.
    is_opening: bool,
}

impl Shared {
    /// For a database whose latest message is `latest`.
    pub(super) fn new(database: &Path, latest: i64) -> Self {
        Self {
            path: beside(database, "-index"),
            texts_path: beside(database, "-texts"),
            current: Mutex::new(Current { view: None, is_opening: true }),
            changed: Condvar::new(),
            woken: Condvar::new(),
            asked: Mutex::new(false),
            distrusted: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            latest: AtomicI64::new(latest),
            upto: AtomicI64::new(0),
            followed: AtomicI64::new(0),
        }
    }

    /// A view that has all messages of a snapshot; waits for it until `deadline`. `None` if there is none by then, or if
    /// derived data is being rebuilt.
    pub(super) fn view(&self, of: &State, deadline: Instant) -> Option<Arc<View>> {
        let mut current = lock(&self.current);
        loop {
            if let Some(view) = current.view.as_ref().filter(|view| view.state.has_all_of(of)) {
                return Some(Arc::clone(view));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || current.view.is_none() && !current.is_opening {
                return None;
            }
            self.ask();
            current = self.changed.wait_timeout(current, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Replaces the view.
    pub(super) fn publish(&self, view: View) {
        self.latest.fetch_max(view.state.latest, Relaxed);
        self.upto.store(view.state.latest, Relaxed);
        self.replace(Some(Arc::new(view)));
    }

    /// Derived data has taken in the messages up to this arrival number. Readers find them once they are published, until when at
    /// least one is behind.
    pub(super) fn taken_in(&self, seq: i64) {
        self.upto.store(seq.min(self.latest.load(Relaxed) - 1), Relaxed);
    }

    /// There will be no view for a while. `is_lost`: the messages may be others than before.
    pub(super) fn withdraw(&self, is_lost: bool) {
        if is_lost {
            self.upto.store(0, Relaxed);
            // The latest message may be one of those that are gone.
            self.latest.store(0, Relaxed);
        }
        self.replace(None);
    }

    fn replace(&self, view: Option<Arc<View>>) {
        *lock(&self.current) = Current { view, is_opening: false };
        self.changed.notify_all();
    }

    /// Has this index rebuilt.
    pub(super) fn distrust(&self, generation: u64) {
        self.distrusted.store(generation, Relaxed);
        self.ask();
    }

    /// Whether a reader has seen that this index is damaged.
    pub(super) fn is_distrusted(&self, generation: u64) -> bool {
        self.distrusted.load(Relaxed) == generation
    }

    /// Whether this index is the one to read.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        lock(&self.current).view.as_ref().is_some_and(|view| view.generation == generation)
    }

    /// An event with this arrival number was stored.
    pub(super) fn stored(&self, seq: i64) {
        self.latest.fetch_max(seq, Relaxed);
    }

    /// Messages that are in no view yet.
    pub(super) fn behind(&self) -> Behind {
        let behind = u64::try_from(self.latest.load(Relaxed) - self.upto.load(Relaxed)).unwrap_or(0);
        Behind { index: behind, search: behind }
    }

    /// The index files hold no trace of what was removed up to this removal.
    pub(super) fn follow(&self, removed: i64) {
        self.followed.store(removed, Relaxed);
    }

    /// The last removal that the index files have followed.
    pub(super) fn followed(&self) -> i64 {
        self.followed.load(Relaxed)
    }

    /// Wakes the thread.
    pub(super) fn ask(&self) {
        *lock(&self.asked) = true;
        self.woken.notify_all();
    }

    /// Rests until somebody asks or the time is over.
    pub(super) fn rest(&self, pause: Duration) {
        let mut asked = lock(&self.asked);
        if !*asked && !self.is_stopping() {
            asked = self.woken.wait_timeout(asked, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
        *asked = false;
    }

    /// Ends the thread soon.
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.ask();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }
}
