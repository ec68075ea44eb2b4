//! Derives the aggregates and the search index from the messages, behind the writers: each process has a thread for this,
//! and one of these threads at a time does the work for all processes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Tuning;
use super::aggregates::Aggregates;
use super::batch_sequence::{self, GreatestBatch};
use super::connection::{Connections, PgError, Session};
use super::horizon::horizon;
use super::{locks, rows};
use crate::message::Moment;
use crate::query::fold;
use crate::store::{Behind, Error};
use crate::telemetry::chain;

/// Takes the lock that entitles to the work, for one transaction.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, $2)";
/// Puts back the row of the state after a manual change has deleted it.
const RESTORE_STATE: &str = "INSERT INTO derived (is_void) VALUES (true) ON CONFLICT DO NOTHING";
/// Void derived data stays void until all of it has been deleted, even if the latest message in it comes back.
const VOID: &str = "UPDATE derived SET is_void = true WHERE NOT is_void";
/// Deletes a portion of the search index, so that a step ends in time at any size.
const DELETE_TEXTS: &str = "\
    WITH gone AS (
        DELETE FROM message_text WHERE seq IN (SELECT seq FROM message_text LIMIT $1) RETURNING true
    ) SELECT count(*) FROM gone";
const RESET: &str = "\
    DELETE FROM sender_total; DELETE FROM recipient_total; DELETE FROM day_total; DELETE FROM minute_total;
    UPDATE derived SET is_void = false, figures_upto = 0, texts_upto = 0, messages = 0, senders = 0,
        latest_seq = NULL, latest_id = NULL";
/// The last of the next messages, and their number.
const LAST_OF: &str = "\
    SELECT max(seq), count(*) FROM (SELECT seq FROM message WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS found";
const ADD_AGGREGATES: &str = "\
    WITH arrived AS MATERIALIZED (
        SELECT sender, recipient, ts_second FROM message WHERE seq > $1 AND seq <= $2
    ), by_sender AS (
        INSERT INTO sender_total AS kept (number, messages) SELECT sender, count(*) FROM arrived GROUP BY sender
        ON CONFLICT (number) DO UPDATE SET messages = kept.messages + excluded.messages
        RETURNING xmax = 0 AS is_new
    ), by_recipient AS (
        INSERT INTO recipient_total AS kept (number, messages) SELECT recipient, count(*) FROM arrived GROUP BY recipient
        ON CONFLICT (number) DO UPDATE SET messages = kept.messages + excluded.messages
    ), by_day AS (
        INSERT INTO day_total AS kept (day, messages) SELECT floor(ts_second / 86400.0), count(*) FROM arrived GROUP BY 1
        ON CONFLICT (day) DO UPDATE SET messages = kept.messages + excluded.messages
    ), by_minute AS (
        INSERT INTO minute_total AS kept (minute, messages) SELECT floor(ts_second / 60.0), count(*) FROM arrived GROUP BY 1
        ON CONFLICT (minute) DO UPDATE SET messages = kept.messages + excluded.messages
    )
    UPDATE derived SET figures_upto = $2, messages = messages + (SELECT count(*) FROM arrived),
        senders = senders + (SELECT count(*) FROM by_sender WHERE is_new),
        latest_seq = $2, latest_id = (SELECT message_id FROM message WHERE seq = $2)
    WHERE NOT is_void RETURNING true";
const TEXTS: &str = "\
    SELECT seq, message_id, sender, recipient, ts_second, ts_nanosecond, text FROM message
    WHERE seq > $1 AND seq <= $2 ORDER BY seq";
const ADD_TEXTS: &str = "\
    INSERT INTO message_text (seq, message_id, sender, recipient, ts_second, ts_nanosecond, folded)
    SELECT seq, message_id, sender, recipient, ts_second, ts_nanosecond, folded
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::integer[], $7::text[])
        AS message (seq, message_id, sender, recipient, ts_second, ts_nanosecond, folded)";
const TEXTS_ADDED: &str = "UPDATE derived SET texts_upto = $1 WHERE NOT is_void RETURNING true";
const BEHIND: &str = "\
    SELECT (SELECT count(*) FROM (SELECT FROM message WHERE seq > $1 LIMIT $3) AS found),
           (SELECT count(*) FROM (SELECT FROM message WHERE seq > $2 LIMIT $3) AS found)";
/// While messages are stored, the thread pauses after a step for this multiple of the step's time: writers come first.
const GIVE_WAY: u32 = 3;
/// The lag is counted up to this.
const BEHIND_MAX: i64 = 1_000_000;

