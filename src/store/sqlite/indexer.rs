//! The thread that writes the index, behind the messages, and what it shares with the readers.
//!
//! It never holds up an acknowledgement: it reads the messages as any reader does and writes a file of its own.
//! Texts, the costly part, give way while many messages arrive, and are caught up with after.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::crowd::Crowds;
use super::files::beside;
use super::index::{self, Batch, Index};
use super::kept::{Kept, Progress, edition, latest};
use super::{Tuning, connection, lock};
use crate::store::Behind;
use crate::telemetry::chain;

/// Between two looks at what has arrived.
const TURN: Duration = Duration::from_millis(50);
/// Messages that the figures take in while readers wait for them.
const ARRIVALS_AT_ONCE: i64 = 5_000;
/// The same while no reader waits, when the index is made anew.
const ARRIVALS_IN_BULK: i64 = 500_000;
/// Texts in one transaction.
const TEXTS_AT_ONCE: i64 = 512;
/// With more arrivals than this in a turn, texts give way.
const BUSY_ARRIVALS: i64 = 50;
/// How much longer than they took texts then pause, which leaves them a tenth of a core.
const BUSY_PAUSE: u32 = 9;
/// Longest time that a reader waits for an index that is being opened: it soon saves more than that.
const OPENING_MAX: Duration = Duration::from_secs(2);
/// Pause after a failure, doubled each time.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

const TEXTS: &str =
    "SELECT seq, CASE WHEN kind = 0 THEN text END FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2";

/// What readers and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The index file.
    pub(super) path: PathBuf,
    kept: Mutex<Option<Kept>>,
    /// There are no figures yet, but there will be in a moment.
    opening: AtomicBool,
    opened: Condvar,
    pub(super) crowds: Crowds,
    /// Counts the indexes that there have been.
    generation: AtomicU64,
    /// A reader has seen that the index is damaged.
    distrusted: AtomicBool,
    /// The latest message that was stored, and those up to which the index holds them.
    latest: AtomicI64,
    numbers_upto: AtomicI64,
    texts_upto: AtomicI64,
    stop: AtomicBool,
    stopping: (Mutex<()>, Condvar),
}

/// The figures, held still.
pub(super) struct Derived<'a>(MutexGuard<'a, Option<Kept>>);

impl Shared {
    /// For a database whose latest message is `latest`.
    pub(super) fn new(database: &Path, latest: i64) -> Self {
        Self {
            path: beside(database, "-index"),
            kept: Mutex::default(),
            opening: AtomicBool::new(true),
            opened: Condvar::new(),
            crowds: Crowds::default(),
            generation: AtomicU64::new(0),
            distrusted: AtomicBool::new(false),
            latest: AtomicI64::new(latest),
            numbers_upto: AtomicI64::new(0),
            texts_upto: AtomicI64::new(0),
            stop: AtomicBool::new(false),
            stopping: (Mutex::default(), Condvar::new()),
        }
    }

    /// The figures; waits for them if they come in a moment, as after a start.
    pub(super) fn derived(&self) -> Derived<'_> {
        let begin = Instant::now();
        let mut kept = lock(&self.kept);
        while kept.is_none() && self.opening.load(Relaxed) && begin.elapsed() < OPENING_MAX {
            kept = self.opened.wait_timeout(kept, TURN).unwrap_or_else(PoisonError::into_inner).0;
        }
        Derived(kept)
    }

    /// Readers need not wait any longer: these are the figures, or there will be none for a while.
    fn publish(&self, kept: Option<Kept>) {
        let mut published = lock(&self.kept);
        *published = kept;
        self.opening.store(false, Relaxed);
        drop(published);
        self.opened.notify_all();
    }

    /// Which index is the one to read.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Has the index made anew.
    pub(super) fn distrust(&self) {
        self.distrusted.store(true, Relaxed);
    }

    pub(super) fn behind(&self) -> Behind {
        let latest = self.latest.load(Relaxed);
        let behind = |upto: &AtomicI64| u64::try_from(latest - upto.load(Relaxed)).unwrap_or(0);
        Behind { index: behind(&self.numbers_upto), search: behind(&self.texts_upto) }
    }

    /// A message with this arrival number was stored.
    pub(super) fn stored(&self, seq: i64) {
        self.latest.fetch_max(seq, Relaxed);
    }

    fn wait(&self, pause: Duration) {
        let (mutex, stopping) = &self.stopping;
        let guard = lock(mutex);
        if !self.stop.load(Relaxed) {
            drop(stopping.wait_timeout(guard, pause));
        }
    }
}

