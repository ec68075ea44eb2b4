//! Conditions on messages and events, in SQL.

use super::layout;
use super::parameter::{Parameter, SqlValue};
use super::rows::{NANOSECONDS_A_MILLISECOND, integer, milliseconds};
use crate::erasure::Erasure;
use crate::event::{LogFilter, Source};
use crate::query::Filter;

/// A conjunction of SQL conditions, with its parameters.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    terms: Vec<String>,
    parameters: Vec<Box<dyn SqlValue>>,
}

impl Conditions {
    /// The conditions of a filter of messages, except its id and its search.
    pub(super) fn of(filter: &Filter) -> Self {
        let mut conditions = Self::default();
        for (column, value) in
            [("sender", &filter.from), ("recipient", &filter.to), ("source", &filter.source)]
        {
            if let Some(value) = value {
                conditions.equal(column, value.clone());
            }
        }
        for (comparison, comparison_of_seconds, bound) in
            [(">=", ">=", filter.since), ("<", "<=", filter.until)]
        {
            if let Some(bound) = bound {
                let (second, nanosecond) =
                    (conditions.bind(bound.second()), conditions.bind(integer(bound.nanosecond())));
                conditions.add(format!("(ts_second, ts_nanosecond) {comparison} ({second}, {nanosecond})"));
                // For the planner, which does not see that two comparisons of rows are the ends of a range.
                conditions.add(format!("ts_second {comparison_of_seconds} {second}"));
            }
        }
        conditions
    }

    /// Adds the conditions of a filter of the log.
    pub(super) fn add_log_filter(&mut self, filter: &LogFilter) {
        let LogFilter { source, key, kind, from, to, thread, r#ref } = filter;
        // The server rejects a text with NUL, and no event has one.
        if [source, key, from, to, thread, r#ref].into_iter().flatten().any(|value| value.contains('\0')) {
            self.add("false".to_owned());
            return;
        }
        if let Some(name) = source {
            match Source::new(name) {
                Ok(source) => {
                    self.equal("source", layout::stored_source(&source).to_owned());
                    if let Some(key) = key {
                        self.equal("bucket", layout::bucket(&source, key));
                    }
                }
                Err(_) => self.add("false".to_owned()),
            }
        }
        if let Some(key) = key {
            self.equal("key", key.clone());
        }
        if let Some(kind) = kind {
            self.equal("kind", i16::from(kind.number()));
        }
        for (column, value) in [("sender", from), ("recipient", to), ("ref", r#ref)] {
            if let Some(value) = value {
                self.equal(column, value.clone());
            }
        }
        if let Some(thread) = thread {
            let thread = self.bind(thread.clone());
            // As `Event::with_implied` has it.
            self.add(format!("CASE source WHEN '' THEN sender ELSE thread END = {thread}"));
        }
    }

    /// Adds the conditions of an erasure.
    pub(super) fn add_erasure(&mut self, erasure: &Erasure) {
        self.add_log_filter(erasure.filter());
        if let Some(person) = erasure.person() {
            if person.contains('\0') {
                self.add("false".to_owned());
                return;
            }
            let person = self.bind(person.to_owned());
            // The thread of a built-in event is its sender.
            let columns =
                ["sender", "recipient", "user_id", "thread"].map(|column| format!("{column} = {person}"));
            self.add(format!("({})", columns.join(" OR ")));
        }
        if let Some(until) = erasure.until() {
            // Times of receipt are whole milliseconds, so those before it are less than it rounded up.
            let is_between = until.nanosecond() % NANOSECONDS_A_MILLISECOND > 0;
            let until = self.bind(milliseconds(until) + i64::from(is_between));
            self.add(format!("coalesce(received_ms < {until}, true)"));
        }
        for source in erasure.excepted() {
            let source = self.bind(layout::stored_source(source).to_owned());
            self.add(format!("source <> {source}"));
        }
    }

    /// Adds the condition that a column has a value.
    fn equal(&mut self, column: &str, value: impl SqlValue + 'static) {
        let value = self.bind(value);
        self.add(format!("{column} = {value}"));
    }

    /// Adds a parameter, and returns its name for a term.
    pub(super) fn bind(&mut self, value: impl SqlValue + 'static) -> String {
        self.parameters.push(Box::new(value));
        format!("${}", self.parameters.len())
    }

    /// Adds a condition.
    pub(super) fn add(&mut self, term: String) {
        self.terms.push(term);
    }

    /// The conjunction in SQL.
    pub(super) fn sql(&self) -> String {
        if self.terms.is_empty() { "true".to_owned() } else { self.terms.join(" AND ") }
    }

    /// The parameters, in the order of their names.
    pub(super) fn parameters(&self) -> Vec<Parameter<'_>> {
        self.parameters.iter().map(|value| -> Parameter<'_> { value.as_ref() }).collect()
    }
}
