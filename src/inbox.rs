//! The use case: accept a delivery. Gathers deliveries into batches, and reports the outcomes of each once its batch is on
//! disk.
//!
//! There is no timer: while one batch is being committed the next one gathers, so batches are as large as the
//! load makes them and a lone delivery waits for nothing. Knows neither HTTP nor SQL.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

mod commits;

pub use commits::Commits;

use crate::event::Event;
use crate::metrics::Metrics;
use crate::store::{Outcome, Store};
use crate::telemetry::chain;

/// Maximum number of events in one transaction, unless one delivery alone has more: a delivery is stored as a whole.
pub const BATCH_MAX: usize = 512;
/// Maximum size of the texts and the data in one transaction, in bytes, unless one delivery alone has more.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Maximum size of the texts and the data in the queue, in bytes, unless one delivery alone has more.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Longest time that a request waits for the outcome of its message. After that its sender is asked to retry.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepts messages. Dropping it stops the writer threads once all queued messages are stored.
#[derive(Debug)]
pub struct Inbox {
    queue: Arc<Queue>,
    commits: Arc<Commits>,
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
    /// `queue_max` events.
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
        let commits = Arc::<Commits>::default();
        let start = |_| {
            let (queue, store, metrics) = (Arc::clone(&queue), Arc::clone(store), Arc::clone(metrics));
            let writer = Writer { queue, store, metrics, commits: Arc::clone(&commits) };
            std::thread::Builder::new().name("lyftr-writer".into()).spawn(move || writer.run())
        };
        let writers = (0..writers).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue, commits, writers: Mutex::new(writers) })
    }

    /// The count of the events that were stored.
    pub fn commits(&self) -> &Arc<Commits> {
        &self.commits
    }

    /// Stores the events of a delivery, all or none, and returns their outcomes in order. Once this has been polled, the
    /// delivery stays queued whether or not the caller still waits.
    ///
    /// # Errors
    /// [`Refused`]: the sender should retry the same delivery.
    pub async fn accept(&self, delivery: Vec<Event>) -> Result<Vec<Outcome>, Refused> {
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job { bytes: delivery.iter().map(Event::bytes).sum(), delivery, reply })?;
        match tokio::time::timeout(ACCEPT_TIMEOUT, answer).await {
            Ok(Ok(result)) => result.map_err(Refused::Unavailable),
            Ok(Err(_)) => Err(Refused::Unavailable("the message could not be stored")),
            Err(_) => Err(Refused::Unavailable("the message was not stored in time")),
        }
    }

    /// The length of the queue, in events.
    pub fn waiting(&self) -> usize {
        self.queue.lock().events
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

/// A queued delivery, and the channel on which its request waits for the outcomes.
#[derive(Debug)]
struct Job {
    delivery: Vec<Event>,
    /// The size of its texts and data.
    bytes: usize,
    reply: oneshot::Sender<Result<Vec<Outcome>, &'static str>>,
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
    /// The number of events in them.
    events: usize,
    /// The size of the texts and the data of these.
    bytes: usize,
    closed: bool,
    /// Writer threads that sleep and have not been woken. Saves a wake-up for each delivery that arrives while they work.
    sleeping: usize,
}

impl Queue {
    fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Unavailable("the service is stopping"));
        }
        // A delivery that is larger than the queue is let in while nothing else waits.
        let (events, bytes) = (state.events + job.delivery.len(), state.bytes + job.bytes);
        let is_full = events > self.max || bytes > QUEUE_BYTES_MAX;
        if is_full && state.events > 0 || self.max == 0 {
            return Err(Refused::Overloaded);
        }
        (state.events, state.bytes) = (events, bytes);
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
        let (mut batch, mut events, mut bytes) = (Vec::new(), 0, 0);
        let fits = |job: &Job, events, bytes| {
            events == 0 || events + job.delivery.len() <= BATCH_MAX && bytes + job.bytes <= BATCH_BYTES_MAX
        };
        while let Some(job) = state.jobs.pop_front_if(|job| fits(job, events, bytes)) {
            events += job.delivery.len();
            bytes += job.bytes;
            batch.push(job);
        }
        state.bytes -= bytes;
        state.events -= events;
        Some(batch)
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
    commits: Arc<Commits>,
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
        let mut batch = Vec::with_capacity(jobs.len());
        let mut replies = Vec::with_capacity(jobs.len());
        for Job { mut delivery, bytes: _, reply } in jobs {
            replies.push((delivery.len(), reply));
            batch.append(&mut delivery);
        }
        let begin = Instant::now();
        let result = self.store.insert(&batch);
        self.metrics.commit_seconds.observe(begin.elapsed());
        self.metrics.batch_messages.observe(batch.len());
        match result {
            Ok(outcomes) => {
                let created =
                    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Created { .. })).count();
                let mut outcomes = outcomes.into_iter();
                for (events, reply) in replies {
                    // A sender that no longer waits learns the outcome by its retry.
                    let _gone = reply.send(Ok(outcomes.by_ref().take(events).collect()));
                }
                if created > 0 {
                    self.commits.add(created);
                }
            }
            Err(error) => {
                // Perhaps the batch is stored all the same.
                self.commits.add(batch.len());
                self.metrics.store_errors.increment();
                tracing::error!(events = batch.len(), error = chain(&error), "a batch was not stored");
                for (_, reply) in replies {
                    let _gone = reply.send(Err(error.public()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    fn delivery(events: usize) -> Job {
        let body = br#"{"message_id":"m1","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}"#;
        let event = Event::of_message(message::parse(body).unwrap(), None, None);
        Job { delivery: vec![event; events], bytes: 0, reply: oneshot::channel().0 }
    }

    fn queue(max: usize) -> Queue {
        Queue { max, state: Mutex::default(), filled: Condvar::new() }
    }

    /// The sizes of the deliveries of the next batch.
    fn batch(queue: &Queue) -> Vec<usize> {
        queue.take().unwrap().iter().map(|job| job.delivery.len()).collect()
    }

    #[test]
    fn a_batch_has_whole_deliveries_and_as_many_events_as_fit() {
        let queue = queue(10_000);
        for events in [BATCH_MAX - 1, 1, 1, 2 * BATCH_MAX, 3, BATCH_MAX, 0] {
            queue.push(delivery(events)).unwrap();
        }
        for expected in [vec![BATCH_MAX - 1, 1], vec![1], vec![2 * BATCH_MAX], vec![3], vec![BATCH_MAX, 0]] {
            assert_eq!(batch(&queue), expected);
        }
        assert_eq!(queue.lock().events, 0);
    }

    #[test]
    fn the_queue_is_bounded_in_events_and_lets_a_larger_delivery_in_while_it_is_empty() {
        let queue = queue(10);
        queue.push(delivery(7)).unwrap();
        queue.push(delivery(3)).unwrap();
        assert_eq!(queue.push(delivery(1)).unwrap_err(), Refused::Overloaded);
        assert_eq!(batch(&queue), [7, 3]);
        queue.push(delivery(11)).unwrap();
        assert_eq!(queue.push(delivery(1)).unwrap_err(), Refused::Overloaded);
        assert_eq!(batch(&queue), [11]);
        queue.push(delivery(1)).unwrap();
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let large = |bytes| Job { bytes, ..delivery(1) };
        let queue = queue(10);
        queue.push(large(QUEUE_BYTES_MAX / 2)).unwrap();
        queue.push(large(QUEUE_BYTES_MAX / 2)).unwrap();
        assert_eq!(queue.push(large(1)).unwrap_err(), Refused::Overloaded);
        assert_eq!((batch(&queue), batch(&queue)), (vec![1], vec![1]));
        queue.push(large(QUEUE_BYTES_MAX + 1)).unwrap();
        assert_eq!(queue.push(large(0)).unwrap_err(), Refused::Overloaded);
    }
}
