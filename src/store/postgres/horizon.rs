//! Up to which arrival number no message can still appear.
//!
//! A batch takes its number before it is committed, so one with a greater number may be seen earlier. Whoever reads
//! on from an arrival number must not pass one that is still to come. Therefore a batch first takes a shared lock
//! whose key is the greatest number taken so far, then its own number, which is greater; the lock ends with its
//! transaction, once what was committed can be seen. Whoever reads looks at the greatest number first and then at
//! the locks: a batch that has no lock by then will get a greater number, and one that has will get a greater one
//! than its key. (A batch that looked long ago and takes its lock only now makes a later horizon lesser than an
//! earlier one. Both are true.) This needs no transaction to be kept waiting, and other users of the server do not matter.

use super::connection::{PgError, Session};
use super::insert::SEQS_PER_BATCH;
use super::locks;

const LATEST: &str = "SELECT last_value FROM message_batch";
/// The keys are the low 31 bits of batch numbers, of which the distance to the latest is told. A key beyond the latest,
/// which looks like a very great distance, is of a batch that began after that was read, and does not matter.
const UNDER_WAY: &str = "\
    SELECT coalesce(max(distance) FILTER (WHERE distance < 1073741824), 0) FROM (
        SELECT ($2 - objid::bigint) & 2147483647 AS distance, * FROM pg_locks
    ) AS locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint = $1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The batch that began last.
fn latest_batch(session: &Session<'_>) -> Result<i64, PgError> {
    Ok(session.row(LATEST, &[])?.try_get(0)?)
}

/// The greatest arrival number that a message of this batch can have.
fn last_of(batch: i64) -> i64 {
    batch * SEQS_PER_BATCH + SEQS_PER_BATCH - 1
}

/// An arrival number that is not less than any that has been given.
pub(super) fn latest(session: &Session<'_>) -> Result<i64, PgError> {
    latest_batch(session).map(last_of)
}

/// An arrival number up to which any snapshot taken after this has all messages that will ever be.
pub(super) fn horizon(session: &Session<'_>) -> Result<i64, PgError> {
    let latest = latest_batch(session)?;
    let distance: i64 = session.row(UNDER_WAY, &[&i64::from(locks::BATCHES), &latest])?.try_get(0)?;
    Ok(last_of(latest - distance))
}
