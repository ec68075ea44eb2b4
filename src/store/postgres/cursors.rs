//! The cursors of followers.

use tokio_postgres::Row;

use super::connection::{PgError, Session};
use super::rows::{count, from_milliseconds, milliseconds};
use super::{locks, log};
use crate::cursor::{CURSORS_MAX, Cursor, CursorName, LAG_MAX, Move, Moved};
use crate::event::Position;

/// Events are counted one by one up to this number. It is greater than the one from which on the alert `LyftrCursorBehind`
/// fires, and little enough for every cursor at each scrape of `/metrics`.
const COUNTED_MAX: u64 = 12_000;

/// Each cursor with the number of events after it.
const CURSORS: &str = "\
    SELECT name, seq, tag, updated_ms,
           (SELECT count(*) FROM (SELECT event.seq FROM event WHERE event.seq > cursor.seq LIMIT $1) AS later)
    FROM cursor";
/// The number of events after an arrival number.
const COUNT_AFTER: &str = "SELECT count(*) FROM (SELECT seq FROM event WHERE seq > $2 LIMIT $1) AS later";
/// What the server, which keeps statistics, takes this number for. Its first line has `rows=` and the number.
const ESTIMATE_AFTER: &str = "EXPLAIN SELECT seq FROM event WHERE seq > $1";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
/// Of two moves from one position the second waits here for the first, and finds another position.
const PLACE: &str = "SELECT seq, tag FROM cursor WHERE name = $1 FOR UPDATE";
const COUNT: &str = "SELECT count(*) FROM cursor";
const MOVE: &str = "\
    INSERT INTO cursor (name, seq, tag, updated_ms) VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, tag = excluded.tag, updated_ms = excluded.updated_ms
    RETURNING name";
const DELETE: &str = "DELETE FROM cursor WHERE name = $1 RETURNING name";

/// [`Store::cursors`](crate::store::Store::cursors)
pub(super) fn all(session: &Session<'_>) -> Result<Vec<Cursor>, PgError> {
    let sql = format!("{CURSORS} ORDER BY name");
    let rows = session.query(&sql, &[&counted_max()])?;
    rows.iter().map(|row| cursor(session, row)).collect()
}

/// [`Store::cursor`](crate::store::Store::cursor)
pub(super) fn one(session: &Session<'_>, name: &CursorName) -> Result<Option<Cursor>, PgError> {
    let sql = format!("{CURSORS} WHERE name = $2");
    let rows = session.query(&sql, &[&counted_max(), &name.as_str()])?;
    rows.first().map(|row| cursor(session, row)).transpose()
}

/// [`Store::move_cursor`](crate::store::Store::move_cursor)
pub(super) fn move_to(session: &Session<'_>, to: &Move) -> Result<Moved, PgError> {
    if let Some(refusal) = session.transaction(|| try_to_move(session, to))? {
        return Ok(refusal);
    }
    // When nobody waits for the cursor any more.
    let row = session.row(COUNT_AFTER, &[&counted_max(), &to.to.seq])?;
    Ok(Moved::Done(Cursor {
        name: to.name.clone(),
        position: to.to,
        // As it will be read.
        updated_at: from_milliseconds(milliseconds(to.at))?,
        lag: lag(session, to.to.seq, count(&row, 0)?)?,
    }))
}

/// Moves a cursor, or makes it, in a transaction. Returns why not, if it stays.
fn try_to_move(session: &Session<'_>, to: &Move) -> Result<Option<Moved>, PgError> {
    if to.expected.is_none() {
        // Cursors are made one at a time, so that their number is right.
        session.query(LOCK, &[&locks::LYFTR, &locks::CURSORS])?;
    }
    let (name, Position { seq, tag }) = (to.name.as_str(), to.to);
    let found = session.query(PLACE, &[&name])?.first().map(|row| position(row, 0)).transpose()?;
    if found != to.expected {
        return Ok(Some(Moved::Elsewhere(found)));
    }
    if !log::names_an_event(session, to.to)? {
        return Ok(Some(Moved::NoSuchEvent));
    }
    let most = u64::try_from(CURSORS_MAX).unwrap_or(u64::MAX);
    if found.is_none() && count(&session.row(COUNT, &[])?, 0)? >= most {
        return Ok(Some(Moved::TooMany));
    }
    session.query(MOVE, &[&name, &seq, &tag.cast_signed(), &milliseconds(to.at)])?;
    Ok(None)
}

/// [`Store::delete_cursor`](crate::store::Store::delete_cursor)
pub(super) fn delete(session: &Session<'_>, name: &CursorName) -> Result<bool, PgError> {
    Ok(!session.query(DELETE, &[&name.as_str()])?.is_empty())
}

fn counted_max() -> i64 {
    i64::try_from(COUNTED_MAX).unwrap_or(i64::MAX)
}

fn cursor(session: &Session<'_>, row: &Row) -> Result<Cursor, PgError> {
    let unexpected = |error: crate::cursor::BadCursorName| PgError::UnexpectedResponse(error.into());
    let position = position(row, 1)?;
    Ok(Cursor {
        name: CursorName::new(row.try_get(0)?).map_err(unexpected)?,
        position,
        updated_at: from_milliseconds(row.try_get(3)?)?,
        lag: lag(session, position.seq, count(row, 4)?)?,
    })
}

/// The position in two columns of a row, the `first` and the one after it.
fn position(row: &Row, first: usize) -> Result<Position, PgError> {
    Ok(Position { seq: row.try_get(first)?, tag: row.try_get::<_, i64>(first + 1)?.cast_unsigned() })
}

/// The number of events after an arrival number, of which so many were counted; an estimate if there may be more.
fn lag(session: &Session<'_>, seq: i64, counted: u64) -> Result<u64, PgError> {
    if counted < COUNTED_MAX {
        return Ok(counted);
    }
    let plan = session.row(ESTIMATE_AFTER, &[&seq])?;
    let estimate = estimated_rows(plan.try_get(0)?).unwrap_or(counted);
    Ok(estimate.clamp(counted, LAG_MAX))
}

/// The number of rows that the first line of a plan names.
fn estimated_rows(plan: &str) -> Option<u64> {
    let (_, from_number) = plan.split_once(" rows=")?;
    from_number.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_rows_is_found_in_a_plan() {
        let plan = "Index Only Scan using event_by_seq on event  (cost=0.43..51.20 rows=1288 width=8)";
        assert_eq!(estimated_rows(plan), Some(1_288));
        for other in ["", "Custom Scan (Adaptive)", "Seq Scan on event  (cost=0.00 rows=many width=8)"] {
            assert_eq!(estimated_rows(other), None, "{other}");
        }
    }
}
