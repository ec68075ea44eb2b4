//! What the thread that derives keeps in memory: the messages that the index files do not hold yet, and figures over all.

use rusqlite::{Connection, Row};

use super::failed::Failed;
use super::identity::order_key;
use super::index::entries::{Entries, Listed};
use super::index::key::List;
use super::index::parties::Parties;
use super::index::senders::Senders;
use super::party::Party;
use super::recent::{OpenPart, Part};
use super::rows::{text, text_or_null};
use super::texts::{self, Text};
use super::view::{State, View};
use crate::message::Moment;
use crate::query::fold;

const ARRIVED: &str = "\
    SELECT seq, CASE WHEN kind = 0 AND ts_nanosecond BETWEEN 0 AND 999999999 THEN ts_second END, ts_nanosecond, identity, sender, recipient, text
    FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2";

/// A message that is gone, by the change log.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) listed: Listed,
    /// The name of its sender; empty if it had none.
    pub(super) sender: String,
}

/// The newest messages and the figures.
#[derive(Debug)]
pub(super) struct Memory {
    /// Everything here is as of this state of the messages.
    pub(super) state: State,
    /// A part that is being written into the index files.
    closing: Option<Part>,
    pub(super) open: OpenPart,
    pub(super) parties: Parties,
    senders: Senders,
    total: u64,
}

impl Memory {
    /// Begins with what the index holds, as of `state`.
    pub(super) fn load(index: &Connection, state: State) -> rusqlite::Result<Self> {
        let all = Entries::new(index).ranks(List::ALL)?;
        Ok(Self {
            state,
            closing: None,
            open: OpenPart::default(),
            parties: Parties::load(index)?,
            senders: Senders::load(index)?,
            total: all.end - all.start,
        })
    }

    /// Takes in what has arrived in a snapshot, whose state is `now`, `most` events at most; returns whether that was all.
    /// Everything that was removed up to this snapshot must have been followed.
    pub(super) fn take_in(
        &mut self,
        snapshot: &Connection,
        now: &State,
        index: &Connection,
        most: i64,
    ) -> Result<bool, Failed> {
        let (mut arrived, mut left) = (Vec::new(), most);
        let mut statement = snapshot.prepare_cached(ARRIVED)?;
        let mut rows = statement.query((self.state.latest, most))?;
        while let Some(row) = rows.next()? {
            left -= 1;
            self.state.latest = row.get(0)?;
            // Neither another kind of event nor a row that a hand has added without a right time is in any list.
            if let Some(second) = row.get(1)? {
                let listed = self.listed(row, second, index)?;
                self.count(&listed, row, index)?;
                arrived.push(listed);
            }
            if self.open.texts.is_full() {
                break;
            }
        }
        self.open.add(arrived);
        let is_all = left > 0 && !self.open.texts.is_full();
        if is_all {
            // Events that are gone may have had the last numbers.
            self.state.latest = now.latest;
        }
        Ok(is_all)
    }

    fn listed(&mut self, row: &Row<'_>, second: i64, index: &Connection) -> Result<Listed, Failed> {
        let parties = &mut self.parties;
        let mut number = |name| parties.number(index, name).map_err(Failed::Index);
        let (sender, recipient) = (number(text_or_null(row, 4)?)?, number(text_or_null(row, 5)?)?);
        Ok(Listed {
            moment: Moment { second, nanosecond: row.get(2)? },
            order_key: order_key(row, 3)?,
            seq: row.get(0)?,
            sender,
            recipient,
            source: self.parties.source(index, text(row, 3)?).map_err(Failed::Index)?,
        })
    }

    fn count(&mut self, listed: &Listed, row: &Row<'_>, index: &Connection) -> Result<(), Failed> {
        let Listed { moment, seq, sender, recipient, .. } = *listed;
        self.total += 1;
        if let Some(name) = text_or_null(row, 4)? {
            self.senders.add(index, sender, name).map_err(Failed::Index)?;
        }
        if let Some(text) = text_or_null(row, 6)? {
            let (sender, recipient) = (sender.0, recipient.0);
            self.open.texts.push(&Text { seq, moment, sender, recipient, folded: &fold(text) });
        }
        Ok(())
    }

    /// Takes messages that are gone out of the figures and of the open part. The tables of the index must have them still.
    pub(super) fn remove(&mut self, index: &Connection, removed: &[Removed]) -> Result<(), texts::Error> {
        for Removed { listed, sender } in removed {
            self.total = self.total.saturating_sub(1);
            if listed.sender != Party::NONE {
                self.senders.remove(index, listed.sender, sender)?;
            }
        }
        let mut seqs: Vec<i64> = removed.iter().map(|one| one.listed.seq).collect();
        seqs.sort_unstable();
        self.open.remove(&seqs)
    }

    /// Begins a new open part, so that the one that there is can be written: returns that.
    pub(super) fn begin_part(&mut self) -> Part {
        let part = self.open.snapshot(self.state.latest);
        self.open = OpenPart::default();
        self.closing = Some(part.clone());
        part
    }

    /// The part that [`begin_part`](Self::begin_part) gave is in the index files.
    pub(super) fn end_part(&mut self) {
        self.closing = None;
        self.parties.saved();
        self.senders.keep(&self.open.parties());
    }

    /// The view that readers get, with an index that holds the messages up to `base`.
    pub(super) fn view(&mut self, index: &Connection, generation: u64, base: i64) -> rusqlite::Result<View> {
        let names = self.parties.new_names();
        let top = self.senders.top(index, &names)?;
        let open = self.open.snapshot(self.state.latest);
        Ok(View {
            state: self.state,
            generation,
            base,
            parts: self.closing.iter().cloned().chain([open]).collect(),
            names,
            total: self.total,
            senders: self.senders.total,
            top,
        })
    }
}
