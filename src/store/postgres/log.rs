//! The log: events in the order of arrival, and the positions by which clients know their places in it.
//!
//! A position that a client has seen names an event for ever, for it names one that was read, and so was committed:
//! - A commit is visible only after the server has synced it, unless somebody has told it not to. What is in the
//!   write-ahead log before that is synced with it, among it the number that the batch took from its sequence. So a server
//!   that crashes comes back with the event, and with a sequence that has passed its number.
//! - The numbers of batches that were not committed may come back after a crash. No client has seen one of those: the
//!   horizon, which may be such a number, is never handed out.
//! - A server that comes back from an older time, or another database, gives numbers that a client has seen to other events,
//!   or to the same ones received anew. Their positions differ in the tag.

use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::layout::Layout;
use super::rows::{self, Portion};
use super::tombstones;
use crate::event::{
    Arrived, Event, Kind, LogFilter, LogId, LogRead, Position, Reached, Recorded, Start, Way,
};
use crate::message::Name;

/// Maximum number of events that a read looks at, let through or not.
const LOOKED_AT_MAX: i64 = 20_000;
/// Size of the texts and data that a read fetches at once, in bytes: those of a page that is as large as it may be.
const PORTION_BYTES: i64 = 1 << 20;

const LOG: &str = "SELECT uuid_send(id) FROM log";
/// The columns that a position says something of.
pub(super) const SAID: &str = "seq, source, key, received_ms";

/// The log of this database.
pub(super) fn log_id(session: &Session<'_>) -> Result<LogId, PgError> {
    let rows = session.query(LOG, &[])?;
    let row = rows.first().ok_or_else(|| PgError::UnexpectedResponse("the table log has no row".into()))?;
    let id: &[u8] = row.try_get(0)?;
    id.try_into().map_err(|_| PgError::UnexpectedResponse("the log has no id of 16 bytes".into()))
}

/// The event at a position, if the position names one, with the log's id.
pub(super) fn event_at(session: &Session<'_>, position: Position) -> Result<Option<Recorded>, PgError> {
    let log = log_id(session)?;
    let sql = format!("SELECT {} FROM event WHERE seq = $1", rows::EVENT_COLUMNS);
    for row in session.query(&sql, &[&position.seq])? {
        let recorded = Recorded::new(&log, rows::arrived(&row)?);
        if recorded.position == position {
            return Ok(Some(recorded));
        }
    }
    Ok(None)
}

/// Whether a position names an event of this log, erased or not.
pub(super) fn names_an_event(session: &Session<'_>, position: Position) -> Result<bool, PgError> {
    let found = position_of(session, &log_id(session)?, "seq = $1", position.seq)?;
    Ok(found == Some(position) || tombstones::have(session, position)?)
}

/// The position of the first event that a condition selects by an arrival number.
fn position_of(
    session: &Session<'_>,
    log: &LogId,
    condition: &str,
    seq: i64,
) -> Result<Option<Position>, PgError> {
    let rows = session.query(&format!("SELECT {SAID} FROM event WHERE {condition} LIMIT 1"), &[&seq])?;
    rows.first().map(|row| Ok(Position::of(log, &said(row)?))).transpose()
}

/// What a position says of an event, in a row that begins with the columns of [`SAID`]. Other fields are left out.
pub(super) fn said(row: &tokio_postgres::Row) -> Result<Arrived, PgError> {
    let (source, key) = (rows::source(row.try_get(1)?)?, rows::checked(row, 2, Name::new)?);
    let received_at = row.try_get::<_, Option<i64>>(3)?.map(rows::from_milliseconds).transpose()?;
    let event = Event { received_at, ..Event::bare(source, key, Kind::Event) };
    Ok(Arrived { seq: row.try_get(0)?, event })
}

