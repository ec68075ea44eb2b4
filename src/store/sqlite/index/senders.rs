//! How many messages each sender has: all senders in a table of the index, the busiest ones in memory.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};

use super::parties::{NewNames, name_of};
use crate::message::Name;
use crate::query::{SenderCount, TOP_SENDERS};
use crate::store::matches::to_u64;
use crate::store::sqlite::party::Party;

/// Number of the busiest senders in memory. They are read from the table again when so many of these have lost messages that
/// fewer than [`TOP_SENDERS`] are left.
const KEPT: usize = if cfg!(test) { TOP_SENDERS + 3 } else { 100 * TOP_SENDERS };

const MESSAGES: &str = "SELECT messages FROM sender WHERE number = ?1";
const ALL: &str = "SELECT number, messages FROM sender";
const ADD: &str = "\
    INSERT INTO sender (number, messages) VALUES (?1, ?2)
    ON CONFLICT (number) DO UPDATE SET messages = messages + excluded.messages";
const TAKE: &str = "UPDATE sender SET messages = messages - 1 WHERE number = ?1";
const REMOVE: &str = "DELETE FROM sender WHERE number = ?1 AND messages <= 0";

/// The place of a sender in the order of [`Stats`](crate::query::Stats): by messages descending, then by name.
type Place = (Reverse<u64>, Name);

/// The counts as of the messages in the index and those in memory together.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Senders {
    /// Number of senders.
    pub(in crate::store::sqlite) total: u64,
    /// Messages of each sender that has any in memory, those in the index included.
    counts: HashMap<Party, u64>,
    /// The busiest senders: every other one comes after `bound`.
    busiest: BTreeSet<Place>,
    bound: Option<Place>,
}

impl Senders {
    /// Those of the messages in the index.
    pub(in crate::store::sqlite) fn load(index: &Connection) -> rusqlite::Result<Self> {
        let mut senders = Self { total: 0, counts: HashMap::new(), busiest: BTreeSet::new(), bound: None };
        senders.read(index, &NewNames::default())?;
        Ok(senders)
    }

