//! The cursors of followers.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::log;
use super::rows::{from_milliseconds, invalid, to_milliseconds};
use crate::cursor::{CURSORS_MAX, Cursor, CursorName, LAG_MAX, Move, Moved};
use crate::event::Position;

const ALL: &str = "SELECT name, seq, tag, updated_ms FROM cursor ORDER BY name";
const ONE: &str = "SELECT name, seq, tag, updated_ms FROM cursor WHERE name = ?1";
const COUNT: &str = "SELECT count(*) FROM cursor";
const MOVE: &str = "\
    INSERT INTO cursor (name, seq, tag, updated_ms) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, tag = excluded.tag, updated_ms = excluded.updated_ms";
const DELETE: &str = "DELETE FROM cursor WHERE name = ?1";

/// [`Store::cursors`](crate::store::Store::cursors)
pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<Cursor>> {
    conn.prepare_cached(ALL)?.query_map((), |row| cursor(conn, row))?.collect()
}

/// [`Store::cursor`](crate::store::Store::cursor)
pub(super) fn one(conn: &Connection, name: &CursorName) -> rusqlite::Result<Option<Cursor>> {
    conn.prepare_cached(ONE)?.query_row([name.as_str()], |row| cursor(conn, row)).optional()
}

/// [`Store::move_cursor`](crate::store::Store::move_cursor), in a transaction that holds the write lock.
pub(super) fn move_to(conn: &Connection, to: &Move) -> rusqlite::Result<Moved> {
    let found = one(conn, &to.name)?.map(|cursor| cursor.position);
    if found != to.expected {
        return Ok(Moved::Elsewhere(found));
    }
    if !log::is_there(conn, to.to)? {
        return Ok(Moved::NoSuchEvent);
    }
    let count: usize = conn.prepare_cached(COUNT)?.query_row((), |row| row.get(0))?;
    if found.is_none() && count >= CURSORS_MAX {
        return Ok(Moved::TooMany);
    }
    let Position { seq, tag } = to.to;
    let row = (to.name.as_str(), seq, tag.cast_signed(), to_milliseconds(to.at));
    conn.prepare_cached(MOVE)?.execute(row)?;
    // As it will be read.
    let moved = one(conn, &to.name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(Moved::Done(moved))
}

/// [`Store::delete_cursor`](crate::store::Store::delete_cursor)
pub(super) fn delete(conn: &Connection, name: &CursorName) -> rusqlite::Result<bool> {
    Ok(conn.prepare_cached(DELETE)?.execute([name.as_str()])? > 0)
}

fn cursor(conn: &Connection, row: &Row<'_>) -> rusqlite::Result<Cursor> {
    let name = CursorName::new(row.get_ref(0)?.as_str()?).map_err(|bad| invalid(0, Type::Text, bad))?;
    let position = Position { seq: row.get(1)?, tag: row.get::<_, i64>(2)?.cast_unsigned() };
    let updated_at = from_milliseconds(row.get(3)?, 3)?;
    Ok(Cursor { name, position, updated_at, lag: log::count_after(conn, position.seq, LAG_MAX)? })
}
