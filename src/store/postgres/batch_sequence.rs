//! The numbers of batches, which arrival numbers are made of. They come from a sequence of the server's, and whoever
//! reads on relies on it that none is given twice and none after a greater one was seen. A sequence is no part of what is
//! replicated, or dumped with a table, and can be set back: it is looked after, and moved on when it has fallen behind.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use super::connection::{PgError, Session};
use super::insert::SEQS_PER_BATCH;
use super::locks;
use crate::store::check::{Event, Tell};

/// The least number that the sequence must have given by now, if it has not: that of the latest message there is or was
/// derived from, and that which this process has seen. What a sequence that was never asked would give first is also what
/// it says that it gave last.
const NEEDED: &str = "\
    SELECT needed FROM (
        SELECT last_value, is_called, greatest(last_value, $1, (SELECT max(seq) >> 16 FROM message),
            (SELECT greatest(figures_upto, texts_upto) >> 16 FROM derived)) AS needed
        FROM message_batch
    ) AS numbers WHERE needed > last_value OR NOT is_called";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const MOVE_ON: &str = "SELECT setval('message_batch', $1)";
const MAY_MOVE: &str = "\
    SELECT has_sequence_privilege('message_batch', 'UPDATE') AND current_setting('transaction_read_only') = 'off'";
/// It is moved so much further. Others, who do not wait meanwhile, take fewer numbers than that between the look and the
/// move, which so never sets it back.
const MARGIN: i64 = 1 << 16;

const BEHIND: &str = "the sequence message_batch is behind the messages, as after a move without it, and this user may \
    not move it on, or not here: run `lyftr migrate` on the primary as the owner of the tables, or \
    GRANT UPDATE ON SEQUENCE message_batch to the user";

/// The greatest number of a batch that this process knows of.
#[derive(Debug, Default)]
pub(super) struct Seen(AtomicI64);

impl Seen {
    /// An arrival number that was given.
    pub(super) fn note(&self, seq: i64) {
        self.0.fetch_max(seq / SEQS_PER_BATCH, Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Moves the sequence on if it is behind.
pub(super) fn mend(session: &Session<'_>, seen: i64) -> Result<(), PgError> {
    if needed(session, seen)?.is_none() {
        return Ok(());
    }
    session.transaction(|| {
        session.query(LOCK, &[&locks::LYFTR, &locks::MIGRATION])?;
        move_on(session, seen)
    })
}

/// The same, by who has the lock of migrations.
pub(super) fn move_on(session: &Session<'_>, seen: i64) -> Result<(), PgError> {
    // Another process may have done so while this one waited for the lock.
    let Some(needed) = needed(session, seen)? else { return Ok(()) };
    if !session.row(MAY_MOVE, &[])?.try_get::<_, bool>(0)? {
        return Err(PgError::Unfit(BEHIND));
    }
    let to = needed.saturating_add(MARGIN);
    session.row(MOVE_ON, &[&to])?;
    tracing::warn!(to, "the sequence message_batch was behind the messages; it was moved on");
    Ok(())
}

/// Tells of a sequence that is behind.
pub(super) fn check(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<(), PgError> {
    if let Some(needed) = needed(session, 0)? {
        tell(Event::Problem(format!(
            "message_batch: behind the messages; it should have given {needed}; a start of the service moves it on"
        )));
    }
    Ok(())
}

fn needed(session: &Session<'_>, seen: i64) -> Result<Option<i64>, PgError> {
    session.query(NEEDED, &[&seen])?.first().map(|row| Ok(row.try_get(0)?)).transpose()
}
