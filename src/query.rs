//! Questions to the inbox and their answers. Pure: no I/O, no clock, no SQL.

use serde::Serialize;

use crate::message::{Message, MessageId, Moment, Phone, TEXT_CHARS_MAX, Timestamp};

mod cursor;
mod parse;

pub use parse::parse;

/// Most messages on a page.
pub const LIMIT_MAX: u32 = 100;
/// Messages on a page when nothing is said.
pub const LIMIT_DEFAULT: u32 = 50;
/// Longest search text, in Unicode scalar values: as long as the longest text that can be found.
pub const SEARCH_CHARS_MAX: usize = TEXT_CHARS_MAX;

/// Which messages are asked for; all filters must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only messages from exactly this number.
    pub from: Option<String>,
    /// Only messages to exactly this number.
    pub to: Option<String>,
    /// Only messages of this instant and later ones.
    pub since: Option<Timestamp>,
    /// Only messages before this instant.
    pub until: Option<Timestamp>,
    /// Only messages whose text contains this.
    pub search: Option<Search>,
}

/// A text to look for, case-insensitively, every character standing for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search(String);

/// Which part of the matching messages is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many messages, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// Passing over so many.
    pub offset: u64,
    /// The latest first.
    pub descending: bool,
    /// Where another page ended; then [`offset`](Self::offset) is not looked at.
    pub cursor: Option<Cursor>,
}

/// A place between two messages, which stays where it is while others arrive. [`Display`](std::fmt::Display)
/// and [`FromStr`](std::str::FromStr) give the form that clients see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// The page begins after this message, in the order that is asked for.
    After(Position),
    /// The page ends before this message.
    Before(Position),
}

/// Where a message stands in the order of lists: by instant, then by the bytes of its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its instant.
    pub moment: Moment,
    /// Its id.
    pub message_id: MessageId,
}

/// A page of messages. Serializes to the answer of `GET /messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The page.
    pub data: Vec<Message>,
    /// How many messages match in all, in the same snapshot as `data`.
    pub total: u64,
    /// As asked.
    pub limit: u32,
    /// As asked.
    pub offset: u64,
    /// Where the next page begins; none if no message comes after this page.
    pub next: Option<Cursor>,
    /// Where the page before ends; none if no message comes before this page.
    pub prev: Option<Cursor>,
}

/// Figures over all messages, of one snapshot. Serializes to the answer of `GET /stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Messages stored.
    pub total_messages: u64,
    /// Different senders among them.
    pub senders_count: u64,
    /// The [`TOP_SENDERS`] senders with most messages, by count descending, then by number.
    pub messages_per_sender: Vec<SenderCount>,
    /// The least `ts`; none in an empty store.
    pub first_message_ts: Option<Timestamp>,
    /// The greatest `ts`.
    pub last_message_ts: Option<Timestamp>,
}

/// Most senders that [`Stats`] names.
pub const TOP_SENDERS: usize = 10;

/// How many messages a sender has sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenderCount {
    /// The sender.
    pub from: Phone,
    /// Its messages.
    pub count: u64,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, offset: 0, descending: false, cursor: None }
    }
}

impl Position {
    /// Where `message` stands.
    pub fn of(message: &Message) -> Self {
        Self { moment: message.ts.moment(), message_id: message.message_id.clone() }
    }
}

impl Listing {
    /// The answer to `page`: its messages in the order asked for, how many match in all, and whether any match
    /// before and after them.
    pub fn new(page: &Page, data: Vec<Message>, total: u64, before: bool, after: bool) -> Self {
        let first = data.first().filter(|_| before).map(|first| Cursor::Before(Position::of(first)));
        let last = data.last().filter(|_| after).map(|last| Cursor::After(Position::of(last)));
        Self { total, limit: page.limit, offset: page.offset, next: last, prev: first, data }
    }
}

impl Search {
    /// Makes ready to look for `text`.
    pub fn new(text: &str) -> Self {
        Self(fold(text))
    }

    /// The text to look for, as [`fold`] leaves it.
    pub fn folded(&self) -> &str {
        &self.0
    }

    /// Whether `text` holds it.
    pub fn is_in(&self, text: &str) -> bool {
        holds(text, &self.0)
    }
}

/// Whether `text` holds `folded`, a text as [`fold`] leaves it, after folding.
pub fn holds(text: &str, folded: &str) -> bool {
    // Characters are folded one by one, so what is there as it is looked for is there after folding too.
    text.contains(folded) || fold(text).contains(folded)
}

/// Takes the differences of case out of a text: Unicode's default case folding (Unicode Standard 3.13, D145),
/// under which "STRASSE", "Straße" and "strasse" are the same.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    icu_casemap::CaseMapper::new().fold_string(text).into_owned()
}
