//! The value of a change: its arrays of items, or itself as the one item.

use super::change::Change;
use super::contacts::Contacts;
use super::envelope::Opening;
use super::item::{self, Facts};
use super::json::{Json, Object};
use super::{Delivery, Flaw, Place, TooMany};

/// The end of an array and of the object that it is a member of.
const END_OF_ARRAY: &str = "]}";

/// An array of items, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Array {
    Messages,
    Statuses,
    Echoes,
    Calls,
    History,
    /// Items without ids; the rest of their type stands in this member.
    Notices(Option<&'static str>),
    Errors,
}

/// The fields in which arrays of items mean what their names say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Calls,
    History,
    /// Any other field whose items have ids.
    Known,
    /// A field that is not known, whose items may mean anything.
    Unknown,
}

/// The fields, the array that each array of a value is, and its name up to its first element.
const ARRAYS: [(&str, Array, &str); 9] = [
    ("messages", Array::Messages, "\"messages\":["),
    ("statuses", Array::Statuses, "\"statuses\":["),
    ("message_echoes", Array::Echoes, "\"message_echoes\":["),
    ("calls", Array::Calls, "\"calls\":["),
    ("history", Array::History, "\"history\":["),
    ("state_sync", Array::Notices(Some("action")), "\"state_sync\":["),
    ("user_preferences", Array::Notices(Some("value")), "\"user_preferences\":["),
    ("groups", Array::Notices(None), "\"groups\":["),
    ("errors", Array::Errors, "\"errors\":["),
];

impl Field {
    fn of(field: Option<&str>) -> Self {
        match field {
            Some("calls") => Self::Calls,
            Some("history") => Self::History,
            None | Some("messages" | "message_echoes" | "smb_message_echoes") => Self::Known,
            Some(_) => Self::Unknown,
        }
    }
}

/// The array of a name in a value, and its name as it begins in JSON.
fn array(name: &str, field: Field, value: &Object<'_>) -> Option<(Array, &'static str)> {
    let (_, array, way) = ARRAYS.iter().find(|(known, ..)| *known == name)?;
    match array {
        // What a field of tomorrow says about an id is no second copy of the message of that id.
        Array::Messages | Array::Statuses | Array::Echoes | Array::Calls | Array::History
            if field == Field::Unknown =>
        {
            Some((Array::Notices(None), way))
        }
        // Part of a notice about an account, which has no metadata of a phone number.
        Array::Errors if field == Field::Unknown && value.get("metadata").is_none() => None,
        array => Some((*array, way)),
    }
}

