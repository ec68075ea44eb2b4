//! JSON as it was sent: values whose bytes stay as they are, and of which only what is asked for is read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use super::Flaw;
use super::scan::{self, Node};

/// A text that is one value.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    nodes: Vec<Node>,
}

/// One value, without white space around it.
#[derive(Clone, Copy)]
pub(super) struct Json<'a> {
    document: &'a Document<'a>,
    at: u32,
}

/// The members of an object in their order, no key twice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object<'a>(Json<'a>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// The key, a string of JSON.
    pub(super) key: Json<'a>,
    pub(super) value: Json<'a>,
}

impl<'t> Document<'t> {
    /// Reads a text that is one value.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        Some(Self { text, nodes: scan::nodes(text)? })
    }

    /// The value.
    pub(super) fn value(&self) -> Json<'_> {
        Json { document: self, at: 0 }
    }
}

impl<'a> Json<'a> {
    /// The bytes of the value.
    pub(super) fn raw(self) -> &'a str {
        let bytes = self
            .node()
            .and_then(|node| Some(usize::try_from(node.start).ok()?..usize::try_from(node.end).ok()?));
        bytes.and_then(|bytes| self.document.text.get(bytes)).unwrap_or_default()
    }

    /// The value as an object.
    pub(super) fn object(self) -> Result<Object<'a>, Flaw> {
        let object = Object(self);
        match self.raw().starts_with('{') {
            false => Err(Flaw::NotAnObject),
            true if object.repeats_a_key() => Err(Flaw::RepeatedMember),
            true => Ok(object),
        }
    }

    /// The elements of an array.
    pub(super) fn elements(self) -> Result<impl Iterator<Item = Self>, Flaw> {
        if self.raw().starts_with('[') { Ok(self.children()) } else { Err(Flaw::NotAnArray) }
    }

    /// The characters of a string; half of a surrogate pair becomes U+FFFD.
    pub(super) fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.raw().strip_prefix('"')?.strip_suffix('"')?;
        Some(if self.has_escapes() { Cow::Owned(unescaped(inner)) } else { Cow::Borrowed(inner) })
    }

    /// The characters of a string, or the digits of a whole number; `None` if there are none.
    pub(super) fn word(self) -> Option<Cow<'a, str>> {
        let raw = self.raw();
        let is_number = raw.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { Some(Cow::Borrowed(raw)) } else { self.string().filter(|text| !text.is_empty()) }
    }

    fn node(self) -> Option<Node> {
        self.document.nodes.get(usize::try_from(self.at).ok()?).copied()
    }

    fn has_escapes(self) -> bool {
        self.node().is_some_and(|node| node.has_escapes)
    }

    /// A bit for a key: two keys with different bits are different, if they are without escapes.
    fn mark(self) -> u64 {
        let raw = self.raw().as_bytes();
        let byte = |at: usize| raw.get(at).copied().map_or(0, usize::from);
        let sum = raw.len() * 7 + byte(1) * 3 + byte(raw.len() / 2) * 5 + byte(raw.len().saturating_sub(2));
        1 << (sum % 64)
    }

    /// The place after this value and all that it holds.
    fn next(self) -> u32 {
        self.node().map_or(u32::MAX, |node| node.next)
    }

    /// The elements of an array, or the keys and values of an object in turn.
    fn children(self) -> impl Iterator<Item = Self> {
        let end = self.next();
        let document = self.document;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let child = (at < end).then_some(Self { document, at })?;
            at = child.next();
            Some(child)
        })
    }
}

impl PartialEq for Json<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.raw())
    }
}

impl<'a> Object<'a> {
    /// The members in their order.
    pub(super) fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        let mut children = self.0.children();
        std::iter::from_fn(move || Some(Member { key: children.next()?, value: children.next()? }))
    }

    /// The value under a key, null included.
    pub(super) fn member(&self, key: &str) -> Option<Json<'a>> {
        self.members().find(|member| member.is_named(key)).map(|member| member.value)
    }

    /// The value under a key; `None` also for null.
    pub(super) fn get(&self, key: &str) -> Option<Json<'a>> {
        self.member(key).filter(|value| value.raw() != "null")
    }

    /// The object under a key; `None` if that is none.
    pub(super) fn object(&self, key: &str) -> Result<Option<Object<'a>>, Flaw> {
        match self.get(key).map(Json::object) {
            None | Some(Err(Flaw::NotAnObject)) => Ok(None),
            Some(object) => object.map(Some),
        }
    }

    /// The string under a key, if it has characters.
    pub(super) fn string(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key)?.string().filter(|text| !text.is_empty())
    }

    /// The string or whole number under a key, if it has characters.
    pub(super) fn word(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key)?.word()
    }

    fn repeats_a_key(&self) -> bool {
        let mut seen = 0_u64;
        let mut is_seen = |key: Json<'_>| {
            let mark = key.mark();
            let is_seen = seen & mark != 0 || key.has_escapes();
            seen |= mark;
            is_seen
        };
        self.members().any(|member| is_seen(member.key)) && self.has_the_same_key_twice()
    }

    fn has_the_same_key_twice(&self) -> bool {
        let mut seen = HashSet::new();
        self.members().any(|member| !seen.insert(member.key.string()))
    }
}

