//! The use case: accept a message. Gathers messages into batches, and reports the outcome of each message once its batch
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

/// Maximum number of messages in one transaction.
pub const BATCH_MAX: usize = 512;
/// Longest time that a request waits for the outcome of its message. After that its sender is asked to retry.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts messages. Dropping it stops the writer threads once all queued messages are stored.
#[derive(Debug)]
pub struct Inbox {
    queue: Arc<Queue>,
    writers: Mutex<Vec<JoinHandle<()>>>,
}

/// The reason why a message was not acknowledged. It may be stored all the same if it was queued; the
/// sender's retry then finds a duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("too many messages are waiting to be stored")]
    Overloaded,
    /// The store failed, or did not store the message in time.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Inbox {
    /// Starts the writer threads; [`store::writers`](crate::store::writers) says how many. The queue holds at most
    /// `queue_max` messages.
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

    /// Stores a message, and returns its outcome. Once this has been polled, the message stays queued whether or not the
    /// caller still waits.
    ///
    /// # Errors
    /// [`Refused`]: the sender should retry the same message.
    pub async fn accept(&self, message: Message) -> Result<Outcome, Refused> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job { message, reply })?;
        match tokio::time::timeout(ACCEPT_TIMEOUT, answer).await {
            Ok(Ok(result)) => result.map_err(Refused::Unavailable),
            Ok(Err(_)) => Err(Refused::Unavailable("the message could not be stored")),
            Err(_) => Err(Refused::Unavailable("the message was not stored in time")),
        }
    }

    /// The length of the queue.
    pub fn waiting(&self) -> usize {
        self.queue.lock().jobs.len()
    }

    /// Accepts no further message, stores the queued ones, and returns when that is done. Blocks.
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

/// A queued message, and the channel on which its request waits for the outcome.
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
    /// Writer threads that sleep and have not been woken. Saves a wake-up for each message that arrives while they work.
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

    /// Waits for jobs and takes the oldest ones; `None` when the queue is closed and empty.
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

/// The work of a writer thread.
struct Writer {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(self) {
        while let Some(jobs) = self.queue.take() {
            // A panic ends one batch, whose senders are asked to retry, but not the service.
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
                    // A sender that no longer waits learns the outcome by its retry.
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
