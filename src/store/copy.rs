//! All messages of one store into another, whichever they are, in the order of their arrival.
//!
//! What the target has already is passed over, so a copy that was broken off is gone on with by beginning anew.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use sha2::{Digest as _, Sha256};

use super::{Arrived, Error, Outcome, Store};
use crate::message::{Message, MessageId};

/// Messages that are read and written at once.
pub(super) const BATCH: u32 = 2_000;
/// Batches that are read ahead of what is written.
const AHEAD_MAX: usize = 2;

/// What a copy came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Messages that the target did not have.
    pub created: u64,
    /// Messages that it had, the same in every field.
    pub duplicates: u64,
    /// Messages under whose ids it has others, which stay.
    pub conflicts: u64,
    /// The arrival number, in the source, of the last one.
    pub upto: i64,
}

/// How many messages there are, and the sum of their hashes: the same for the same messages in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Messages.
    pub messages: u64,
    /// Of the first sixteen bytes of the SHA-256 of each, modulo 2^128.
    pub sum: u128,
}

/// Copies what `from` has by now. `progress` is told of each batch, by its size.
///
/// # Errors
/// [`Error`] of either store. What was copied until then stays.
pub fn copy(from: &dyn Store, to: &dyn Store, mut progress: impl FnMut(usize)) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    each_batch(arrived(from, i64::MAX), |batch| {
        let messages: Vec<Message> = batch.iter().map(|arrived| arrived.message.clone()).collect();
        for outcome in to.insert(&messages)? {
            *match outcome {
                Outcome::Created { .. } => &mut copied.created,
                Outcome::Duplicate => &mut copied.duplicates,
                Outcome::Conflict => &mut copied.conflicts,
            } += 1;
        }
        copied.upto = batch.last().map_or(copied.upto, |last| last.seq);
        progress(batch.len());
        Ok(true)
    })?;
    Ok(copied)
}

/// The checksum of what `from` has up to an arrival number, and of what `to` has under the same ids.
///
/// # Errors
/// [`Error`] of either store.
pub fn compare(
    from: &dyn Store,
    to: &dyn Store,
    upto: i64,
    mut progress: impl FnMut(usize),
) -> Result<(Checksum, Checksum), Error> {
    let (mut source, mut target) = (Checksum::default(), Checksum::default());
    each_batch(arrived(from, upto), |batch| {
        for arrived in batch {
            source.add(&arrived.message);
        }
        for message in to.find(&ids(batch))? {
            target.add(&message);
        }
        progress(batch.len());
        Ok(true)
    })?;
    Ok((source, target))
}

/// The id of a message that `to` has and `from` has not, or has otherwise; none if there is no such message.
///
/// # Errors
/// [`Error`] of either store.
pub fn foreign(from: &dyn Store, to: &dyn Store) -> Result<Option<MessageId>, Error> {
    let mut foreign = None;
    each_batch(arrived(to, i64::MAX), |batch| {
        let there = from.find(&ids(batch))?;
        let there: HashMap<&MessageId, &Message> =
            there.iter().map(|message| (&message.message_id, message)).collect();
        let is_foreign = |arrived: &&Arrived| {
            there.get(&arrived.message.message_id).is_none_or(|found| **found != arrived.message)
        };
        foreign = batch.iter().find(is_foreign).map(|arrived| arrived.message.message_id.clone());
        Ok(foreign.is_none())
    })?;
    Ok(foreign)
}

fn ids(batch: &[Arrived]) -> Vec<MessageId> {
    batch.iter().map(|arrived| arrived.message.message_id.clone()).collect()
}

/// Reads what a store has after an arrival number, and up to another one.
fn arrived(store: &dyn Store, upto: i64) -> impl Fn(i64) -> Result<Vec<Arrived>, Error> + Send {
    move |after| {
        let mut batch = store.arrived(after, BATCH)?;
        batch.retain(|arrived| arrived.seq <= upto);
        Ok(batch)
    }
}

/// Hands over what `read` finds after an arrival number, batch by batch, until it is told to stop or there is no
/// more; the next batches are read meanwhile.
pub(super) fn each_batch(
    read: impl Fn(i64) -> Result<Vec<Arrived>, Error> + Send,
    mut each: impl FnMut(&[Arrived]) -> Result<bool, Error>,
) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let (give, take) = sync_channel(AHEAD_MAX);
        scope.spawn(move || {
            let mut after = 0;
            loop {
                let batch = read(after);
                let last = batch.as_ref().ok().and_then(|batch| batch.last()).map(|last| last.seq);
                // Nobody takes it any more once the work is broken off.
                if give.send(batch).is_err() {
                    break;
                }
                let Some(last) = last else { break };
                after = last;
            }
        });
        for batch in take {
            let batch = batch?;
            if batch.is_empty() || !each(&batch)? {
                break;
            }
        }
        Ok(())
    })
}

impl Checksum {
    fn add(&mut self, message: &Message) {
        let mut hash = Sha256::new();
        let ts = message.ts.to_string();
        let fields = [message.message_id.as_str(), message.from.as_str(), message.to.as_str(), &ts];
        for field in fields.into_iter().chain(message.text.as_deref()) {
            // With its length, so that no two messages are written the same.
            hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(field.as_bytes());
        }
        let hash = hash.finalize();
        let first = hash.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
        self.sum = self.sum.wrapping_add(first);
        self.messages += 1;
    }
}
