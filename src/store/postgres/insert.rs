//! Stores a batch of messages: one statement, which is one transaction.

use std::collections::HashMap;

use tokio_postgres::error::SqlState;

use super::connection::{PgError, Session};
use super::locks;
use super::parameter::Parameter;
use super::rows;
use crate::message::Message;
use crate::store::Outcome;

/// Arrival numbers per batch: an arrival number is the batch number times this, plus the place in the batch.
pub(super) const SEQS_PER_BATCH: i64 = 1 << 16;

/// The lock is taken before the number, so that a reader knows that the batch is under way: see `horizon.rs`. A batch number
/// must exceed those that were seen before, or nothing is stored: see `batch_sequence.rs`. `set_config` tells the number to
/// the trigger `message_was_added`, which replaces the arrival numbers of all other inserts.
const INSERT: &str = "\
    WITH begun AS MATERIALIZED (
        SELECT last_value AS latest, pg_advisory_xact_lock_shared($8, (last_value & 2147483647)::integer)
        FROM message_batch
    ), taken AS MATERIALIZED (
        SELECT nextval('message_batch') AS number, latest FROM begun
    ), batch AS MATERIALIZED (
        SELECT number, set_config('lyftr.batch', number::text, true) FROM taken WHERE number > greatest(latest, $9)
    )
    INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
    SELECT id, (batch.number << 16) + place - 1, sender, recipient, second, nanosecond, digits, text
    FROM batch, unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::integer[], $6::smallint[], $7::text[])
        WITH ORDINALITY AS message (id, sender, recipient, second, nanosecond, digits, text, place)
    ON CONFLICT (message_id) DO NOTHING
    RETURNING seq";

/// The unique index on arrival numbers.
const UNIQUE: &str = "message_by_seq";

/// [`Store::insert`](crate::store::Store::insert), with the greatest arrival number that was given. `seen` is the number of
/// an earlier batch.
pub(super) fn insert(
    session: &Session<'_>,
    batch: &[Message],
    seen: i64,
) -> Result<(Vec<Outcome>, i64), PgError> {
    if i64::try_from(batch.len()).is_ok_and(|len| len > SEQS_PER_BATCH) {
        return Err(PgError::UnexpectedResponse("a batch has more messages than arrival numbers".into()));
    }
    // Sorted, so that two processes that store the same messages never wait for each other in a circle; and each
    // id once, the first of a batch.
    let mut firsts: Vec<(usize, &Message)> = batch.iter().enumerate().collect();
    firsts.sort_by_key(|&(_, message)| message.message_id.as_str());
    firsts.dedup_by_key(|&mut (_, message)| message.message_id.as_str());

    let messages: Vec<_> = firsts.iter().map(|&(_, message)| message).collect();
    let created = insert_rows(session, &messages, seen)?;
    let latest = created.iter().max().copied().unwrap_or(0);
    let seqs: HashMap<i64, i64> = created.into_iter().map(|seq| (seq % SEQS_PER_BATCH, seq)).collect();
    // By their place in the batch that was given: the arrival numbers of the new ones.
    let (mut new, mut known) = (HashMap::new(), Vec::new());
    let mut stored: HashMap<&str, &Message> = HashMap::new();
    for (place, (n, message)) in (0..).zip(firsts) {
        let id = message.message_id.as_str();
        if let Some(seq) = seqs.get(&place) {
            new.insert(n, *seq);
            stored.insert(id, message);
        } else {
            known.push(id);
        }
    }
    let there = if known.is_empty() { Vec::new() } else { rows::with_ids(session, &known)? };
    stored.extend(there.iter().map(|message| (message.message_id.as_str(), message)));
    let outcome = |(n, message): (usize, &Message)| {
        if let Some(seq) = new.get(&n) {
            return Ok(Outcome::Created { seq: *seq });
        }
        let stored = stored.get(message.message_id.as_str());
        // Also if a manual change deleted it between the two statements.
        let stored = stored.ok_or(PgError::ArrivalNumberReused)?;
        Ok(if *stored == message { Outcome::Duplicate } else { Outcome::Conflict })
    };
    Ok((batch.iter().enumerate().map(outcome).collect::<Result<_, PgError>>()?, latest))
}

/// Stores the messages with a new id, and returns their arrival numbers.
fn insert_rows(session: &Session<'_>, messages: &[&Message], seen: i64) -> Result<Vec<i64>, PgError> {
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
    let parameters: [Parameter<'_>; 9] =
        [&ids, &senders, &recipients, &seconds, &nanoseconds, &digits, &texts, &locks::BATCHES, &seen];
    let created = session.query(INSERT, &parameters).map_err(|failed| match failed {
        PgError::Server(error) if is_arrival_number_reused(&error) => PgError::ArrivalNumberReused,
        failed => failed,
    })?;
    created.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Whether the server gave an arrival number that another message has.
fn is_arrival_number_reused(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::UNIQUE_VIOLATION && error.constraint() == Some(UNIQUE)
    })
}
