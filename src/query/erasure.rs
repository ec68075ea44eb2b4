//! From a query string to an erasure.
//!
//! Stricter than the query of a read, since a mistake cannot be undone: a parameter that is unknown, empty or repeated is an
//! error. A script whose variable was empty must not erase more than it meant to.

use serde_json::{Value, json};

use super::log::{key, kind};
use super::parameters::{Checker, Violation, instant, name, pairs};
use crate::erasure::Erasure;
use crate::event::LogFilter;
use crate::validation::{Location, ValidationError};

/// The query of `DELETE /events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureQuery {
    /// What is to be erased.
    pub erasure: Erasure,
    /// It shall only be counted.
    pub dry_run: bool,
}

/// The names of the parameters.
const PARAMETERS: [&str; 10] =
    ["source", "key", "kind", "from", "to", "thread", "ref", "person", "until", "dry_run"];

/// Reads the query string of `DELETE /events`.
///
/// # Errors
/// Every validation error, at most one for each parameter.
pub fn parse(query: &str) -> Result<ErasureQuery, Vec<ValidationError>> {
    let (mut given, mut checker) = (Given::default(), Checker::default());
    for (name, value) in pairs(query).filter(|pair| *pair != (String::new(), String::new())) {
        given.take(&name, value, &mut checker.errors);
    }
    given.check(checker)
}

/// The values of the parameters that are there.
#[derive(Default)]
struct Given([Option<String>; PARAMETERS.len()]);

impl Given {
    fn take(&mut self, name: &str, value: String, errors: &mut Vec<ValidationError>) {
        let mut refuse = |kind, reason: &str, given: &str| {
            errors.push(ValidationError::field(kind, name, reason, Value::from(given)));
        };
        let slot = PARAMETERS.iter().zip(&mut self.0).find(|(known, _)| **known == name);
        match slot {
            None => refuse("extra_forbidden", "Extra inputs are not permitted", &value),
            Some(_) if value.is_empty() => {
                refuse("missing", "Field required: leave it out, or give it a value", "");
            }
            Some((_, Some(_))) => refuse("value_error", "Input should be given once", &value),
            Some((_, slot)) => *slot = Some(value),
        }
    }

    fn check(self, mut checker: Checker) -> Result<ErasureQuery, Vec<ValidationError>> {
        let Self([source, key_text, kind_word, from, to, thread, r#ref, person, until, dry_run]) = self;
        let key = checker.take("key", &key_text.unwrap_or_default(), |text| {
            key(text, source.as_deref().unwrap_or_default())
        });
        let kind = checker.take("kind", &kind_word.unwrap_or_default(), kind);
        let until = checker.take("until", &until.unwrap_or_default(), instant);
        let dry_run = checker.take("dry_run", &dry_run.unwrap_or_default(), boolean).unwrap_or(false);
        if !checker.errors.is_empty() {
            return Err(checker.errors);
        }
        let name = |given: Option<String>| given.and_then(name);
        let filter =
            LogFilter { source, key, kind, from: name(from), to: name(to), thread: name(thread), r#ref };
        let erasure = Erasure::new(filter, name(person), until).map_err(|_| {
            let reason =
                "Input should have at least one of source, kind, from, to, thread, ref, person and until";
            vec![ValidationError {
                kind: "missing",
                location: Location::Whole,
                reason: reason.to_owned(),
                input: json!({}),
            }]
        })?;
        Ok(ErasureQuery { erasure, dry_run })
    }
}

fn boolean(text: &str) -> Result<bool, Violation> {
    text.parse().map_err(|_| ("bool_parsing", "Input should be true or false".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::message::Timestamp;

    fn errors(query: &str) -> Vec<String> {
        let errors = parse(query).unwrap_err();
        errors.iter().map(|error| format!("{} {:?}", error.kind, error.location)).collect()
    }

    #[test]
    fn every_filter_is_taken_as_a_read_takes_it() {
        let some = |text: &str| Some(text.to_owned());
        let query = "source=shop&key=+k&kind=status&from=+1&to=%2B2&thread=+3&ref=r&person=+5&until=2025-01-15T10:00:00Z";
        let filter = LogFilter {
            source: some("shop"),
            key: some(" k"),
            kind: Some(Kind::Status),
            from: some("+1"),
            to: some("+2"),
            thread: some("+3"),
            r#ref: some("r"),
        };
        let until = Timestamp::parse("2025-01-15T10:00:00Z").unwrap();
        let erasure = Erasure::new(filter, some("+5"), Some(until)).unwrap();
        assert_eq!(parse(query), Ok(ErasureQuery { erasure, dry_run: false }));
        assert!(parse("person=a&dry_run=true").unwrap().dry_run);
        assert!(!parse("person=a&dry_run=false&").unwrap().dry_run);
    }

    #[test]
    fn what_could_erase_more_than_was_meant_is_an_error() {
        assert_eq!(errors(""), ["missing Whole"]);
        assert_eq!(errors("dry_run=true"), ["missing Whole"]);
        assert_eq!(errors("person=&until=2025-01-15T10:00:00Z"), [r#"missing Field("person")"#]);
        assert_eq!(errors("source=shop&form=%2B1"), [r#"extra_forbidden Field("form")"#]);
        assert_eq!(errors("source=shop&limit=1"), [r#"extra_forbidden Field("limit")"#]);
        assert_eq!(errors("person=a&person=b"), [r#"value_error Field("person")"#]);
        assert_eq!(errors("key=m1"), [r#"value_error Field("key")"#]);
        assert_eq!(errors("source=&key=m1"), [r#"missing Field("source")"#, r#"value_error Field("key")"#]);
        assert_eq!(
            errors("kind=Message&until=yesterday&dry_run=1"),
            [
                r#"literal_error Field("kind")"#,
                r#"datetime_parsing Field("until")"#,
                r#"bool_parsing Field("dry_run")"#,
            ]
        );
    }
}
