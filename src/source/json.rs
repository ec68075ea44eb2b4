//! JSON as it was sent: values are found without changing a byte of them.
//!
//! Unlike a parsed tree this takes every number and every string that JSON (RFC 8259) allows, lone surrogates too, and needs
//! no memory for what nobody looks at.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON value as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Json<'a>(&'a str);

/// Why a body or a part of it has no single meaning; the `type` of what becomes `malformed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not UTF-8.
    NotUtf8,
    /// It is not JSON.
    NotJson,
    /// Something else stands where an object is due.
    NotAnObject,
    /// A member that is looked for stands twice.
    RepeatedMember,
    /// It has no identifier.
    NoId,
}

impl Unreadable {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::RepeatedMember => "repeated_member",
            Self::NoId => "no_id",
        }
    }
}

impl<'a> Json<'a> {
    /// Checks that a body is one JSON value.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(body).map_err(|_| Unreadable::NotUtf8)?;
        Self::of(text)
    }

    /// Checks that a text is one JSON value.
    pub(crate) fn of(text: &'a str) -> Result<Self, Unreadable> {
        let value: &RawValue = serde_json::from_str(text).map_err(|_| Unreadable::NotJson)?;
        Ok(Self(value.get()))
    }

    /// The value as it was sent.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it is an object.
    pub(crate) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    /// The members of an object that have these names. A null is no member.
    pub(crate) fn members<const N: usize>(self, names: [&str; N]) -> Result<[Option<Self>; N], Unreadable> {
        if !self.is_object() {
            return Err(Unreadable::NotAnObject);
        }
        let mut found = Members { names, values: [None; N], is_repeated: false };
        let mut reader = serde_json::Deserializer::from_str(self.0);
        // The text was checked before.
        DeserializeSeed::deserialize(&mut found, &mut reader).map_err(|_| Unreadable::NotJson)?;
        if found.is_repeated {
            return Err(Unreadable::RepeatedMember);
        }
        Ok(found.values.map(|value| value.filter(|value| value.0 != "null")))
    }

    /// The member of an object that has this name; `None` also where this is no object.
    pub(crate) fn member(self, name: &str) -> Result<Option<Self>, Unreadable> {
        if !self.is_object() {
            return Ok(None);
        }
        self.members([name]).map(|[value]| value)
    }

    /// The item of an array; `None` also where this is no array.
    pub(crate) fn item(self, nth: usize) -> Option<Self> {
        let mut reader = serde_json::Deserializer::from_str(self.0);
        self.0.starts_with('[').then(|| reader.deserialize_seq(Nth(nth)).ok().flatten()).flatten()
    }

    /// The characters of a string; `None` for another value. A lone surrogate is U+FFFD.
    pub(crate) fn string(self) -> Option<String> {
        let mut reader = serde_json::Deserializer::from_str(self.0);
        let text = self.0.starts_with('"').then(|| reader.deserialize_bytes(Characters).ok());
        text.flatten().map(Cow::into_owned)
    }

    /// A string, or a number as it is written; `None` for another value.
    pub(crate) fn word(self) -> Option<String> {
        let is_number = self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        if is_number { Some(self.0.to_owned()) } else { self.string() }
    }
}

/// Finds members of an object.
struct Members<'n, 'a, const N: usize> {
    names: [&'n str; N],
    values: [Option<Json<'a>>; N],
    is_repeated: bool,
}

impl<'a, const N: usize> DeserializeSeed<'a> for &mut Members<'_, 'a, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for &mut Members<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            let slot = self.names.iter().zip(&mut self.values).find(|(name, _)| **name == key);
            let Some((_, slot)) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &'a RawValue = map.next_value()?;
            self.is_repeated |= slot.replace(Json(value.get())).is_some();
        }
        Ok(())
    }
}

/// Finds an item of an array.
struct Nth(usize);

impl<'a> Visitor<'a> for Nth {
    type Value = Option<Json<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (mut nth, mut found) = (0, None);
        while let Some(item) = items.next_element::<&'a RawValue>()? {
            if nth == self.0 {
                found = Some(Json(item.get()));
            }
            nth += 1;
        }
        Ok(found)
    }
}

/// Reads a key.
struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(Characters)
    }
}

/// Reads the characters of a string from the bytes that `serde_json` gives, in which a lone surrogate stands as UTF-8 would
/// write it if it could.
struct Characters;

