//! The message: its fields, their rules, and the way from bytes to a checked value.
//!
//! Pure: no I/O, no clock. A [`Message`] is checked when it is made, and needs no further check.

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::event::Source;
use crate::validation::ValidationError;

mod parse;
mod timestamp;

pub use parse::{Invalid, parse, parse_with_data};
pub use timestamp::{BadTimestamp, Moment, Timestamp};

/// Maximum length of a [`Name`], in Unicode scalar values.
pub const NAME_CHARS_MAX: usize = 255;
/// Characters that [`Name::lossy`] keeps of what is too long.
const LOSSY_CHARS_KEPT: usize = 200;
/// Maximum length of a `text`, in Unicode scalar values.
pub const TEXT_CHARS_MAX: usize = 4096;
/// Maximum number of digits of a phone number (ITU-T E.164).
pub const PHONE_DIGITS_MAX: usize = 15;

/// A message as its sender wrote it, every field checked: an event of kind `message`. Serializes to the item of
/// `GET /messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The identifier that the sender has given the message; unique forever within its source.
    pub message_id: Name,
    /// The sender: a phone number, or any name that another source uses.
    pub from: Option<Name>,
    /// The recipient: a phone number, or any name that another source uses.
    pub to: Option<Name>,
    /// The time of the message, as the sender gave it.
    pub ts: Timestamp,
    /// The text; `None` if it is absent or null.
    pub text: Option<Box<str>>,
    /// The source that delivered it; left out of the JSON for the built-in one.
    #[serde(skip_serializing_if = "Source::is_built_in")]
    pub source: Source,
}

/// 1 to 255 characters, none of them a control character. The form of identifiers, of people and of places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Box<str>);

/// A rule that a string breaks: Pydantic's word for it, and the rule in plain words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleViolation {
    /// One word, e.g. `string_too_long`.
    pub kind: &'static str,
    /// The rule, e.g. "String should have at most 255 characters".
    pub reason: &'static str,
}

impl Name {
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
        if longer_than(value, NAME_CHARS_MAX) {
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

    /// Checks a phone number: `+` and 1 to 15 ASCII digits.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn phone_number(value: &str) -> Result<Self, RuleViolation> {
        let digits = value.strip_prefix('+').unwrap_or_default().as_bytes();
        if digits.is_empty() || digits.len() > PHONE_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
            return Err(RuleViolation {
                kind: "string_pattern_mismatch",
                reason: "String should be a plus sign and 1 to 15 digits, e.g. +14155550100",
            });
        }
        Ok(Self(value.into()))
    }

    /// Makes a name of any string, so that nothing is lost for its name: U+FFFD stands for a control character; of what is
    /// too long the first 200 characters stay, with `#` and the first 32 hexadecimal digits of the SHA-256 of the whole.
    /// `None` for the empty string.
    pub fn lossy(value: &str) -> Option<Self> {
        if let Ok(name) = Self::new(value) {
            return Some(name);
        }
        let mend = |character: char| if character.is_control() { '\u{fffd}' } else { character };
        if !longer_than(value, NAME_CHARS_MAX) {
            let mended: String = value.chars().map(mend).collect();
            return (!mended.is_empty()).then(|| Self(mended.into()));
        }
        let digest = base16ct::lower::encode_string(&Sha256::digest(value));
        let mended = value.chars().take(LOSSY_CHARS_KEPT).map(mend);
        Some(Self(mended.chain(['#']).chain(digest.chars().take(32)).collect()))
    }

    /// The name `text`.
    pub(crate) fn text() -> Self {
        Self("text".into())
    }

    /// The string.
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
            assert_eq!(Name::phone_number(good).unwrap().as_str(), good);
        }
        for bad in ["", "+", "1", "+1234567890123456", "+1\n", " +1", "+١٢٣", "++1", "+1a"] {
            assert!(Name::phone_number(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn message_id_counts_characters_not_bytes() {
        assert!(Name::new(&"é".repeat(255)).is_ok());
        assert_eq!(Name::new(&"é".repeat(256)).unwrap_err().kind, "string_too_long");
        assert_eq!(Name::new("").unwrap_err().kind, "string_too_short");
        for bad in ["a\0", "a\n", "\u{7f}", "\u{85}"] {
            assert_eq!(Name::new(bad).unwrap_err().kind, "string_pattern_mismatch", "{bad:?}");
        }
    }

    #[test]
    fn any_string_but_the_empty_one_makes_a_name() {
        let lossy = |value: &str| Name::lossy(value).map(|name| name.as_str().to_owned());
        assert_eq!(lossy(""), None);
        assert_eq!(lossy("a\u{0}\u{85}b").as_deref(), Some("a\u{fffd}\u{fffd}b"));
        for kept in ["a", " ", &"é".repeat(255)] {
            assert_eq!(lossy(kept).as_deref(), Some(kept));
        }
        // printf 'a%.0s' $(seq 256) | sha256sum
        let digits = "02d7160d77e18c6447be80c2e355c7ed";
        assert_eq!(lossy(&"a".repeat(256)), Some(format!("{}#{digits}", "a".repeat(200))));
        let mended = lossy(&format!("\n{}", "é".repeat(255))).unwrap();
        assert!(mended.starts_with("\u{fffd}éé") && Name::new(&mended).is_ok(), "{mended}");
        assert_ne!(lossy(&format!("{}x", "a".repeat(255))), lossy(&format!("{}y", "a".repeat(255))));
    }

    #[test]
    fn text_holds_4096_scalar_values() {
        assert!(check_text(&"😀".repeat(4096)).is_ok());
        assert!(check_text(&"😀".repeat(4097)).is_err());
        assert!(check_text("").is_ok());
        assert!(check_text("a\0b").is_err());
    }
}
