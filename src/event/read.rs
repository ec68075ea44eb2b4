//! Reads of the log: where one begins, which events it lets through, and how far it has come.

use super::{Event, Kind, Position};
use crate::message::Name;

/// Maximum number of events on a page of the log.
pub const EVENTS_MAX: u32 = 1_000;
/// Number of events on a page of the log by default.
pub const EVENTS_DEFAULT: u32 = 100;

/// A read of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// Where it begins.
    pub start: Start,
    /// The events that it lets through.
    pub filter: LogFilter,
    /// Maximum number of events that it lets through, 1 to [`EVENTS_MAX`].
    pub limit: u32,
}

/// Where a read of the log begins, and in which direction it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first event, forwards.
    Beginning,
    /// Right after this event, forwards.
    After(Position),
    /// After the latest event: the read finds the position of that one, and no event.
    Now,
    /// Right before this event, backwards.
    Before(Position),
    /// At the latest event, backwards.
    Latest,
}

/// The events that a read of the log lets through. They match all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only events of the source with this name.
    pub source: Option<String>,
    /// Only events with this key; one at most where there is a source, too.
    pub key: Option<String>,
    /// Only events of this kind.
    pub kind: Option<Kind>,
    /// Only events from exactly this person or number.
    pub from: Option<String>,
    /// Only events to exactly this person or number.
    pub to: Option<String>,
    /// Only events of this conversation.
    pub thread: Option<String>,
    /// Only events about this object.
    pub r#ref: Option<String>,
}

/// How a read of the log finds the events that its filter lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// It looks up the one event of a source and a key, and so comes to the end of the log.
    Key,
    /// It looks up the events about this object, and comes to the end of the log unless there are more of them than it may
    /// look at.
    Ref(&'a str),
    /// It looks at one event after the other, at as many of them as it may.
    Arrival,
}

/// How far a read of the log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The position of the last event that was looked at, let through or not; without one, where the read began. `None` in an
    /// empty log.
    pub next: Option<Position>,
    /// There was nothing more in this direction.
    pub end: bool,
    /// Another number than in an earlier read if events were erased since.
    pub erasures: i64,
}

impl Start {
    /// Whether the read goes from the latest event to the first.
    pub fn is_backwards(self) -> bool {
        matches!(self, Self::Before(_) | Self::Latest)
    }

    /// Where a read goes on that began here and has come to a position.
    #[must_use]
    pub fn on_from(self, reached: Option<Position>) -> Self {
        match (self.is_backwards(), reached) {
            (true, Some(position)) => Self::Before(position),
            (false, Some(position)) => Self::After(position),
            (_, None) => self,
        }
    }
}

impl LogFilter {
    /// The source and the key of the one event that may match; `None` if the filter does not name both.
    pub fn source_and_key(&self) -> Option<(&str, &str)> {
        self.source.as_deref().zip(self.key.as_deref())
    }

    /// How the events that match are found.
    pub fn way(&self) -> Way<'_> {
        match &self.r#ref {
            _ if self.source_and_key().is_some() => Way::Key,
            Some(about) => Way::Ref(about),
            None => Way::Arrival,
        }
    }

    /// Whether an event matches.
    pub fn lets_through(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let Self { source, key, kind, from, to, thread, r#ref } = self;
        is(source, Some(event.source.as_str()))
            && is(key, Some(event.key.as_str()))
            && kind.is_none_or(|kind| kind == event.kind)
            && is(from, event.from.as_ref().map(Name::as_str))
            && is(to, event.to.as_ref().map(Name::as_str))
            && is(thread, event.thread.as_ref().map(Name::as_str))
            && is(r#ref, event.r#ref.as_ref().map(Name::as_str))
    }
}
