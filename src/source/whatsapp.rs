//! The WhatsApp Cloud API of Meta: a delivery, and the events in it.
//!
//! A delivery holds entries, an entry holds changes, and the value of a change holds items: messages, statuses, calls and
//! others. Each item is an event, in the order of the body. What stands for an item where there is none: the value without
//! items, the entry without changes, the body without entries. What cannot be understood is `malformed` and costs nothing
//! beside it. Time and memory grow with the size of the body alone.
//!
//! The structures are those of Meta's reference of webhooks, the keys those of the public contract.

use base64ct::{Base64, Encoding};

use crate::event::{Data, Event, Kind, Source};
use crate::message::{Name, Timestamp};

mod change;
mod contacts;
mod content;
mod envelope;
mod hash;
mod item;
mod json;
mod scan;
mod value;

use change::{Change, Entry};
use contacts::Contacts;
use content::UNKNOWN;
use envelope::{Copies, Frame, Opening};
use item::Facts;
use json::{Document, Json};

/// The object that deliveries about WhatsApp are about.
const WHATSAPP: &str = "whatsapp_business_account";
/// The members of an entry that say nothing by themselves.
const AROUND_CHANGES: [&str; 3] = ["id", "time", "changes"];
/// Number of items that a body may hold, whatever its size.
const ITEMS_ALWAYS: usize = 100_000;
/// Number of bytes that one more item needs. No item that says something is shorter.
const ITEM_BYTES_MIN: usize = 16;

/// Why something cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    NotUtf8,
    NotJson,
    NotAnObject,
    NotAnArray,
    /// The body holds no item.
    Empty,
    /// An object has a member twice, and so no single meaning.
    RepeatedMember,
    NoId,
    NoStatus,
    NoEvent,
    TooManyItems,
}

impl Flaw {
    /// The type of the event.
    fn word(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::NotAnArray => "not_an_array",
            Self::Empty => "empty",
            Self::RepeatedMember => "repeated_member",
            Self::NoId => "no_id",
            Self::NoStatus => "no_status",
            Self::NoEvent => "no_event",
            Self::TooManyItems => "too_many_items",
        }
    }
}

/// The body holds more items than [`Delivery::items_max`].
#[derive(Debug)]
struct TooMany;

/// The events of a body, in its order, at least one. `received_at` is the time of acceptance, in milliseconds.
///
/// A body that cannot be understood, holds no item, or holds more than 100,000 items and one for each 16 of its bytes, is one
/// event of the kind `malformed`.
pub fn events(body: &[u8], source: &Source, received_at: Timestamp) -> Vec<Event> {
    let mut delivery = Delivery {
        source,
        received_at,
        copies: Copies::of(body.len()),
        items_max: ITEMS_ALWAYS.max(body.len() / ITEM_BYTES_MIN),
        events: Vec::new(),
    };
    match delivery.body(body) {
        Ok(()) => delivery.events,
        Err(flaw) => vec![delivery.whole(body, flaw)],
    }
}

/// A body on its way to events.
#[derive(Debug)]
struct Delivery<'d> {
    source: &'d Source,
    received_at: Timestamp,
    copies: Copies,
    items_max: usize,
    events: Vec<Event>,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy)]
struct Place<'f, 'a> {
    frame: &'f Frame<'f, 'a>,
    /// In an array `errors`.
    of_errors: bool,
}

