//! Erases events, step by step. A step deletes events, leaves their tombstones, and adjusts derived data, in one
//! transaction: so every snapshot has events and derived data that belong together, and nothing is derived anew.
//!
//! - A step takes the lock of the thread that derives, so that neither changes derived data under the other. It then reads
//!   the watermarks. An event above them is not in the derived data, and will not be: the thread reads the events again when it
//!   has the lock.
//! - A step tells the trigger `event_was_touched` that its deletion is no manual change, by the id of its transaction in the
//!   setting `lyftr.erasing`.
//! - A batch that has an event which is being erased waits for the step, and then leaves it out: see `event_add_messages` in
//!   the migration. A step waits for no batch.

use super::aggregates::Aggregates;
use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::indexer::DELETE_TEXTS;
use super::log::{self, SAID};
use super::tombstones::{self, Gone};
use super::totals::Totals;
use super::{locks, rows};
use crate::erasure::{Erasure, Step};
use crate::event::{Event, Position};

/// Maximum number of events that a step erases.
const ERASED_MAX: i64 = 500;
/// Maximum number of events that a step looks at, selected or not.
const LOOKED_AT_MAX: i64 = 65_536;

const LAST_LOOKED_AT: &str = "\
    SELECT max(seq), count(*) FROM (SELECT seq FROM event WHERE seq > $1 ORDER BY seq LIMIT $2) AS found";
/// Waits for the thread that derives, of whichever process.
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const TELL_TRIGGER: &str = "SELECT set_config('lyftr.erasing', pg_current_xact_id()::text, true)";
/// Of a release before this one.
const DELETE_TEXTS_WITHOUT_BUCKET: &str = "DELETE FROM message_text WHERE bucket = -1 AND seq = ANY ($1)";

/// The selected events that a step has found.
pub(super) struct Selected {
    buckets: Vec<i16>,
    seqs: Vec<i64>,
    /// [`Step::next`] once they are erased.
    next: Option<i64>,
}

/// Finds the first events after an arrival number that an erasure selects.
pub(super) fn select(session: &Session<'_>, erasure: &Erasure, after: i64) -> Result<Selected, PgError> {
    let mut selected = Selected { buckets: Vec::new(), seqs: Vec::new(), next: None };
    let Some((last, is_all)) = last_looked_at(session, after)? else { return Ok(selected) };
    let mut conditions = within(erasure, after, last);
    let most = conditions.bind(ERASED_MAX);
    let sql = format!("SELECT bucket, seq FROM event WHERE {} ORDER BY seq LIMIT {most}", conditions.sql());
    for row in session.query(&sql, &conditions.parameters())? {
        selected.buckets.push(row.try_get(0)?);
        selected.seqs.push(row.try_get(1)?);
    }
    let is_full = i64::try_from(selected.seqs.len()).is_ok_and(|found| found >= ERASED_MAX);
    selected.next = if is_full { selected.seqs.last().copied() } else { Some(last).filter(|_| !is_all) };
    Ok(selected)
}

/// [`Store::count_selected`](crate::store::Store::count_selected).
pub(super) fn count(session: &Session<'_>, erasure: &Erasure, after: i64) -> Result<Step, PgError> {
    let Some((last, is_all)) = last_looked_at(session, after)? else { return Ok(Step::default()) };
    let conditions = within(erasure, after, last);
    let sql = format!("SELECT count(*) FROM event WHERE {}", conditions.sql());
    let events = rows::count(&session.row(&sql, &conditions.parameters())?, 0)?;
    Ok(Step { events, next: Some(last).filter(|_| !is_all) })
}