impl Derived<'_> {
    /// Whether there are figures.
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// The figures as of the snapshot that `messages` reads, if they are at most `most` messages behind. Its
    /// first read must be this one.
    pub(super) fn up_to_date(&mut self, messages: &Connection, most: i64) -> rusqlite::Result<Option<&Kept>> {
        let Some(kept) = self.0.as_mut() else { return Ok(None) };
        Ok((kept.advance(messages, most)? == Progress::Done).then_some(kept))
    }
}

/// The running thread. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Indexer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts it for the database at this path.
    pub(super) fn start(database: &Path, tuning: Tuning, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut worker = Worker {
            database: database.to_owned(),
            tuning,
            shared: Arc::clone(&shared),
            open: None,
            written: Instant::now(),
            texts_at: Instant::now(),
        };
        let run = move || worker.run();
        let thread = std::thread::Builder::new().name("lyftr-index".into()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        {
            let _guard = lock(&self.shared.stopping.0);
            self.shared.stop.store(true, Relaxed);
        }
        self.shared.stopping.1.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the index panicked");
        }
    }
}

struct Worker {
    database: PathBuf,
    tuning: Tuning,
    shared: Arc<Shared>,
    open: Option<Open>,
    /// When the index of numbers was written last.
    written: Instant,
    /// Texts pause until then.
    texts_at: Instant,
}

struct Open {
    messages: Connection,
    index: Index,
}

/// Why the index cannot go on as it is.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the messages are not those that the index was made from")]
    Other,
    #[error("the index was deleted or replaced")]
    Removed,
    #[error("the index is damaged")]
    Damaged,
    #[error("the index cannot be looked at")]
    Unseen(#[from] std::io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl Broken {
    /// Whether it must be made anew; otherwise it can be taken up again where it was.
    fn is_lost(&self) -> bool {
        match self {
            Self::Other | Self::Removed | Self::Damaged => true,
            Self::Unseen(_) => false,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
            ),
        }
    }
}

impl Worker {
    fn run(&mut self) {
        let mut retry = RETRY;
        while !self.stopped() {
            let pause = match self.turn() {
                Ok(pause) => {
                    retry = RETRY;
                    pause
                }
                Err(broken) => {
                    tracing::warn!(error = chain(&broken), "the index cannot be written");
                    self.shared.publish(None);
                    self.open = None;
                    self.shared.numbers_upto.store(0, Relaxed);
                    self.shared.texts_upto.store(0, Relaxed);
                    if broken.is_lost() {
                        // The latest message may be one of those that were taken away.
                        self.shared.latest.store(0, Relaxed);
                        index::remove(&self.shared.path);
                    }
                    retry = (2 * retry).min(RETRY_MAX);
                    retry
                }
            };
            self.shared.wait(pause);
        }
        self.shared.publish(None);
        if let Some(open) = self.open.take() {
            open.index.close();
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Relaxed)
    }

    /// Does what there is to do, and says how long to wait until the next turn.
    fn turn(&mut self) -> Result<Duration, Broken> {
        let Some(mut open) = self.open.take() else {
            self.open = self.open()?;
            return Ok(Duration::ZERO);
        };
        if self.shared.distrusted.swap(false, Relaxed) {
            return Err(Broken::Damaged);
        }
        if !open.index.in_place()? {
            return Err(Broken::Removed);
        }
        let arrived = self.take_in(&open.messages)?;
        let busy = arrived > BUSY_ARRIVALS;
        self.write_numbers(&mut open, busy)?;
        let texts_left = self.write_texts(&mut open, busy)?;
        open.index.checkpoint(!busy)?;
        self.open = Some(open);
        Ok(if texts_left && !busy { Duration::ZERO } else { TURN })
    }

