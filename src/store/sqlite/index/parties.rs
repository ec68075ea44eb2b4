//! Numbers for senders, recipients and sources, so that an entry of the index takes a few bytes. That of a phone number follows from its
//! digits; any other name gets the next one, which the table `name` keeps.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::message::Name;
use crate::store::sqlite::identity::source_name;
use crate::store::sqlite::party::Party;
use crate::store::sqlite::rows::checked;

const NUMBER: &str = "SELECT number FROM name WHERE name = ?1";
const NAME: &str = "SELECT name FROM name WHERE number = ?1";
const LAST: &str = "SELECT max(number) FROM name";
const ADD: &str = "INSERT INTO name (number, name) VALUES (?1, ?2)";
const REMOVE: &str = "DELETE FROM name WHERE number = ?1";

/// Names that have a number and are not in the table yet.
pub(in crate::store::sqlite) type NewNames = Arc<HashMap<Box<str>, Party>>;

/// Gives numbers to names.
#[derive(Debug)]
pub(in crate::store::sqlite) struct Parties {
    last: Party,
    new: NewNames,
}

impl Parties {
    /// Goes on from the numbers of an index.
    pub(in crate::store::sqlite) fn load(index: &Connection) -> rusqlite::Result<Self> {
        let last: Option<i64> = index.query_row(LAST, (), |row| row.get(0))?;
        let last = last.map_or(Party::OTHER_SOURCE, Party).max(Party::OTHER_SOURCE);
        Ok(Self { last, new: Arc::default() })
    }

    /// The number of the sender or the recipient of a message; a name that has none gets one.
    pub(in crate::store::sqlite) fn number(
        &mut self,
        index: &Connection,
        name: Option<&str>,
    ) -> rusqlite::Result<Party> {
        let Some(name) = name else { return Ok(Party::NONE) };
        if let Some(known) = find(index, &self.new, name)? {
            return Ok(known);
        }
        self.last = Party(self.last.0 + 1);
        Arc::make_mut(&mut self.new).insert(name.into(), self.last);
        Ok(self.last)
    }

    /// The number of a name that a message had; that of no name if it has none.
    pub(in crate::store::sqlite) fn known(
        &self,
        index: &Connection,
        name: Option<&str>,
    ) -> rusqlite::Result<Party> {
        let known = name.map(|name| find(index, &self.new, name)).transpose()?;
        Ok(known.flatten().unwrap_or(Party::NONE))
    }

    /// The number of the source of a message with this identity; that of any for the built-in source. A source that has none
    /// gets one.
    pub(in crate::store::sqlite) fn source(
        &mut self,
        index: &Connection,
        identity: &str,
    ) -> rusqlite::Result<Party> {
        source_name(identity).map_or(Ok(Party::ANY), |name| self.number(index, Some(name)))
    }

    /// The number of the source of a message that was taken in.
    pub(in crate::store::sqlite) fn known_source(
        &self,
        index: &Connection,
        identity: &str,
    ) -> rusqlite::Result<Party> {
        source_name(identity).map_or(Ok(Party::ANY), |name| self.known(index, Some(name)))
    }

    /// Forgets a name that no message is of or to any more. Does nothing to a phone number.
    pub(in crate::store::sqlite) fn forget(
        &mut self,
        index: &Connection,
        number: Party,
    ) -> rusqlite::Result<()> {
        if self.new.values().any(|new| *new == number) {
            Arc::make_mut(&mut self.new).retain(|_, new| *new != number);
        }
        index.prepare_cached(REMOVE)?.execute([number.0]).map(drop)
    }

    /// The names that readers of the index do not find there.
    pub(in crate::store::sqlite) fn new_names(&self) -> NewNames {
        Arc::clone(&self.new)
    }

    /// Writes the new names into the table. [`saved`](Self::saved) has to follow the commit.
    pub(in crate::store::sqlite) fn save(&self, index: &Connection) -> rusqlite::Result<()> {
        let mut add = index.prepare_cached(ADD)?;
        for (name, number) in self.new.iter() {
            add.execute((number.0, name))?;
        }
        Ok(())
    }

    /// The new names are in the table.
    pub(in crate::store::sqlite) fn saved(&mut self) {
        self.new = Arc::default();
    }
}

/// The number of a name; `None` if it has none, since no message is of it or to it.
pub(in crate::store::sqlite) fn find(
    index: &Connection,
    new: &NewNames,
    name: &str,
) -> rusqlite::Result<Option<Party>> {
    if let Some(number) = Party::of_phone_number(name).or_else(|| new.get(name).copied()) {
        return Ok(Some(number));
    }
    index.prepare_cached(NUMBER)?.query_row([name], |row| row.get(0).map(Party)).optional()
}

/// The name that has a number; `None` if no name has it, which an intact index never holds.
pub(in crate::store::sqlite) fn name_of(
    index: &Connection,
    new: &NewNames,
    number: Party,
) -> rusqlite::Result<Option<Name>> {
    if let Some(name) = number.phone_number() {
        return Ok(Some(name));
    }
    if let Some((name, _)) = new.iter().find(|(_, one)| **one == number) {
        return Ok(Name::new(name).ok());
    }
    index.prepare_cached(NAME)?.query_row([number.0], |row| checked(row, 0, Name::new)).optional()
}
