//! A batch of messages into the table: one statement, which is one transaction.

use std::collections::HashMap;

use super::connection::{Failed, Session};
use super::locks;
use super::rows;
use crate::message::Message;
use crate::store::Outcome;

/// Arrival numbers are those of the batches times this, and the place in the batch.
pub(super) const PLACES: i64 = 1 << 16;

/// The lock is taken before the number, by which a reader knows that the batch is under way: see `horizon.rs`.
const INSERT: &str = "\
    WITH begun AS MATERIALIZED (
        SELECT pg_advisory_xact_lock_shared($8, (last_value & 2147483647)::integer) FROM message_batch
    ), batch AS MATERIALIZED (
        SELECT nextval('message_batch') AS number FROM begun
    )
    INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
    SELECT id, (batch.number << 16) + place - 1, sender, recipient, second, nanosecond, digits, text
    FROM batch, unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::smallint[], $7::text[])
        WITH ORDINALITY AS message (id, sender, recipient, second, nanosecond, digits, text, place)
    ON CONFLICT (message_id) DO NOTHING
    RETURNING seq";

/// [`Store::insert`](crate::store::Store::insert), and the greatest arrival number that was given.
pub(super) fn insert(session: &Session<'_>, batch: &[Message]) -> Result<(Vec<Outcome>, i64), Failed> {
    if i64::try_from(batch.len()).is_ok_and(|len| len > PLACES) {
        return Err(Failed::Nonsense("a batch has more messages than there are numbers for".into()));
    }
    // Sorted, so that two processes that store the same messages never wait for each other in a circle; and each
    // id once, the first of a batch.
    let mut sorted: Vec<usize> = (0..batch.len()).collect();
    let id = |n: &usize| batch.get(*n).map(|message| message.message_id.as_str());
    sorted.sort_by_key(id);
    sorted.dedup_by_key(|n| id(n));
    let firsts: Vec<&Message> = sorted.iter().filter_map(|n| batch.get(*n)).collect();

    let created = insert_rows(session, &firsts)?;
    let latest = created.iter().max().copied().unwrap_or(0);
    let mut stored: HashMap<&str, Message> = HashMap::new();
    let mut is_new = vec![false; batch.len()];
    for seq in created {
        let place = usize::try_from(seq % PLACES).unwrap_or(usize::MAX);
        if let (Some(first), Some(n)) = (firsts.get(place), sorted.get(place))
            && let Some(is_new) = is_new.get_mut(*n)
        {
            *is_new = true;
            stored.insert(first.message_id.as_str(), (*first).clone());
        }
    }
    let known: Vec<&str> =
        firsts.iter().map(|first| first.message_id.as_str()).filter(|id| !stored.contains_key(id)).collect();
    let there = if known.is_empty() { Vec::new() } else { rows::with_ids(session, &known)? };
    for message in there {
        if let Some(id) = known.iter().find(|id| **id == message.message_id.as_str()) {
            stored.insert(id, message);
        }
    }
    let outcomes = batch.iter().zip(is_new).map(|(message, is_new)| {
        if is_new {
            return Ok(Outcome::Created);
        }
        let stored = stored.get(message.message_id.as_str());
        let stored = stored.ok_or_else(|| Failed::Nonsense("neither stored nor there already".into()))?;
        Ok(if stored == message { Outcome::Duplicate } else { Outcome::Conflict })
    });
    Ok((outcomes.collect::<Result<_, Failed>>()?, latest))
}

/// Stores those whose id is new; their arrival numbers.
fn insert_rows(session: &Session<'_>, messages: &[&Message]) -> Result<Vec<i64>, Failed> {
    fn column<'a, T>(messages: &[&'a Message], of: impl Fn(&'a Message) -> T) -> Vec<T> {
        messages.iter().map(|message| of(message)).collect()
    }
    let ids = column(messages, |message| message.message_id.as_str());
    let senders = column(messages, |message| message.from.as_str());
    let recipients = column(messages, |message| message.to.as_str());
    let seconds = column(messages, |message| message.ts.second());
    let nanoseconds = column(messages, |message| rows::integer(message.ts.nanosecond()));
    let digits = column(messages, |message| i16::from(message.ts.digits()));
    let texts = column(messages, |message| message.text.as_deref());
    let created = session.query(
        INSERT,
        &[&ids, &senders, &recipients, &seconds, &nanoseconds, &digits, &texts, &locks::BATCHES],
    )?;
    created.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
