//! What a message says: its type, what a person typed or chose in it, and what it is about.

use std::borrow::Cow;

use super::Flaw;
use super::contacts::name;
use super::json::Object;
use crate::message::Name;

/// The type of a message that names none.
pub(super) const UNKNOWN: &str = "unknown";

/// What a message says.
#[derive(Debug)]
pub(super) struct Content<'a> {
    /// The type, and the one inside it after a dot.
    pub(super) r#type: Cow<'a, str>,
    /// What a person typed or chose.
    pub(super) text: Option<Cow<'a, str>>,
    /// The message that it answers, changes or takes back.
    pub(super) r#ref: Option<Name>,
    /// For a notice of a new id: that id.
    pub(super) user_id: Option<Name>,
}

impl<'a> Content<'a> {
    /// The content of an item of `messages` or `message_echoes`.
    ///
    /// # Errors
    /// An object of it has a member twice.
    pub(super) fn of(item: &Object<'a>) -> Result<Self, Flaw> {
        let word = item.string("type").unwrap_or(Cow::Borrowed(UNKNOWN));
        let context = item.object("context")?;
        let answered = context.and_then(|context| name(&context, "id"));
        let plain = |r#type, text| Self { r#type, text, r#ref: answered.clone(), user_id: None };
        let Some(part) = item.object(&word)? else { return Ok(plain(word, typed(item)?)) };
        Ok(match &*word {
            "reaction" => {
                let emoji = part.string("emoji");
                let r#type = if emoji.is_some() { word } else { Cow::Borrowed("reaction.removed") };
                Self { r#ref: name(&part, "message_id"), ..plain(r#type, emoji) }
            }
            "edit" => Self { r#ref: name(&part, "original_message_id"), ..plain(word, edited(&part)?) },
            "revoke" => Self { r#ref: name(&part, "original_message_id"), ..plain(word, None) },
            "system" => {
                let user_id = name(&part, "user_id");
                Self { user_id, ..plain(with_inner(word, &part), part.string("body")) }
            }
            "interactive" => {
                let chosen = chosen(&part)?;
                plain(with_inner(word, &part), chosen)
            }
            _ => {
                let text = match said(&word, &part) {
                    None if word != "text" => typed(item)?,
                    said => said,
                };
                plain(word, text)
            }
        })
    }
}

/// The text of a message of a plain type: `part` is the object of that type.
fn said<'a>(word: &str, part: &Object<'a>) -> Option<Cow<'a, str>> {
    match word {
        "text" => part.string("body"),
        "button" | "order" => part.string("text"),
        _ => part.string("caption"),
    }
}

/// What is typed beside an object of another type.
fn typed<'a>(item: &Object<'a>) -> Result<Option<Cow<'a, str>>, Flaw> {
    Ok(item.object("text")?.and_then(|text| text.string("body")))
}

/// The new text of a message that was changed.
fn edited<'a>(edit: &Object<'a>) -> Result<Option<Cow<'a, str>>, Flaw> {
    let Some(message) = edit.object("message")? else { return Ok(None) };
    let word = message.string("type").unwrap_or_default();
    match message.object(&word)? {
        Some(part) => Ok(said(&word, &part)),
        None => typed(&message),
    }
}

/// What was chosen in an interactive message, or the body of a flow's answer.
fn chosen<'a>(interactive: &Object<'a>) -> Result<Option<Cow<'a, str>>, Flaw> {
    let Some(word) = interactive.string("type") else { return Ok(None) };
    let part = interactive.object(&word)?;
    Ok(part.and_then(|part| part.string("title").or_else(|| part.string("body"))))
}

/// A type with the one inside it.
fn with_inner<'a>(word: Cow<'a, str>, part: &Object<'a>) -> Cow<'a, str> {
    match part.string("type") {
        Some(inner) => Cow::Owned(format!("{word}.{inner}")),
        None => word,
    }
}
