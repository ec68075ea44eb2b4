//! Reads of messages: filters, pages and their results. Pure: no I/O, no clock, no SQL.

use serde::Serialize;

use crate::event::Source;
use crate::message::{Message, Moment, Name, TEXT_CHARS_MAX, Timestamp};

mod cursor;
mod erasure;
mod fold;
mod form;
mod log;
mod parameters;
mod parse;
mod volume;

pub use erasure::{ErasureQuery, parse as parse_erasure};
pub use fold::fold;
pub use form::{Export, Form, Lines};
pub use log::{LogQuery, Origin, POSITION, WAIT_SECONDS_MAX, last_event_id, parse as parse_log};
pub use parse::parse;
pub use volume::{Step, VolumeAnswer, VolumeQuery, parse as parse_volume, too_many};

/// Maximum number of messages on a page.
pub const LIMIT_MAX: u32 = 100;
/// Number of messages on a page by default.
pub const LIMIT_DEFAULT: u32 = 50;
/// Maximum length of a search text, in Unicode scalar values: the maximum length of a text that can be found.
pub const SEARCH_CHARS_MAX: usize = TEXT_CHARS_MAX;

/// The messages that a read selects. They match all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only the messages with exactly this `message_id`, one for each source at most.
    pub id: Option<String>,
    /// Only messages of the source with this name.
    pub source: Option<String>,
    /// Only messages from exactly this phone number or name.
    pub from: Option<String>,
    /// Only messages to exactly this phone number or name.
    pub to: Option<String>,
    /// Only messages of this instant and later ones.
    pub since: Option<Timestamp>,
    /// Only messages before this instant.
    pub until: Option<Timestamp>,
    /// Only messages whose text contains this search text.
    pub search: Option<Search>,
}

/// A text to look for, case-insensitively and without wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search(String);

/// The window of the matching messages that a read asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Maximum number of messages on the page, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// Number of matching messages before the page.
    pub offset: u64,
    /// Whether the latest message comes first.
    pub descending: bool,
    /// The place where another page ended; then [`offset`](Self::offset) is ignored.
    pub cursor: Option<PageCursor>,
}

/// A place between two messages, which stays where it is while others arrive. [`Display`](std::fmt::Display)
/// and [`FromStr`](std::str::FromStr) give the form that clients see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageCursor {
    /// The page begins after this message, in the order of the page.
    After(Place),
    /// The page ends before this message.
    Before(Place),
}

/// The place of a message in the order of listings: by instant, then by the bytes of its `message_id`, then by source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The instant of the message.
    pub moment: Moment,
    /// The `message_id`.
    pub message_id: Name,
    /// The source.
    pub source: Source,
}

impl Filter {
    /// Whether a message matches.
    pub fn lets_through(&self, message: &Message) -> bool {
        let Self { id, source, from, to, since, until, search } = self;
        let is = |wanted: &Option<String>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| name == Some(wanted))
        };
        is(id, Some(message.message_id.as_str()))
            && is(source, Some(message.source.as_str()))
            && is(from, message.from.as_ref().map(Name::as_str))
            && is(to, message.to.as_ref().map(Name::as_str))
            && since.is_none_or(|since| message.ts.moment() >= since.moment())
            && until.is_none_or(|until| message.ts.moment() < until.moment())
            && search
                .as_ref()
                .is_none_or(|search| message.text.as_deref().is_some_and(|text| search.is_in(text)))
    }
}

/// The messages of a page. Serializes to the response of `GET /messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The messages.
    pub data: Vec<Message>,
    /// The number of all matching messages, in the same snapshot as `data`.
    pub total: u64,
    /// The limit of the page.
    pub limit: u32,
    /// The offset of the page.
    pub offset: u64,
    /// The cursor of the next page; `None` if no message comes after this page.
    pub next: Option<PageCursor>,
    /// The cursor of the previous page; `None` if no message comes before this page.
    pub prev: Option<PageCursor>,
}

/// Aggregates over all messages of one snapshot. Serializes to the response of `GET /stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The number of messages.
    pub total_messages: u64,
    /// The number of different senders.
    pub senders_count: u64,
    /// The [`TOP_SENDERS`] senders with most messages, by count descending, then by phone number.
    pub messages_per_sender: Vec<SenderCount>,
    /// The least `ts`; `None` in an empty store.
    pub first_message_ts: Option<Timestamp>,
    /// The greatest `ts`; `None` in an empty store.
    pub last_message_ts: Option<Timestamp>,
}

/// Maximum number of steps in a [`Volume`].
pub const STEPS_MAX: usize = 500;

/// The number of messages over time. The steps are aligned to 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// The first second of each step since 1970-01-01T00:00:00Z, and its number of messages. Steps without a message are left
    /// out.
    pub steps: Vec<(i64, u64)>,
}

/// Maximum number of senders in [`Stats`].
pub const TOP_SENDERS: usize = 10;

/// The number of messages of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenderCount {
    /// The sender.
    pub from: Name,
    /// The number of messages.
    pub count: u64,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, offset: 0, descending: false, cursor: None }
    }
}

impl Place {
    /// The place of `message`.
    pub fn of(message: &Message) -> Self {
        Self {
            moment: message.ts.moment(),
            message_id: message.message_id.clone(),
            source: message.source.clone(),
        }
    }
}

impl Listing {
    /// The listing of `page`: its messages in the order of the page, the number of all matching messages, and whether
    /// messages match before and after it.
    pub fn new(page: &Page, data: Vec<Message>, total: u64, before: bool, after: bool) -> Self {
        let first = data.first().filter(|_| before).map(|first| PageCursor::Before(Place::of(first)));
        let last = data.last().filter(|_| after).map(|last| PageCursor::After(Place::of(last)));
        Self { total, limit: page.limit, offset: page.offset, next: last, prev: first, data }
    }
}

impl Search {
    /// A search for `text`.
    pub fn new(text: &str) -> Self {
        Self(fold(text))
    }

    /// The text to look for, as [`fold()`] leaves it.
    pub fn folded(&self) -> &str {
        &self.0
    }

    /// Whether `text` contains the search text.
    pub fn is_in(&self, text: &str) -> bool {
        holds(text, &self.0)
    }
}

/// Whether `text`, folded, contains `folded`, which [`fold()`] has folded already.
pub fn holds(text: &str, folded: &str) -> bool {
    // Characters are folded one by one, so a text that contains `folded` contains it after folding too.
    text.contains(folded) || fold(text).contains(folded)
}
