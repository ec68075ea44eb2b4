//! Every answer straight from the messages, by going through them. What is kept to be quicker must give the same
//! answers; this is the way while it is made anew.

use std::ops::Range;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::connection::CONTAINS;
use super::failed::Failed;
use super::rows::{self, COLUMNS, checked};
use crate::message::{Message, Phone};
use crate::query::{Filter, Position, SenderCount};
use crate::store::matches::Matches;

const SENDERS: &str = "SELECT count(*), count(DISTINCT sender) FROM message";
const TOP_SENDERS: &str = "SELECT sender, count(*) AS messages FROM message GROUP BY sender ORDER BY messages DESC, sender LIMIT 10";

/// The messages that match.
pub(super) struct Plain<'a> {
    messages: &'a Connection,
    /// In SQL; all must hold.
    conditions: Vec<String>,
    given: Vec<Value>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(messages: &'a Connection, filter: &Filter) -> Self {
        let mut plain = Self { messages, conditions: vec!["TRUE".to_owned()], given: Vec::new() };
        if let Some(from) = &filter.from {
            plain.add("sender = ?", [from.clone().into()]);
        }
        if let Some(to) = &filter.to {
            plain.add("recipient = ?", [to.clone().into()]);
        }
        for (bound, comparison) in [(filter.since, ">="), (filter.until, "<")] {
            if let Some(bound) = bound {
                let given = [bound.second().into(), i64::from(bound.nanosecond()).into()];
                plain.add(&format!("(ts_second, ts_nanosecond) {comparison} (?, ?)"), given);
            }
        }
        if let Some(search) = &filter.search {
            plain.add(&format!("{CONTAINS}(text, ?)"), [search.folded().to_owned().into()]);
        }
        plain
    }

    fn add(&mut self, term: &str, given: impl IntoIterator<Item = Value>) {
        self.conditions.push(term.to_owned());
        self.given.extend(given);
    }

    fn condition(&self) -> String {
        self.conditions.join(" AND ")
    }

    fn count(&self, more: &str, given: Vec<Value>) -> Result<u64, Failed> {
        let sql = format!("SELECT count(*) FROM message WHERE {}{more}", self.condition());
        let given = self.given.iter().cloned().chain(given);
        Ok(self.messages.prepare_cached(&sql)?.query_row(params_from_iter(given), |row| row.get(0))?)
    }
}

impl Matches for Plain<'_> {
    type Error = Failed;

    fn total(&self) -> Result<u64, Failed> {
        self.count("", Vec::new())
    }

    fn before(&self, position: &Position, including: bool) -> Result<u64, Failed> {
        let comparison = if including { "<=" } else { "<" };
        let term = format!(" AND (ts_second, ts_nanosecond, message_id) {comparison} (?, ?, ?)");
        let id = position.message_id.as_str().to_owned();
        let (second, nanosecond) = (position.moment.second, i64::from(position.moment.nanosecond));
        self.count(&term, vec![second.into(), nanosecond.into(), id.into()])
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Failed> {
        let sql = format!(
            "SELECT {COLUMNS} FROM message WHERE {} ORDER BY ts_second, ts_nanosecond, message_id LIMIT ? OFFSET ?",
            self.condition()
        );
        let number = |n: u64| Value::from(i64::try_from(n).unwrap_or(i64::MAX));
        let given = self.given.iter().cloned().chain([number(range.end - range.start), number(range.start)]);
        let mut statement = self.messages.prepare_cached(&sql)?;
        Ok(statement.query_map(params_from_iter(given), rows::message)?.collect::<Result<_, _>>()?)
    }
}

/// All messages, their different senders, and those who sent most.
pub(super) fn figures(messages: &Connection) -> rusqlite::Result<(u64, u64, Vec<SenderCount>)> {
    let (total, senders) =
        messages.prepare_cached(SENDERS)?.query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let top = messages
        .prepare_cached(TOP_SENDERS)?
        .query_map((), |row| Ok(SenderCount { from: checked(row, 0, Phone::new)?, count: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    Ok((total, senders, top))
}
