//! Messages, and stores that hold some.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lyftr::event::Event;
use lyftr::message::{self, Message};
use lyftr::store::{self, Outcome, Settings, Store, Url};
use serde_json::{Value, json};

/// A message to send, valid, from +919876543210 and with this id.
pub(crate) fn message(id: &str) -> Value {
    message_with(id, "+919876543210", "2025-01-15T10:00:00Z", Some("Hello"))
}

/// A message to send, valid; `text` of `None` is left out.
pub(crate) fn message_with(id: &str, from: &str, ts: &str, text: Option<&str>) -> Value {
    let mut message = json!({"message_id": id, "from": from, "to": "+14155550100", "ts": ts});
    if let Some(text) = text {
        message["text"] = text.into();
    }
    message
}

/// The message that a sender means by this.
#[track_caller]
pub(crate) fn parsed(message: &Value) -> Message {
    message::parse(message.to_string().as_bytes()).unwrap()
}

/// Messages of every kind: the order of their ids is not that of their arrival, texts are absent or of any length,
/// and instants are written with and without a fraction.
pub(crate) fn mixed(range: Range<usize>) -> Vec<Message> {
    let nth = |n: usize| {
        let ts = format!("2025-01-{:02}T10:{:02}:00{}Z", n % 28 + 1, n * 7 % 60, ["", ".5", ".50"][n % 3]);
        let text = (!n.is_multiple_of(5)).then(|| format!("Secret {n} ПРИВЕТ 😀 {}", "xyz".repeat(n % 40)));
        let id = format!("m {:05}", n * 7919 % 100_003);
        let mut message = message_with(&id, &format!("+4917{}", n % 17), &ts, text.as_deref());
        message["to"] = format!("+{}", n % 3).into();
        parsed(&message)
    };
    range.map(nth).collect()
}

/// The `DATABASE_URL` of a file.
pub(crate) fn sqlite_url(path: &Path) -> String {
    format!("sqlite:///{}", path.display())
}

/// The store at this `DATABASE_URL`, with the service's own settings.
#[track_caller]
pub(crate) fn open_store(url: &str) -> Arc<dyn Store> {
    store::open(&url.parse::<Url>().unwrap(), Settings::default()).unwrap()
}

/// A store that was opened and holds these messages.
#[track_caller]
pub(crate) fn filled_store(url: &str, messages: &[Message]) -> Arc<dyn Store> {
    let store = open_store(url);
    for batch in messages.chunks(500) {
        store.insert_messages(batch).unwrap();
    }
    store
}

/// Messages of the built-in source, in and out of a store of events.
pub(crate) trait Messages {
    /// [`Store::insert`], of messages that were received at no known time.
    fn insert_messages(&self, batch: &[Message]) -> Result<Vec<Outcome>, store::Error>;
    /// [`Store::arrived`], with each event as a message.
    fn arrived_messages(&self, after: i64, limit: u32) -> Result<Vec<(i64, Message)>, store::Error>;
}

impl<S: Store + ?Sized> Messages for S {
    fn insert_messages(&self, batch: &[Message]) -> Result<Vec<Outcome>, store::Error> {
        self.insert(&events(batch))
    }

    fn arrived_messages(&self, after: i64, limit: u32) -> Result<Vec<(i64, Message)>, store::Error> {
        let arrived = self.arrived(after, limit)?;
        Ok(arrived.into_iter().map(|arrived| (arrived.seq, arrived.event.message().unwrap())).collect())
    }
}

/// The events of messages that were received at no known time.
pub(crate) fn events(messages: &[Message]) -> Vec<Event> {
    messages.iter().map(|message| Event::of_message(message.clone(), None, None)).collect()
}

/// An [`Outcome`] without the arrival number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Created,
    Duplicate,
    Conflict,
    Erased,
}

/// The fates of the messages of a batch.
pub(crate) fn fates(outcomes: &[Outcome]) -> Vec<Fate> {
    let fate = |outcome: &Outcome| match outcome {
        Outcome::Created { .. } => Fate::Created,
        Outcome::Duplicate => Fate::Duplicate,
        Outcome::Conflict => Fate::Conflict,
        Outcome::Erased => Fate::Erased,
    };
    outcomes.iter().map(fate).collect()
}
