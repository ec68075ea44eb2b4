//! What can be wrong with a body.

use super::super::form::Form;
use super::super::json::Json;
use super::super::{Request, Settings};
use super::finding::BodyFlaw;
use super::{Change, Finding, What};

/// Other bodies that may have been signed.
pub(super) fn changes(_settings: &Settings, request: &Request<'_>) -> Vec<Change> {
    let body = request.body;
    let mut bodies = vec![
        ([body, b"\n"].concat(), BodyFlaw::LineEndCut),
        ([body, b"\r\n"].concat(), BodyFlaw::LineEndCut),
    ];
    for end in [&b"\n"[..], b"\r\n"] {
        bodies.extend(body.strip_suffix(end).map(|cut| (cut.to_vec(), BodyFlaw::LineEndAdded)));
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let unix = text.replace("\r\n", "\n");
        bodies.push((unix.replace('\n', "\r\n").into_bytes(), BodyFlaw::LineEnds));
        bodies.push((unix.into_bytes(), BodyFlaw::LineEnds));
        if Json::of(text).is_ok() {
            bodies.extend(serialized(text));
        }
    }
    let inner = Form::parse(body).and_then(|form| form.only("payload").ok().flatten().map(<[u8]>::to_vec));
    bodies.extend(inner.map(|inner| (inner, BodyFlaw::InnerJson)));
    if !body.is_empty() {
        bodies.push((Vec::new(), BodyFlaw::Empty));
    }
    bodies.retain(|(other, _)| other != body);
    let change = |(body, flaw)| Change { what: What::Body(body), finding: Finding::Body(flaw) };
    bodies.into_iter().map(change).collect()
}

/// A way to write the same JSON, and what would then be wrong with how it stands.
type Rewriting = (fn(&str) -> String, BodyFlaw);

/// The same JSON as other programs write it.
fn serialized(text: &str) -> Vec<(Vec<u8>, BodyFlaw)> {
    let escapes: [Rewriting; 5] = [
        (ascii, BodyFlaw::Unescaped),
        (slashes, BodyFlaw::Unescaped),
        (|text| slashes(&ascii(text)), BodyFlaw::Unescaped),
        (unescaped, BodyFlaw::Escaped),
        (|text| text.replace("\\/", "/"), BodyFlaw::Escaped),
    ];
    let blanks: [fn(&str) -> String; 3] = [compact, spaced, pretty];
    let mut bodies = Vec::new();
    for (escape, flaw) in escapes {
        bodies.push((escape(text).into_bytes(), flaw));
    }
    for blank in blanks {
        let other = blank(text);
        for (escape, _) in escapes {
            bodies.push((escape(&other).into_bytes(), BodyFlaw::Serialized));
        }
        bodies.push((other.into_bytes(), BodyFlaw::Serialized));
    }
    bodies
}

/// Rewrites JSON, character by character: what stands outside strings, and what stands within them.
fn rewritten(text: &str, mut write: impl FnMut(&mut String, char, bool)) -> String {
    let mut other = String::with_capacity(text.len());
    let (mut is_string, mut is_escaped) = (false, false);
    for character in text.chars() {
        let is_quote = character == '"' && !is_escaped;
        write(&mut other, character, is_string || is_quote);
        is_escaped = is_string && character == '\\' && !is_escaped;
        is_string ^= is_quote;
    }
    other
}

/// Without blanks between values.
fn compact(text: &str) -> String {
    rewritten(text, |other, character, is_string| {
        if is_string || !character.is_ascii_whitespace() {
            other.push(character);
        }
    })
}

/// With a blank after each comma and colon, as Python writes it.
fn spaced(text: &str) -> String {
    rewritten(&compact(text), |other, character, is_string| {
        other.push(character);
        if !is_string && matches!(character, ',' | ':') {
            other.push(' ');
        }
    })
}

/// On lines of its own, indented by two blanks.
fn pretty(text: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(text);
    value.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_default()
}

/// With `\uXXXX` for what is not ASCII.
fn ascii(text: &str) -> String {
    rewritten(text, |other, character, _| {
        if character.is_ascii() {
            return other.push(character);
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let digits = base16ct::lower::encode_string(&unit.to_be_bytes());
            other.push_str("\\u");
            other.push_str(&digits);
        }
    })
}

/// With `\/` for a slash, as PHP writes it.
fn slashes(text: &str) -> String {
    let mut last = ' ';
    rewritten(text, |other, character, is_string| {
        if is_string && character == '/' && last != '\\' {
            other.push('\\');
        }
        last = character;
        other.push(character);
    })
}

/// With the characters themselves where `\uXXXX` or `\/` stood.
fn unescaped(text: &str) -> String {
    let mut other = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at_checked(at).unwrap_or((rest, ""));
        other.push_str(before);
        let length = match escape.as_bytes() {
            [b'\\', b'u', _, _, _, _, b'\\', b'u', _, _, _, _, ..] if is_leading(escape) => 12,
            [b'\\', b'u', ..] => 6,
            _ => 2,
        };
        let (escape, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        let character = || Json::of(&format!("\"{escape}\"")).ok()?.string();
        let is_plain = |plain: &String| {
            !plain.chars().any(|plain| plain.is_control() || matches!(plain, '\u{fffd}' | '"' | '\\'))
        };
        let may_stand = escape.starts_with("\\u") || escape == "\\/";
        let plain = may_stand.then(character).flatten().filter(is_plain);
        other.push_str(plain.as_deref().unwrap_or(escape));
        rest = after;
    }
    other.push_str(rest);
    other
}

/// Whether an escape is the first half of a pair of surrogates.
fn is_leading(escape: &str) -> bool {
    let unit = escape.get(2..6).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    unit.is_some_and(|unit| (0xd800..0xdc00).contains(&unit))
}
