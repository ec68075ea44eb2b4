//! The event: one thing that a source has told us, stored once for ever under its source and its key.
//!
//! Pure: no I/O, no clock.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::message::{Message, Name, RuleViolation, Timestamp};

mod json;
mod position;
mod read;

pub use position::{BadPosition, LogId, Position};
pub use read::{EVENTS_DEFAULT, EVENTS_MAX, LogFilter, LogRead, Reached, Start, Way};

/// One thing that a source has told us, every field checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The source that delivered it.
    pub source: Source,
    /// The identifier that it is stored under once for ever; unique within the source. The `message_id` of a message.
    pub key: Name,
    /// What it is, in Lyftr's words.
    pub kind: Kind,
    /// What it is, in the provider's word.
    pub r#type: Option<Name>,
    /// The person or number that it comes from.
    pub from: Option<Name>,
    /// The person or number that it goes to.
    pub to: Option<Name>,
    /// The provider's own id of the person, beside the number.
    pub user_id: Option<Name>,
    /// The conversation that it belongs to.
    pub thread: Option<Name>,
    /// The key, or the provider's name, of the object that it is about.
    pub r#ref: Option<Name>,
    /// The account of ours that it was delivered for.
    pub account: Option<Name>,
    /// The time that the provider gives it. Every message has one.
    pub ts: Option<Timestamp>,
    /// The time at which Lyftr accepted it, in milliseconds; `None` only for a message that an older release stored.
    pub received_at: Option<Timestamp>,
    /// What a person wrote or chose.
    pub text: Option<Box<str>>,
    /// What the provider sent, as one JSON value, byte for byte.
    pub data: Option<Data>,
}

/// The name of a source: 1 to 40 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(Cow<'static, str>);

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something that a person wrote, or an app in their name.
    Message,
    /// Progress of a message: sent, delivered, read, failed.
    Status,
    /// A reaction to a message, or its removal.
    Reaction,
    /// A message was changed.
    Edit,
    /// A message was taken back.
    Revoke,
    /// A notice of the provider's about a conversation or an account.
    System,
    /// A message that was sent from the account itself, on another device.
    Echo,
    /// A message from before the account was connected.
    History,
    /// A call.
    Call,
    /// Anything else.
    Event,
    /// A signed delivery, or an item of one, that cannot be understood.
    Malformed,
}

/// A JSON value as it was sent, which is valid JSON in UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(Box<str>);

/// An event and its place in the one order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Its arrival number, greater than zero.
    pub seq: i64,
    /// The event.
    pub event: Event,
}

/// An event as it stands in the log of its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its position.
    pub position: Position,
    /// The event, and its arrival number.
    pub arrived: Arrived,
}

impl Recorded {
    /// The event as it stands in this log.
    pub fn new(log: &LogId, arrived: Arrived) -> Self {
        Self { position: Position::of(log, &arrived), arrived }
    }
}

impl Event {
    /// An event that has nothing but what every event has.
    pub fn bare(source: Source, key: Name, kind: Kind) -> Self {
        Self {
            source,
            key,
            kind,
            r#type: None,
            from: None,
            to: None,
            user_id: None,
            thread: None,
            r#ref: None,
            account: None,
            ts: None,
            received_at: None,
            text: None,
            data: None,
        }
    }

    /// The event of a message that `POST /webhook` received. `data` is its body if that had other members.
    pub fn of_message(message: Message, received_at: Option<Timestamp>, data: Option<Data>) -> Self {
        let Message { message_id, from, to, ts, text, source } = message;
        let bare = Self::bare(source, message_id, Kind::Message);
        Self { from, to, ts: Some(ts), received_at, text, data, ..bare }.with_implied()
    }

    /// The event with the fields that follow from others: for the built-in source `type` is `text` where there is a text,
    /// and `thread` is `from`. A store need not keep them.
    #[must_use]
    pub fn with_implied(mut self) -> Self {
        if self.source.is_built_in() {
            self.r#type = self.text.is_some().then(Name::text);
            self.thread = self.from.clone();
        }
        self
    }

