//! Erasing events: which ones an erasure selects, and what stays behind of each so that it does not come back. Pure; the modules
//! below carry an erasure out, and know neither HTTP nor SQL.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::event::{Event, LogFilter, Source};
use crate::message::{Name, Timestamp};

mod keep;
mod run;

pub use keep::{Keep, Keeper, KeptFor, Rule, Rules, Told};
pub use run::{Progress, Run};

/// Stands between the name of a source and a key; neither holds it.
const SEPARATOR: u8 = 0x1f;

/// The events that shall be erased: those that match all conditions, of which there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    filter: LogFilter,
    person: Option<String>,
    until: Option<Timestamp>,
    except: Vec<Source>,
}

/// An erasure without any condition, which would erase everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an erasure needs at least one condition")]
pub struct Unconditional;

/// One step of an erasure, or of counting what it would erase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// The number of events that were erased, or counted.
    pub events: u64,
    /// The arrival number up to which no selected event is left; the next step goes on after it. `None` if that was the last
    /// step.
    pub next: Option<i64>,
}

/// Whether anything is left of erased events in the files of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiped {
    /// Nothing is left.
    Done,
    /// Something is left, and there is more work to do.
    NotYet,
    /// Something is left, and a reader keeps an old snapshot with the erased events in it.
    Held,
    /// The database server keeps them for some time, by rules of its own.
    ByServer,
}

/// The random key of a store's tombstones. `Debug` does not print it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TombstoneKey([u8; Self::BYTES]);

/// What stays of an erased event: a keyed hash over its source and key, by which it is known when it comes again.
pub type Tombstone = [u8; 16];

/// A part of the tombstones of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstones {
    /// The key of all tombstones of the store.
    pub key: TombstoneKey,
    /// Tombstones in ascending order.
    pub hashes: Vec<Tombstone>,
}

impl Erasure {
    /// An erasure with these conditions: those of the filter; `person`, who is one of `from`, `to`, `user_id` and `thread`; and
    /// `until`, an instant before which the event was received. An event without a time of receipt was received before
    /// any instant.
    ///
    /// # Errors
    /// [`Unconditional`]
    pub fn new(
        filter: LogFilter,
        person: Option<String>,
        until: Option<Timestamp>,
    ) -> Result<Self, Unconditional> {
        if filter == LogFilter::default() && person.is_none() && until.is_none() {
            return Err(Unconditional);
        }
        Ok(Self { filter, person, until, except: Vec::new() })
    }

    /// The erasure of what was received before an instant.
    pub fn received_before(until: Timestamp) -> Self {
        Self { filter: LogFilter::default(), person: None, until: Some(until), except: Vec::new() }
    }

    /// The same of one source only.
    #[must_use]
    pub fn of(mut self, source: &Source) -> Self {
        self.filter.source = Some(source.as_str().to_owned());
        self
    }

    /// The same without the events of these sources.
    #[must_use]
    pub fn except(self, except: Vec<Source>) -> Self {
        Self { except, ..self }
    }

    /// The sources whose events are not selected.
    pub fn excepted(&self) -> &[Source] {
        &self.except
    }

    /// The conditions that a read of the log knows, too.
    pub fn filter(&self) -> &LogFilter {
        &self.filter
    }

    /// Who is one of `from`, `to`, `user_id` and `thread`.
    pub fn person(&self) -> Option<&str> {
        self.person.as_deref()
    }

    /// The instant before which the events were received.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether it selects an event.
    pub fn selects(&self, event: &Event) -> bool {
        let Event { from, to, user_id, thread, received_at, .. } = event;
        let is_party = |person: &str| {
            [from, to, user_id, thread].into_iter().flatten().any(|name| name.as_str() == person)
        };
        self.filter.lets_through(event)
            && !self.except.contains(&event.source)
            && self.person().is_none_or(is_party)
            && self.until.is_none_or(|until| received_at.is_none_or(|at| at.moment() < until.moment()))
    }
}

impl TombstoneKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// Takes over a key from a store.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The tombstone of an event: the first half of the HMAC-SHA-256 over its source, U+001F and its key.
    pub fn tombstone(&self, source: &Source, key: &Name) -> Tombstone {
        // HMAC takes keys of every length (RFC 2104, section 2), so the fallback is never used.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
        mac.update(source.as_str().as_bytes());
        mac.update(&[SEPARATOR]);
        mac.update(key.as_str().as_bytes());
        mac.finalize().into_bytes().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for TombstoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TombstoneKey")
    }
}
