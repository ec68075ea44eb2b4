//! What is wrong with an input, said so that its sender can mend it. Never decides a status code.

use std::fmt;

use serde_json::Value;

/// One thing that is wrong with an input: which rule, where, in plain words, and what was given instead.
///
/// The vocabulary of `kind` is that of FastAPI and Pydantic 2, which the contract asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidationError {
    /// The rule that was broken, one word of Pydantic's vocabulary, e.g. `string_too_long`.
    pub kind: &'static str,
    /// Where, below the body or the query.
    pub place: Place,
    /// The rule in words.
    pub reason: String,
    /// What was given.
    pub input: Value,
}

/// Where in an input an error points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
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
        Self { kind, place: Place::Field(name.to_owned()), reason: reason.into(), input }
    }
}

impl fmt::Display for ValidationError {
    /// The place and the reason, without the input, so that it can be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Whole => f.write_str(&self.reason),
            Place::Field(name) => write!(f, "{name}: {}", self.reason),
            Place::Offset(offset) => write!(f, "byte {offset}: {}", self.reason),
        }
    }
}
