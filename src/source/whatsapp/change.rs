//! What is the same for all items of a change: whose they are, and what their keys and types begin with.

use std::borrow::Cow;

use super::contacts::{name, shown_number};
use super::hash::{Before, Prefix};
use super::item::seconds;
use super::json::{Json, Object};
use crate::message::{Name, Timestamp};

/// What an entry says about all its changes.
#[derive(Debug, Default)]
pub(super) struct Entry<'a> {
    /// The object that the delivery is about, if it is no WhatsApp account.
    product: Option<&'a str>,
    id: Cow<'a, str>,
    /// Its time as it was written.
    time: Option<Cow<'a, str>>,
}

/// One change of an entry, or an entry that has none.
#[derive(Debug)]
pub(super) struct Change<'a> {
    before: Before<'a>,
    /// The field, short enough for a key.
    field: String,
    product: Option<&'a str>,
    /// The time of the entry.
    pub(super) time: Option<Timestamp>,
    /// The account that the items are for: the phone number's id, or the entry's.
    pub(super) account: Option<Name>,
    /// The number of the account.
    pub(super) own_number: Option<Name>,
}

impl<'a> Entry<'a> {
    /// An entry of a delivery about such a product.
    pub(super) fn of(entry: &Object<'a>, product: Option<&'a str>) -> Self {
        let as_written = |time: Json<'a>| time.string().unwrap_or(Cow::Borrowed(time.raw()));
        Self { product, id: entry.word("id").unwrap_or_default(), time: entry.get("time").map(as_written) }
    }

    /// A change of this entry.
    pub(super) fn change<'b>(&'b self, field: &'b str, received_at: Timestamp) -> Change<'b> {
        let time = self.time.as_deref();
        Change {
            before: Before::new(&self.id, time, field, received_at),
            field: Name::lossy(field).map_or(String::new(), |field| field.as_str().to_owned()),
            product: self.product,
            time: time.and_then(seconds),
            account: Name::lossy(&self.id),
            own_number: None,
        }
    }
}

impl Change<'_> {
    /// With the account that the metadata of its value name.
    pub(super) fn of_value(self, value: &Object<'_>) -> Self {
        let Ok(Some(metadata)) = value.object("metadata") else { return self };
        let account = name(&metadata, "phone_number_id").or(self.account);
        let own_number = metadata.word("display_phone_number").and_then(|number| shown_number(&number));
        Self { account, own_number, ..self }
    }

    /// The key of an item that has no id.
    pub(super) fn key(&self, prefix: Prefix, item: Json<'_>) -> String {
        let errors = if prefix.of_errors { ".errors" } else { "" };
        format!("{}{errors}/#{}", self.field, self.before.hash(prefix, item))
    }

    /// The key of an item that cannot be understood.
    pub(super) fn malformed_key(&self, of_errors: bool, item: Json<'_>) -> String {
        format!("malformed/#{}", self.before.hash(Prefix { holds_day: false, of_errors }, item))
    }

    /// The type of an item that has none of its own: product, field and the rest, with dots between.
    pub(super) fn word(&self, inner: Option<&str>) -> String {
        let words = [self.product, Some(self.field.as_str()), inner];
        words.into_iter().flatten().collect::<Vec<_>>().join(".")
    }
}
