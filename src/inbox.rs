//! The use case: accept a message. Gathers what arrives into batches and answers each message once its batch
//! is on disk.
//!
//! There is no timer: while one batch is being committed the next one gathers, so batches are as large as the
//! load makes them and a lone message waits for nothing. Knows neither HTTP nor SQL.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::message::Message;
use crate::metrics::Metrics;
use crate::store::{Outcome, Store};
use crate::telemetry::chain;

/// Most messages in one transaction.
pub const BATCH_MAX: usize = 512;
/// Longest time that a message waits for its batch, after which its sender is told to try again.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes messages in. Dropping it stops the writer threads once everything queued is stored.
#[derive(Debug)]
pub struct Inbox {
    queue: Arc<Queue>,
    writers: Mutex<Vec<JoinHandle<()>>>,
}

/// Why a message was not acknowledged. It may be stored all the same, when its batch was under way; the
/// sender's retry settles that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many messages wait as may wait.
    #[error("too many messages are waiting to be stored")]
    Overloaded,
    /// The store said no, or did not say yes in time.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Inbox {
    /// Starts so many writer threads, as [`store::writers`](crate::store::writers) says. At most `queue_max` messages wait
    /// at any time.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        store: &Arc<dyn Store>,
        writers: usize,
        queue_max: usize,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue { max: queue_max, state: Mutex::default(), filled: Condvar::new() });
        let start = |_| {
            let (queue, store, metrics) = (Arc::clone(&queue), Arc::clone(store), Arc::clone(metrics));
            let writer = Writer { queue, store, metrics };
            std::thread::Builder::new().name("lyftr-writer".into()).spawn(move || writer.run())
        };
        let writers = (0..writers).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue, writers: Mutex::new(writers) })
    }

    /// Stores a message and tells what became of it. Once this has been polled, the message goes its way to
    /// the end, whether or not the caller still waits.
    ///
    /// # Errors
    /// [`Refused`]: the sender should try again with the same message.
    pub async fn accept(&self, message: Message) -> Result<Outcome, Refused> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job { message, reply })?;
        match tokio::time::timeout(ACCEPT_TIMEOUT, answer).await {
            Ok(Ok(result)) => result.map_err(Refused::Unavailable),
            Ok(Err(_)) => Err(Refused::Unavailable("the message could not be stored")),
            Err(_) => Err(Refused::Unavailable("the message was not stored in time")),
        }
    }

    /// How many messages wait to be stored.
    pub fn waiting(&self) -> usize {
        self.queue.lock().jobs.len()
    }

    /// Takes in nothing more, stores what waits, and returns when that is done. Blocks.
    pub fn close(&self) {
        self.queue.close();
        let writers = std::mem::take(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner));
        for writer in writers {
            if writer.join().is_err() {
                tracing::error!("a writer thread panicked");
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.close();
    }
}

/// A message on its way, and where its sender waits.
#[derive(Debug)]
struct Job {
    message: Message,
    reply: oneshot::Sender<Result<Outcome, &'static str>>,
}

/// The bounded queue between the requests and the writer threads.
#[derive(Debug)]
struct Queue {
    max: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    /// Writer threads that sleep and that nobody has woken. Spares a wake-up for every message that arrives
    /// while they work.
    sleeping: usize,
}

impl Queue {
    fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Unavailable("the service is stopping"));
        }
        if state.jobs.len() >= self.max {
            return Err(Refused::Overloaded);
        }
        state.jobs.push_back(job);
        let wake = state.sleeping > 0;
        state.sleeping = state.sleeping.saturating_sub(1);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for jobs and takes the oldest of them; none when the queue is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.jobs.len().min(BATCH_MAX);
        Some(state.jobs.drain(..count).collect())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a writer thread runs.
struct Writer {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(self) {
        while let Some(jobs) = self.queue.take() {
            // A panic ends one batch, whose senders are told to try again, and not the service.
            if catch_unwind(AssertUnwindSafe(|| self.store_batch(jobs))).is_err() {
                tracing::error!("a batch was given up after a panic");
            }
        }
    }

    fn store_batch(&self, jobs: Vec<Job>) {
        let (batch, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.message, job.reply)).unzip();
        let begin = Instant::now();
        let result = self.store.insert(&batch);
        self.metrics.commit_seconds.observe(begin.elapsed());
        self.metrics.batch_messages.observe(batch.len());
        match result {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // A sender that no longer waits is told by its next try.
                    let _gone = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                self.metrics.store_errors.increment();
                tracing::error!(messages = batch.len(), error = chain(&error), "a batch was not stored");
                for reply in replies {
                    let _gone = reply.send(Err(error.public()));
                }
            }
        }
    }
}
