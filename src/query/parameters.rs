//! What the query strings of all routes have in common: how a parameter is decoded and checked.

use percent_encoding::percent_decode;
use serde_json::Value;

use crate::message::Timestamp;
use crate::validation::ValidationError;

/// The parameters of a query string, decoded, in their order.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Checks parameters, and collects the validation errors.
#[derive(Default)]
pub(super) struct Checker {
    /// The validation errors so far.
    pub(super) errors: Vec<ValidationError>,
}

impl Checker {
    /// The checked value of a parameter; `None` if it is absent or wrong. A wrong value adds an error.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        given: &str,
        check: impl FnOnce(&str) -> Result<T, Violation>,
    ) -> Option<T> {
        if given.is_empty() {
            return None;
        }
        let (kind, reason) = match check(given) {
            Ok(value) => return Some(value),
            Err(violation) => violation,
        };
        self.errors.push(ValidationError::field(kind, name, reason, Value::String(given.to_owned())));
        None
    }
}

/// The kind and the reason of a validation error.
pub(super) type Violation = (&'static str, String);

/// The name of a person, mostly a phone number. Its plus is often sent unencoded, and then decodes to a space.
pub(super) fn name(given: String) -> Option<String> {
    match given.strip_prefix(' ') {
        Some(digits) => Some(format!("+{digits}")),
        None => Some(given).filter(|given| !given.is_empty()),
    }
}

/// An instant.
pub(super) fn instant(text: &str) -> Result<Timestamp, Violation> {
    Timestamp::parse(text).map_err(|bad| ("datetime_parsing", format!("Input {bad}")))
}

/// The value of a parameter; `None` if it is empty.
pub(super) fn present(given: String) -> Option<String> {
    Some(given).filter(|given| !given.is_empty())
}

/// A whole number from `min` to `max`.
pub(super) fn number(text: &str, min: u32, max: u32) -> Result<u32, Violation> {
    let value = integer(text)?;
    if value < min.into() {
        return Err(("greater_than_equal", format!("Input should be greater than or equal to {min}")));
    }
    u32::try_from(value)
        .ok()
        .filter(|value| *value <= max)
        .ok_or_else(|| ("less_than_equal", format!("Input should be less than or equal to {max}")))
}

/// The bound on an export: a whole number of 64 bits, not below 1.
pub(super) fn bound(text: &str) -> Result<u64, Violation> {
    match integer(text)? {
        0 => Err(("greater_than_equal", "Input should be greater than or equal to 1".into())),
        value => Ok(value),
    }
}

/// A whole number of 64 bits, not below 0.
pub(super) fn integer(text: &str) -> Result<u64, Violation> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err((
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer".into(),
        ));
    }
    let value = digits.parse::<u64>().map_err(|_| {
        let (kind, word) =
            if negative { ("greater_than_equal", "greater") } else { ("less_than_equal", "less") };
        let bound = if negative { 0 } else { u64::MAX };
        (kind, format!("Input should be {word} than or equal to {bound}"))
    })?;
    if negative && value != 0 {
        return Err(("greater_than_equal", "Input should be greater than or equal to 0".into()));
    }
    Ok(value)
}

/// Decodes a part of a query (`application/x-www-form-urlencoded`, WHATWG URL). Bytes that are not UTF-8 become U+FFFD,
/// which matches nothing.
fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
}
