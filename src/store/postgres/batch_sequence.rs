//! The sequence of batch numbers, which arrival numbers are made of. A reader that goes on from an arrival number relies
//! on the sequence: no number is given twice, and none after a greater one was seen. But a sequence is neither replicated
//! nor dumped with a table, and can be set back: Lyftr watches it, and advances it when it is behind the events.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{PgError, Session};
use super::layout::{Layout, batch_of};
use super::locks;
use crate::store::check::{Report, Tell};

/// The batch number that the sequence must have reached, if it is behind: the greatest of the events, of the derived
/// data, and of this process. A sequence that was never used reports its first value as its last one, hence `is_called`.
fn needed_sql(layout: Layout) -> String {
    let Layout { batches, bits, events } = layout;
    format!(
        "SELECT needed FROM (
             SELECT last_value, is_called, greatest(last_value, $1, (SELECT max(seq) >> {bits} FROM {events}),
                 (SELECT greatest(figures_upto, texts_upto) >> {bits} FROM derived)) AS needed
             FROM {batches}
         ) AS numbers WHERE needed > last_value OR NOT is_called"
    )
}

const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
/// The first parameter is the name of the sequence.
const ADVANCE: &str = "SELECT setval($1::text::regclass, $2)";
const MAY_ADVANCE: &str = "\
    SELECT has_sequence_privilege($1, 'UPDATE') AND current_setting('transaction_read_only') = 'off'";
/// The sequence is advanced so far beyond the needed number. Other processes go on meanwhile: they take fewer numbers than
/// this between the query and the change, so that the change never sets the sequence back.
const MARGIN: i64 = 1 << 16;

const BEHIND: &str = "the sequence of batches is behind the events, as after a move without it, and this user may \
    not advance it, or not here: run `lyftr migrate` on the primary as the owner of the tables, or \
    GRANT UPDATE ON SEQUENCE event_batch to the user";

/// The greatest batch number that this process knows of.
#[derive(Debug, Default)]
pub(super) struct GreatestBatch(AtomicI64);

impl GreatestBatch {
    /// Notes an arrival number that was given.
    pub(super) fn note(&self, seq: i64) {
        self.0.fetch_max(batch_of(seq), Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Advances the sequence if it is behind.
pub(super) fn repair(session: &Session<'_>, layout: Layout, seen: i64) -> Result<(), PgError> {
    if needed(session, layout, seen)?.is_none() {
        return Ok(());
    }
    session.transaction(|| {
        session.query(LOCK, &[&locks::LYFTR, &locks::MIGRATION])?;
        advance(session, layout, seen)
    })
}

/// As [`repair`], for a caller that holds the lock of migrations.
pub(super) fn advance(session: &Session<'_>, layout: Layout, seen: i64) -> Result<(), PgError> {
    // Another process may have advanced it while this one waited for the lock.
    let Some(needed) = needed(session, layout, seen)? else { return Ok(()) };
    let sequence = layout.batches;
    if !session.row(MAY_ADVANCE, &[&sequence])?.try_get::<_, bool>(0)? {
        return Err(PgError::Unfit(BEHIND));
    }
    let to = needed.saturating_add(MARGIN);
    session.row(ADVANCE, &[&sequence, &to])?;
    tracing::warn!(to, sequence, "the sequence of batches was behind the events; it was advanced");
    Ok(())
}

/// Reports a sequence that is behind.
pub(super) fn check(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<(), PgError> {
    if let Some(needed) = needed(session, Layout::CURRENT, 0)? {
        tell(Report::Problem(format!(
            "event_batch: behind the events; it should have given {needed}; a start of the service advances it"
        )));
    }
    Ok(())
}

/// The batch number that the sequence must have reached; none if it has.
fn needed(session: &Session<'_>, layout: Layout, seen: i64) -> Result<Option<i64>, PgError> {
    session.query(&needed_sql(layout), &[&seen])?.first().map(|row| Ok(row.try_get(0)?)).transpose()
}
