//! Validation errors: what is wrong with an input, in words that let its sender mend it. Never decides a status code.

use std::fmt;

use serde_json::Value;

/// One thing that is wrong with an input: the rule, the location, a reason in plain words, and the input.
///
/// The vocabulary of `kind` is that of FastAPI and Pydantic 2, which the contract asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidationError {
    /// The rule that was broken, one word of Pydantic's vocabulary, e.g. `string_too_long`.
    pub kind: &'static str,
    /// The part of the body or of the query.
    pub location: Location,
    /// The rule in words.
    pub reason: String,
    /// The wrong value.
    pub input: Value,
}

/// The part of an input that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// The input as a whole.
    Whole,
    /// A field of the body or a parameter of the query.
    Field(String),
    /// A byte of the body, counted from 0.
    Offset(usize),
}

impl ValidationError {
    /// An error about the field or parameter `name`.
    pub fn field(kind: &'static str, name: &str, reason: impl Into<String>, input: Value) -> Self {
        Self { kind, location: Location::Field(name.to_owned()), reason: reason.into(), input }
    }
}

impl fmt::Display for ValidationError {
    /// The location and the reason, without the input, so that it can be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Whole => f.write_str(&self.reason),
            Location::Field(name) => write!(f, "{name}: {}", self.reason),
            Location::Offset(offset) => write!(f, "byte {offset}: {}", self.reason),
        }
    }
}
