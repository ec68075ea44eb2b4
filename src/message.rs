//! The message: its fields, their rules, and the way from bytes to a checked value.
//!
//! Pure: no I/O, no clock. A [`Message`] is checked when it is made, and needs no further check.

use serde::{Serialize, Serializer};

use crate::validation::ValidationError;

mod parse;
mod timestamp;

pub use parse::{Invalid, parse};
pub use timestamp::{BadTimestamp, Moment, Timestamp};

/// Maximum length of a `message_id`, in Unicode scalar values.
pub const MESSAGE_ID_CHARS_MAX: usize = 255;
/// Maximum length of a `text`, in Unicode scalar values.
pub const TEXT_CHARS_MAX: usize = 4096;
/// Maximum number of digits of a phone number (ITU-T E.164).
pub const PHONE_DIGITS_MAX: usize = 15;

/// A message as its sender wrote it, every field checked. Serializes to the item of `GET /messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The identifier that the sender has given the message; unique forever.
    pub message_id: MessageId,
    /// The phone number of the sender.
    pub from: Phone,
    /// The phone number of the recipient.
    pub to: Phone,
    /// The time of the message, as the sender gave it.
    pub ts: Timestamp,
    /// The text; `None` if it is absent or null.
    pub text: Option<Box<str>>,
}

/// 1 to 255 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MessageId(Box<str>);

/// A phone number: `+` and 1 to 15 ASCII digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Phone(Box<str>);

/// A rule that a string breaks: Pydantic's word for it, and the rule in plain words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleViolation {
    /// One word, e.g. `string_too_long`.
    pub kind: &'static str,
    /// The rule, e.g. "String should have at most 255 characters".
    pub reason: &'static str,
}

impl MessageId {
    /// Checks a string.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn new(value: &str) -> Result<Self, RuleViolation> {
        if value.is_empty() {
            return Err(RuleViolation {
                kind: "string_too_short",
                reason: "String should have at least 1 character",
            });
        }
        if longer_than(value, MESSAGE_ID_CHARS_MAX) {
            return Err(RuleViolation {
                kind: "string_too_long",
                reason: "String should have at most 255 characters",
            });
        }
        if value.chars().any(char::is_control) {
            return Err(RuleViolation {
                kind: "string_pattern_mismatch",
                reason: "String should not contain control characters",
            });
        }
        Ok(Self(value.into()))
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Phone {
    /// Checks a string.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn new(value: &str) -> Result<Self, RuleViolation> {
        let digits = value.strip_prefix('+').unwrap_or_default().as_bytes();
        if digits.is_empty() || digits.len() > PHONE_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
            return Err(RuleViolation {
                kind: "string_pattern_mismatch",
                reason: "String should be a plus sign and 1 to 15 digits, e.g. +14155550100",
            });
        }
        Ok(Self(value.into()))
    }

    /// The string, with its plus sign.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Checks a text: at most 4096 Unicode scalar values, no NUL.
///
/// # Errors
/// The rule that it breaks.
pub fn check_text(value: &str) -> Result<(), RuleViolation> {
    if longer_than(value, TEXT_CHARS_MAX) {
        return Err(RuleViolation {
            kind: "string_too_long",
            reason: "String should have at most 4096 characters",
        });
    }
    if value.contains('\0') {
        return Err(RuleViolation {
            kind: "string_pattern_mismatch",
            reason: "String should not contain the character NUL",
        });
    }
    Ok(())
}

/// Whether `value` has more than `max` characters; characters are counted only if the bytes exceed `max`.
pub(crate) fn longer_than(value: &str, max: usize) -> bool {
    value.len() > max && value.chars().nth(max).is_some()
}

impl RuleViolation {
    fn at(self, field: &str, input: serde_json::Value) -> ValidationError {
        ValidationError::field(self.kind, field, self.reason, input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phone_takes_ascii_digits_only() {
        for good in ["+1", "+919876543210", "+000000000000000"] {
            assert_eq!(Phone::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "+", "1", "+1234567890123456", "+1\n", " +1", "+١٢٣", "++1", "+1a"] {
            assert!(Phone::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn message_id_counts_characters_not_bytes() {
        assert!(MessageId::new(&"é".repeat(255)).is_ok());
        assert_eq!(MessageId::new(&"é".repeat(256)).unwrap_err().kind, "string_too_long");
        assert_eq!(MessageId::new("").unwrap_err().kind, "string_too_short");
        for bad in ["a\0", "a\n", "\u{7f}", "\u{85}"] {
            assert_eq!(MessageId::new(bad).unwrap_err().kind, "string_pattern_mismatch", "{bad:?}");
        }
    }

    #[test]
    fn text_holds_4096_scalar_values() {
        assert!(check_text(&"😀".repeat(4096)).is_ok());
        assert!(check_text(&"😀".repeat(4097)).is_err());
        assert!(check_text("").is_ok());
        assert!(check_text("a\0b").is_err());
    }
}
