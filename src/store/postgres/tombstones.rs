//! Tombstones: what stays of erased events, so that they are not stored again and their positions stay valid.
//!
//! The functions of the database that store a batch look for them (`event_erased` in the migration), and only once there is
//! a row in the table `erasure`. A transaction that adds tombstones counts itself there.

use tokio_postgres::Row;

use super::connection::{PgError, Session};
use super::layout;
use crate::erasure::{Tombstone, TombstoneKey, Tombstones};
use crate::event::{Position, Source};
use crate::message::Name;

const KEY: &str = "SELECT key FROM erasure";
/// Two UUIDs of version 4 have 244 random bits.
const RANDOM_KEY: &str = "SELECT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())";
const SET_KEY: &str = "\
    INSERT INTO erasure (key, inner_block, outer_block) VALUES ($1, $2, $3) ON CONFLICT (one_row) DO NOTHING";
const COUNT_STEP: &str = "UPDATE erasure SET steps = steps + 1 RETURNING steps";
const STEPS: &str = "SELECT coalesce((SELECT steps FROM erasure), 0)";
/// The sequence of manual changes begins at 1. Neither number ever becomes less.
const REMOVALS: &str = "SELECT coalesce((SELECT steps FROM erasure), 0) + last_value - 1 FROM event_change";
const ADD: &str = "\
    INSERT INTO erased (hash, bucket, step, seq, tag)
    SELECT hash, bucket, $5, seq, tag FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::bigint[])
        AS gone (hash, bucket, seq, tag)
    ON CONFLICT (hash, bucket) DO UPDATE SET step = excluded.step, seq = excluded.seq, tag = excluded.tag";
/// The bucket of an event that another store has erased is unknown.
const ADOPT: &str = "\
    INSERT INTO erased (hash, bucket, step) SELECT hash, -1, $2 FROM unnest($1::bytea[]) AS gone (hash)
    WHERE NOT EXISTS (SELECT FROM erased WHERE erased.hash = gone.hash)
    ON CONFLICT (hash, bucket) DO NOTHING";
const AFTER: &str = "SELECT DISTINCT hash FROM erased WHERE hash > $1 ORDER BY hash LIMIT $2";
/// Of events that were stored here.
const SINCE: &str = "SELECT hash FROM erased WHERE step > $1 AND bucket >= 0";
const ERASED: &str = "SELECT unnest(event_erased($1, $2, $3))";
const TAG: &str = "SELECT tag FROM erased WHERE seq = $1";

/// The schema version from which on there are tombstones.
pub(super) const SINCE_VERSION: i64 = 4;

/// An event that is being erased.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) bucket: i16,
    pub(super) source: Source,
    pub(super) key: Name,
    pub(super) position: Position,
}

/// A number that grows with each transaction that erases events, and with each manual change.
pub(super) fn removals(session: &Session<'_>) -> Result<i64, PgError> {
    Ok(session.row(REMOVALS, &[])?.try_get(0)?)
}

/// Adds the tombstones of erased events, in the transaction of the session.
pub(super) fn add(session: &Session<'_>, gone: &[Gone]) -> Result<(), PgError> {
    let key = if let Some(key) = key(session)? {
        key
    } else {
        let made = key_of(session.row(RANDOM_KEY, &[])?.try_get(0)?)?;
        set_key(session, &made)?;
        made
    };
    let hashes: Vec<Vec<u8>> =
        gone.iter().map(|gone| key.tombstone(&gone.source, &gone.key).to_vec()).collect();
    let buckets: Vec<i16> = gone.iter().map(|gone| gone.bucket).collect();
    let seqs: Vec<i64> = gone.iter().map(|gone| gone.position.seq).collect();
    let tags: Vec<i64> = gone.iter().map(|gone| gone.position.tag.cast_signed()).collect();
    session.query(ADD, &[&hashes, &buckets, &seqs, &tags, &next_step(session)?])?;
    Ok(())
}

/// [`Store::tombstones`](crate::store::Store::tombstones), in one snapshot.
pub(super) fn after(
    session: &Session<'_>,
    after: Option<&Tombstone>,
    limit: u32,
) -> Result<Option<Tombstones>, PgError> {
    let Some(key) = key(session)? else { return Ok(None) };
    let after = after.map_or_else(Vec::new, |hash| hash.to_vec());
    let found = session.query(AFTER, &[&after, &i64::from(limit)])?;
    Ok(Some(Tombstones { key, hashes: found.iter().map(hash).collect::<Result<_, PgError>>()? }))
}

