//! A page of messages by its place alone, of which none before or after it is counted.

use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::rows::{self, COLUMNS, IN_ORDER, bigint, integer};
use crate::message::Message;
use crate::query::{Filter, Page};
use crate::store::matches::Anchor;

/// The messages of `page` that match `filter`, which has neither an id nor a search.
pub(super) fn page(session: &Session<'_>, filter: &Filter, page: &Page) -> Result<Vec<Message>, PgError> {
    let Anchor { position, upward } = Anchor::of(page);
    let mut conditions = Conditions::of(&Filter { source: None, ..filter.clone() });
    if let Some(source) = &filter.source {
        let source = conditions.bind(source.clone());
        // No index has the source of the view, so the planner takes it for rare, and would sort the rest or read it with several
        // workers for each page. In this form it counts on every other message.
        conditions.add(format!("coalesce(source = {source}, false)"));
    }
    if let Some(place) = position {
        let second = conditions.bind(place.moment.second);
        let nanosecond = conditions.bind(integer(place.moment.nanosecond));
        let id = conditions.bind(place.message_id.as_str().to_owned());
        let source = conditions.bind(place.source.as_str().to_owned());
        let comparison = if upward { ">" } else { "<" };
        // The second one is for the planner, as in the conditions of a filter.
        conditions.add(format!(
            "({IN_ORDER}) {comparison} ({second}, {nanosecond}, {id}, {source}) AND ts_second {comparison}= {second}"
        ));
    }
    let limit = conditions.bind(bigint(page.limit.into()));
    let offset = conditions.bind(bigint(if position.is_some() { 0 } else { page.offset }));
    let order = if upward { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT {COLUMNS} FROM message WHERE {}
         ORDER BY ts_second {order}, ts_nanosecond {order}, message_id {order}, source {order}
         LIMIT {limit} OFFSET {offset}",
        conditions.sql()
    );
    let found = session.query(&sql, &conditions.parameters())?;
    let mut messages = found.iter().map(rows::message).collect::<Result<Vec<_>, _>>()?;
    if upward == page.descending {
        messages.reverse();
    }
    Ok(messages)
}
