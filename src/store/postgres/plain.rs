//! The messages that match a filter, read from the table by the index that the planner chooses.

use std::ops::Range;

use super::aggregates::Aggregates;
use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::rows::{self, COLUMNS, IN_ORDER, bigint, integer};
use crate::message::Message;
use crate::query::{Filter, Place};
use crate::store::matches::Matches;

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
            Filter {
                from: Some(from),
                to: None,
                since: None,
                until: None,
                search: _,
                id: None,
                source: None,
            } => aggregates.of_sender(session, from)?,
            Filter {
                from: None,
                to: Some(to),
                since: None,
                until: None,
                search: _,
                id: None,
                source: None,
            } => aggregates.of_recipient(session, to)?,
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

    fn before(&self, position: &Place, including: bool) -> Result<u64, PgError> {
        let mut conditions = Conditions::of(self.filter);
        let second = conditions.bind(position.moment.second);
        let nanosecond = conditions.bind(integer(position.moment.nanosecond));
        let id = conditions.bind(position.message_id.as_str().to_owned());
        let source = conditions.bind(position.source.as_str().to_owned());
        let comparison = if including { "<=" } else { "<" };
        conditions.add(format!(
            "({IN_ORDER}) {comparison} ({second}, {nanosecond}, {id}, {source}) AND ts_second <= {second}"
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
             ORDER BY ts_second {order}, ts_nanosecond {order}, message_id {order}, source {order}
             LIMIT {limit} OFFSET {offset}",
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
