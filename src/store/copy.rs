//! Copies all events of one store into another, of either engine, in the order of arrival.
//!
//! Events that the target has are skipped, so an interrupted copy is continued by running it again.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use sha2::{Digest as _, Sha256};

use super::{Error, Outcome, Store};
use crate::erasure::Tombstone;
use crate::event::{Arrived, Data, Event, Source};
use crate::message::{Name, Timestamp};

/// Number of events that are read and written at once.
pub(super) const BATCH: u32 = 2_000;
/// Number of tombstones that are read and written at once.
pub(super) const TOMBSTONES: u32 = 10_000;
/// Number of batches that are read ahead of the writes.
const AHEAD_MAX: usize = 2;

/// The result of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Events that the target lacked.
    pub created: u64,
    /// Events that the target had, equal in every field.
    pub duplicates: u64,
    /// Events under whose source and key the target has another one, which stays.
    pub conflicts: u64,
    /// Events that the target has erased, and that were not stored again.
    pub erased: u64,
    /// The arrival number of the last one in the source.
    pub upto: i64,
}

/// What became of the tombstones of the source, by which the target would know what the source has erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The target has all of them, so many.
    All(u64),
    /// The target has tombstones of its own, which were made with another key; it has none of the source's.
    None,
}

/// The number of events and the sum of their hashes: equal for the same events in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Number of events.
    pub events: u64,
    /// Sum of the first sixteen bytes of the SHA-256 of each event, modulo 2^128.
    pub sum: u128,
}

/// Copies the events that `from` has by now. `progress` is given the size of each batch.
///
/// # Errors
/// [`Error`] of either store. The events copied until then stay.
pub fn copy(from: &dyn Store, to: &dyn Store, mut progress: impl FnMut(usize)) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    each_batch(arrived(from, i64::MAX), |batch| {
        let events: Vec<Event> = batch.iter().map(|arrived| arrived.event.clone()).collect();
        for outcome in to.insert(&events)? {
            *match outcome {
                Outcome::Created { .. } => &mut copied.created,
                Outcome::Duplicate => &mut copied.duplicates,
                Outcome::Conflict => &mut copied.conflicts,
                Outcome::Erased => &mut copied.erased,
            } += 1;
        }
        copied.upto = batch.last().map_or(copied.upto, |last| last.seq);
        progress(batch.len());
        Ok(true)
    })?;
    Ok(copied)
}

/// Copies the tombstones of `from`.
///
/// # Errors
/// [`Error`] of either store. The tombstones copied until then stay.
pub fn carry_tombstones(from: &dyn Store, to: &dyn Store) -> Result<Carried, Error> {
    let (mut after, mut count) = (None::<Tombstone>, 0);
    while let Some(tombstones) = from.tombstones(after.as_ref(), TOMBSTONES)? {
        let Some(last) = tombstones.hashes.last() else { break };
        if !to.adopt_tombstones(&tombstones)? {
            return Ok(Carried::None);
        }
        count += u64::try_from(tombstones.hashes.len()).unwrap_or(0);
        after = Some(*last);
    }
    Ok(Carried::All(count))
}

/// The checksums of the events of `from` up to an arrival number, without those that `to` has erased, and of the events of `to`
/// with the same keys.
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
        let keys = keys(batch);
        for (arrived, erased) in batch.iter().zip(to.erased(&keys)?) {
            if !erased {
                source.add(&arrived.event);
            }
        }
        for event in to.find(&keys)? {
            target.add(&event);
        }
        progress(batch.len());
        Ok(true)
    })?;
    Ok((source, target))
}

/// The source and the key of an event of `to` that `from` lacks, or has with other content; `None` if there is no such
/// event.
///
/// # Errors
/// [`Error`] of either store.
pub fn foreign(from: &dyn Store, to: &dyn Store) -> Result<Option<(Source, Name)>, Error> {
    let mut foreign = None;
    each_batch(arrived(to, i64::MAX), |batch| {
        let there = from.find(&keys(batch))?;
        let there: HashMap<(&Source, &Name), &Event> =
            there.iter().map(|event| ((&event.source, &event.key), event)).collect();
        let is_foreign = |event: &&Event| {
            there
                .get(&(&event.source, &event.key))
                .is_none_or(|found| found.ts != event.ts || !found.says_the_same(event))
        };
        let events = batch.iter().map(|arrived| &arrived.event);
        foreign = events.clone().find(is_foreign).map(|event| (event.source.clone(), event.key.clone()));
        Ok(foreign.is_none())
    })?;
    Ok(foreign)
}

fn keys(batch: &[Arrived]) -> Vec<(Source, Name)> {
    batch.iter().map(|Arrived { event, .. }| (event.source.clone(), event.key.clone())).collect()
}

/// Reads the events of a store after an arrival number and up to another one.
fn arrived(store: &dyn Store, upto: i64) -> impl Fn(i64) -> Result<Vec<Arrived>, Error> + Send {
    move |after| {
        let mut batch = store.arrived(after, BATCH)?;
        batch.retain(|arrived| arrived.seq <= upto);
        Ok(batch)
    }
}

/// Calls `each` with the events that `read` finds after an arrival number, batch by batch, until `each` says to stop or
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
    fn add(&mut self, event: &Event) {
        let mut hash = Sha256::new();
        let Event {
            source,
            key,
            kind,
            r#type,
            from,
            to,
            user_id,
            thread,
            r#ref,
            account,
            ts,
            // Both stores may have received the event, each at a time of its own.
            received_at: _,
            text,
            data,
        } = event;
        let ts = ts.as_ref().map(Timestamp::to_string);
        let names = [r#type, from, to, user_id, thread, r#ref, account];
        let fields = [Some(source.as_str()), Some(key.as_str()), Some(kind.as_str())]
            .into_iter()
            .chain(names.into_iter().map(|name| name.as_ref().map(Name::as_str)))
            .chain([ts.as_deref(), text.as_deref(), data.as_ref().map(Data::as_str)]);
        for field in fields {
            // With its length, so that two different events never hash the same bytes; an absent field has one of its own.
            let length = field.map_or(u64::MAX, |field| u64::try_from(field.len()).unwrap_or(u64::MAX));
            hash.update(length.to_be_bytes());
            hash.update(field.unwrap_or_default());
        }
        let hash = hash.finalize();
        let first = hash.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
        self.sum = self.sum.wrapping_add(first);
        self.events += 1;
    }
}