    /// The event as a message; `None` if it is none.
    pub fn message(&self) -> Option<Message> {
        let ts = self.ts.filter(|_| self.kind == Kind::Message)?;
        Some(Message {
            message_id: self.key.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            ts,
            text: self.text.clone(),
            source: self.source.clone(),
        })
    }

    /// The size of its text and its data, in bytes; the other fields are short.
    pub fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
            + self.data.as_ref().map_or(0, |data| data.as_str().len())
    }

    /// Whether both say the same under one key. When and how they were received makes no difference, nor does the time of an event
    /// of a configured source: where the provider gives none, it is that of the receipt or of the signature, which is another one
    /// with each attempt.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let is_same_time = self.ts == other.ts || !self.source.is_built_in();
        is_same_time
            && (self.kind, &self.from, &self.to, &self.text)
                == (other.kind, &other.from, &other.to, &other.text)
    }
}

impl Source {
    /// The built-in source, `POST /webhook`.
    pub const WEBHOOK: Self = Self(Cow::Borrowed("webhook"));
    /// Maximum length of a name.
    pub const LENGTH_MAX: usize = 40;

    /// Checks a name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn new(name: &str) -> Result<Self, RuleViolation> {
        if name == Self::WEBHOOK.as_str() {
            return Ok(Self::WEBHOOK);
        }
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > Self::LENGTH_MAX || !name.bytes().all(is_allowed) {
            return Err(RuleViolation {
                kind: "string_pattern_mismatch",
                reason: "String should be 1 to 40 lower-case letters, digits and hyphens",
            });
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is [`Source::WEBHOOK`].
    pub fn is_built_in(&self) -> bool {
        self.0 == Self::WEBHOOK.0
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Kind {
    /// Every kind with its word. The place in the list is the number that stores keep, and never changes.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Message, "message"),
        (Self::Status, "status"),
        (Self::Reaction, "reaction"),
        (Self::Edit, "edit"),
        (Self::Revoke, "revoke"),
        (Self::System, "system"),
        (Self::Echo, "echo"),
        (Self::History, "history"),
        (Self::Call, "call"),
        (Self::Event, "event"),
        (Self::Malformed, "malformed"),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("event", |(_, word)| word)
    }

    /// The number that stores keep; zero for a message.
    pub fn number(self) -> u8 {
        (0..).zip(Self::ALL).find(|(_, (kind, _))| *kind == self).map_or(u8::MAX, |(number, _)| number)
    }

    /// The kind of a number; `None` if there is none, as in a damaged store.
    pub fn of_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).map(|(kind, _)| *kind)
    }
}

/// The word is no kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a kind of event")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind).ok_or(UnknownKind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Data {
    /// Takes over a text that is known to be one JSON value.
    pub fn from_json(json: impl Into<Box<str>>) -> Self {
        Self(json.into())
    }

    /// The JSON value as it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON value on one line: a line end in it stands between values, where a space says as much.
    pub fn one_line(&self) -> Cow<'_, str> {
        if self.0.contains(['\n', '\r']) {
            self.0.replace(['\n', '\r'], " ").into()
        } else {
            (&*self.0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word_and_a_number_of_its_own() {
        for (number, (kind, word)) in (0..).zip(Kind::ALL) {
            assert_eq!((kind.as_str(), kind.number()), (word, number));
            assert_eq!((word.parse(), Kind::of_number(number.into())), (Ok(kind), Some(kind)));
        }
        assert_eq!(Kind::Message.number(), 0);
        assert_eq!(
            (Kind::of_number(11), Kind::of_number(-1), "Message".parse::<Kind>()),
            (None, None, Err(UnknownKind))
        );
    }

    #[test]
    fn a_source_has_a_plain_name() {
        for good in ["webhook", "a", "shop-wa-2", &"x".repeat(40)] {
            assert_eq!(Source::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Shop", "a_b", "a b", "ä", "a\n", &"x".repeat(41)] {
            assert!(Source::new(bad).is_err(), "{bad:?}");
        }
        assert!(Source::new("webhook").unwrap().is_built_in() && !Source::new("shop").unwrap().is_built_in());
    }
}