/// Erases those of the events that the erasure still selects, in one transaction.
pub(super) fn erase(session: &Session<'_>, erasure: &Erasure, selected: &Selected) -> Result<Step, PgError> {
    if selected.seqs.is_empty() {
        return Ok(Step { events: 0, next: selected.next });
    }
    session.transaction(|| {
        session.query(LOCK, &[&locks::LYFTR, &locks::INDEXER])?;
        session.query(TELL_TRIGGER, &[])?;
        // Void derived data has a watermark of zero.
        let derived = Aggregates::read(session)?;
        let deleted = delete_events(session, erasure, selected)?;
        if let Some(first) = deleted.gone.iter().map(|gone| gone.position.seq).min() {
            delete_texts(session, &deleted.gone)?;
            if first <= derived.upto {
                deleted.totals_upto(derived.upto).subtract(session, derived.upto)?;
            }
            tombstones::add(session, &deleted.gone)?;
        }
        let events = u64::try_from(deleted.gone.len()).unwrap_or(u64::MAX);
        Ok(Step { events, next: selected.next })
    })
}

/// The last of the events after an arrival number that a step looks at, and whether there are no more after it.
fn last_looked_at(session: &Session<'_>, after: i64) -> Result<Option<(i64, bool)>, PgError> {
    let row = session.row(LAST_LOOKED_AT, &[&after, &LOOKED_AT_MAX])?;
    let is_all = row.try_get::<_, i64>(1)? < LOOKED_AT_MAX;
    Ok(row.try_get::<_, Option<i64>>(0)?.map(|last| (last, is_all)))
}

/// The conditions for the selected events after an arrival number and up to another one.
fn within(erasure: &Erasure, after: i64, last: i64) -> Conditions {
    let mut conditions = Conditions::default();
    let (after, last) = (conditions.bind(after), conditions.bind(last));
    conditions.add(format!("seq > {after} AND seq <= {last}"));
    conditions.add_erasure(erasure);
    conditions
}

/// Events that a step has deleted.
struct Deleted {
    gone: Vec<Gone>,
    /// The messages among them: arrival number, sender, recipient and second.
    messages: Vec<(i64, Option<String>, Option<String>, i64)>,
}

impl Deleted {
    /// The totals of the messages up to an arrival number.
    fn totals_upto(&self, upto: i64) -> Totals {
        let mut totals = Totals::default();
        for (_, sender, recipient, second) in self.messages.iter().filter(|(seq, ..)| *seq <= upto) {
            totals.count(sender.as_deref(), recipient.as_deref(), *second);
        }
        totals
    }
}

fn delete_events(session: &Session<'_>, erasure: &Erasure, selected: &Selected) -> Result<Deleted, PgError> {
    let log = log::log_id(session)?;
    let mut conditions = Conditions::default();
    let (buckets, seqs) = (conditions.bind(selected.buckets.clone()), conditions.bind(selected.seqs.clone()));
    conditions.add(format!(
        "(bucket, seq) IN (SELECT * FROM unnest({buckets}::smallint[], {seqs}::bigint[]) AS selected (bucket, seq))"
    ));
    // A manual change may have made another event of it since it was found.
    conditions.add_erasure(erasure);
    let sql = format!(
        "DELETE FROM event WHERE {} RETURNING {SAID}, bucket, kind, sender, recipient, ts_second",
        conditions.sql()
    );
    let mut deleted = Deleted { gone: Vec::new(), messages: Vec::new() };
    for row in session.query(&sql, &conditions.parameters())? {
        let arrived = log::said(&row)?;
        let position = Position::of(&log, &arrived);
        if row.try_get::<_, i16>(5)? == 0 {
            let (sender, recipient, second) = (row.try_get(6)?, row.try_get(7)?, row.try_get(8)?);
            deleted.messages.push((position.seq, sender, recipient, second));
        }
        let Event { source, key, .. } = arrived.event;
        deleted.gone.push(Gone { bucket: row.try_get(4)?, source, key, position });
    }
    Ok(deleted)
}

/// Deletes the texts of erased events from the search index, which has only some of them.
fn delete_texts(session: &Session<'_>, gone: &[Gone]) -> Result<(), PgError> {
    let buckets: Vec<i16> = gone.iter().map(|gone| gone.bucket).collect();
    let seqs: Vec<i64> = gone.iter().map(|gone| gone.position.seq).collect();
    session.query(DELETE_TEXTS, &[&buckets, &seqs])?;
    session.query(DELETE_TEXTS_WITHOUT_BUCKET, &[&seqs])?;
    Ok(())
}