/// The number of transactions that have added tombstones so far.
pub(super) fn steps(session: &Session<'_>) -> Result<i64, PgError> {
    Ok(session.row(STEPS, &[])?.try_get(0)?)
}

/// The tombstones of the events that were erased from this database after that number of transactions; `None` if there are
/// none. They are all in memory, sixteen bytes each.
pub(super) fn since(session: &Session<'_>, steps: i64) -> Result<Option<Tombstones>, PgError> {
    let Some(key) = key(session)? else { return Ok(None) };
    let mut hashes = Vec::new();
    session.each(SINCE, &[&steps], |row| {
        hashes.push(hash(row)?);
        Ok(())
    })?;
    Ok(if hashes.is_empty() { None } else { Some(Tombstones { key, hashes }) })
}

/// Counts a transaction that adds tombstones.
fn next_step(session: &Session<'_>) -> Result<i64, PgError> {
    Ok(session.row(COUNT_STEP, &[])?.try_get(0)?)
}

fn hash(row: &Row) -> Result<Tombstone, PgError> {
    let hash: &[u8] = row.try_get(0)?;
    hash.try_into().map_err(|_| PgError::UnexpectedResponse("a tombstone of another length".into()))
}

/// [`Store::adopt_tombstones`](crate::store::Store::adopt_tombstones), in the transaction of the session.
pub(super) fn adopt(session: &Session<'_>, tombstones: &Tombstones) -> Result<bool, PgError> {
    set_key(session, &tombstones.key)?;
    if key(session)? != Some(tombstones.key) {
        return Ok(false);
    }
    let hashes: Vec<Vec<u8>> = tombstones.hashes.iter().map(|hash| hash.to_vec()).collect();
    session.query(ADOPT, &[&hashes, &next_step(session)?])?;
    Ok(true)
}

/// Which of these sources and keys have a tombstone, in order.
pub(super) fn are_erased(session: &Session<'_>, keys: &[(Source, Name)]) -> Result<Vec<bool>, PgError> {
    let mut erased = vec![false; keys.len()];
    for (keys, erased) in keys.chunks(layout::BATCH_MAX).zip(erased.chunks_mut(layout::BATCH_MAX)) {
        let place = |(place, (source, key)): (usize, &(Source, Name))| {
            layout::place_and_bucket(place, layout::bucket(source, key.as_str()))
        };
        let places: Vec<i32> = keys.iter().enumerate().map(place).collect();
        let sources: Vec<&str> = keys.iter().map(|(source, _)| source.as_str()).collect();
        let keys: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
        for row in session.query(ERASED, &[&places, &sources, &keys])? {
            let place = layout::place_of(i64::from(row.try_get::<_, i32>(0)?));
            if let Some(erased) = erased.get_mut(place) {
                *erased = true;
            }
        }
    }
    Ok(erased)
}

/// Whether a position names an event that was erased from this log.
pub(super) fn have(session: &Session<'_>, position: Position) -> Result<bool, PgError> {
    let found = session.query(TAG, &[&position.seq])?;
    let tags = found.iter().map(|row| row.try_get::<_, i64>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(tags.contains(&position.tag.cast_signed()))
}

fn key(session: &Session<'_>) -> Result<Option<TombstoneKey>, PgError> {
    session.query(KEY, &[])?.first().map(|row| key_of(row.try_get(0)?)).transpose()
}

fn key_of(bytes: &[u8]) -> Result<TombstoneKey, PgError> {
    let bytes = bytes.try_into();
    bytes.map(TombstoneKey::new).map_err(|_| PgError::UnexpectedResponse("a key of another length".into()))
}

/// Makes `key` that of all tombstones, unless there is one.
fn set_key(session: &Session<'_>, key: &TombstoneKey) -> Result<(), PgError> {
    let (inner, outer) = (block(key, 0x36), block(key, 0x5c));
    session.query(SET_KEY, &[&key.expose().to_vec(), &inner, &outer])?;
    Ok(())
}

/// What one of the two hashes of HMAC-SHA-256 begins with: the key, filled up with zeros to the block of SHA-256, each byte
/// combined with `mask` (RFC 2104, section 2).
fn block(key: &TombstoneKey, mask: u8) -> Vec<u8> {
    const BLOCK: usize = 64;
    key.expose().iter().copied().chain(std::iter::repeat(0)).take(BLOCK).map(|byte| byte ^ mask).collect()
}