/// The progress of the derived data, as far as this process knows. Until its first look a process takes one message to be
/// missing.
#[derive(Debug)]
pub(super) struct IndexerProgress {
    /// Arrival number of the latest message that this process has stored.
    stored: AtomicI64,
    greatest_batch: GreatestBatch,
    aggregates_upto: AtomicI64,
    texts_upto: AtomicI64,
    aggregates_behind: AtomicU64,
    texts_behind: AtomicU64,
}

impl Default for IndexerProgress {
    fn default() -> Self {
        Self {
            stored: AtomicI64::default(),
            greatest_batch: GreatestBatch::default(),
            aggregates_upto: AtomicI64::default(),
            texts_upto: AtomicI64::default(),
            aggregates_behind: AtomicU64::new(1),
            texts_behind: AtomicU64::new(1),
        }
    }
}

impl IndexerProgress {
    /// Notes that messages up to this one were stored.
    pub(super) fn stored(&self, seq: i64) {
        self.stored.fetch_max(seq, Relaxed);
        self.greatest_batch.note(seq);
    }

    /// The greatest batch number that this process knows of.
    pub(super) fn greatest_batch(&self) -> i64 {
        self.greatest_batch.get()
    }

    /// The lag as of the thread's last look, and at least one message if this process has stored some since.
    pub(super) fn behind(&self) -> Behind {
        let stored = self.stored.load(Relaxed);
        let of = |upto: &AtomicI64, behind: &AtomicU64| {
            behind.load(Relaxed).max(u64::from(stored > upto.load(Relaxed)))
        };
        Behind {
            index: of(&self.aggregates_upto, &self.aggregates_behind),
            search: of(&self.texts_upto, &self.texts_behind),
        }
    }

    /// Measures the lag, whichever process does the work. Each part is counted up to `max`.
    pub(super) fn measure(&self, session: &Session<'_>, max: i64) -> Result<(), PgError> {
        let stored = self.stored.load(Relaxed);
        let Aggregates { upto, texts_upto, is_void: _ } = Aggregates::read(session)?;
        let row = session.row(BEHIND, &[&upto, &texts_upto, &max])?;
        let (aggregates_behind, texts_behind) = (rows::count(&row, 0)?, rows::count(&row, 1)?);
        self.aggregates_behind.store(aggregates_behind, Relaxed);
        self.texts_behind.store(texts_behind, Relaxed);
        self.aggregates_upto.store(upto, Relaxed);
        self.texts_upto.store(texts_upto, Relaxed);
        if aggregates_behind == 0 && texts_behind == 0 && stored > upto {
            // The stored message is gone: a manual change deleted it, or the server came back without it. Unless another
            // message was stored meanwhile, the lag is zero.
            let _another_one = self.stored.compare_exchange(stored, upto, Relaxed, Relaxed);
        }
        Ok(())
    }
}

/// The thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Indexer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for `time`, or less if the thread shall stop; tells whether it shall.
    fn wait(&self, time: Duration) -> bool {
        let requested = self.requested.lock().unwrap_or_else(PoisonError::into_inner);
        let (requested, _) = self
            .changed
            .wait_timeout_while(requested, time, |requested| !*requested)
            .unwrap_or_else(PoisonError::into_inner);
        *requested
    }

    fn request(&self) {
        *self.requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Indexer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system starts no thread.
    pub(super) fn start(
        connections: Arc<Connections>,
        tuning: Tuning,
        progress: Arc<IndexerProgress>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let mut work = Work { connections, tuning, progress, failing: false, horizon: 0, measured_at: None };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("lyftr-index".into())
            .spawn(move || while !stopped.wait(work.step()) {})?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop.request();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the indexer thread panicked");
        }
    }
}

struct Work {
    connections: Arc<Connections>,
    tuning: Tuning,
    progress: Arc<IndexerProgress>,
    /// The last step failed, and the failure has been logged.
    failing: bool,
    /// The horizon of the last step: it moves while any process stores messages.
    horizon: i64,
    /// When the lag was last measured, which takes time in proportion to the lag.
    measured_at: Option<Instant>,
}

