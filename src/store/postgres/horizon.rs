//! The horizon: a low watermark over all writers. At or below it no message can still appear.
//!
//! A batch takes its number before it commits, so a batch with a greater number may become visible earlier. A reader that
//! goes on from an arrival number must not pass a message that is still to come. Therefore a batch first takes a shared
//! lock whose key is the greatest number taken so far, then its own number, which is greater; the lock ends with the
//! transaction, once the commit is visible. The reader reads the greatest number first and the locks second: a batch
//! without a lock by then gets a number above the greatest, and a batch with a lock gets a number above its key. (A batch
//! that read the greatest number long ago and takes its lock only now makes a later horizon lesser than an earlier one.
//! Both are true.) No transaction waits for this, and other users of the server do not matter.

use super::connection::{PgError, Session};
use super::insert::SEQS_PER_BATCH;
use super::locks;

const LATEST: &str = "SELECT last_value FROM message_batch";
/// The greatest distance of a lock's key from the latest batch number; keys are the low 31 bits of batch numbers. A key
/// beyond the latest looks like a very great distance: its batch began after the latest was read, and does not matter.
const UNDER_WAY: &str = "\
    SELECT coalesce(max(distance) FILTER (WHERE distance < 1073741824), 0) FROM (
        SELECT ($2 - objid::bigint) & 2147483647 AS distance, * FROM pg_locks
    ) AS locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint = $1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The number of the batch that began last.
fn latest_batch(session: &Session<'_>) -> Result<i64, PgError> {
    Ok(session.row(LATEST, &[])?.try_get(0)?)
}

/// The greatest arrival number that a message of a batch can have.
fn last_of(batch: i64) -> i64 {
    batch * SEQS_PER_BATCH + SEQS_PER_BATCH - 1
}

/// An arrival number that no message has exceeded so far.
pub(super) fn latest(session: &Session<'_>) -> Result<i64, PgError> {
    latest_batch(session).map(last_of)
}

/// The horizon: any snapshot taken after this has every message up to it that will ever exist.
pub(super) fn horizon(session: &Session<'_>) -> Result<i64, PgError> {
    let latest = latest_batch(session)?;
    let distance: i64 = session.row(UNDER_WAY, &[&i64::from(locks::BATCHES), &latest])?.try_get(0)?;
    Ok(last_of(latest - distance))
}
