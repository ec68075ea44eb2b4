//! The messages that the index files do not hold yet, in memory: as entries of lists, and as folded texts.
//!
//! They are gathered in parts. The *open* part grows; when it is full it is closed, which writes it into the index files, while
//! the next part grows. Readers get snapshots, which never change.

use std::collections::HashSet;
use std::sync::Arc;

use super::index::entries::{Bound, Listed};
use super::index::key::List;
use super::party::Party;
use super::texts::{self, Blocks};
use crate::store::matches::to_u64;

/// Messages sorted as the list of all messages is.
type Run = Arc<[Listed]>;

/// The messages after one arrival number and up to another.
#[derive(Debug, Default)]
pub(super) struct OpenPart {
    /// Runs, each less than half as long as the one before it.
    runs: Vec<Run>,
    /// The texts of those that have one.
    pub(super) texts: Blocks,
}

/// A part as it was at a moment; a clone costs little.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// It holds every message up to this arrival number that the part before it does not hold.
    pub(super) upto: i64,
    pub(super) runs: Vec<Run>,
    pub(super) texts: texts::Snapshot,
}

impl OpenPart {
    /// Adds messages, whose texts were pushed already.
    pub(super) fn add(&mut self, mut arrived: Vec<Listed>) {
        if arrived.is_empty() {
            return;
        }
        arrived.sort_unstable();
        while let Some(last) = self.runs.pop_if(|last| last.len() <= 2 * arrived.len()) {
            arrived = merge(&last, arrived);
        }
        self.runs.push(arrived.into());
    }

    /// Removes those of these arrival numbers, which ascend, that are here.
    pub(super) fn remove(&mut self, seqs: &[i64]) -> Result<(), texts::Error> {
        let is_gone = |message: &Listed| seqs.binary_search(&message.seq).is_ok();
        for run in &mut self.runs {
            if run.iter().any(is_gone) {
                *run = run.iter().filter(|message| !is_gone(message)).cloned().collect();
            }
        }
        self.runs.retain(|run| !run.is_empty());
        self.texts.remove(seqs)
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// Every sender, every recipient and every source.
    pub(super) fn parties(&self) -> HashSet<Party> {
        let messages = self.runs.iter().flat_map(|run| run.iter());
        messages.flat_map(|message| [message.sender, message.recipient, message.source]).collect()
    }

    /// The part as it is now, of all messages up to `upto`.
    pub(super) fn snapshot(&self, upto: i64) -> Part {
        Part { upto, runs: self.runs.clone(), texts: self.texts.snapshot() }
    }
}

/// Two sorted runs as one.
fn merge(one: &[Listed], other: Vec<Listed>) -> Vec<Listed> {
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let mut rest = one.iter().peekable();
    for message in other {
        while let Some(earlier) = rest.next_if(|earlier| **earlier < message) {
            merged.push(earlier.clone());
        }
        merged.push(message);
    }
    merged.extend(rest.cloned());
    merged
}

/// The messages of a list that are in memory, sorted.
pub(super) struct Recents<'a>(Vec<Sorted<'a>>);

enum Sorted<'a> {
    All(&'a [Listed]),
    Some(Vec<&'a Listed>),
}

impl<'a> Recents<'a> {
    /// Those of the parts that are in the list.
    pub(super) fn of(parts: &'a [Part], list: List) -> Self {
        let runs = parts.iter().flat_map(|part| &part.runs).map(AsRef::as_ref);
        if list == List::ALL {
            return Self(runs.map(Sorted::All).collect());
        }
        let is_listed = |message: &&Listed| {
            List::of(message.sender, message.recipient, message.source).any(|one| one == list)
        };
        let mut found: Vec<&Listed> = runs.flatten().filter(is_listed).collect();
        found.sort_unstable();
        Self(vec![Sorted::Some(found)])
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Sorted::len).sum()
    }

    /// Number of messages before a place.
    pub(super) fn rank(&self, place: Bound<'_>) -> u64 {
        to_u64(self.0.iter().map(|run| run.rank(place)).sum())
    }

    /// The message with so many before it.
    pub(super) fn select(&self, rank: u64) -> Option<&'a Listed> {
        self.0.iter().find_map(|run| {
            // Order keys differ, so each message has a rank of its own.
            let rank_of =
                |message: &Listed| self.rank(Bound { moment: message.moment, order_key: &message.order_key });
            let (mut low, mut high) = (0, run.len());
            while low < high {
                let middle = usize::midpoint(low, high);
                if rank_of(run.get(middle)?) < rank { low = middle + 1 } else { high = middle }
            }
            run.get(low).filter(|message| rank_of(message) == rank)
        })
    }

    /// The messages from a place on, in order.
    pub(super) fn from(&self, place: Bound<'_>) -> impl Iterator<Item = &'a Listed> {
        let mut places: Vec<usize> = self.0.iter().map(|run| run.rank(place)).collect();
        std::iter::from_fn(move || {
            let heads = self.0.iter().zip(&mut places).filter_map(|(run, at)| Some((run.get(*at)?, at)));
            let (next, at) = heads.min_by_key(|(message, _)| *message)?;
            *at += 1;
            Some(next)
        })
    }
}

impl<'a> Sorted<'a> {
    fn len(&self) -> usize {
        match self {
            Self::All(run) => run.len(),
            Self::Some(run) => run.len(),
        }
    }

    fn get(&self, nth: usize) -> Option<&'a Listed> {
        match self {
            Self::All(run) => run.get(nth),
            Self::Some(run) => run.get(nth).copied(),
        }
    }

    fn rank(&self, place: Bound<'_>) -> usize {
        let is_before =
            |message: &Listed| (message.moment, &*message.order_key) < (place.moment, place.order_key);
        match self {
            Self::All(run) => run.partition_point(is_before),
            Self::Some(run) => run.partition_point(|message| is_before(message)),
        }
    }
}
