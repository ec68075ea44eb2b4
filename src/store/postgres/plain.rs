//! Messages that match any filter, straight from the table by the index that fits best.

use std::ops::Range;

use super::aggregates::Aggregates;
use super::connection::{PgError, Session};
use super::parameter::{Parameter, SqlValue};
use super::rows::{self, COLUMNS, bigint, integer};
use crate::message::Message;
use crate::query::{Filter, Position};
use crate::store::matches::Matches;

/// Conditions on messages, all of which must hold, and the values in them.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    terms: Vec<String>,
    given: Vec<Box<dyn SqlValue>>,
}

impl Conditions {
    /// Those of a filter, but for its search.
    pub(super) fn of(filter: &Filter) -> Self {
        let mut conditions = Self::default();
        for (column, number) in [("sender", &filter.from), ("recipient", &filter.to)] {
            if let Some(number) = number {
                let given = conditions.give(number.clone());
                conditions.add(format!("{column} = {given}"));
            }
        }
        for (comparison, comparison_of_seconds, bound) in
            [(">=", ">=", filter.since), ("<", "<=", filter.until)]
        {
            if let Some(bound) = bound {
                let (second, nanosecond) =
                    (conditions.give(bound.second()), conditions.give(integer(bound.nanosecond())));
                conditions.add(format!("(ts_second, ts_nanosecond) {comparison} ({second}, {nanosecond})"));
                // For the planner, which does not see that two comparisons of rows are the ends of a range.
                conditions.add(format!("ts_second {comparison_of_seconds} {second}"));
            }
        }
        conditions
    }

    /// Names a value, for a term.
    pub(super) fn give(&mut self, value: impl SqlValue + 'static) -> String {
        self.given.push(Box::new(value));
        format!("${}", self.given.len())
    }

    pub(super) fn add(&mut self, term: String) {
        self.terms.push(term);
    }

    /// As SQL.
    pub(super) fn sql(&self) -> String {
        if self.terms.is_empty() { "true".to_owned() } else { self.terms.join(" AND ") }
    }

    pub(super) fn given(&self) -> Vec<Parameter<'_>> {
        self.given.iter().map(|value| -> Parameter<'_> { value.as_ref() }).collect()
    }
}

/// The messages that match.
pub(super) struct Plain<'a> {
    session: &'a Session<'a>,
    filter: &'a Filter,
    total: u64,
}

impl<'a> Plain<'a> {
    /// Those that match `filter`, whose search is not looked at; they are counted here.
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

/// How many meet the conditions.
fn count(session: &Session<'_>, conditions: &Conditions) -> Result<u64, PgError> {
    let sql = format!("SELECT count(*) FROM message WHERE {}", conditions.sql());
    rows::count(&session.row(&sql, &conditions.given())?, 0)
}

impl Matches for Plain<'_> {
    type Error = PgError;

    fn total(&self) -> Result<u64, PgError> {
        Ok(self.total)
    }

    fn before(&self, position: &Position, including: bool) -> Result<u64, PgError> {
        let mut conditions = Conditions::of(self.filter);
        let second = conditions.give(position.moment.second);
        let nanosecond = conditions.give(integer(position.moment.nanosecond));
        let id = conditions.give(position.message_id.as_str().to_owned());
        let comparison = if including { "<=" } else { "<" };
        conditions.add(format!(
            "(ts_second, ts_nanosecond, message_id) {comparison} ({second}, {nanosecond}, {id}) AND ts_second <= {second}"
        ));
        count(self.session, &conditions)
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, PgError> {
        // What lies nearer to the end is counted from there.
        let from_end = range.end > self.total / 2;
        let passed_over = if from_end { self.total - range.end } else { range.start };
        let mut conditions = Conditions::of(self.filter);
        let limit = conditions.give(bigint(range.end - range.start));
        let offset = conditions.give(bigint(passed_over));
        let order = if from_end { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {COLUMNS} FROM message WHERE {}
             ORDER BY ts_second {order}, ts_nanosecond {order}, message_id {order} LIMIT {limit} OFFSET {offset}",
            conditions.sql()
        );
        let found = self.session.query(&sql, &conditions.given())?;
        let mut page = found.iter().map(rows::message).collect::<Result<Vec<_>, _>>()?;
        if from_end {
            page.reverse();
        }
        Ok(page)
    }
}
