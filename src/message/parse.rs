//! From the bytes of a body to a [`Message`], or to every validation error.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{Message, Name, RuleViolation, Timestamp, check_text};
use crate::event::{Data, Source};
use crate::validation::{Location, ValidationError};

/// Maximum number of errors in one response. The fields give fewer; a body may repeat any number of unknown keys.
const ERRORS_MAX: usize = 32;

/// The errors of a body that is not a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// Every validation error, at least 1 and at most 32.
    pub errors: Vec<ValidationError>,
    /// The `message_id` if it could be read, for the log.
    pub message_id: Option<Name>,
}

/// Reads a body: UTF-8, then JSON (RFC 8259, no key twice, no byte-order mark), then the fields. Unknown fields are
/// ignored.
///
/// # Errors
/// [`Invalid`], with every wrong field.
pub fn parse(body: &[u8]) -> Result<Message, Invalid> {
    parse_with_data(body).map(|(message, _)| message)
}

/// As [`parse`], with the whole body if it has members besides the fields of a message.
///
/// # Errors
/// [`Invalid`], with every wrong field.
pub fn parse_with_data(body: &[u8]) -> Result<(Message, Option<Data>), Invalid> {
    let text = std::str::from_utf8(body).map_err(|e| not_json(e.valid_up_to(), "the body is not UTF-8"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let fields = Fields::deserialize(&mut json)
        .and_then(|fields| json.end().map(|()| fields))
        .map_err(|error| unreadable(text, &error))?;
    let data = fields.has_unknown.then(|| Data::from_json(text));
    Ok((fields.check(text)?, data))
}

/// The value of a field, not checked yet.
#[derive(Deserialize)]
#[serde(untagged)]
enum FieldValue<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Other(Value),
}

/// The known fields as they stand in the object, and the keys that it repeats.
#[derive(Default)]
struct Fields<'a> {
    message_id: Option<FieldValue<'a>>,
    from: Option<FieldValue<'a>>,
    to: Option<FieldValue<'a>>,
    ts: Option<FieldValue<'a>>,
    text: Option<FieldValue<'a>>,
    /// The object has a member besides these.
    has_unknown: bool,
    repeated: Vec<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Option<FieldValue<'a>>> {
        match key {
            "message_id" => Some(&mut self.message_id),
            "from" => Some(&mut self.from),
            "to" => Some(&mut self.to),
            "ts" => Some(&mut self.ts),
            "text" => Some(&mut self.text),
            _ => None,
        }
    }

    fn check(self, whole: &str) -> Result<Message, Invalid> {
        let mut errors = Vec::new();
        let message_id = required(self.message_id, "message_id", whole, Name::new, &mut errors);
        let from = required(self.from, "from", whole, Name::phone_number, &mut errors);
        let to = required(self.to, "to", whole, Name::phone_number, &mut errors);
        let ts = required(self.ts, "ts", whole, timestamp, &mut errors);
        let text = optional_text(self.text, &mut errors);
        errors.extend(self.repeated.into_iter().take(ERRORS_MAX).map(|key| {
            ValidationError::field("repeated_key", &key, "Key appears more than once", Value::Null)
        }));
        errors.truncate(ERRORS_MAX);
        match (message_id, from, to, ts, text) {
            (Some(message_id), Some(from), Some(to), Some(ts), text) if errors.is_empty() => {
                let (from, to, source) = (Some(from), Some(to), Source::WEBHOOK);
                Ok(Message { message_id, from, to, ts, text, source })
            }
            (message_id, ..) => Err(Invalid { errors, message_id }),
        }
    }
}

/// The checked value of a required string field; `None` after adding an error.
fn required<T>(
    given: Option<FieldValue<'_>>,
    name: &str,
    whole: &str,
    check: impl Fn(&str) -> Result<T, RuleViolation>,
    errors: &mut Vec<ValidationError>,
) -> Option<T> {
    let error = match given {
        Some(FieldValue::Text(value)) => match check(&value) {
            Ok(checked) => return Some(checked),
            Err(violation) => violation.at(name, Value::String(value.into_owned())),
        },
        Some(FieldValue::Other(value)) => not_a_string(name, value),
        None => {
            let object = serde_json::from_str(whole).unwrap_or(Value::Null);
            ValidationError::field("missing", name, "Field required", object)
        }
    };
    errors.push(error);
    None
}