impl Work {
    /// Does one step of work, and returns the pause until the next one.
    fn step(&mut self) -> Duration {
        let begin = Instant::now();
        let measure =
            self.measured_at.is_none_or(|measured_at| measured_at.elapsed() >= self.tuning.index_pause);
        let done = self.connections.lend(|session| {
            if measure {
                batch_sequence::repair(session, self.progress.greatest_batch())?;
            }
            let horizon = horizon(session)?;
            self.progress.greatest_batch.note(horizon);
            let more = self.derive(session, horizon)?;
            if measure || !more {
                self.progress.measure(session, BEHIND_MAX)?;
            }
            Ok((more, horizon))
        });
        match done {
            Ok((more, horizon)) => {
                self.failing = false;
                if measure || !more {
                    self.measured_at = Some(Instant::now());
                }
                let others_write = std::mem::replace(&mut self.horizon, horizon) != horizon;
                match (more, others_write) {
                    (true, true) => begin.elapsed() * GIVE_WAY,
                    (true, false) => Duration::ZERO,
                    (false, _) => self.tuning.index_pause,
                }
            }
            Err(PgError::Closed) => self.tuning.index_pause,
            Err(failed) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = chain(&Error::from(failed)), "cannot update the indexes");
                }
                self.tuning.index_pause
            }
        }
    }

    /// Adds the messages that have arrived, if this process gets the lock; tells whether there is more to do at once.
    fn derive(&self, session: &Session<'_>, horizon: i64) -> Result<bool, PgError> {
        session.transaction(|| {
            let has_lock: bool = session.row(TRY_LOCK, &[&locks::LYFTR, &locks::INDEXER])?.try_get(0)?;
            if !has_lock {
                return Ok(false);
            }
            let Some(stored) = Aggregates::stored(session)? else {
                session.run(RESTORE_STATE)?;
                return Ok(true);
            };
            if stored.is_void {
                session.run(VOID)?;
                let deleted: i64 =
                    session.row(DELETE_TEXTS, &[&self.tuning.aggregates_batch])?.try_get(0)?;
                if deleted < self.tuning.aggregates_batch {
                    session.run(RESET)?;
                    tracing::info!(
                        "messages were changed manually or replaced; rebuilding the aggregates and the search index"
                    );
                }
                return Ok(true);
            }
            let more_aggregates = self.add_aggregates(session, stored.upto, horizon)?;
            let more_texts = self.add_texts(session, stored.texts_upto, horizon)?;
            Ok(more_aggregates || more_texts)
        })
    }

    /// The last arrival number of the next `most` messages, and whether there are more after it; none if no message has
    /// arrived.
    fn batch(
        session: &Session<'_>,
        after: i64,
        horizon: i64,
        most: i64,
    ) -> Result<Option<(i64, bool)>, PgError> {
        let row = session.row(LAST_OF, &[&after, &horizon, &most])?;
        let more = row.try_get::<_, i64>(1)? == most;
        Ok(row.try_get::<_, Option<i64>>(0)?.map(|last| (last, more)))
    }

    fn add_aggregates(&self, session: &Session<'_>, after: i64, horizon: i64) -> Result<bool, PgError> {
        let Some((upto, more)) = Self::batch(session, after, horizon, self.tuning.aggregates_batch)? else {
            return Ok(false);
        };
        must_be_updated(&session.query(ADD_AGGREGATES, &[&after, &upto])?)?;
        Ok(more)
    }

    fn add_texts(&self, session: &Session<'_>, after: i64, horizon: i64) -> Result<bool, PgError> {
        let Some((upto, more)) = Self::batch(session, after, horizon, self.tuning.texts_batch)? else {
            return Ok(false);
        };
        let rows = session.query(TEXTS, &[&after, &upto])?;
        let (mut seqs, mut ids, mut senders, mut recipients) = (vec![], vec![], vec![], vec![]);
        let (mut seconds, mut nanoseconds, mut texts) = (vec![], vec![], vec![]);
        for row in &rows {
            let Some(text) = row.try_get::<_, Option<&str>>(6)? else { continue };
            let Moment { second, nanosecond } = rows::moment(row, 4)?;
            seqs.push(row.try_get::<_, i64>(0)?);
            ids.push(row.try_get::<_, &str>(1)?);
            senders.push(row.try_get::<_, &str>(2)?);
            recipients.push(row.try_get::<_, &str>(3)?);
            seconds.push(second);
            nanoseconds.push(rows::integer(nanosecond));
            texts.push(fold(text));
        }
        session.query(ADD_TEXTS, &[&seqs, &ids, &senders, &recipients, &seconds, &nanoseconds, &texts])?;
        must_be_updated(&session.query(TEXTS_ADDED, &[&upto])?)?;
        Ok(more)
    }
}

/// Fails if the state was not updated, since a manual change has voided it meanwhile.
fn must_be_updated(updated: &[tokio_postgres::Row]) -> Result<(), PgError> {
    if updated.is_empty() {
        Err(PgError::UnexpectedResponse("messages were changed meanwhile".into()))
    } else {
        Ok(())
    }
}
