//! The horizon: a low watermark over all writers. At or below it no event can still appear.
//!
//! A batch takes its number before it commits, so a batch with a greater number may become visible earlier. A reader that
//! goes on from an arrival number must not pass an event that is still to come. Therefore a batch first takes a shared
//! lock whose key is the greatest number taken so far, then its own number, which is greater; the lock ends with the
//! transaction, once the commit is visible. The reader reads the greatest number first and the locks second: a batch
//! without a lock by then gets a number above the greatest, and a batch with a lock gets a number above its key. (A batch
//! that read the greatest number long ago and takes its lock only now makes a later horizon lesser than an earlier one.
//! Both are true.) No transaction waits for this, and other users of the server do not matter.

use super::connection::{PgError, Session};
use super::layout::Layout;
use super::locks;

/// The second keys of the locks of batches.
const UNDER_WAY: &str = "\
    SELECT objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid::bigint = $1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// Keys are the low 31 bits of batch numbers.
const KEY_MASK: i64 = 0x7fff_ffff;
/// A lock whose key is beyond the latest batch number looks as if it were farther back than this: its batch began after the
/// latest was read, and does not matter.
const DISTANCE_MAX: i64 = 1 << 30;

fn latest_batch(layout: Layout) -> String {
    format!("SELECT last_value FROM {}", layout.batches)
}

/// An arrival number that no event has exceeded so far.
pub(super) fn latest(session: &Session<'_>, layout: Layout) -> Result<i64, PgError> {
    Ok(layout.last_of(session.row(&latest_batch(layout), &[])?.try_get(0)?))
}

/// The horizon: any snapshot taken after this has every event up to it that will ever exist.
pub(super) fn horizon(session: &Session<'_>, layout: Layout) -> Result<i64, PgError> {
    // In this order.
    let (latest, locks) =
        session.query_both((&latest_batch(layout), &[]), (UNDER_WAY, &[&i64::from(locks::BATCHES)]))?;
    let latest: i64 = latest.first().ok_or_else(|| unexpected("a sequence without a row"))?.try_get(0)?;
    let mut distance = 0;
    for lock in locks {
        let behind = (latest - lock.try_get::<_, i64>(0)?) & KEY_MASK;
        if behind < DISTANCE_MAX {
            distance = distance.max(behind);
        }
    }
    Ok(layout.last_of(latest - distance))
}

fn unexpected(what: &'static str) -> PgError {
    PgError::UnexpectedResponse(what.into())
}