fn optional_text(given: Option<FieldValue<'_>>, errors: &mut Vec<ValidationError>) -> Option<Box<str>> {
    let error = match given {
        None | Some(FieldValue::Other(Value::Null)) => return None,
        Some(FieldValue::Text(value)) => match check_text(&value) {
            Ok(()) => return Some(value.into()),
            Err(violation) => violation.at("text", Value::String(value.into_owned())),
        },
        Some(FieldValue::Other(value)) => not_a_string("text", value),
    };
    errors.push(error);
    None
}

fn timestamp(value: &str) -> Result<Timestamp, RuleViolation> {
    Timestamp::parse(value).map_err(|_| RuleViolation {
        kind: "value_error",
        reason: "Value error, should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction",
    })
}

fn not_a_string(name: &str, value: Value) -> ValidationError {
    ValidationError::field("string_type", name, "Input should be a valid string", value)
}

/// The error about a body that is not an object, or not JSON at all.
fn unreadable(text: &str, error: &serde_json::Error) -> Invalid {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => Invalid {
            errors: vec![ValidationError {
                kind: "dict_type",
                location: Location::Whole,
                reason: "Input should be a valid dictionary".into(),
                input: value,
            }],
            message_id: None,
        },
        Err(syntax) => {
            let error = if error.is_data() { &syntax } else { error };
            not_json(offset(text, error), &reason(error))
        }
    }
}

fn not_json(offset: usize, reason: &str) -> Invalid {
    let error = ValidationError {
        kind: "json_invalid",
        location: Location::Offset(offset),
        reason: format!("JSON decode error: {reason}"),
        input: Value::Object(serde_json::Map::new()),
    };
    Invalid { errors: vec![error], message_id: None }
}

/// The byte at which reading stopped.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let before = error.line().saturating_sub(1);
    let lines: usize = text.split_inclusive('\n').take(before).map(str::len).sum();
    (lines + error.column().saturating_sub(1)).min(text.len())
}

/// The message of the parser without line and column, which the offset gives already.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