/// [`Store::read_log`](crate::store::Store::read_log), in one snapshot that was taken after the horizon.
pub(super) fn read(
    session: &Session<'_>,
    horizon: i64,
    read: &LogRead,
    each: &mut dyn FnMut(Recorded) -> bool,
) -> Result<Option<Reached>, PgError> {
    let erasures = tombstones::removals(session)?;
    let way = match read.filter.way() {
        // The server rejects it as a value; no event has it.
        Way::Ref(about) if about.contains('\0') => Way::Arrival,
        way => way,
    };
    let backwards = read.start.is_backwards();
    let walk = Walk { session, log: log_id(session)?, backwards, way, horizon, erasures };
    let (from, began) = match read.start {
        Start::Beginning => (0, None),
        Start::Latest => (horizon.saturating_add(1), None),
        Start::Now => {
            let next = position_of(session, &walk.log, "seq <= $1 ORDER BY seq DESC", horizon)?;
            return Ok(Some(Reached { next, end: true, erasures }));
        }
        Start::After(position) | Start::Before(position) => {
            if !names_an_event(session, position)? {
                return Ok(None);
            }
            (position.seq, Some(position))
        }
    };
    let reached = if read.filter == LogFilter::default() {
        walk.all(from, read.limit, each)?
    } else {
        walk.filtered(from, read, each)?
    };
    Ok(Some(Reached { next: reached.next.or(began), ..reached }))
}

/// A walk through the log in one direction.
struct Walk<'a> {
    session: &'a Session<'a>,
    log: LogId,
    backwards: bool,
    way: Way<'a>,
    /// No event above this is looked at.
    horizon: i64,
    /// [`Reached::erasures`].
    erasures: i64,
}

/// Arrival numbers above the first one and up to the second one.
type Range = (i64, i64);

/// Where the events that were let through have ended.
struct Passed {
    last: Option<Position>,
    /// The caller wanted no more of them, or the limit is reached.
    is_enough: bool,
}

/// The condition that an event is in a range.
///
/// What is looked up is said in a way that one index alone can serve: where the planner takes a long range for a short one, or
/// the object of few events for that of most, it would go through the log. There is no index of the expression `+seq`. Two
/// comparisons of rows are a stretch of the index by object; by the two of `ref` the planner takes that to be short.
fn within(way: Way<'_>, (above, upto): Range) -> Conditions {
    let mut conditions = Conditions::default();
    let (above, upto) = (conditions.bind(above), conditions.bind(upto));
    let term = match way {
        Way::Key => format!("+seq > {above} AND +seq <= {upto}"),
        Way::Ref(about) => {
            let about = conditions.bind(about.to_owned());
            format!(
                "ref >= {about} AND ref <= {about} AND (ref, seq) > ({about}, {above}) AND (ref, seq) <= ({about}, {upto})"
            )
        }
        Way::Arrival => format!("seq > {above} AND seq <= {upto}"),
    };
    conditions.add(term);
    conditions
}

