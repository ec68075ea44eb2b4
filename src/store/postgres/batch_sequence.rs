//! The sequence of batch numbers, which arrival numbers are made of. A reader that goes on from an arrival number relies
//! on the sequence: no number is given twice, and none after a greater one was seen. But a sequence is neither replicated
//! nor dumped with a table, and can be set back: Lyftr watches it, and advances it when it is behind the messages.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{PgError, Session};
use super::insert::SEQS_PER_BATCH;
use super::locks;
use crate::store::check::{Event, Tell};

/// The batch number that the sequence must have reached, if it is behind: the greatest of the messages, of the derived
/// data, and of this process. A sequence that was never used reports its first value as its last one, hence `is_called`.
const NEEDED: &str = "\
    SELECT needed FROM (
        SELECT last_value, is_called, greatest(last_value, $1, (SELECT max(seq) >> 16 FROM message),
            (SELECT greatest(figures_upto, texts_upto) >> 16 FROM derived)) AS needed
        FROM message_batch
    ) AS numbers WHERE needed > last_value OR NOT is_called";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const ADVANCE: &str = "SELECT setval('message_batch', $1)";
const MAY_ADVANCE: &str = "\
    SELECT has_sequence_privilege('message_batch', 'UPDATE') AND current_setting('transaction_read_only') = 'off'";
/// The sequence is advanced so far beyond the needed number. Other processes go on meanwhile: they take fewer numbers than
/// this between the query and the change, so that the change never sets the sequence back.
const MARGIN: i64 = 1 << 16;

const BEHIND: &str = "the sequence message_batch is behind the messages, as after a move without it, and this user may \
    not advance it, or not here: run `lyftr migrate` on the primary as the owner of the tables, or \
    GRANT UPDATE ON SEQUENCE message_batch to the user";

/// The greatest batch number that this process knows of.
#[derive(Debug, Default)]
pub(super) struct GreatestBatch(AtomicI64);

impl GreatestBatch {
    /// Notes an arrival number that was given.
    pub(super) fn note(&self, seq: i64) {
        self.0.fetch_max(seq / SEQS_PER_BATCH, Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Advances the sequence if it is behind.
pub(super) fn repair(session: &Session<'_>, seen: i64) -> Result<(), PgError> {
    if needed(session, seen)?.is_none() {
        return Ok(());
    }
    session.transaction(|| {
        session.query(LOCK, &[&locks::LYFTR, &locks::MIGRATION])?;
        advance(session, seen)
    })
}

/// As [`repair`], for a caller that holds the lock of migrations.
pub(super) fn advance(session: &Session<'_>, seen: i64) -> Result<(), PgError> {
    // Another process may have advanced it while this one waited for the lock.
    let Some(needed) = needed(session, seen)? else { return Ok(()) };
    if !session.row(MAY_ADVANCE, &[])?.try_get::<_, bool>(0)? {
        return Err(PgError::Unfit(BEHIND));
    }
    let to = needed.saturating_add(MARGIN);
    session.row(ADVANCE, &[&to])?;
    tracing::warn!(to, "the sequence message_batch was behind the messages; it was advanced");
    Ok(())
}

/// Reports a sequence that is behind.
pub(super) fn check(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<(), PgError> {
    if let Some(needed) = needed(session, 0)? {
        tell(Event::Problem(format!(
            "message_batch: behind the messages; it should have given {needed}; a start of the service advances it"
        )));
    }
    Ok(())
}

/// The batch number that the sequence must have reached; none if it has.
fn needed(session: &Session<'_>, seen: i64) -> Result<Option<i64>, PgError> {
    session.query(NEEDED, &[&seen])?.first().map(|row| Ok(row.try_get(0)?)).transpose()
}
