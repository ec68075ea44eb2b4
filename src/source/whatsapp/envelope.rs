//! Meta's envelope around one item: the objects that a delivery holds it in, without the item's neighbours.

use std::borrow::Cow;
use std::cell::Cell;

use super::contacts::Contact;
use super::json::{Json, Object};
use crate::event::Data;

/// Number of times that the bytes of a body may be repeated around its items.
const COPIES_MAX: usize = 16;
/// Number of bytes that may be repeated around the items of a body in any case.
const COPIED_ALWAYS: usize = 1 << 20;
/// The member that holds the contact of an item, up to where that begins.
const CONTACTS: &str = "\"contacts\":[";
/// Bytes that the members around an item have, as a first guess.
const MEMBERS_BYTES: usize = 160;
/// Maximum size of a member that stands around an item in any case, in bytes.
const IDENTITY_BYTES_MAX: usize = 64;

/// The bytes that may still be repeated around the items of a delivery, so that few large members around many small items
/// do not take memory without bound. Every member is kept at least once.
#[derive(Debug)]
pub(super) struct Copies(Cell<usize>);

/// The members of an object that stand beside what leads to the item.
#[derive(Debug)]
pub(super) struct Opening<'f, 'a> {
    object: &'f Object<'a>,
    text: String,
    identity: &'static [&'static str],
    is_kept: Cell<bool>,
}

/// One object on the way to an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'f, 'a> {
    /// The object around it.
    outer: Option<&'f Frame<'f, 'a>>,
    /// Its members but for the way.
    opening: &'f Opening<'f, 'a>,
    /// The member on the way, up to where the next object begins.
    way: &'static str,
    /// The end of that member and of the object.
    closing: &'static str,
    /// Contacts are members of this object.
    has_contacts: bool,
}

impl Copies {
    /// The limit for a body of so many bytes.
    pub(super) fn of(body_bytes: usize) -> Self {
        Self(Cell::new(body_bytes.saturating_mul(COPIES_MAX).max(COPIED_ALWAYS)))
    }

    /// Whether so many bytes may be written: the first time in any case.
    fn allow(&self, bytes: usize, is_kept: &Cell<bool>) -> bool {
        if !is_kept.replace(true) {
            return true;
        }
        let left = self.0.get().checked_sub(bytes);
        left.map(|left| self.0.set(left)).is_some()
    }
}

impl<'f, 'a> Opening<'f, 'a> {
    /// The members of an object but those that `is_left_out` names. Of a flood of copies only those of `identity` stay, if
    /// they are short.
    pub(super) fn new(
        object: &'f Object<'a>,
        is_left_out: impl Fn(&str) -> bool,
        identity: &'static [&'static str],
    ) -> Self {
        let mut text = String::with_capacity(MEMBERS_BYTES);
        text.push('{');
        for member in object.members() {
            if !member.key.string().is_some_and(|key| is_left_out(&key)) {
                push(&mut text, member.key, member.value);
            }
        }
        Self { object, text, identity, is_kept: Cell::new(false) }
    }

    fn text(&self, copies: &Copies) -> Cow<'_, str> {
        if copies.allow(self.text.len(), &self.is_kept) {
            return Cow::Borrowed(&self.text);
        }
        let mut text = String::from("{");
        let is_identity = |key: Json<'_>| key.string().is_some_and(|key| self.identity.contains(&&*key));
        for member in self.object.members() {
            if member.value.raw().len() <= IDENTITY_BYTES_MAX && is_identity(member.key) {
                push(&mut text, member.key, member.value);
            }
        }
        Cow::Owned(text)
    }
}

impl<'f, 'a> Frame<'f, 'a> {
    /// The outermost object.
    pub(super) fn new(opening: &'f Opening<'f, 'a>, way: &'static str, closing: &'static str) -> Self {
        Self { outer: None, opening, way, closing, has_contacts: false }
    }

    /// An object inside this one.
    pub(super) fn inside(
        &'f self,
        opening: &'f Opening<'f, 'a>,
        way: &'static str,
        closing: &'static str,
    ) -> Self {
        Self { outer: Some(self), ..Self::new(opening, way, closing) }
    }

    /// The same, with the contact of the item.
    pub(super) fn with_contacts(self) -> Self {
        Self { has_contacts: true, ..self }
    }

    /// The same, where something else stands in the place of an array.
    pub(super) fn of_no_array(self) -> Self {
        let way = self.way.strip_suffix('[').unwrap_or(self.way);
        let closing = self.closing.strip_prefix(']').unwrap_or(self.closing);
        Self { way, closing, ..self }
    }

    /// The envelope with this one item, and of the contacts the one that it belongs to.
    pub(super) fn around(&self, item: Json<'_>, contact: Option<&Contact<'_>>, copies: &Copies) -> Data {
        let contact = contact.filter(|contact| copies.allow(contact.json.raw().len(), &contact.is_kept));
        let contact = contact.map_or("", |contact| contact.json.raw());
        let contacts = if contact.is_empty() { 0 } else { CONTACTS.len() + contact.len() + "],".len() };
        let mut json = String::with_capacity(self.length() + contacts + item.raw().len());
        self.open(contact, copies, &mut json);
        json.push_str(item.raw());
        self.close(&mut json);
        Data::from_json(json)
    }

    fn length(&self) -> usize {
        let own = self.opening.text.len() + self.way.len() + self.closing.len();
        own + self.outer.map_or(0, Frame::length)
    }

    fn open(&self, contact: &str, copies: &Copies, json: &mut String) {
        if let Some(outer) = self.outer {
            outer.open(contact, copies, json);
        }
        json.push_str(&self.opening.text(copies));
        if self.has_contacts && !contact.is_empty() {
            json.push_str(CONTACTS);
            json.push_str(contact);
            json.push_str("],");
        }
        json.push_str(self.way);
    }

    fn close(&self, json: &mut String) {
        json.push_str(self.closing);
        if let Some(outer) = self.outer {
            outer.close(json);
        }
    }
}

/// Appends a member, and the comma before the next one, which always comes.
fn push(text: &mut String, key: Json<'_>, value: Json<'_>) {
    text.push_str(key.raw());
    text.push(':');
    text.push_str(value.raw());
    text.push(',');
}
