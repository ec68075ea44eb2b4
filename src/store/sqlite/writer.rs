//! The one connection that adds messages: batches, checkpoints, and recovery after a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Tuning;
use super::checkpoint::{self, Checkpoint, Steps, Worker};
use super::connection::{self, BUSY_TIMEOUT, explain};
use super::files::{FileId, Files, Owner, REMOVED};
use super::location::Location;
use super::recovery::{self, Doubt};
use super::view::Shared;
use super::{cursors, erasure, insert, migrate};
use crate::cursor::{CursorName, Move, Moved};
use crate::erasure::{Step, TombstoneKey, Tombstones};
use crate::event::Event;
use crate::store::{Error, Outcome};
use crate::telemetry::chain;

mod wipe;

use wipe::Wiping;

/// Maximum wait for another program's lock in total, over all batches that come meanwhile. A message waits for five seconds
/// at most.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The wait of each batch after that.
const LOCK_PATIENCE_MIN: Duration = Duration::from_millis(250);

/// After this time without a batch nothing is being stored: between two batches of a loaded inbox passes less.
const IDLE_AFTER: Duration = Duration::from_millis(20);

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const ANY_ROW: &str = "SELECT count(*) FROM (SELECT 1 FROM event LIMIT 1)";

/// Owns the write connection. After a failure other than a lock it has none, and opens another one for the next batch.
#[derive(Debug)]
pub(super) struct Writer {
    location: Location,
    tuning: Tuning,
    /// The file that was opened at the start. Another file at the same path is never written: beside the log of this one, that
    /// would damage it.
    database: FileId,
    open: Option<Open>,
    /// Raised after a failed sync, until recovery has written everything again.
    doubt: Arc<Doubt>,
    /// The time since which another program has kept the database locked.
    locked_since: Option<Instant>,
    /// Size of the write-ahead log in bytes, as of the last commit or checkpoint; read by the metrics.
    wal_bytes: Arc<AtomicU64>,
    /// The state of the indexer, which is told of each batch.
    shared: Arc<Shared>,
    /// No checkpoint is due below this size of the log after one that a reader kept incomplete.
    checkpoint_at: u64,
    /// The log size from which a checkpoint waits for readers again, after it waited in vain.
    wait_at: u64,
    /// The thread that moves most of the log, so that little is left for a checkpoint.
    steps: Steps,
    /// When the last batch ended.
    last_batch: Option<Instant>,
    /// The work that is left after erasing.
    wiping: Wiping,
}

/// The open connection.
#[derive(Debug)]
struct Open {
    conn: Connection,
    files: Files,
    /// The key of the tombstones, if there are any.
    tombstones: Option<TombstoneKey>,
}

impl Writer {
    /// Takes over a connection whose schema is up to date. `written`: a write has proven that the database can be written;
    /// otherwise the first batch has to prove it. The checkpoint thread is for the caller to start.
    pub(super) fn new(
        location: &Location,
        tuning: Tuning,
        conn: Connection,
        written: bool,
        shared: Arc<Shared>,
        owner: Arc<Owner>,
    ) -> Result<(Self, Worker), Error> {
        let database = location.file()?;
        let doubt = Arc::new(Doubt::new(owner));
        let (worker, steps) = Worker::new(location.path(), database, page_bytes(&conn)?, Arc::clone(&doubt));
        let mut writer = Self {
            location: location.clone(),
            tuning,
            database,
            open: None,
            doubt,
            locked_since: None,
            wal_bytes: Arc::default(),
            shared,
            checkpoint_at: 0,
            wait_at: 0,
            steps,
            last_batch: None,
            wiping: Wiping::default(),
        };
        if written {
            writer.adopt(conn)?;
        } else {
            // Rows that were found in the log may never have been synced.
            writer.doubt.raise();
        }
        Ok((writer, worker))
    }

