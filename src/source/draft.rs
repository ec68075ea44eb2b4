//! Making events: what all providers' events have in common.

use sha2::{Digest, Sha256};

use super::json::{Json, Unreadable};
use crate::event::{Data, Event, Kind, Source};
use crate::message::{Name, Timestamp};

/// An event of a source, before it is known what it says.
pub(crate) fn event(source: &Source, kind: Kind, key: &str, received_at: Timestamp, data: Data) -> Event {
    let key = Name::lossy(key).unwrap_or_else(|| nameless(data.as_str().as_bytes()));
    let bare = Event::bare(source.clone(), key, kind);
    Event { received_at: Some(received_at), data: Some(data), ..bare }
}

/// A key for what has an empty one, so that it is stored all the same.
fn nameless(bytes: &[u8]) -> Name {
    // A text of hexadecimal digits is a name.
    Name::lossy(&body_key(bytes)).unwrap_or_else(Name::text)
}

/// An event that stands for a whole delivery that cannot be understood.
pub(crate) fn malformed(
    source: &Source,
    why: Unreadable,
    body: &[u8],
    received_at: Timestamp,
    data: Data,
) -> Event {
    let key = format!("malformed/#{}", hash(body));
    let mut event = event(source, Kind::Malformed, &key, received_at, data);
    event.r#type = Name::lossy(why.as_str());
    event
}

/// The key of a request without the id that its scheme promises.
pub(crate) fn body_key(body: &[u8]) -> String {
    format!("body/#{}", hash(body))
}

/// The first 32 hexadecimal digits of the SHA-256 of some bytes.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    base16ct::lower::encode_string(digest.get(..16).unwrap_or_default())
}

/// The event with what follows from the rest: a message has a time, that of its receipt if the provider gave it none.
pub(crate) fn finished(mut event: Event) -> Event {
    if event.kind == Kind::Message {
        event.ts = event.ts.or(event.received_at);
    }
    event
}

/// The name that a string or a number stands for; `None` if there is none, or an empty one.
pub(crate) fn name(json: Option<Json<'_>>) -> Option<Name> {
    Name::lossy(&json?.word()?)
}

/// The text that a string stands for; `None` if there is none, or an empty one.
pub(crate) fn text(json: Option<Json<'_>>) -> Option<Box<str>> {
    written(&json?.string()?)
}

/// What a person wrote: `None` if that is nothing; a NUL, which no store takes, becomes U+FFFD.
pub(crate) fn written(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.replace('\0', "\u{fffd}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_are_what_was_sent() {
        let json = |text| Some(Json::of(text).unwrap());
        let found = |text| name(json(text)).map(|name| name.as_str().to_owned());
        assert_eq!(found("\"a\""), Some("a".to_owned()));
        assert_eq!(found("12345678901234567890123"), Some("12345678901234567890123".to_owned()));
        assert_eq!(found(r#""a\n\u0000\ud800b""#), Some("a\u{fffd}\u{fffd}\u{fffd}b".to_owned()));
        assert_eq!((found("\"\""), found("true"), found("{}"), name(None)), (None, None, None, None));
        assert_eq!(text(json(r#""a\u0000\n""#)).as_deref(), Some("a\u{fffd}\n"));
        assert_eq!((text(json("\"\"")), text(json("1")), text(None)), (None, None, None));
    }

    #[test]
    fn an_event_without_a_key_has_one_all_the_same() {
        let data = Data::from_json("{}");
        let made = event(&Source::WEBHOOK, Kind::Event, "", Timestamp::EPOCH, data);
        assert_eq!(made.key.as_str(), format!("body/#{}", hash(b"{}")));
    }
}
