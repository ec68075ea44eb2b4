//! How derived data learns of a manual change.
//!
//! The trigger `event_was_touched` takes a shared lock for the rest of its transaction, and the next number of the sequence
//! `event_change`. It writes to no table: so it works wherever an event is, and two changes do not wait for each other. The
//! table `derived` has the number after which derived data was begun. While the sequence is at another one, it is void:
//! - A change has its number before its commit, and sequences show their numbers at once. So a read whose snapshot has the
//!   change finds another number, if it looks at the sequence after it took the snapshot.
//! - Derived data is begun anew, with the number of then, only while nobody has the lock. So each change up to that number
//!   has ended, and is in what is read from then on; and each later one gets a greater number.
//! - A change that is rolled back has its number too. It costs a rebuild.
//!
//! `setval` in the trigger stores the number as it is. A sequence is otherwise logged some numbers ahead, and derived data
//! would be void after each crash and failover. Of two changes at once it may store the lesser number last, which is greater
//! than that of `derived` too.

use super::connection::{PgError, Session};
use super::locks;

const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, $2)";
const RESET: &str = "\
    DELETE FROM sender_total; DELETE FROM recipient_total; DELETE FROM day_total; DELETE FROM minute_total;
    UPDATE derived SET is_void = false, figures_upto = 0, texts_upto = 0, messages = 0, senders = 0,
        latest_seq = NULL, latest_key = NULL, change = (SELECT last_value FROM event_change)";

/// Begins derived data anew, in the transaction of the session; returns whether it did. It does not while a manual change is
/// under way.
pub(super) fn begin_anew(session: &Session<'_>) -> Result<bool, PgError> {
    let is_alone: bool = session.row(TRY_LOCK, &[&locks::LYFTR, &locks::CHANGE])?.try_get(0)?;
    if is_alone {
        session.run(RESET)?;
    }
    Ok(is_alone)
}