impl Walk<'_> {
    /// What comes after an arrival number in the direction of the walk, and is not beyond the horizon.
    fn beyond(&self, from: i64) -> Range {
        if self.backwards { (0, self.horizon.min(from.saturating_sub(1))) } else { (from, self.horizon) }
    }

    /// The same up to another arrival number, which is included.
    fn between(&self, from: i64, last: i64) -> Range {
        let (above, upto) = self.beyond(from);
        if self.backwards { (last.saturating_sub(1), upto) } else { (above, last) }
    }

    /// The order of the walk, or against it.
    fn order(&self, is_reversed: bool) -> &'static str {
        if self.backwards == is_reversed { "ASC" } else { "DESC" }
    }

    /// The first event after an arrival number, or the last one.
    fn at_an_end(&self, from: i64, is_last: bool) -> Result<Option<i64>, PgError> {
        let conditions = within(Way::Arrival, self.beyond(from));
        // In their order, lest the server reads all that come before, which lie first in the table.
        let (terms, order) = (conditions.sql(), self.order(is_last));
        let sql = format!("SELECT seq FROM event WHERE {terms} ORDER BY seq {order} LIMIT 1");
        let rows = self.session.query(&sql, &conditions.parameters())?;
        rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Every event from an arrival number on.
    fn all(&self, from: i64, limit: u32, each: &mut dyn FnMut(Recorded) -> bool) -> Result<Reached, PgError> {
        let passed = self.pass(limit, each, from, |from| within(self.way, self.beyond(from)))?;
        let end = match passed.last {
            Some(last) if passed.is_enough => self.at_an_end(last.seq, false)?.is_none(),
            _ => true,
        };
        Ok(Reached { next: passed.last, end, erasures: self.erasures })
    }

    /// The events that a filter lets through, among the next ones from an arrival number on.
    fn filtered(
        &self,
        from: i64,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Result<Reached, PgError> {
        let Some((last, is_all)) = self.last_looked_at(from)? else {
            return Ok(Reached { next: None, end: true, erasures: self.erasures });
        };
        let mut filter = read.filter.clone();
        if matches!(self.way, Way::Ref(_)) {
            // Said by the range. If it were said once more, the order would be that of the index by arrival, too.
            filter.r#ref = None;
        }
        let passed = self.pass(read.limit, each, from, |from| {
            let mut conditions = within(self.way, self.between(from, last));
            conditions.add_log_filter(&filter);
            conditions
        })?;
        if passed.is_enough && self.way != Way::Key {
            let is_last = passed.last.is_some_and(|passed| passed.seq == last);
            return Ok(Reached { next: passed.last, end: is_all && is_last, erasures: self.erasures });
        }
        let next = match passed.last.filter(|passed| passed.seq == last) {
            Some(passed) => Some(passed),
            None => position_of(self.session, &self.log, "seq = $1", last)?,
        };
        Ok(Reached { next, end: is_all, erasures: self.erasures })
    }

    /// The last event that the read looks at, and whether there are no more after it.
    fn last_looked_at(&self, from: i64) -> Result<Option<(i64, bool)>, PgError> {
        let last = match self.way {
            Way::Key => None,
            Way::Ref(_) => self.last_about_object(from)?,
            Way::Arrival => return self.last_in_window(from),
        };
        match last {
            Some(last) => Ok(Some((last, false))),
            None => Ok(self.at_an_end(from, true)?.map(|last| (last, true))),
        }
    }

    /// The same where each event is looked at.
    fn last_in_window(&self, from: i64) -> Result<Option<(i64, bool)>, PgError> {
        let mut conditions = within(Way::Arrival, self.beyond(from));
        let most = conditions.bind(LOOKED_AT_MAX);
        let (furthest, order) = (if self.backwards { "min" } else { "max" }, self.order(false));
        let sql = format!(
            "SELECT {furthest}(seq), count(*) FROM (SELECT seq FROM event WHERE {} ORDER BY seq {order} LIMIT {most}) AS found",
            conditions.sql()
        );
        let row = self.session.row(&sql, &conditions.parameters())?;
        let is_all = row.try_get::<_, i64>(1)? < LOOKED_AT_MAX;
        Ok(row.try_get::<_, Option<i64>>(0)?.map(|last| (last, is_all)))
    }

    /// The last event about the object that the read looks at, if there are more of them than that.
    fn last_about_object(&self, from: i64) -> Result<Option<i64>, PgError> {
        let mut conditions = within(self.way, self.beyond(from));
        let before = conditions.bind(LOOKED_AT_MAX - 1);
        let (terms, order) = (conditions.sql(), self.order(false));
        let sql = format!(
            "SELECT seq FROM event WHERE {terms} ORDER BY ref {order}, seq {order} OFFSET {before} LIMIT 1"
        );
        let rows = self.session.query(&sql, &conditions.parameters())?;
        rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Passes events to `each`, portion by portion.
    fn pass(
        &self,
        limit: u32,
        each: &mut dyn FnMut(Recorded) -> bool,
        mut from: i64,
        conditions: impl Fn(i64) -> Conditions,
    ) -> Result<Passed, PgError> {
        let mut passed = Passed { last: None, is_enough: false };
        let mut left = limit;
        loop {
            let by_ref = matches!(self.way, Way::Ref(_));
            let portion =
                Portion { backwards: self.backwards, by_ref, limit: left.into(), bytes: PORTION_BYTES };
            let more = portion.read(self.session, Layout::CURRENT, conditions(from), |arrived| {
                // What comes after it in this portion is read in vain, and is no more than a portion.
                if !passed.is_enough {
                    let recorded = Recorded::new(&self.log, arrived);
                    (from, left) = (recorded.position.seq, left.saturating_sub(1));
                    passed.last = Some(recorded.position);
                    passed.is_enough = !each(recorded) || left == 0;
                }
                Ok(())
            })?;
            if passed.is_enough || !more {
                return Ok(passed);
            }
        }
    }
}
