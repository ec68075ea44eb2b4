//! The contacts of a value, and the person that an item is from or to.

use std::cell::Cell;
use std::collections::HashMap;

use super::json::{Json, Object};
use crate::message::{Name, PHONE_DIGITS_MAX};

/// Number of contacts up to which they are looked through one by one.
const FEW_CONTACTS: usize = 8;

/// A person that the items of a value are from or to.
#[derive(Debug)]
pub(super) struct Contact<'a> {
    number: Option<Name>,
    user_id: Option<Name>,
    /// As it was sent.
    pub(super) json: Json<'a>,
    /// It stands in the data of an event already.
    pub(super) is_kept: Cell<bool>,
}

/// All contacts of a value.
#[derive(Debug, Default)]
pub(super) struct Contacts<'a> {
    list: Vec<Contact<'a>>,
    /// Places in the list, if it is long.
    by_number: HashMap<Name, usize>,
    by_user_id: HashMap<Name, usize>,
}

/// Somebody outside: who they are for the provider.
#[derive(Debug, Default)]
pub(super) struct Person<'c, 'a> {
    /// The phone number, or else the provider's id.
    pub(super) name: Option<Name>,
    /// The provider's id.
    pub(super) user_id: Option<Name>,
    /// Their contact.
    pub(super) contact: Option<&'c Contact<'a>>,
}

impl<'a> Contacts<'a> {
    /// The contacts of a value. What is no contact is passed over.
    pub(super) fn of(value: &Object<'a>) -> Self {
        let listed = value.get("contacts").and_then(|contacts| contacts.elements().ok());
        let list: Vec<_> = listed.into_iter().flatten().map(Contact::of).collect();
        let (mut by_number, mut by_user_id) = (HashMap::new(), HashMap::new());
        if list.len() > FEW_CONTACTS {
            for (place, contact) in list.iter().enumerate() {
                let Contact { number, user_id, .. } = contact;
                for (places, name) in [(&mut by_number, number), (&mut by_user_id, user_id)] {
                    name.as_ref().map(|name| places.entry(name.clone()).or_insert(place));
                }
            }
        }
        Self { list, by_number, by_user_id }
    }

    /// The person of a number and an id, either of which may be absent. A contact belongs to them by the id or the number, never
    /// by its place; the only contact belongs to an item that names nobody.
    pub(super) fn person(&self, number: Option<Name>, user_id: Option<Name>) -> Person<'_, 'a> {
        let by_user_id =
            user_id.as_ref().and_then(|id| self.find(&self.by_user_id, id, Contact::has_user_id));
        let by_number = || number.as_ref().and_then(|n| self.find(&self.by_number, n, Contact::has_number));
        let only = || match self.list.as_slice() {
            [contact] if number.is_none() && user_id.is_none() || contact.is_nobody() => Some(contact),
            _ => None,
        };
        let contact = by_user_id.or_else(by_number).or_else(only);
        let user_id = user_id.or_else(|| contact?.user_id.clone());
        let name = number.or_else(|| contact?.number.clone()).or_else(|| user_id.clone());
        Person { name, user_id, contact }
    }

    fn find(
        &self,
        places: &HashMap<Name, usize>,
        name: &Name,
        is_theirs: fn(&Contact<'a>, &Name) -> bool,
    ) -> Option<&Contact<'a>> {
        if self.list.len() > FEW_CONTACTS {
            return self.list.get(*places.get(name)?);
        }
        self.list.iter().find(|contact| is_theirs(contact, name))
    }
}

impl<'a> Contact<'a> {
    fn of(json: Json<'a>) -> Self {
        let object = json.object().ok();
        let number = object.as_ref().and_then(|object| party(object, "wa_id"));
        let user_id = object.as_ref().and_then(|object| name(object, "user_id"));
        Self { number, user_id, json, is_kept: Cell::new(false) }
    }

    fn is_nobody(&self) -> bool {
        self.number.is_none() && self.user_id.is_none()
    }

    fn has_number(&self, number: &Name) -> bool {
        self.number.as_ref() == Some(number)
    }

    fn has_user_id(&self, user_id: &Name) -> bool {
        self.user_id.as_ref() == Some(user_id)
    }
}

/// The name under a key.
pub(super) fn name(object: &Object<'_>, key: &str) -> Option<Name> {
    Name::lossy(&object.word(key)?)
}

/// The person or number under a key.
pub(super) fn party(object: &Object<'_>, key: &str) -> Option<Name> {
    numbered(&object.word(key)?)
}

/// A phone number of digits alone gets its plus; whatever is no phone number stays as it is.
pub(super) fn numbered(text: &str) -> Option<Name> {
    let is_number = text.len() <= PHONE_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Name::phone_number(&["+", text].concat()).ok() } else { Name::lossy(text) }
}

/// The number of a business as it is shown: spaces, hyphens, dots and brackets are no part of it.
pub(super) fn shown_number(text: &str) -> Option<Name> {
    let digits = text.trim_start_matches('+').replace([' ', '-', '.', '(', ')', '\u{a0}'], "");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    numbered(if is_number { &digits } else { text })
}