impl Delivery<'_> {
    fn body(&mut self, body: &[u8]) -> Result<(), Flaw> {
        let text = std::str::from_utf8(body).map_err(|_| Flaw::NotUtf8)?;
        let document = Document::parse(text).ok_or(Flaw::NotJson)?;
        let delivery = document.value().object()?;
        let entries = delivery.get("entry").ok_or(Flaw::Empty)?.elements()?;
        let object = delivery.string("object").filter(|object| object != WHATSAPP);
        let opening = Opening::new(&delivery, |name| name == "entry", &["object"]);
        let frame = Frame::new(&opening, "\"entry\":[", "]}");
        for json in entries {
            self.entry(object.as_deref(), json, &frame).map_err(|TooMany| Flaw::TooManyItems)?;
        }
        if self.events.is_empty() { Err(Flaw::Empty) } else { Ok(()) }
    }

    fn entry<'a>(
        &mut self,
        product: Option<&str>,
        json: Json<'a>,
        around: &Frame<'_, 'a>,
    ) -> Result<(), TooMany> {
        let place = Place { frame: around, of_errors: false };
        let entry = match json.object() {
            Ok(entry) => entry,
            Err(flaw) => {
                let nameless = Entry::default();
                return self.add(&nameless.change("entry", self.received_at), place, json, Err(flaw));
            }
        };
        let itself = Entry::of(&entry, product);
        let changes = entry.get("changes").map(|changes| changes.elements().map(Vec::from_iter));
        match changes {
            Some(Ok(changes)) if !changes.is_empty() => {
                let opening = Opening::new(&entry, |name| name == "changes", &["id", "time"]);
                let frame = around.inside(&opening, "\"changes\":[", "]}");
                changes.into_iter().try_for_each(|json| self.change(&itself, json, &frame))
            }
            Some(Ok(_))
                if entry.members().all(|member| AROUND_CHANGES.iter().any(|name| member.is_named(name))) =>
            {
                Ok(())
            }
            Some(Err(flaw)) => self.add(&itself.change("entry", self.received_at), place, json, Err(flaw)),
            _ => {
                let change = itself.change("entry", self.received_at);
                let nobody = Contacts::default();
                let facts = item::notice(None, &entry, json, &change, &nobody);
                self.add(&change, place, json, facts)
            }
        }
    }

    fn change<'a>(
        &mut self,
        entry: &Entry<'_>,
        json: Json<'a>,
        around: &Frame<'_, 'a>,
    ) -> Result<(), TooMany> {
        let place = Place { frame: around, of_errors: false };
        let malformed = |delivery: &mut Self, flaw| {
            delivery.add(&entry.change("changes", delivery.received_at), place, json, Err(flaw))
        };
        let change = match json.object() {
            Ok(change) => change,
            Err(flaw) => return malformed(self, flaw),
        };
        let Some(value) = change.member("value") else { return malformed(self, Flaw::NotAnObject) };
        let field = change.string("field");
        let opening = Opening::new(&change, |name| name == "value", &["field"]);
        let frame = around.inside(&opening, "\"value\":", "}");
        let place = Place { frame: &frame, of_errors: false };
        let itself = entry.change(field.as_deref().unwrap_or(UNKNOWN), self.received_at);
        self.value(field.as_deref(), value, itself, place)
    }

    fn count(&self) -> usize {
        self.events.len()
    }

    /// Adds the event of an item.
    fn add<'a>(
        &mut self,
        change: &Change<'_>,
        place: Place<'_, 'a>,
        json: Json<'a>,
        facts: Result<Facts<'_, 'a>, Flaw>,
    ) -> Result<(), TooMany> {
        if self.events.len() >= self.items_max {
            return Err(TooMany);
        }
        let facts = facts.unwrap_or_else(|flaw| {
            let key = change.malformed_key(place.of_errors, json);
            Facts::new(key, Kind::Malformed, flaw.word().to_owned())
        });
        let data = place.frame.around(json, facts.contact, &self.copies);
        let event = self.event(facts, change.account.clone(), data);
        self.events.push(event);
        Ok(())
    }

    fn event(&self, facts: Facts<'_, '_>, account: Option<Name>, data: Data) -> Event {
        let Facts { key, kind, r#type, from, to, user_id, thread, r#ref, ts, text, contact: _ } = facts;
        // An id or a hash stands in every key, so that the fallback is never used.
        let key = Name::lossy(&key).unwrap_or_else(Name::text);
        // A message has a place among all others by its time.
        let ts = if kind == Kind::Message { ts.or(Some(self.received_at)) } else { ts };
        Event {
            source: self.source.clone(),
            key,
            kind,
            r#type: Name::lossy(&r#type),
            from,
            to,
            user_id,
            thread,
            r#ref,
            account,
            ts,
            received_at: Some(self.received_at),
            text: text.map(|text| text.replace('\0', "\u{fffd}").into()),
            data: Some(data),
        }
    }

    /// The event of a whole body.
    fn whole(&self, body: &[u8], flaw: Flaw) -> Event {
        let key = format!("malformed/#{}", hash::of_body(body));
        self.event(Facts::new(key, Kind::Malformed, flaw.word().to_owned()), None, data_of_body(body))
    }
}

/// A body as a value of JSON: itself, a string, or bytes in base64.
fn data_of_body(body: &[u8]) -> Data {
    let Ok(text) = std::str::from_utf8(body) else {
        return Data::from_json(format!("{{\"base64\":\"{}\"}}", Base64::encode_string(body)));
    };
    let is_json = Document::parse(text).is_some();
    Data::from_json(if is_json { text.to_owned() } else { serde_json::Value::from(text).to_string() })
}
