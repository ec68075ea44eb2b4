//! The blocks in memory, which hold the newest texts.

use std::sync::Arc;

use super::block::{Block, Builder};
use super::{Error, Text};

/// At so many pages (8 MiB) the blocks are to be closed.
const PAGES_MAX: u32 = 2_048;

/// Blocks that grow at the end.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct Blocks {
    finished: Vec<Arc<[u8]>>,
    /// Pages that the finished ones will take in the file.
    pages: u32,
    open: Builder,
}

/// The blocks as they were at a moment; a clone costs nothing.
#[derive(Debug, Clone)]
pub(in crate::store::sqlite) struct Snapshot(Arc<[Arc<[u8]>]>);

impl Blocks {
    /// Adds the text of a message that arrived after all others.
    pub(in crate::store::sqlite) fn push(&mut self, text: &Text<'_>) {
        if !self.open.push(text) {
            self.finish();
            self.open.push(text);
        }
    }

    fn finish(&mut self) {
        let bytes = self.open.finish(1);
        self.pages = self.pages.saturating_add(Block::new(&bytes).map_or(1, |block| block.pages));
        self.finished.push(bytes.into());
        self.open.clear();
    }

    /// Whether they are to be closed; a text may still be added.
    pub(in crate::store::sqlite) fn is_full(&self) -> bool {
        self.pages >= PAGES_MAX
    }

    /// The blocks as they are now. It costs a reference for each, and a copy of the last one.
    pub(in crate::store::sqlite) fn snapshot(&self) -> Snapshot {
        let open = (!self.open.is_empty()).then(|| self.open.finish(1).into());
        Snapshot(self.finished.iter().cloned().chain(open).collect())
    }

    /// Removes the messages with these arrival numbers, in ascending order; others are passed over. Snapshots keep them.
    ///
    /// # Errors
    /// [`Error::Damaged`], which memory does not give.
    pub(in crate::store::sqlite) fn remove(&mut self, seqs: &[i64]) -> Result<(), Error> {
        let open = self.open.seqs();
        if !within(seqs, *open.start(), *open.end()).is_empty() {
            // It cannot grow any more: its next message would be the difference from one that is gone.
            self.finish();
        }
        for bytes in &mut self.finished {
            let block = Block::new(bytes)?;
            if !within(seqs, block.first_seq, block.last_seq).is_empty() {
                *bytes = block.without(seqs)?.into();
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// The blocks in order of arrival.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Result<Block<'_>, Error>> {
        self.0.iter().map(|bytes| Block::new(bytes))
    }

    /// The bytes of each block.
    pub(super) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// Those of the ascending `seqs` that are from `first` to `last`.
pub(super) fn within(seqs: &[i64], first: i64, last: i64) -> &[i64] {
    let begin = seqs.partition_point(|seq| *seq < first);
    let end = seqs.partition_point(|seq| *seq <= last).max(begin);
    seqs.get(begin..end).unwrap_or_default()
}
