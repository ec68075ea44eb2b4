//! Moving the write-ahead log into the database: in small steps on a thread of its own while messages are stored, so
//! that the writer has little left to move when the log is to begin anew. While nothing is stored, the same thread has
//! the log begin anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::connection;
use super::files::FileId;
use super::recovery::Doubt;
use crate::telemetry::chain;

/// Page cache of a step, which holds no page for long.
const CACHE_KIB: u32 = 256;

/// How far a checkpoint came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkpoint {
    /// Everything in the log is in the database too, so that the log can begin anew.
    pub(super) complete: bool,
    /// Pages in the log, one in each of its frames.
    pub(super) pages: u64,
    /// So many of them, from the first on, are in the database too, and are read from there.
    pub(super) moved: u64,
}

/// Runs a checkpoint in one of SQLite's modes.
pub(super) fn run(conn: &Connection, mode: &str) -> rusqlite::Result<Checkpoint> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |row| {
        let (busy, pages, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let [pages, moved] = [pages, moved].map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Checkpoint { complete: busy == 0 && pages == moved, pages, moved })
    })
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let conn = connection::writer(path, CACHE_KIB, false)?;
    connection::make_durable(&conn)?;
    Ok(conn)
}

/// How far the last checkpoint of the database at `path` came.
pub(super) fn state(path: &Path) -> rusqlite::Result<Checkpoint> {
    run(&open(path)?, "NOOP")
}

/// How the writer asks for steps, and learns how far they came.
#[derive(Debug)]
pub(super) struct Steps {
    ask: SyncSender<()>,
    moved_bytes: Arc<AtomicU64>,
}

impl Steps {
    /// Asks for a step, unless one is asked for already.
    pub(super) fn request(&self) {
        if let Err(TrySendError::Disconnected(())) = self.ask.try_send(()) {
            tracing::error!("the checkpoint thread has ended");
        }
    }

    /// Bytes of the log that are in the database since the log began.
    pub(super) fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    /// The log begins anew.
    pub(super) fn begin_anew(&self) {
        self.moved_bytes.store(0, Ordering::Relaxed);
    }
}

/// A checkpoint thread that does not run yet.
#[derive(Debug)]
pub(super) struct Worker {
    path: PathBuf,
    /// Never another file: with the log of this one beside it, that would damage it.
    database: FileId,
    page_bytes: u64,
    moved_bytes: Arc<AtomicU64>,
    doubt: Arc<Doubt>,
    asked: Receiver<()>,
    ask: SyncSender<()>,
}

/// The checkpoint thread. Dropping it waits for the step under way.
#[derive(Debug)]
pub(super) struct CheckpointThread {
    stop: Arc<AtomicBool>,
    ask: SyncSender<()>,
    handle: Option<JoinHandle<()>>,
}

impl Drop for CheckpointThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // If the channel is full, the thread wakes without this.
        let _wakes_in_any_case = self.ask.try_send(());
        if self.handle.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

impl Worker {
    /// For the database at `path` with pages of this size.
    pub(super) fn new(path: &Path, database: FileId, page_bytes: u64, doubt: Arc<Doubt>) -> (Self, Steps) {
        let (ask, asked) = sync_channel(1);
        let moved_bytes = Arc::new(AtomicU64::new(0));
        let steps = Steps { ask: ask.clone(), moved_bytes: Arc::clone(&moved_bytes) };
        (Self { path: path.to_owned(), database, page_bytes, moved_bytes, doubt, asked, ask }, steps)
    }

    /// Starts the thread. While no step is asked for, it calls `look` every `pause`.
    pub(super) fn start(
        self,
        pause: Duration,
        look: impl Fn() + Send + 'static,
    ) -> std::io::Result<CheckpointThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ask, stopped) = (self.ask.clone(), Arc::clone(&stop));
        let run = move || self.run(&stopped, pause, look);
        let handle = std::thread::Builder::new().name("lyftr-checkpoint".into()).spawn(run)?;
        Ok(CheckpointThread { stop, ask, handle: Some(handle) })
    }

    fn run(&self, stop: &AtomicBool, pause: Duration, look: impl Fn()) {
        loop {
            let asked = self.asked.recv_timeout(pause);
            if stop.load(Ordering::Acquire) {
                return;
            }
            match asked {
                Ok(()) => self.take_step(),
                Err(RecvTimeoutError::Timeout) => look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take_step(&self) {
        // After a failed sync a second try would seem to succeed, and the log could begin anew.
        if self.doubt.exists() {
            return;
        }
        match self.step() {
            Ok(step) => self.moved_bytes.store(step.moved * self.page_bytes, Ordering::Relaxed),
            // The writer finds the cause by itself, save for a failed sync, which is logged as a warning here.
            Err(error) if !self.doubt.weigh(&error) => {
                tracing::debug!(error = chain(&error), "a step of a checkpoint failed");
            }
            Err(error) => tracing::warn!(error = chain(&error), "a step of a checkpoint failed"),
        }
    }

    /// On a connection of its own each time, so that nothing is believed of one after a failure.
    fn step(&self) -> rusqlite::Result<Checkpoint> {
        if self.database.must_be_at(&self.path).is_err() {
            return Err(rusqlite::Error::InvalidPath(self.path.clone()));
        }
        run(&open(&self.path)?, "PASSIVE")
    }
}
