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
use super::layout::{self, Layout};
use super::parameter::Parameter;
use super::totals::{self, must_be_updated};
use super::{change, locks, rows};
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
/// A portion of the search index, so that a step ends in time at any size.
const SOME_TEXTS: &str = "SELECT bucket, seq FROM message_text LIMIT $1";
/// Deletes texts from the search index, by the buckets and the arrival numbers of their messages.
pub(super) const DELETE_TEXTS: &str = "\
    DELETE FROM message_text WHERE (bucket, seq) IN (
        SELECT bucket, seq FROM unnest($1::smallint[], $2::bigint[]) AS gone (bucket, seq)
    )";
/// The last of the next events, and their number.
const LAST_OF: &str = "\
    SELECT max(seq), count(*) FROM (SELECT seq FROM event WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS found";
const TEXTS: &str = "\
    SELECT bucket, seq, source, message_id, sender, recipient, ts_second, ts_nanosecond, text FROM message
    WHERE seq > $1 AND seq <= $2 ORDER BY seq";
const ADD_TEXTS: &str = "\
    INSERT INTO message_text (bucket, seq, source, message_id, sender, recipient, ts_second, ts_nanosecond, folded)
    SELECT bucket, seq, source, message_id, sender, recipient, ts_second, ts_nanosecond, folded
    FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::integer[],
                $9::text[])
        AS message (bucket, seq, source, message_id, sender, recipient, ts_second, ts_nanosecond, folded)";
const TEXTS_ADDED: &str = "UPDATE derived SET texts_upto = $1 WHERE NOT is_void RETURNING true";
const BEHIND: &str = "\
    SELECT (SELECT count(*) FROM (SELECT seq FROM message WHERE seq > $1 LIMIT $3) AS found),
           (SELECT count(*) FROM (SELECT seq FROM message WHERE seq > $2 LIMIT $3) AS found)";
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
        let both = upto.min(texts_upto);
        if aggregates_behind == 0 && texts_behind == 0 && stored > both {
            // The stored message is gone: it was erased, a manual change deleted it, or the server came back without it.
            // Unless another message was stored meanwhile, the lag is zero.
            let _another_one = self.stored.compare_exchange(stored, both, Relaxed, Relaxed);
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
                batch_sequence::repair(session, Layout::CURRENT, self.progress.greatest_batch())?;
            }
            let horizon = horizon(session, Layout::CURRENT)?;
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
                if delete_texts(session, self.tuning.aggregates_batch)? {
                    return Ok(true);
                }
                if !change::begin_anew(session)? {
                    return Ok(false);
                }
                tracing::info!(
                    "messages were changed manually or replaced; rebuilding the aggregates and the search index"
                );
                return Ok(true);
            }
            let more_aggregates = self.add_aggregates(session, stored.upto, horizon)?;
            let more_texts = self.add_texts(session, stored.texts_upto, horizon)?;
            Ok(more_aggregates || more_texts)
        })
    }

    /// The last arrival number of the next `most` events, and whether there are more after it; none if no event has
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
        totals::add(session, after, upto)?;
        Ok(more)
    }

    fn add_texts(&self, session: &Session<'_>, after: i64, horizon: i64) -> Result<bool, PgError> {
        let Some((upto, more)) = Self::batch(session, after, horizon, self.tuning.texts_batch)? else {
            return Ok(false);
        };
        let rows = session.query(TEXTS, &[&after, &upto])?;
        let (mut buckets, mut seqs, mut sources) = (vec![], vec![], vec![]);
        let (mut ids, mut senders, mut recipients) = (vec![], vec![], vec![]);
        let (mut seconds, mut nanoseconds, mut texts) = (vec![], vec![], vec![]);
        for row in &rows {
            let Some(text) = row.try_get::<_, Option<&str>>(8)? else { continue };
            let Moment { second, nanosecond } = rows::moment(row, 6)?;
            buckets.push(row.try_get::<_, i16>(0)?);
            seqs.push(row.try_get::<_, i64>(1)?);
            sources.push(layout::stored_name(row.try_get(2)?));
            ids.push(row.try_get::<_, &str>(3)?);
            senders.push(row.try_get::<_, Option<&str>>(4)?);
            recipients.push(row.try_get::<_, Option<&str>>(5)?);
            seconds.push(second);
            nanoseconds.push(rows::integer(nanosecond));
            texts.push(fold(text));
        }
        let columns: [Parameter<'_>; 9] =
            [&buckets, &seqs, &sources, &ids, &senders, &recipients, &seconds, &nanoseconds, &texts];
        session.query(ADD_TEXTS, &columns)?;
        must_be_updated(&session.query(TEXTS_ADDED, &[&upto])?)?;
        Ok(more)
    }
}

/// Deletes a portion of the search index; returns whether there may be more.
fn delete_texts(session: &Session<'_>, most: i64) -> Result<bool, PgError> {
    let (mut buckets, mut seqs) = (Vec::new(), Vec::new());
    session.each(SOME_TEXTS, &[&most], |row| {
        buckets.push(row.try_get::<_, i16>(0)?);
        seqs.push(row.try_get::<_, i64>(1)?);
        Ok(())
    })?;
    session.query(DELETE_TEXTS, &[&buckets, &seqs])?;
    Ok(seqs.len() >= usize::try_from(most).unwrap_or(usize::MAX))
}