impl Member<'_> {
    pub(super) fn is_named(&self, name: &str) -> bool {
        // Without escapes, a key is as long as its name and its quotation marks.
        let is_candidate =
            |node: Node| node.has_escapes || usize::try_from(node.end - node.start) == Ok(name.len() + 2);
        self.key.node().is_some_and(is_candidate) && self.key.string().is_some_and(|key| key == name)
    }
}

/// The characters that a string with escapes stands for.
fn unescaped(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut characters = escape.chars();
        match characters.next() {
            Some('u') => {
                let (character, after) = unicode(escape);
                text.push(character);
                rest = after;
                continue;
            }
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some(itself) => text.push(itself),
            None => {}
        }
        rest = characters.as_str();
    }
    text.push_str(rest);
    text
}

/// The character of an escape that begins with `u`, or of two that are a surrogate pair, and what follows.
fn unicode(escape: &str) -> (char, &str) {
    let unit = |escape: &str| u16::from_str_radix(escape.get(1..5)?, 16).ok();
    let first = unit(escape).unwrap_or_default();
    let rest = escape.get(5..).unwrap_or_default();
    let second = rest.strip_prefix('\\').filter(|escape| escape.starts_with('u')).and_then(unit);
    match char::decode_utf16([first].into_iter().chain(second)).next() {
        Some(Ok(character)) if character.len_utf16() == 2 => (character, rest.get(6..).unwrap_or_default()),
        Some(Ok(character)) => (character, rest),
        _ => (char::REPLACEMENT_CHARACTER, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Option<String> {
        Document::parse(text).unwrap().value().string().map(Cow::into_owned)
    }

    #[test]
    fn a_string_is_read_and_half_a_pair_is_one_character() {
        for (json, expected) in [
            (r#""""#, ""),
            (r#""aé""#, "aé"),
            (r#""\"\\\/\b\f\n\r\t\u0000""#, "\"\\/\u{8}\u{c}\n\r\t\0"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""a\ud83d\ud83d\ude00é""#, "a\u{fffd}😀é"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            (r#""\ud83dA""#, "\u{fffd}A"),
        ] {
            assert_eq!(string(json).as_deref(), Some(expected), "{json}");
        }
        for json in ["1", "null", "[\"\"]", "{\"\":\"\"}", "true"] {
            assert_eq!(string(json), None, "{json}");
        }
    }

    #[test]
    fn members_keep_their_bytes_and_order_and_are_found_by_their_characters() {
        let document =
            Document::parse(" {\"b\\u0061\" : 1e400, \"x\":null,\n\"\\ud800\":[ 1 , 2 ]} ").unwrap();
        let object = document.value().object().unwrap();
        assert_eq!(object.get("ba").unwrap().raw(), "1e400");
        assert_eq!(object.get("x"), None);
        let last = object.members().last().unwrap();
        assert_eq!((last.key.raw(), last.value.raw()), (r#""\ud800""#, "[ 1 , 2 ]"));
        let elements = last.value.elements().unwrap();
        assert_eq!(elements.map(Json::raw).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_repeated_key_is_seen_in_small_objects_and_in_large_ones() {
        for count in [2, 3, 63, 64, 65, 1000] {
            let member = |n: usize| format!("\"k{n}\":0");
            let different: Vec<_> = (0..count).map(member).collect();
            let whole = format!("{{{}}}", different.join(","));
            assert!(Document::parse(&whole).unwrap().value().object().is_ok(), "{count}");
            // The same characters, written in another way.
            let repeating = whole.replace("\"k0\"", &format!("\"\\u006b{}\"", count - 1));
            let document = Document::parse(&repeating).unwrap();
            assert_eq!(document.value().object().unwrap_err(), Flaw::RepeatedMember, "{count}");
        }
    }

    #[test]
    fn a_word_is_a_string_or_a_whole_number() {
        let word = |text: &str| Document::parse(text).unwrap().value().word().map(Cow::into_owned);
        assert_eq!(word("12").as_deref(), Some("12"));
        assert_eq!(word("\"a\"").as_deref(), Some("a"));
        for none in ["\"\"", "1.5", "-1", "1e3", "true", "[1]"] {
            assert_eq!(word(none), None, "{none}");
        }
    }
}