impl Delivery<'_> {
    /// Every item of the value of a change; the value itself if it has none. `around` is the change.
    pub(super) fn value<'a>(
        &mut self,
        field: Option<&str>,
        json: Json<'a>,
        change: Change<'_>,
        around: Place<'_, 'a>,
    ) -> Result<(), TooMany> {
        let value = match json.object() {
            Ok(value) => value,
            Err(flaw) => return self.add(&change, around, json, Err(flaw)),
        };
        let change = &change.of_value(&value);
        let (field, before) = (Field::of(field), self.count());
        let contacts = Contacts::of(&value);
        let is_left_out = |name: &str| name == "contacts" || array(name, field, &value).is_some();
        let opening = Opening::new(&value, is_left_out, &[]);
        for member in value.members() {
            let name = member.key.string().unwrap_or_default();
            let Some((array, way)) = array(&name, field, &value) else { continue };
            if member.value.raw() == "null" {
                continue;
            }
            let frame = around.frame.inside(&opening, way, END_OF_ARRAY).with_contacts();
            let place = Place { frame: &frame, of_errors: array == Array::Errors };
            self.array(array, field, member.value, change, &contacts, place)?;
        }
        if self.count() > before {
            return Ok(());
        }
        let facts = item::notice(Some("event"), &value, json, change, &contacts);
        self.add(change, around, json, facts)
    }

    fn array<'a>(
        &mut self,
        array: Array,
        field: Field,
        list: Json<'a>,
        change: &Change<'_>,
        contacts: &Contacts<'a>,
        place: Place<'_, 'a>,
    ) -> Result<(), TooMany> {
        let is_of_call =
            |item: &Object<'_>| field == Field::Calls || item.string("type").as_deref() == Some("call");
        match array {
            Array::History => self.history(list, change, contacts, place),
            Array::Messages if field == Field::History => self.each(list, change, place, |item, _| {
                item::history("history-media/", None, item, change, contacts)
            }),
            Array::Messages => {
                self.each(list, change, place, |item, _| item::message(item, change, contacts))
            }
            Array::Statuses => {
                self.each(list, change, place, |item, _| item::status(is_of_call(item), item, contacts))
            }
            Array::Echoes => self.each(list, change, place, |item, _| item::echo(item, change, contacts)),
            Array::Calls => self.each(list, change, place, |item, _| item::call(item, change, contacts)),
            Array::Notices(inner) => {
                self.each(list, change, place, |item, json| item::notice(inner, item, json, change, contacts))
            }
            Array::Errors => self.each(list, change, place, |item, json| Ok(item::error(item, json, change))),
        }
    }

    /// Every element of an array.
    fn each<'c, 'a: 'c>(
        &mut self,
        list: Json<'a>,
        change: &Change<'_>,
        place: Place<'_, 'a>,
        facts: impl Fn(&Object<'a>, Json<'a>) -> Result<Facts<'c, 'a>, Flaw>,
    ) -> Result<(), TooMany> {
        let elements = match list.elements() {
            Ok(elements) => elements,
            Err(flaw) => {
                let frame = place.frame.of_no_array();
                return self.add(change, Place { frame: &frame, ..place }, list, Err(flaw));
            }
        };
        for json in elements {
            let facts = json.object().and_then(|item| facts(&item, json));
            self.add(change, place, json, facts)?;
        }
        Ok(())
    }

    /// Every message and error in the chunks of a history.
    fn history<'a>(
        &mut self,
        list: Json<'a>,
        change: &Change<'_>,
        contacts: &Contacts<'a>,
        place: Place<'_, 'a>,
    ) -> Result<(), TooMany> {
        let Ok(chunks) = list.elements() else {
            return self.each(list, change, place, |_, _| Err(Flaw::NotAnArray));
        };
        for json in chunks {
            let chunk = match json.object() {
                Ok(chunk) => chunk,
                Err(flaw) => {
                    self.add(change, place, json, Err(flaw))?;
                    continue;
                }
            };
            let before = self.count();
            let opening = Opening::new(&chunk, |name| name == "threads" || name == "errors", &[]);
            if let Some(errors) = chunk.get("errors") {
                let frame = place.frame.inside(&opening, "\"errors\":[", END_OF_ARRAY);
                self.array(
                    Array::Errors,
                    Field::History,
                    errors,
                    change,
                    contacts,
                    Place { frame: &frame, of_errors: true },
                )?;
            }
            if let Some(threads) = chunk.get("threads") {
                let frame = place.frame.inside(&opening, "\"threads\":[", END_OF_ARRAY);
                self.threads(threads, change, contacts, Place { frame: &frame, of_errors: false })?;
            }
            if self.count() == before {
                let facts = item::notice(None, &chunk, json, change, contacts);
                self.add(change, place, json, facts)?;
            }
        }
        Ok(())
    }

    /// Every message in the conversations of a chunk; the conversation itself if it has none.
    fn threads<'a>(
        &mut self,
        list: Json<'a>,
        change: &Change<'_>,
        contacts: &Contacts<'a>,
        place: Place<'_, 'a>,
    ) -> Result<(), TooMany> {
        let Ok(threads) = list.elements() else {
            return self.each(list, change, place, |_, _| Err(Flaw::NotAnArray));
        };
        for json in threads {
            let before = self.count();
            let thread = match json.object() {
                Ok(thread) => thread,
                Err(flaw) => {
                    self.add(change, place, json, Err(flaw))?;
                    continue;
                }
            };
            let name = item::thread_name(&thread);
            if let Some(messages) = thread.get("messages") {
                let opening = Opening::new(&thread, |name| name == "messages", &["id"]);
                let frame = place.frame.inside(&opening, "\"messages\":[", END_OF_ARRAY);
                self.each(messages, change, Place { frame: &frame, of_errors: false }, |item, _| {
                    item::history("history/", name.as_ref(), item, change, contacts)
                })?;
            }
            if self.count() == before {
                let facts = item::notice(None, &thread, json, change, contacts);
                self.add(change, place, json, facts.map(|facts| Facts { thread: name, ..facts }))?;
            }
        }
        Ok(())
    }
}