impl<'a> Visitor<'a> for Characters {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'a [u8]) -> Result<Self::Value, E> {
        Ok(std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(mended(bytes)), Cow::Borrowed))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        Ok(Cow::Owned(text.unwrap_or_else(|_| mended(bytes))))
    }
}

/// The text with U+FFFD for each lone surrogate, which has the three bytes ED A0..BF 80..BF.
fn mended(bytes: &[u8]) -> String {
    let mut mended = bytes.to_vec();
    let mut at = 0;
    while let Some(place) = mended.get_mut(at..at + 3) {
        if matches!(place, [0xed, 0xa0..=0xbf, _]) {
            place.copy_from_slice("\u{fffd}".as_bytes());
        }
        at += 1;
    }
    String::from_utf8_lossy(&mended).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_found_as_they_were_sent() {
        let json =
            Json::parse(b" {\"a\" : 1e400 ,\"\\u0062\": [1, {\"x\":\"\\/\"} ],\"c\":null,\"d\":\"\"} \n")
                .unwrap();
        let [a, b, null, empty, absent] = json.members(["a", "b", "c", "d", "e"]).unwrap();
        assert_eq!(a.map(Json::as_str), Some("1e400"));
        assert_eq!(b.map(Json::as_str), Some("[1, {\"x\":\"\\/\"} ]"));
        assert_eq!((null, empty.and_then(Json::string), absent), (None, Some(String::new()), None));
        assert_eq!(b.and_then(|b| b.item(1)).map(Json::as_str), Some("{\"x\":\"\\/\"}"));
        assert_eq!(b.and_then(|b| b.item(2)), None);
        assert_eq!(
            (a.unwrap().word().as_deref(), b.unwrap().word(), a.unwrap().string()),
            (Some("1e400"), None, None)
        );
        assert_eq!(a.unwrap().member("x"), Ok(None));
    }

    #[test]
    fn what_has_no_single_meaning_is_named() {
        for (body, expected) in [
            (&b"\xff"[..], Unreadable::NotUtf8),
            (b"", Unreadable::NotJson),
            (b"{} x", Unreadable::NotJson),
            (b"\xef\xbb\xbf{}", Unreadable::NotJson),
            (b"[]", Unreadable::NotAnObject),
            (b"{\"a\":1,\"\\u0061\":null}", Unreadable::RepeatedMember),
        ] {
            let found = Json::parse(body).and_then(|json| json.members(["a"]).map(|_| ()));
            assert_eq!(found, Err(expected), "{}", String::from_utf8_lossy(body));
        }
        // Of what nobody looks at any number may stand there.
        let json = Json::of(r#"{"x":1,"x":2,"a":3}"#).unwrap();
        assert_eq!(json.member("a").unwrap().map(Json::as_str), Some("3"));
    }

    #[test]
    fn strings_are_read_with_lone_surrogates_mended() {
        for (text, expected) in [
            (r#""a\u00e9\ud83d\udc4b\/""#, "aé👋/"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\udc4bx\ud83d\u0041\ud83d\ud83d\udc4b""#, "\u{fffd}x\u{fffd}A\u{fffd}👋"),
            (r#""퟿\ud800é""#, "\u{d7ff}\u{fffd}é"),
        ] {
            assert_eq!(Json::of(text).unwrap().string().as_deref(), Some(expected), "{text}");
        }
        let json = Json::of(r#"{"\ud83d":1}"#).unwrap();
        assert!(json.member("\u{fffd}").unwrap().is_some());
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(Json::of(&deep).unwrap().member("b"), Ok(None));
        assert!(Json::of(&deep).unwrap().member("a").unwrap().unwrap().item(0).is_some());
    }

    proptest! {
        #[test]
        fn strings_are_read_as_they_were_written(text in "\\PC{0,30}") {
            let json = serde_json::Value::from(text.as_str()).to_string();
            prop_assert_eq!(Json::of(&json).unwrap().string(), Some(text));
        }

        #[test]
        fn garbage_never_panics(text in "[\\[\\]{}\",:\\\\u0-9d8a-f. ]{0,40}") {
            if let Ok(json) = Json::of(&text) {
                drop((json.members(["a", ""]), json.item(0), json.word()));
            }
        }
    }
}
