//! The cursors of followers.

use tokio_postgres::Row;

use super::connection::{PgError, Session};
use super::rows::{count, from_milliseconds, milliseconds};
use super::{locks, log};
use crate::cursor::{CURSORS_MAX, Cursor, CursorName, LAG_MAX, Move, Moved};
use crate::event::Position;

/// Each cursor with the number of events after it.
const CURSORS: &str = "\
    SELECT name, seq, tag, updated_ms,
           (SELECT count(*) FROM (SELECT event.seq FROM event WHERE event.seq > cursor.seq LIMIT $1) AS later)
    FROM cursor";
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, $2)";
const MAKE: &str = "\
    INSERT INTO cursor (name, seq, tag, updated_ms)
    SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM cursor) < $5
    ON CONFLICT (name) DO NOTHING RETURNING name";
/// Of two moves from one position the second waits for the first, and finds another position.
const MOVE: &str = "\
    UPDATE cursor SET seq = $2, tag = $3, updated_ms = $4 WHERE name = $1 AND seq = $5 AND tag = $6 RETURNING name";
const DELETE: &str = "DELETE FROM cursor WHERE name = $1 RETURNING name";

/// Every cursor, by name.
pub(super) fn all(session: &Session<'_>) -> Result<Vec<Cursor>, PgError> {
    let sql = format!("{CURSORS} ORDER BY name");
    session.query(&sql, &[&lag_max()])?.iter().map(cursor).collect()
}

/// The cursor with a name.
pub(super) fn one(session: &Session<'_>, name: &CursorName) -> Result<Option<Cursor>, PgError> {
    let sql = format!("{CURSORS} WHERE name = $2");
    session.query(&sql, &[&lag_max(), &name.as_str()])?.first().map(cursor).transpose()
}

/// Moves a cursor, or makes it, in one transaction.
pub(super) fn go(session: &Session<'_>, to: &Move) -> Result<Moved, PgError> {
    session.transaction(|| {
        if !log::names_an_event(session, to.to)? {
            return Ok(Moved::NoSuchEvent);
        }
        let (name, tag, at) = (to.name.as_str(), to.to.tag.cast_signed(), milliseconds(to.at));
        let moved = if let Some(expected) = to.expected {
            let its_tag = expected.tag.cast_signed();
            session.query(MOVE, &[&name, &to.to.seq, &tag, &at, &expected.seq, &its_tag])?
        } else {
            // Cursors are made one at a time, so that their number is right.
            session.query(LOCK, &[&locks::LYFTR, &locks::CURSORS])?;
            let most = i64::try_from(CURSORS_MAX).unwrap_or(i64::MAX);
            session.query(MAKE, &[&name, &to.to.seq, &tag, &at, &most])?
        };
        let found = one(session, &to.name)?;
        Ok(match found {
            Some(cursor) if !moved.is_empty() => Moved::Done(cursor),
            None if to.expected.is_none() => Moved::TooMany,
            found => Moved::Elsewhere(found.map(|cursor| cursor.position)),
        })
    })
}

/// Deletes a cursor; returns whether there was one.
pub(super) fn delete(session: &Session<'_>, name: &CursorName) -> Result<bool, PgError> {
    Ok(!session.query(DELETE, &[&name.as_str()])?.is_empty())
}

fn lag_max() -> i64 {
    i64::try_from(LAG_MAX).unwrap_or(i64::MAX)
}

fn cursor(row: &Row) -> Result<Cursor, PgError> {
    let unexpected = |error: crate::cursor::BadCursorName| PgError::UnexpectedResponse(error.into());
    Ok(Cursor {
        name: CursorName::new(row.try_get(0)?).map_err(unexpected)?,
        position: Position { seq: row.try_get(1)?, tag: row.try_get::<_, i64>(2)?.cast_unsigned() },
        updated_at: from_milliseconds(row.try_get(3)?)?,
        lag: count(row, 4)?,
    })
}
