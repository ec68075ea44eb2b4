//! Reads by a scan of the messages, without derived data. Derived data makes reads quicker and must give the same results;
//! this is the way to read while it is rebuilt.

use std::ops::Range;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::connection::CONTAINS;
use super::failed::Failed;
use super::rows::{self, COLUMNS, checked};
use crate::message::{Message, Name};
use crate::query::{Filter, Place, SenderCount};
use crate::store::matches::Matches;

const SENDERS: &str = "SELECT count(*), count(DISTINCT sender) FROM message";
const TOP_SENDERS: &str = "\
    SELECT sender, count(*) AS messages FROM message WHERE sender IS NOT NULL
    GROUP BY sender ORDER BY messages DESC, sender LIMIT 10";

/// The messages that match a filter.
pub(super) struct Plain<'a> {
    messages: &'a Connection,
    /// The conditions in SQL, all of which must hold.
    conditions: Vec<String>,
    parameters: Vec<Value>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(messages: &'a Connection, filter: &Filter) -> Self {
        let mut plain = Self { messages, conditions: vec!["TRUE".to_owned()], parameters: Vec::new() };
        for (column, wanted) in [
            ("message_id", &filter.id),
            ("source", &filter.source),
            ("sender", &filter.from),
            ("recipient", &filter.to),
        ] {
            if let Some(wanted) = wanted {
                plain.add(&format!("{column} = ?"), [wanted.clone().into()]);
            }
        }
        for (bound, comparison) in [(filter.since, ">="), (filter.until, "<")] {
            if let Some(bound) = bound {
                let parameters = [bound.second().into(), i64::from(bound.nanosecond()).into()];
                plain.add(&format!("(ts_second, ts_nanosecond) {comparison} (?, ?)"), parameters);
            }
        }
        if let Some(search) = &filter.search {
            plain.add(&format!("{CONTAINS}(text, ?)"), [search.folded().to_owned().into()]);
        }
        plain
    }

    fn add(&mut self, term: &str, parameters: impl IntoIterator<Item = Value>) {
        self.conditions.push(term.to_owned());
        self.parameters.extend(parameters);
    }

    fn condition(&self) -> String {
        self.conditions.join(" AND ")
    }

    /// Hands over the second of each message that matches, in any order, until `each` returns false.
    pub(super) fn each_second(&self, each: &mut dyn FnMut(i64) -> bool) -> Result<(), Failed> {
        let sql = format!("SELECT ts_second FROM message WHERE {}", self.condition());
        let mut statement = self.messages.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(self.parameters.iter()))?;
        while let Some(row) = rows.next()? {
            if !each(row.get(0)?) {
                break;
            }
        }
        Ok(())
    }

    /// The number of messages that match and meet one more condition.
    fn count(&self, more: &str, parameters: Vec<Value>) -> Result<u64, Failed> {
        let sql = format!("SELECT count(*) FROM message WHERE {}{more}", self.condition());
        let parameters = self.parameters.iter().cloned().chain(parameters);
        Ok(self.messages.prepare_cached(&sql)?.query_row(params_from_iter(parameters), |row| row.get(0))?)
    }
}

impl Matches for Plain<'_> {
    type Error = Failed;

    fn total(&self) -> Result<u64, Failed> {
        self.count("", Vec::new())
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, Failed> {
        let comparison = if including { "<=" } else { "<" };
        let term = format!(" AND (ts_second, ts_nanosecond, message_id, source) {comparison} (?, ?, ?, ?)");
        let Place { moment, message_id, source } = position;
        let (id, source) = (message_id.as_str().to_owned(), source.as_str().to_owned());
        let (second, nanosecond) = (moment.second, i64::from(moment.nanosecond));
        self.count(&term, vec![second.into(), nanosecond.into(), id.into(), source.into()])
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, Failed> {
        let sql = format!(
            "SELECT {COLUMNS} FROM message WHERE {} ORDER BY ts_second, ts_nanosecond, message_id, source
            LIMIT ? OFFSET ?",
            self.condition()
        );
        let integer = |n: u64| Value::from(i64::try_from(n).unwrap_or(i64::MAX));
        let window = [integer(range.end - range.start), integer(range.start)];
        let parameters = self.parameters.iter().cloned().chain(window);
        let mut statement = self.messages.prepare_cached(&sql)?;
        Ok(statement.query_map(params_from_iter(parameters), rows::message)?.collect::<Result<_, _>>()?)
    }
}

/// The aggregates of [`Stats`](crate::query::Stats): the number of messages, of senders, and the top senders.
pub(super) fn aggregates(messages: &Connection) -> rusqlite::Result<(u64, u64, Vec<SenderCount>)> {
    let (total, senders) =
        messages.prepare_cached(SENDERS)?.query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let top = messages
        .prepare_cached(TOP_SENDERS)?
        .query_map((), |row| Ok(SenderCount { from: checked(row, 0, Name::new)?, count: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    Ok((total, senders, top))
}
