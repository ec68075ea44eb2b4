//! Messages by their id and by the name of their source, by way of the identities.

use std::ops::Range;

use rusqlite::{Connection, OptionalExtension};

use super::failed::Failed;
use super::identity::{self, SEPARATOR, identity};
use super::rows;
use crate::event::Source;
use crate::message::{Message, Name};
use crate::query::{Filter, Place};
use crate::store::matches::{Matches, to_u64, to_usize};

const BY_IDENTITY: &str = "SELECT seq FROM event WHERE identity = ?1 AND kind = 0";
/// The first identity at or after a string, if it is of another source than the built-in one.
const NEXT_IDENTITY: &str =
    "SELECT identity FROM event WHERE identity >= ?1 AND identity < ' ' ORDER BY identity LIMIT 1";
const ANY_BUILT_IN: &str = "SELECT 1 FROM event WHERE identity >= ' ' LIMIT 1";

/// How many of all events are of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// All of them, or no source was asked for.
    All,
    /// Some, perhaps.
    Some,
    /// None.
    None,
}

/// How many of all events are of the source with this name.
pub(super) fn of_source(events: &Connection, name: Option<&str>) -> rusqlite::Result<Share> {
    let Some(name) = name else { return Ok(Share::All) };
    let has_others = next_source(events, "")?.is_some();
    Ok(if name == Source::WEBHOOK.as_str() {
        let has_any = events.prepare_cached(ANY_BUILT_IN)?.exists(())?;
        if !has_any {
            Share::None
        } else if has_others {
            Share::Some
        } else {
            Share::All
        }
    } else {
        let first = identity::prefix(name);
        let found = next_identity(events, &first)?.is_some_and(|identity| identity.starts_with(&first));
        let is_only = || {
            let has_built_in = events.prepare_cached(ANY_BUILT_IN)?.exists(())?;
            let is_first = next_source(events, "")?.is_some_and(|source| source.as_str() == name);
            Ok::<_, rusqlite::Error>(!has_built_in && is_first && next_source(events, name)?.is_none())
        };
        match found {
            true if is_only()? => Share::All,
            true => Share::Some,
            false => Share::None,
        }
    })
}

/// The sources other than the built-in one, in the order of their names: the first one after the source `name`.
fn next_source(events: &Connection, name: &str) -> rusqlite::Result<Option<Source>> {
    let first = if name.is_empty() { SEPARATOR.to_string() } else { identity::after(name) };
    let Some(identity) = next_identity(events, &first)? else { return Ok(None) };
    Ok(identity::parts(&identity).and_then(|(source, _)| Source::new(source).ok()))
}

fn next_identity(events: &Connection, first: &str) -> rusqlite::Result<Option<String>> {
    events.prepare_cached(NEXT_IDENTITY)?.query_row([first], |row| row.get(0)).optional()
}

/// The messages of one id that match a filter: one for each source at most.
#[derive(Debug)]
pub(super) struct Named(Vec<Message>);

impl Named {
    /// Finds them. Without a source in the filter, the id is looked up in each of the sources that there are.
    pub(super) fn find(events: &Connection, id: &str, filter: &Filter) -> Result<Self, Failed> {
        let Ok(key) = Name::new(id) else { return Ok(Self(Vec::new())) };
        let mut found = Vec::new();
        let mut look = |source: &Source| -> rusqlite::Result<()> {
            let mut by_identity = events.prepare_cached(BY_IDENTITY)?;
            let seq: Option<i64> =
                by_identity.query_row([identity(source, &key)], |row| row.get(0)).optional()?;
            if let Some(seq) = seq {
                let message = events.prepare_cached(rows::BY_SEQ)?.query_row([seq], rows::message)?;
                found.extend(Some(message).filter(|message| filter.lets_through(message)));
            }
            Ok(())
        };
        if let Some(name) = &filter.source {
            if let Ok(source) = Source::new(name) {
                look(&source)?;
            }
        } else {
            look(&Source::WEBHOOK)?;
            let mut source = next_source(events, "")?;
            while let Some(other) = source {
                look(&other)?;
                source = next_source(events, other.as_str())?;
            }
        }
        found.sort_by_key(Place::of);
        Ok(Self(found))
    }
}

impl Matches for Named {
    type Error = Failed;

    fn total(&self) -> Result<u64, Failed> {
        Ok(to_u64(self.0.len()))
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, Failed> {
        let before =
            self.0.iter().map(Place::of).filter(|place| place < position || including && place == position);
        Ok(to_u64(before.count()))
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Failed> {
        let found = self.0.get(to_usize(range.start)..to_usize(range.end));
        Ok(found.unwrap_or_default().to_vec())
    }
}
