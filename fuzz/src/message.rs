//! A body: a message if and only if the contract says so, and otherwise every mistake in it is named.

use lyftr::message::{Invalid, Message, Name, parse};
use lyftr::validation::{Location, ValidationError};
use serde_json::json;

use super::json::{self, Value};
use super::rules;

/// Most errors in one answer.
const ERRORS_MAX: usize = 32;
/// A field's name and its rule.
type Field = (&'static str, fn(&str) -> bool);
/// The fields in the order in which they are complained about.
const FIELDS: [Field; 5] = [
    ("message_id", rules::is_message_id),
    ("from", rules::is_phone),
    ("to", rules::is_phone),
    ("ts", rules::is_timestamp),
    ("text", rules::is_text),
];

/// The body of a request.
///
/// # Panics
/// If a body is read as a message that is none, or the other way; if a message is not read as it was sent; if the
/// errors are not those that there should be.
pub fn message(data: &[u8]) {
    let members = std::str::from_utf8(data).ok().and_then(json::members);
    let is_message = members
        .as_deref()
        .is_some_and(|members| wrong_fields(members).is_empty() && repeated_keys(members).is_empty());
    match parse(data) {
        Ok(message) => {
            assert!(is_message, "is no message, but is read as {message:?}");
            is_as_sent(&message, &members.unwrap());
            comes_back(&message);
        }
        Err(invalid) => {
            assert!(!is_message, "is a message, but is refused: {invalid:?}");
            names_every_mistake(&invalid, data.len(), members.as_deref());
        }
    }
}

/// The first value under a key.
fn first<'a>(members: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn wrong_fields(members: &[(String, Value)]) -> Vec<&'static str> {
    let is_wrong = |(name, rule): &Field| match first(members, name) {
        Some(Value::Text(text)) => !rule(text),
        None | Some(Value::Null) => *name != "text",
        Some(Value::Broken | Value::Other) => true,
    };
    FIELDS.iter().filter(|field| is_wrong(field)).map(|(name, _)| *name).collect()
}

/// Each key that is there more than once, in the order in which that shows.
fn repeated_keys(members: &[(String, Value)]) -> Vec<&str> {
    let mut seen = std::collections::HashSet::new();
    let mut told = std::collections::HashSet::new();
    let keys = members.iter().map(|(key, _)| key.as_str());
    keys.filter(|key| !seen.insert(*key) && told.insert(*key)).collect()
}

fn is_as_sent(message: &Message, members: &[(String, Value)]) {
    let sent = |key| match first(members, key) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    assert_eq!(sent("message_id"), Some(message.message_id.as_str()));
    assert_eq!(sent("from"), message.from.as_ref().map(Name::as_str));
    assert_eq!(sent("to"), message.to.as_ref().map(Name::as_str));
    assert_eq!(sent("ts"), Some(message.ts.to_string().as_str()));
    assert_eq!(sent("text"), message.text.as_deref());
}

/// Written as `GET /messages` writes it and sent again, a message is the same.
fn comes_back(message: &Message) {
    let written = serde_json::to_vec(message).unwrap();
    assert_eq!(parse(&written).as_ref(), Ok(message));
}

fn names_every_mistake(invalid: &Invalid, length: usize, members: Option<&[(String, Value)]>) {
    let errors = &invalid.errors;
    errors.iter().for_each(says_no_more_than_it_should);
    if let Some(id) = &invalid.message_id {
        assert_eq!(first(members.unwrap(), "message_id"), Some(&Value::Text(id.as_str().to_owned())));
    }
    match (&errors[0].location, members) {
        (Location::Offset(offset), members) => {
            assert_eq!(errors.len(), 1);
            assert!(*offset <= length, "byte {offset} of {length}");
            // What is JSON for us and not for the service: half a surrogate pair, a nesting too deep or a number
            // too large in a field.
            let is_strange = |(name, _): &Field| {
                matches!(first(members.unwrap_or_default(), name), Some(Value::Broken | Value::Other))
            };
            assert!(members.is_none() || FIELDS.iter().any(is_strange), "this is JSON: {errors:?}");
        }
        (Location::Whole, members) => {
            assert_eq!(errors.len(), 1);
            assert!(members.is_none() && !errors[0].input.is_object());
        }
        (Location::Field(_), members) => {
            let members = members.expect("JSON, for its fields are complained about");
            let (wrong, repeated) = (wrong_fields(members), repeated_keys(members));
            let expected: Vec<_> = wrong
                .into_iter()
                .map(|name| (false, name))
                .chain(repeated.into_iter().map(|key| (true, key)))
                .take(ERRORS_MAX)
                .collect();
            assert_eq!(errors.iter().map(named).collect::<Vec<_>>(), expected);
        }
    }
}

/// Whether the error is about a repeated key, and about which.
fn named(error: &ValidationError) -> (bool, &str) {
    match &error.location {
        Location::Field(name) => (error.kind == "repeated_key", name),
        location => panic!("{location:?} beside errors about fields"),
    }
}

/// The words are ours, so that nothing of the input is in them, and it is the documented kind of error.
fn says_no_more_than_it_should(error: &ValidationError) {
    let name = match &error.location {
        Location::Field(name) if error.kind != "repeated_key" => name,
        _ => "",
    };
    let reason = error.reason.strip_prefix("JSON decode error: ").unwrap_or(&error.reason);
    let is_known = match error.kind {
        "json_invalid" => JSON_REASONS.contains(&reason) && error.input == json!({}),
        "repeated_key" => reason == "Key appears more than once" && error.input.is_null(),
        "dict_type" => reason == "Input should be a valid dictionary",
        "missing" => reason == "Field required",
        "string_type" => reason == "Input should be a valid string" && !error.input.is_string(),
        kind => FIELD_REASONS.contains(&(kind, name, reason)) && error.input.is_string(),
    };
    assert!(is_known, "{error:?}");
}

const FIELD_REASONS: [(&str, &str, &str); 8] = [
    ("string_too_short", "message_id", "String should have at least 1 character"),
    ("string_too_long", "message_id", "String should have at most 255 characters"),
    ("string_pattern_mismatch", "message_id", "String should not contain control characters"),
    ("string_pattern_mismatch", "from", "String should be a plus sign and 1 to 15 digits, e.g. +14155550100"),
    ("string_pattern_mismatch", "to", "String should be a plus sign and 1 to 15 digits, e.g. +14155550100"),
    (
        "value_error",
        "ts",
        "Value error, should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction",
    ),
    ("string_too_long", "text", "String should have at most 4096 characters"),
    ("string_pattern_mismatch", "text", "String should not contain the character NUL"),
];

/// What the parser of JSON has to say; its other messages quote the input.
const JSON_REASONS: [&str; 20] = [
    "the body is not UTF-8",
    "EOF while parsing a list",
    "EOF while parsing a string",
    "EOF while parsing a value",
    "EOF while parsing an object",
    "control character (\\u0000-\\u001F) found while parsing a string",
    "expected `,` or `]`",
    "expected `,` or `}`",
    "expected `:`",
    "expected ident",
    "expected value",
    "invalid escape",
    "invalid number",
    "key must be a string",
    "lone leading surrogate in hex escape",
    "number out of range",
    "recursion limit exceeded",
    "trailing characters",
    "trailing comma",
    "unexpected end of hex escape",
];