// By hand, since a derived implementation stops at the first repeated key, and accepts unknown keys that are repeated.
impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                let mut unknown = HashSet::new();
                while let Some(Key(key)) = map.next_key()? {
                    let again = match fields.slot(&key) {
                        Some(slot @ None) => {
                            *slot = Some(map.next_value()?);
                            continue;
                        }
                        Some(_) => true,
                        None => !unknown.insert(key.clone()),
                    };
                    map.next_value::<IgnoredAny>()?;
                    if again && !fields.repeated.contains(&key) && fields.repeated.len() < ERRORS_MAX {
                        fields.repeated.push(key);
                    }
                }
                fields.has_unknown = !unknown.is_empty();
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A key, borrowed from the body unless it was written with escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"message_id":"m1","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T10:00:00Z","text":"Hello"}"#;

    fn errors(body: &str) -> Vec<String> {
        parse(body.as_bytes())
            .unwrap_err()
            .errors
            .iter()
            .map(|c| format!("{} {:?}", c.kind, c.location))
            .collect()
    }

    #[test]
    fn the_contracts_example_is_a_message() {
        let message = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), GOOD);
    }

    #[test]
    fn absent_and_null_text_are_the_same() {
        let absent = GOOD.replace(r#","text":"Hello""#, "");
        let null = GOOD.replace(r#""Hello""#, "null");
        assert_eq!(parse(absent.as_bytes()).unwrap().text, None);
        assert_eq!(parse(null.as_bytes()).unwrap().text, None);
    }

    #[test]
    fn escapes_are_read_and_a_pair_of_surrogates_is_one_character() {
        let body = GOOD.replace("Hello", r"\ud83d\ude00\n\u0041");
        assert_eq!(parse(body.as_bytes()).unwrap().text.as_deref(), Some("😀\nA"));
        let escaped_key = GOOD.replace(r#""from""#, r#""\u0066rom""#);
        assert!(parse(escaped_key.as_bytes()).is_ok());
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        assert_eq!(
            errors(r#"{"message_id":"","from":"1","ts":5,"text":["x"]}"#),
            [
                r#"string_too_short Field("message_id")"#,
                r#"string_pattern_mismatch Field("from")"#,
                r#"missing Field("to")"#,
                r#"string_type Field("ts")"#,
                r#"string_type Field("text")"#,
            ]
        );
    }

    #[test]
    fn a_repeated_key_is_refused_known_or_not_escaped_or_not() {
        let twice = GOOD.replace('}', r#","from":"+2"}"#);
        assert_eq!(errors(&twice), [r#"repeated_key Field("from")"#]);
        let escaped = GOOD.replace('}', r#","\u0074s":1}"#);
        assert_eq!(errors(&escaped), [r#"repeated_key Field("ts")"#]);
        let unknown = GOOD.replace('}', r#","x":1,"x":2,"x":3}"#);
        assert_eq!(errors(&unknown), [r#"repeated_key Field("x")"#]);
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        for (body, kind) in [
            ("", "json_invalid"),
            ("{", "json_invalid"),
            ("{}}", "json_invalid"),
            ("\u{feff}{}", "json_invalid"),
            ("NaN", "json_invalid"),
            (r#"{"text":"\ud800"}"#, "json_invalid"),
            (r#"{"ts":1e999999}"#, "json_invalid"),
            ("[]", "dict_type"),
            ("null", "dict_type"),
            ("\"x\"", "dict_type"),
            ("1", "dict_type"),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().errors[0].kind, kind, "{body:?}");
        }
        let invalid = parse(b"{\"text\":\"\xff\"}").unwrap_err();
        assert_eq!(invalid.errors[0].location, Location::Offset(9));
    }

    #[test]
    fn a_syntax_error_says_at_which_byte() {
        let invalid = parse("{\n \"text\": nope}".as_bytes()).unwrap_err();
        assert_eq!(invalid.errors[0].location, Location::Offset(12));
        assert_eq!(invalid.errors[0].reason, "JSON decode error: expected ident");
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_is_stored() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().errors[0].kind, "json_invalid");
        let field = GOOD.replace(r#""Hello""#, &format!("{deep}{}", "]".repeat(100_000)));
        assert_eq!(parse(field.as_bytes()).unwrap_err().errors[0].kind, "json_invalid");
        let unknown = GOOD.replace('}', &format!(",\"x\":{deep}{}}}", "]".repeat(100_000)));
        assert!(parse(unknown.as_bytes()).is_ok());
    }

    #[test]
    fn a_flood_of_repeated_keys_gives_a_bounded_answer() {
        let keys: Vec<String> = (0..10_000).map(|i| format!("\"k{}\":0", i / 2)).collect();
        let body = format!("{{{}}}", keys.join(","));
        assert_eq!(errors(&body).len(), ERRORS_MAX);
    }

    proptest! {
        #[test]
        fn whatever_text_is_sent_comes_back(text in "[^\\x00]{0,200}", id in "[^\\p{Cc}]{1,50}") {
            let body = serde_json::json!({"message_id": id, "from": "+1", "to": "+2", "ts": "2025-01-15T10:00:00Z", "text": text});
            let message = parse(body.to_string().as_bytes()).unwrap();
            prop_assert_eq!(message.text.as_deref(), Some(text.as_str()));
            prop_assert_eq!(message.message_id.as_str(), id);
        }

        #[test]
        fn garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&body));
        }

        #[test]
        fn a_damaged_message_never_panics(at in 0..GOOD.len(), byte in any::<u8>()) {
            let mut body = GOOD.as_bytes().to_vec();
            body[at] = byte;
            drop(parse(&body));
        }
    }
}
