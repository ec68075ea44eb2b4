//! Derives the figures and the index of texts from the messages, behind the writers: one thread in each process, of
//! which one at a time does the work for all.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Tuning;
use super::aggregates::Aggregates;
use super::batch_sequence::{self, Seen};
use super::connection::{Connections, PgError, Session};
use super::horizon::horizon;
use super::{locks, rows};
use crate::message::Moment;
use crate::query::fold;
use crate::store::{Behind, Error};
use crate::telemetry::chain;

/// Whoever holds this lock does the work, for one transaction.
const TURN: &str = "SELECT pg_try_advisory_xact_lock($1, $2)";
/// For a row that a hand took away.
const NOTE: &str = "INSERT INTO derived (is_void) VALUES (true) ON CONFLICT DO NOTHING";
/// What is void stays so until all of it has been forgotten, even if the latest message in it comes back.
const VOID: &str = "UPDATE derived SET is_void = true WHERE NOT is_void";
/// A portion of the texts, so that however many there are, each step ends in time.
const FORGET_TEXTS: &str = "\
    WITH gone AS (
        DELETE FROM message_text WHERE seq IN (SELECT seq FROM message_text LIMIT $1) RETURNING true
    ) SELECT count(*) FROM gone";
const FORGET: &str = "\
    DELETE FROM sender_total; DELETE FROM recipient_total; DELETE FROM day_total; DELETE FROM minute_total;
    UPDATE derived SET is_void = false, figures_upto = 0, texts_upto = 0, messages = 0, senders = 0,
        latest_seq = NULL, latest_id = NULL";
/// The last of so many messages.
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
/// While messages are stored, so many times as long as a step took belongs to the writers alone: what is derived gives way.
const GIVE_WAY: u32 = 3;
/// How far behind the indexes are is counted up to here.
const BEHIND_MAX: i64 = 1_000_000;

/// What the thread shows to others.
#[derive(Debug, Default)]
pub(super) struct IndexerProgress {
    /// The latest message that this process has stored.
    stored: AtomicI64,
    seen: Seen,
    aggregates_upto: AtomicI64,
    texts_upto: AtomicI64,
    aggregates_behind: AtomicU64,
    texts_behind: AtomicU64,
}

impl IndexerProgress {
    /// Messages were stored, up to this one.
    pub(super) fn stored(&self, seq: i64) {
        self.stored.fetch_max(seq, Relaxed);
        self.seen.note(seq);
    }

    /// The greatest number of a batch that this process knows of.
    pub(super) fn seen(&self) -> i64 {
        self.seen.get()
    }

    /// As far as the thread has seen, and at least one where this process has stored something since.
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
}

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Indexer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits, and tells whether to end.
    fn wait(&self, time: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, _) = self
            .changed
            .wait_timeout_while(asked, time, |asked| !*asked)
            .unwrap_or_else(PoisonError::into_inner);
        *asked
    }

    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Indexer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub(super) fn start(
        connections: Arc<Connections>,
        tuning: Tuning,
        progress: Arc<IndexerProgress>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let mut work = Work { connections, tuning, progress, failing: false, horizon: 0, looked_at: None };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("lyftr-index".into())
            .spawn(move || while !stopped.wait(work.step()) {})?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.stop.ask();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes the indexes panicked");
        }
    }
}

struct Work {
    connections: Arc<Connections>,
    tuning: Tuning,
    progress: Arc<IndexerProgress>,
    /// The last step failed, which has been said.
    failing: bool,
    /// Where the horizon was: it moves while messages are stored, by whichever process.
    horizon: i64,
    /// When it was last looked how far the work has come, which costs as much as there is to do.
    looked_at: Option<Instant>,
}

impl Work {
    /// Goes one step, and tells how long to wait until the next one.
    fn step(&mut self) -> Duration {
        let begin = Instant::now();
        let look = self.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= self.tuning.index_pause);
        let done = self.connections.lend(|session| {
            if look {
                batch_sequence::mend(session, self.progress.seen())?;
            }
            let horizon = horizon(session)?;
            self.progress.seen.note(horizon);
            let more = self.derive(session, horizon)?;
            if look || !more {
                self.look(session)?;
            }
            Ok((more, horizon))
        });
        match done {
            Ok((more, horizon)) => {
                self.failing = false;
                if look || !more {
                    self.looked_at = Some(Instant::now());
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
                    tracing::warn!(
                        error = chain(&Error::from(failed)),
                        "the indexes cannot be brought up to date"
                    );
                }
                self.tuning.index_pause
            }
        }
    }

    /// Adds what has arrived, if it is this process's turn, and tells whether there is more to do at once.
    fn derive(&self, session: &Session<'_>, horizon: i64) -> Result<bool, PgError> {
        session.transaction(|| {
            let turn: bool = session.row(TURN, &[&locks::LYFTR, &locks::INDEXER])?.try_get(0)?;
            if !turn {
                return Ok(false);
            }
            let Some(noted) = Aggregates::noted(session)? else {
                session.run(NOTE)?;
                return Ok(true);
            };
            if noted.is_void {
                session.run(VOID)?;
                let forgotten: i64 =
                    session.row(FORGET_TEXTS, &[&self.tuning.aggregates_batch])?.try_get(0)?;
                if forgotten < self.tuning.aggregates_batch {
                    session.run(FORGET)?;
                    tracing::info!(
                        "messages were changed by hand or are others; figures and indexes are made anew"
                    );
                }
                return Ok(true);
            }
            let more_aggregates = self.add_aggregates(session, noted.upto, horizon)?;
            let more_texts = self.add_texts(session, noted.texts_upto, horizon)?;
            Ok(more_aggregates || more_texts)
        })
    }

    /// The arrival number to go up to, and whether there is more after it; none if nothing has arrived.
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
        settled(&session.query(ADD_AGGREGATES, &[&after, &upto])?)?;
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
        settled(&session.query(TEXTS_ADDED, &[&upto])?)?;
        Ok(more)
    }

    /// Notes how far the work has come, whoever did it.
    fn look(&self, session: &Session<'_>) -> Result<(), PgError> {
        let progress = &self.progress;
        let stored = progress.stored.load(Relaxed);
        let Aggregates { upto, texts_upto, is_void: _ } = Aggregates::read(session)?;
        let row = session.row(BEHIND, &[&upto, &texts_upto, &BEHIND_MAX])?;
        let (aggregates_behind, texts_behind) = (rows::count(&row, 0)?, rows::count(&row, 1)?);
        progress.aggregates_behind.store(aggregates_behind, Relaxed);
        progress.texts_behind.store(texts_behind, Relaxed);
        progress.aggregates_upto.store(upto, Relaxed);
        progress.texts_upto.store(texts_upto, Relaxed);
        if aggregates_behind == 0 && texts_behind == 0 && stored > upto {
            // It is not there any more: a hand took it away, or the server has come back without it. Unless another
            // one was stored meanwhile, nothing waits for it.
            let _another_one = progress.stored.compare_exchange(stored, upto, Relaxed, Relaxed);
        }
        Ok(())
    }
}

/// What was to be noted is, unless messages were changed by hand meanwhile.
fn settled(noted: &[tokio_postgres::Row]) -> Result<(), PgError> {
    if noted.is_empty() {
        Err(PgError::UnexpectedResponse("messages were changed meanwhile".into()))
    } else {
        Ok(())
    }
}