    /// Opens the index, brings it close to the messages, and lets it be used. None if stopped before that.
    fn open(&mut self) -> Result<Option<Open>, Broken> {
        let mut messages = connection::reader(&self.database, self.tuning.reader_cache_kib)?;
        let snapshot = messages.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let (edition, latest) = (edition(&snapshot)?, latest(&snapshot)?);
        drop(snapshot);
        self.shared.stored(latest);
        let mut index = Index::open(&self.shared.path, self.tuning, edition, latest)?;
        let mut kept = index.load()?;
        loop {
            let snapshot = messages.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let progress = kept.advance(&snapshot, ARRIVALS_IN_BULK)?;
            drop(snapshot);
            match progress {
                Progress::Done => break,
                Progress::Other => return Err(Broken::Other),
                Progress::More => self.shared.publish(None),
            }
            let batch = batch(&kept);
            if index.write(&batch, &self.shared.stop, |numbers| kept.expect(numbers))?.is_none() {
                return Ok(None);
            }
            kept.settle();
            index.checkpoint(true)?;
        }
        self.shared.generation.fetch_add(1, Relaxed);
        self.shared.numbers_upto.store(kept.indexed().upto, Relaxed);
        self.shared.texts_upto.store(index.texts_upto(), Relaxed);
        self.shared.publish(Some(kept));
        Ok(Some(Open { messages, index }))
    }

    /// Brings the figures up to date; returns how many messages that were.
    fn take_in(&self, messages: &Connection) -> Result<i64, Broken> {
        let mut arrived = 0;
        loop {
            let mut kept = lock(&self.shared.kept);
            let Some(kept) = kept.as_mut() else { return Ok(arrived) };
            let before = kept.upto();
            let snapshot = messages.unchecked_transaction()?;
            let progress = kept.advance(&snapshot, ARRIVALS_AT_ONCE)?;
            arrived += kept.upto() - before;
            match progress {
                Progress::Done => return Ok(arrived),
                Progress::More => {}
                Progress::Other => return Err(Broken::Other),
            }
        }
    }

    /// Writes the index of numbers, if much has arrived since, or something has and there is time.
    fn write_numbers(&mut self, open: &mut Open, busy: bool) -> Result<(), Broken> {
        let batch = {
            let kept = lock(&self.shared.kept);
            let Some(kept) = kept.as_ref() else { return Ok(()) };
            let recent = kept.recent().len();
            let time = !busy && self.written.elapsed() >= self.tuning.index_pause;
            let is_current = kept.upto() == kept.indexed().upto;
            if recent < self.tuning.index_batch && (is_current || !time) {
                return Ok(());
            }
            batch(kept)
        };
        let expect = |numbers| {
            if let Some(kept) = lock(&self.shared.kept).as_mut() {
                kept.expect(numbers);
            }
        };
        if open.index.write(&batch, &self.shared.stop, expect)?.is_some()
            && let Some(kept) = lock(&self.shared.kept).as_mut()
        {
            kept.settle();
            self.shared.numbers_upto.store(kept.indexed().upto, Relaxed);
        }
        self.written = Instant::now();
        Ok(())
    }

    /// Makes some more texts findable; returns whether there are others left.
    fn write_texts(&mut self, open: &mut Open, busy: bool) -> Result<bool, Broken> {
        let begin = Instant::now();
        let mut upto = open.index.texts_upto();
        if begin < self.texts_at || self.stopped() {
            return Ok(true);
        }
        let mut texts = Vec::new();
        {
            let snapshot = open.messages.unchecked_transaction()?;
            let latest = latest(&snapshot)?;
            let mut statement = snapshot.prepare_cached(TEXTS)?;
            let mut rows = statement.query((upto, TEXTS_AT_ONCE))?;
            let mut left = TEXTS_AT_ONCE;
            while let Some(row) = rows.next()? {
                left -= 1;
                upto = row.get(0)?;
                if let Some(text) = row.get(1)? {
                    texts.push((upto, text));
                }
            }
            if left > 0 {
                // Events that are gone may have had the last numbers.
                upto = latest;
            }
        }
        if upto == open.index.texts_upto() {
            return Ok(false);
        }
        open.index.write_texts(&texts, upto)?;
        self.shared.texts_upto.store(upto, Relaxed);
        if busy {
            self.texts_at = Instant::now() + begin.elapsed() * BUSY_PAUSE;
        }
        Ok(true)
    }
}

/// What the index does not hold of the figures.
fn batch(kept: &Kept) -> Batch {
    let (upto, arrivals) = (kept.upto(), kept.recent().to_vec());
    Batch { upto, arrivals, times: kept.times(), numbers: kept.indexed() }
}
