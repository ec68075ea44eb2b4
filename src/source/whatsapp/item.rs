//! The items of a value: what each says in the fields of an event.

use std::borrow::Cow;

use super::Flaw;
use super::change::Change;
use super::contacts::{Contact, Contacts, Person, name, numbered, party};
use super::content::Content;
use super::hash::Prefix;
use super::json::{Json, Object};
use crate::event::Kind;
use crate::message::{Name, Timestamp};

/// The fields of an event that an item gives, and the contact that it belongs to.
#[derive(Debug)]
pub(super) struct Facts<'c, 'a> {
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) r#type: String,
    pub(super) from: Option<Name>,
    pub(super) to: Option<Name>,
    pub(super) user_id: Option<Name>,
    pub(super) thread: Option<Name>,
    pub(super) r#ref: Option<Name>,
    pub(super) ts: Option<Timestamp>,
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) contact: Option<&'c Contact<'a>>,
}

impl<'c, 'a> Facts<'c, 'a> {
    /// Facts that name nobody.
    pub(super) fn new(key: String, kind: Kind, r#type: String) -> Self {
        let (from, to, user_id, thread, r#ref) = (None, None, None, None, None);
        let (ts, text, contact) = (None, None, None);
        Self { key, kind, r#type, from, to, user_id, thread, r#ref, ts, text, contact }
    }

    /// A message with whatever it says.
    fn of_message(
        prefix: &str,
        kind: impl Fn(&str) -> Kind,
        item: &Object<'a>,
    ) -> Result<(Self, Option<Name>), Flaw> {
        let id = item.string("id").ok_or(Flaw::NoId)?;
        let Content { r#type, text, r#ref, user_id } = Content::of(item)?;
        let facts = Self::new(
            [prefix, &id].concat(),
            kind(item.string("type").as_deref().unwrap_or("")),
            r#type.into(),
        );
        Ok((Self { r#ref, text, ts: own_time(item), ..facts }, user_id))
    }

    fn sent_by(self, person: Person<'c, 'a>, to: Option<Name>) -> Self {
        let Person { name, user_id, contact } = person;
        Self { from: name.clone(), to, user_id, thread: name, contact, ..self }
    }

    fn sent_to(self, from: Option<Name>, person: Person<'c, 'a>) -> Self {
        let Person { name, user_id, contact } = person;
        Self { from, to: name.clone(), user_id, thread: name, contact, ..self }
    }

    /// The same, said to a group if there is one.
    fn in_group(self, group: Option<Name>) -> Self {
        match group {
            Some(group) => Self { to: Some(group.clone()), thread: Some(group), ..self },
            None => self,
        }
    }
}

/// An element of `messages`.
pub(super) fn message<'c, 'a>(
    item: &Object<'a>,
    change: &Change<'_>,
    contacts: &'c Contacts<'a>,
) -> Result<Facts<'c, 'a>, Flaw> {
    let (facts, new_user_id) = Facts::of_message("", kind_of_type, item)?;
    let sender = contacts.person(party(item, "from"), name(item, "from_user_id"));
    let facts = facts.sent_by(sender, change.own_number.clone()).in_group(name(item, "group_id"));
    Ok(Facts { user_id: new_user_id.or(facts.user_id.clone()), ..facts })
}

fn kind_of_type(r#type: &str) -> Kind {
    match r#type {
        "reaction" => Kind::Reaction,
        "edit" => Kind::Edit,
        "revoke" => Kind::Revoke,
        "system" => Kind::System,
        _ => Kind::Message,
    }
}

/// An element of `message_echoes`: what was sent from the phone app.
pub(super) fn echo<'c, 'a>(
    item: &Object<'a>,
    change: &Change<'_>,
    contacts: &'c Contacts<'a>,
) -> Result<Facts<'c, 'a>, Flaw> {
    let (facts, _) = Facts::of_message("echo/", |_| Kind::Echo, item)?;
    let from = party(item, "from").or_else(|| change.own_number.clone());
    let recipient = contacts.person(party(item, "to"), name(item, "to_user_id"));
    Ok(facts.sent_to(from, recipient).in_group(name(item, "group_id")))
}

/// A message from before the account was connected. `prefix` begins its key; `thread` is the name of its conversation, if it
/// stands in one.
pub(super) fn history<'c, 'a>(
    prefix: &str,
    thread: Option<&Name>,
    item: &Object<'a>,
    change: &Change<'_>,
    contacts: &'c Contacts<'a>,
) -> Result<Facts<'c, 'a>, Flaw> {
    let (facts, _) = Facts::of_message(prefix, |_| Kind::History, item)?;
    let from = party(item, "from");
    let facts = if from.is_some() && from == change.own_number {
        let number = party(item, "to").or_else(|| thread.cloned());
        facts.sent_to(from, contacts.person(number, name(item, "to_user_id")))
    } else {
        let user_id = name(item, "from_user_id");
        let number = from.or_else(|| thread.filter(|_| user_id.is_none()).cloned());
        facts.sent_by(contacts.person(number, user_id), change.own_number.clone())
    };
    let facts = facts.in_group(name(item, "group_id"));
    Ok(Facts { thread: thread.cloned().or(facts.thread.clone()), ..facts })
}

/// An element of `statuses`: progress of a message or of a call.
pub(super) fn status<'c, 'a>(
    is_of_call: bool,
    item: &Object<'a>,
    contacts: &'c Contacts<'a>,
) -> Result<Facts<'c, 'a>, Flaw> {
    let id = item.string("id").ok_or(Flaw::NoId)?;
    let status = item.string("status").ok_or(Flaw::NoStatus)?;
    let (prefix, kind) = if is_of_call { ("call-status", Kind::Call) } else { ("status", Kind::Status) };
    let facts = Facts::new([prefix, "/", &id, "/", &status].concat(), kind, status.clone().into());
    let facts = Facts { r#ref: Name::lossy(&id), ts: own_time(item), ..facts };
    if item.string("recipient_type").as_deref() == Some("group") {
        return Ok(in_group(facts, item, contacts));
    }
    let recipient = contacts.person(party(item, "recipient_id"), name(item, "recipient_user_id"));
    Ok(facts.sent_to(None, recipient))
}

/// The status of a message to a group: each participant has one.
fn in_group<'c, 'a>(facts: Facts<'c, 'a>, item: &Object<'a>, contacts: &'c Contacts<'a>) -> Facts<'c, 'a> {
    let (id, user_id) = ("recipient_participant_id", "recipient_participant_user_id");
    let key = match item.word(user_id).or_else(|| item.word(id)) {
        Some(participant) => [&facts.key, "/", &*participant].concat(),
        None => facts.key.clone(),
    };
    let participant = match (party(item, id), name(item, user_id)) {
        (None, None) => Person::default(),
        (number, user_id) => contacts.person(number, user_id),
    };
    Facts { key, ..facts.sent_by(participant, None) }.in_group(name(item, "recipient_id"))
}

/// An element of `calls`.
pub(super) fn call<'c, 'a>(
    item: &Object<'a>,
    change: &Change<'_>,
    contacts: &'c Contacts<'a>,
) -> Result<Facts<'c, 'a>, Flaw> {
    let id = item.string("id").ok_or(Flaw::NoId)?;
    let event = item.string("event").ok_or(Flaw::NoEvent)?;
    let facts = Facts::new(["call/", &id, "/", &event].concat(), Kind::Call, event.into());
    let facts = Facts { r#ref: Name::lossy(&id), ts: own_time(item), ..facts };
    let (from, to) = (party(item, "from"), party(item, "to"));
    let own = || change.own_number.clone();
    let is_ours = from.is_some() && from == change.own_number
        || item.string("direction").as_deref() == Some("BUSINESS_INITIATED");
    Ok(if is_ours {
        facts.sent_to(from.or_else(own), contacts.person(to, name(item, "to_user_id")))
    } else {
        facts.sent_by(contacts.person(from, name(item, "from_user_id")), to.or_else(own))
    })
}

/// An element of any other array, or a whole value: known by the hash of its bytes. The member `inner` holds the rest of its
/// type.
pub(super) fn notice<'c, 'a>(
    inner: Option<&str>,
    item: &Object<'a>,
    json: Json<'_>,
    change: &Change<'_>,
    contacts: &'c Contacts<'a>,
) -> Result<Facts<'c, 'a>, Flaw> {
    let time = own_time_json(item);
    let key = change.key(Prefix { holds_day: time.is_none(), of_errors: false }, json);
    let inner = inner.and_then(|member| item.string(member));
    let facts = Facts::new(key, Kind::Event, change.word(inner.as_deref()));
    let facts = Facts { ts: time.and_then(instant).or(change.time), ..facts };
    let facts = match (party(item, "wa_id"), name(item, "user_id")) {
        (None, None) => facts,
        (number, user_id) => facts.sent_by(contacts.person(number, user_id), change.own_number.clone()),
    };
    let contact = item.object("contact")?.and_then(|contact| party(&contact, "phone_number"));
    let thread = name(item, "group_id").or(facts.thread.clone()).or(contact);
    Ok(Facts { thread, ..facts })
}

/// An element of an array `errors`.
pub(super) fn error<'c, 'a>(item: &Object<'a>, json: Json<'_>, change: &Change<'_>) -> Facts<'c, 'a> {
    let time = own_time_json(item);
    let key = change.key(Prefix { holds_day: time.is_none(), of_errors: true }, json);
    let facts = Facts::new(key, Kind::Event, change.word(Some("error")));
    Facts { ts: time.and_then(instant).or(change.time), ..facts }
}

/// The number of a conversation of the history.
pub(super) fn thread_name(thread: &Object<'_>) -> Option<Name> {
    numbered(&thread.word("id")?)
}

fn own_time(item: &Object<'_>) -> Option<Timestamp> {
    own_time_json(item).and_then(instant)
}

/// The time of an item, whether it can be read or not.
fn own_time_json<'a>(item: &Object<'a>) -> Option<Json<'a>> {
    let inner = || item.object("metadata").ok()??.get("timestamp");
    item.get("timestamp").or_else(inner)
}

/// Seconds since 1970, a number or a string of digits.
fn instant(time: Json<'_>) -> Option<Timestamp> {
    seconds(&time.word()?)
}

/// Digits to the time so many seconds after 1970 began; `None` after the year 9999.
pub(super) fn seconds(digits: &str) -> Option<Timestamp> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_number.then(|| digits.parse().ok())??;
    Timestamp::from_parts(seconds, 0, 0).ok()
}
