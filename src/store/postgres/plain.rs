//! The messages that match a filter, read from the table by the index that the planner chooses.

use std::ops::Range;

use super::aggregates::Aggregates;
use super::connection::{PgError, Session};
use super::parameter::{Parameter, SqlValue};
use super::rows::{self, COLUMNS, bigint, integer};
use crate::message::Message;
use crate::query::{Filter, Position};
use crate::store::matches::Matches;

/// A conjunction of SQL conditions on messages, with its parameters.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    terms: Vec<String>,
    parameters: Vec<Box<dyn SqlValue>>,
}

impl Conditions {
    /// The conditions of a filter, except its search.
    pub(super) fn of(filter: &Filter) -> Self {
        let mut conditions = Self::default();
        for (column, phone) in [("sender", &filter.from), ("recipient", &filter.to)] {
            if let Some(phone) = phone {
                let parameter = conditions.bind(phone.clone());
                conditions.add(format!("{column} = {parameter}"));
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

/// The messages that match a filter.
pub(super) struct Plain<'a> {
    session: &'a Session<'a>,
    filter: &'a Filter,
    total: u64,
}

impl<'a> Plain<'a> {
    /// The messages that match `filter`, whose search is ignored; they are counted here.
    pub(super) fn new(
        session: &'a Session<'a>,
        aggregates: &Aggregates,
        filter: &'a Filter,
    ) -> Result<Self, PgError> {
        let known = match filter {
            Filter { from: Some(from), to: None, since: None, until: None, search: _ } => {
                aggregates.of_sender(session, from)?
            }
            Filter { from: None, to: Some(to), since: None, until: None, search: _ } => {
                aggregates.of_recipient(session, to)?
            }
            _ => None,
        };
        let total = known.map_or_else(|| count(session, &Conditions::of(filter)), Ok)?;
        Ok(Self { session, filter, total })
    }
}

/// The number of messages that meet the conditions.
fn count(session: &Session<'_>, conditions: &Conditions) -> Result<u64, PgError> {
    let sql = format!("SELECT count(*) FROM message WHERE {}", conditions.sql());
    rows::count(&session.row(&sql, &conditions.parameters())?, 0)
}

impl Matches for Plain<'_> {
    type Error = PgError;

    fn total(&self) -> Result<u64, PgError> {
        Ok(self.total)
    }

    fn before(&self, position: &Position, including: bool) -> Result<u64, PgError> {
        let mut conditions = Conditions::of(self.filter);
        let second = conditions.bind(position.moment.second);
        let nanosecond = conditions.bind(integer(position.moment.nanosecond));
        let id = conditions.bind(position.message_id.as_str().to_owned());
        let comparison = if including { "<=" } else { "<" };
        conditions.add(format!(
            "(ts_second, ts_nanosecond, message_id) {comparison} ({second}, {nanosecond}, {id}) AND ts_second <= {second}"
        ));
        count(self.session, &conditions)
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, PgError> {
        // A page in the second half is counted from the end.
        let from_end = range.end > self.total / 2;
        let passed_over = if from_end { self.total - range.end } else { range.start };
        let mut conditions = Conditions::of(self.filter);
        let limit = conditions.bind(bigint(range.end - range.start));
        let offset = conditions.bind(bigint(passed_over));
        let order = if from_end { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {COLUMNS} FROM message WHERE {}
             ORDER BY ts_second {order}, ts_nanosecond {order}, message_id {order} LIMIT {limit} OFFSET {offset}",
            conditions.sql()
        );
        let found = self.session.query(&sql, &conditions.parameters())?;
        let mut page = found.iter().map(rows::message).collect::<Result<Vec<_>, _>>()?;
        if from_end {
            page.reverse();
        }
        Ok(page)
    }
}