    /// Goes through all senders.
    fn read(&mut self, index: &Connection, new: &NewNames) -> rusqlite::Result<()> {
        (self.total, self.bound) = (0, None);
        self.busiest.clear();
        let mut statement = index.prepare_cached(ALL)?;
        let mut rows = statement.query(())?;
        let mut in_memory = self.counts.clone();
        while let Some(row) = rows.next()? {
            let (sender, messages) = (Party(row.get(0)?), row.get(1)?);
            let messages = in_memory.remove(&sender).unwrap_or(messages);
            self.place(index, new, sender, messages)?;
        }
        for (sender, messages) in in_memory {
            self.place(index, new, sender, messages)?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        index: &Connection,
        new: &NewNames,
        sender: Party,
        messages: u64,
    ) -> rusqlite::Result<()> {
        if messages == 0 {
            return Ok(());
        }
        self.total += 1;
        if self.bound.as_ref().is_none_or(|(Reverse(least), _)| messages >= *least)
            && let Some(name) = name_of(index, new, sender)?
        {
            self.enter((Reverse(messages), name));
        }
        Ok(())
    }

    /// Puts a sender among the busiest if it is one of them.
    fn enter(&mut self, place: Place) {
        if self.bound.as_ref().is_some_and(|bound| place > *bound) {
            return;
        }
        self.busiest.insert(place);
        if self.busiest.len() > KEPT {
            self.busiest.pop_last();
            self.bound = self.busiest.last().cloned();
        }
    }

    /// Counts a message that has arrived.
    pub(in crate::store::sqlite) fn add(
        &mut self,
        index: &Connection,
        sender: Party,
        name: &str,
    ) -> rusqlite::Result<()> {
        self.update(index, sender, name, |before| before + 1)
    }

    /// Takes away a message that was removed.
    pub(in crate::store::sqlite) fn remove(
        &mut self,
        index: &Connection,
        sender: Party,
        name: &str,
    ) -> rusqlite::Result<()> {
        self.update(index, sender, name, |before| before.saturating_sub(1))
    }

    fn update(
        &mut self,
        index: &Connection,
        sender: Party,
        name: &str,
        count: impl FnOnce(u64) -> u64,
    ) -> rusqlite::Result<()> {
        let before = match self.counts.get(&sender) {
            Some(count) => *count,
            None => indexed(index, sender)?,
        };
        let after = count(before);
        self.counts.insert(sender, after);
        self.total = (self.total + u64::from(after > 0)).saturating_sub(u64::from(before > 0));
        self.change(before, after, name);
        Ok(())
    }

    fn change(&mut self, before: u64, after: u64, name: &str) {
        let least = self.bound.as_ref().map_or(0, |(Reverse(least), _)| *least);
        if before.max(after) < least {
            return;
        }
        let Ok(name) = Name::new(name) else { return };
        let place = (Reverse(before), name);
        self.busiest.remove(&place);
        if after > 0 {
            self.enter((Reverse(after), place.1));
        }
    }

    /// The busiest senders, the first of them first. `new`: the names that are not in the index yet.
    pub(in crate::store::sqlite) fn top(
        &mut self,
        index: &Connection,
        new: &NewNames,
    ) -> rusqlite::Result<Vec<SenderCount>> {
        if self.busiest.len() < TOP_SENDERS && to_u64(self.busiest.len()) < self.total {
            self.read(index, new)?;
        }
        let of_place = |(Reverse(count), from): &Place| SenderCount { from: from.clone(), count: *count };
        Ok(self.busiest.iter().take(TOP_SENDERS).map(of_place).collect())
    }

    /// Forgets the counts of senders of whom nothing is in memory any more, since the table has them.
    pub(in crate::store::sqlite) fn keep(&mut self, in_memory: &HashSet<Party>) {
        self.counts.retain(|sender, _| in_memory.contains(sender));
    }
}

fn indexed(index: &Connection, sender: Party) -> rusqlite::Result<u64> {
    let found = index.prepare_cached(MESSAGES)?.query_row([sender.0], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// Adds one message of each of these senders to the table.
pub(in crate::store::sqlite) fn add_all(index: &Connection, mut senders: Vec<Party>) -> rusqlite::Result<()> {
    senders.sort_unstable();
    let mut add = index.prepare_cached(ADD)?;
    for same in senders.chunk_by(|one, other| one == other) {
        if let Some(sender) = same.first().filter(|sender| **sender != Party::NONE) {
            add.execute((sender.0, to_u64(same.len())))?;
        }
    }
    Ok(())
}

/// Takes one message of a sender out of the table.
pub(in crate::store::sqlite) fn take(index: &Connection, sender: Party) -> rusqlite::Result<()> {
    index.prepare_cached(TAKE)?.execute([sender.0])?;
    index.prepare_cached(REMOVE)?.execute([sender.0]).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn party(n: u32) -> (Party, String) {
        let written = format!("+{n}");
        (Party::of_phone_number(&written).unwrap(), written)
    }

    fn index() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("schema.sql")).unwrap();
        conn
    }

    proptest! {
        #[test]
        fn the_busiest_senders_are_those_with_most_messages(changes in vec((0..30_u32, 0..3_u8, any::<bool>()), 0..300)) {
            let (index, new) = (index(), NewNames::default());
            let mut senders = Senders::load(&index).unwrap();
            let mut all: HashMap<u32, u64> = HashMap::new();
            for (n, removes, saves) in changes {
                let (sender, name) = party(n);
                let count = all.entry(n).or_default();
                if removes == 0 && *count > 0 {
                    *count -= 1;
                    senders.remove(&index, sender, &name).unwrap();
                    // As if it had been in memory only.
                } else {
                    *count += 1;
                    senders.add(&index, sender, &name).unwrap();
                }
                if saves {
                    index.execute("DELETE FROM sender", ()).unwrap();
                    for (n, count) in &all {
                        index.execute("INSERT INTO sender VALUES (?1, ?2)", (party(*n).0.0, count)).unwrap();
                    }
                    senders.keep(&HashSet::new());
                }
                let mut wanted: Vec<_> = all.iter().filter(|(_, count)| **count > 0)
                    .map(|(n, count)| SenderCount { from: Name::new(&party(*n).1).unwrap(), count: *count }).collect();
                prop_assert_eq!(senders.total, to_u64(wanted.len()));
                wanted.sort_by(|one, other| other.count.cmp(&one.count).then(one.from.cmp(&other.from)));
                wanted.truncate(TOP_SENDERS);
                prop_assert_eq!(senders.top(&index, &new).unwrap(), wanted);
            }
        }
    }
}
