//! Copies all messages of one store into another, of either engine, in the order of arrival.
//!
//! Messages that the target has are skipped, so an interrupted copy is continued by running it again.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use sha2::{Digest as _, Sha256};

use super::{Arrived, Error, Outcome, Store};
use crate::message::{Message, MessageId};

/// Number of messages that are read and written at once.
pub(super) const BATCH: u32 = 2_000;
/// Number of batches that are read ahead of the writes.
const AHEAD_MAX: usize = 2;

/// The result of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Messages that the target lacked.
    pub created: u64,
    /// Messages that the target had, equal in every field.
    pub duplicates: u64,
    /// Messages under whose id the target has another message, which stays.
    pub conflicts: u64,
    /// The arrival number of the last one in the source.
    pub upto: i64,
}

/// The number of messages and the sum of their hashes: equal for the same messages in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Number of messages.
    pub messages: u64,
    /// Sum of the first sixteen bytes of the SHA-256 of each message, modulo 2^128.
    pub sum: u128,
}

/// Copies the messages that `from` has by now. `progress` is given the size of each batch.
///
/// # Errors
/// [`Error`] of either store. The messages copied until then stay.
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

/// The checksums of the messages of `from` up to an arrival number, and of the messages of `to` with the same ids.
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

/// The id of a message of `to` that `from` lacks, or has with other content; `None` if there is no such message.
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

/// Reads the messages of a store after an arrival number and up to another one.
fn arrived(store: &dyn Store, upto: i64) -> impl Fn(i64) -> Result<Vec<Arrived>, Error> + Send {
    move |after| {
        let mut batch = store.arrived(after, BATCH)?;
        batch.retain(|arrived| arrived.seq <= upto);
        Ok(batch)
    }
}

/// Calls `each` with the messages that `read` finds after an arrival number, batch by batch, until `each` says to stop or
/// there are no more. The next batches are read meanwhile.
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
                // The receiver is gone once the work was interrupted.
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
            // With its length, so that two different messages never hash the same bytes.
            hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(field.as_bytes());
        }
        let hash = hash.finalize();
        let first = hash.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
        self.sum = self.sum.wrapping_add(first);
        self.messages += 1;
    }
}