    /// The size of the write-ahead log in bytes, kept up to date.
    pub(super) fn wal_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.wal_bytes)
    }

    /// [`Store::insert`](crate::store::Store::insert): one transaction, synced. A checkpoint that is due comes before it.
    pub(super) fn insert(&mut self, batch: &[Event]) -> Result<Vec<Outcome>, Error> {
        // A batch of one message shows that none gathered while the batch before was stored.
        self.checkpoint(batch.len() <= 1);
        let result = self.store(batch);
        self.last_batch = Some(Instant::now());
        result
    }

    fn store(&mut self, batch: &[Event]) -> Result<Vec<Outcome>, Error> {
        let (outcomes, latest) =
            self.write(self.patience(), |open| insert::insert(&open.conn, open.tombstones.as_ref(), batch))?;
        self.shared.stored(latest);
        Ok(outcomes)
    }

    /// [`Store::move_cursor`](crate::store::Store::move_cursor)
    pub(super) fn move_cursor(&mut self, to: &Move) -> Result<Moved, Error> {
        self.write(self.patience(), |open| cursors::move_to(&open.conn, to))
    }

    /// [`Store::delete_cursor`](crate::store::Store::delete_cursor)
    pub(super) fn delete_cursor(&mut self, name: &CursorName) -> Result<bool, Error> {
        self.write(self.patience(), |open| cursors::delete(&open.conn, name))
    }

    /// [`Store::erase`](crate::store::Store::erase): the events with these arrival numbers. `next` is where the search for them
    /// has come to.
    pub(super) fn erase(&mut self, found: &[i64], next: Option<i64>) -> Result<Step, Error> {
        self.checkpoint(false);
        let (step, key) = self.write(self.patience(), |open| erasure::erase(&open.conn, found, next))?;
        if let Some(open) = &mut self.open {
            open.tombstones = Some(key);
        }
        self.wiping.begin();
        Ok(step)
    }

    /// [`Store::adopt_tombstones`](crate::store::Store::adopt_tombstones)
    pub(super) fn adopt_tombstones(&mut self, tombstones: &Tombstones) -> Result<bool, Error> {
        self.checkpoint(false);
        let (adopted, key) = self.write(self.patience(), |open| {
            Ok((erasure::adopt(&open.conn, tombstones)?, erasure::key_in_use(&open.conn)?))
        })?;
        if let Some(open) = &mut self.open {
            open.tombstones = key;
        }
        Ok(adopted)
    }

    /// [`Store::ready`](crate::store::Store::ready): reads a row, and writes the schema version as it is.
    pub(super) fn ready(&mut self) -> Result<(), Error> {
        // A readiness check waits for less time than a message does.
        let version = self.write(self.patience().min(BUSY_TIMEOUT), |Open { conn, .. }| {
            conn.prepare_cached(ANY_ROW)?.query_row((), |row| row.get::<_, i64>(0))?;
            let version: i64 = conn.query_row("PRAGMA user_version", (), |row| row.get(0))?;
            conn.pragma_update(None, "user_version", version)?;
            Ok(version)
        })?;
        Error::unless_schema(version, migrate::VERSION)
    }

    /// Has a small log begin anew if nothing is being stored.
    pub(super) fn checkpoint_if_idle(&mut self) {
        if self.last_batch.is_none_or(|ended| ended.elapsed() >= IDLE_AFTER) {
            self.checkpoint(true);
        }
    }

    /// Moves the write-ahead log into the database. A large log is due in any case, a small one only if the writer is
    /// `idle`. If a reader or a burst has left much of it, the checkpoint thread moves most of that in steps first.
    pub(super) fn checkpoint(&mut self, idle: bool) {
        let (wal, left) = (self.wal_bytes.load(Ordering::Relaxed), self.left_bytes());
        let due = if idle { self.tuning.wal_idle_bytes } else { self.tuning.wal_bytes };
        // Moving the rest delays the next batch, even if the queue is empty now.
        let quick = left < self.tuning.wal_step_bytes || wal >= self.waits_from();
        if wal >= due.max(self.checkpoint_at) && quick {
            self.finish_checkpoint(wal);
        } else if left >= self.tuning.wal_step_bytes {
            self.steps.request();
        }
    }

    /// Bytes of the log that are not in the database yet.
    fn left_bytes(&self) -> u64 {
        self.wal_bytes.load(Ordering::Relaxed).saturating_sub(self.steps.moved_bytes())
    }

    /// The log size from which a checkpoint waits for readers.
    fn waits_from(&self) -> u64 {
        self.tuning.wal_bytes_max.max(self.wait_at)
    }

    fn finish_checkpoint(&mut self, wal: u64) {
        // PASSIVE does not wait, and readers can hold it up; beyond a second bound the checkpoint waits for them.
        let waits = wal >= self.waits_from();
        // After a failed sync a second attempt would seem to succeed, and the log could begin anew.
        let Some(open) = self.open.as_ref().filter(|_| !self.doubt.exists()) else { return };
        let moved = open.conn.busy_timeout(BUSY_TIMEOUT).and_then(|()| {
            let mode = if waits { "RESTART" } else { "PASSIVE" };
            checkpoint::run(&open.conn, mode)
        });
        match moved {
            Ok(Checkpoint { complete: true, .. }) => {
                self.log_begins_anew();
            }
            Ok(_) => {
                self.checkpoint_at = wal + self.tuning.wal_idle_bytes;
                if waits {
                    // A backup reads for minutes. Senders must not pay for that with a pause every few MiB.
                    self.wait_at = 2 * wal;
                }
            }
            Err(error) => {
                self.checkpoint_at = wal + self.tuning.wal_idle_bytes;
                self.doubt.weigh(&error);
                tracing::warn!(error = chain(&error), "checkpoint failed");
            }
        }
    }

    /// Resets what is known of the log, after a checkpoint that moved all of it.
    fn log_begins_anew(&mut self) {
        (self.checkpoint_at, self.wait_at) = (0, 0);
        self.wal_bytes.store(0, Ordering::Relaxed);
        self.steps.begin_anew();
    }

    /// Empties the write-ahead log and closes the connection. After a failed sync the log stays as it is: it may hold pages
    /// that are not on the disk.
    pub(super) fn close(&mut self) {
        let Some(open) = self.open.take().filter(|_| !self.doubt.exists()) else { return };
        if let Err(error) = connection::close(open.conn) {
            tracing::warn!(
                error = chain(&error),
                "the last checkpoint failed; the next start makes up for it"
            );
        }
    }

    /// Runs `work` in one transaction. `Ok` means that it is committed, synced, and in the file that the path leads to. After
    /// an error the connection is closed, unless the cause was another program's lock.
    fn write<T>(
        &mut self,
        patience: Duration,
        work: impl FnOnce(&Open) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let begin = Instant::now();
        if self.open.is_none() || self.doubt.exists() {
            self.open = None;
            self.reopen(patience, begin)?;
        }
        let Some(open) = &self.open else { return Err(REMOVED) };
        let done = transaction(&open.conn, patience, |_| work(open));
        let intact = open.files.must_be_at(&self.location);
        // In that case nothing was written, or the transaction was rolled back.
        let was_locked = done.as_ref().is_err_and(connection::is_locked) && open.conn.is_autocommit();
        if intact.is_err() || done.is_err() && !was_locked {
            self.open = None;
        }
        self.note(done.as_ref().err(), begin);
        intact.and(done.map_err(explain))
    }

    /// The wait for another program's lock that is left.
    fn patience(&self) -> Duration {
        let waited = self.locked_since.map_or(Duration::ZERO, |since| since.elapsed());
        LOCK_PATIENCE.saturating_sub(waited).max(LOCK_PATIENCE_MIN)
    }

    /// Notes the result of an attempt that began at `begin`.
    fn note(&mut self, error: Option<&rusqlite::Error>, begin: Instant) {
        if let Some(error) = error {
            self.doubt.weigh(error);
        }
        if error.is_some_and(connection::is_locked) {
            self.locked_since.get_or_insert(begin);
        } else {
            self.locked_since = None;
        }
    }

    /// Opens another connection to the same file.
    fn reopen(&mut self, patience: Duration, begin: Instant) -> Result<(), Error> {
        self.location.must_lead_to(self.database)?;
        let conn = self.recover(patience);
        self.note(conn.as_ref().err(), begin);
        self.adopt(conn.map_err(explain)?)?;
        self.doubt.record_recovery();
        tracing::info!("the database was reopened after a failure");
        Ok(())
    }

    fn recover(&mut self, patience: Duration) -> rusqlite::Result<Connection> {
        let conn = connection::writer(self.location.path(), self.tuning.writer_cache_kib, false)?;
        connection::make_durable(&conn)?;
        conn.busy_timeout(patience)?;
        self.doubt.settle(|| recovery::rewrite(&conn, self.location.path()))?;
        // On a full disk the log may have room, once it begins anew.
        if checkpoint::run(&conn, "PASSIVE")?.complete {
            self.log_begins_anew();
        }
        Ok(conn)
    }

    fn adopt(&mut self, mut conn: Connection) -> Result<(), Error> {
        let page_bytes = page_bytes(&conn)?;
        let wal_bytes = Arc::clone(&self.wal_bytes);
        wal_bytes.store(0, Ordering::Relaxed);
        conn.wal_hook(Some(move |_: &mut _, pages: std::ffi::c_int| {
            wal_bytes.store(u64::try_from(pages).unwrap_or(0) * page_bytes, Ordering::Relaxed);
            Ok(())
        }))
        .map_err(explain)?;
        let files = Files::of(self.database, &self.location)?;
        let tombstones = erasure::key_in_use(&conn).map_err(explain)?;
        self.wiping.look(&conn).map_err(explain)?;
        self.open = Some(Open { conn, files, tombstones });
        Ok(())
    }
}

fn transaction<T>(
    conn: &Connection,
    patience: Duration,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.busy_timeout(patience)?;
    conn.prepare_cached(BEGIN)?.execute(())?;
    let done = work(conn).and_then(|value| {
        conn.prepare_cached(COMMIT)?.execute(())?;
        Ok(value)
    });
    if done.is_err() && !conn.is_autocommit() {
        conn.execute(ROLLBACK, ())?;
    }
    done
}

fn page_bytes(conn: &Connection) -> Result<u64, Error> {
    conn.query_row("PRAGMA page_size", (), |row| row.get(0)).map_err(explain)
}
