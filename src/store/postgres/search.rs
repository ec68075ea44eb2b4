//! Messages by a part of their text.

use tokio_postgres::Row;

use super::aggregates::Aggregates;
use super::connection::{PgError, Session};
use super::plain::Conditions;
use super::rows::{bigint, count, moment};
use crate::query::{Filter, Page, Position, Search};
use crate::store::matches::{Anchor, Entry};
use crate::store::nearest::Nearest;

/// What a search works with.
pub(super) struct Texts<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) aggregates: &'a Aggregates,
    /// So few messages are looked at one by one, when the other filters leave no more.
    pub(super) few: u64,
}

impl<'a> Texts<'a> {
    /// Finds the messages that match `filter` and hold `search`, as far as `page` needs them.
    pub(super) fn search(
        &self,
        filter: &Filter,
        search: &Search,
        page: &Page,
    ) -> Result<Nearest<'a, Session<'a>>, PgError> {
        let mut found = Nearest::new(self.session, page);
        let anchor = Anchor::of(page).position;
        let mut conditions = Conditions::of(filter);
        if !self.are_few(filter)? {
            self.look_up(filter, search, |row| offer(&mut found, row, anchor))?;
            let upto = conditions.give(self.aggregates.texts_upto);
            conditions.add(format!("seq > {upto}"));
        }
        look(self.session, &conditions, search, |row| offer(&mut found, row, anchor))?;
        Ok(found)
    }

    /// Whether the filter, without its search, leaves but few messages.
    fn are_few(&self, filter: &Filter) -> Result<bool, PgError> {
        let mut conditions = Conditions::of(filter);
        let most = conditions.give(bigint(self.few + 1));
        let sql = format!(
            "SELECT count(*) FROM (SELECT FROM message WHERE {} LIMIT {most}) AS found",
            conditions.sql()
        );
        Ok(count(&self.session.row(&sql, &conditions.given())?, 0)? <= self.few)
    }

    /// Hands over what the index of texts holds and matches.
    fn look_up(
        &self,
        filter: &Filter,
        search: &Search,
        found: impl FnMut(&Row) -> Result<(), PgError>,
    ) -> Result<(), PgError> {
        let mut conditions = Conditions::of(filter);
        let pattern = conditions.give(pattern(search));
        conditions.add(format!("folded LIKE {pattern}"));
        let upto = conditions.give(self.aggregates.texts_upto);
        conditions.add(format!("seq <= {upto}"));
        let sql = format!(
            "SELECT seq, ts_second, ts_nanosecond, message_id FROM message_text WHERE {}",
            conditions.sql()
        );
        self.session.each(&sql, &conditions.given(), found)
    }
}

/// Looks at each message that meets the conditions; those that hold the text are handed over.
fn look(
    session: &Session<'_>,
    conditions: &Conditions,
    search: &Search,
    mut found: impl FnMut(&Row) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let sql = format!(
        "SELECT seq, ts_second, ts_nanosecond, message_id, text FROM message WHERE {} AND text IS NOT NULL",
        conditions.sql()
    );
    session.each(
        &sql,
        &conditions.given(),
        |row| if search.is_in(row.try_get(4)?) { found(row) } else { Ok(()) },
    )
}

fn offer(found: &mut Nearest<'_, Session<'_>>, row: &Row, anchor: Option<&Position>) -> Result<(), PgError> {
    let moment = moment(row, 1)?;
    let id: &str = row.try_get(3)?;
    let place = anchor.map(|anchor| (moment, id).cmp(&(anchor.moment, anchor.message_id.as_str())));
    found.offer(Entry { moment, seq: row.try_get(0)? }, place);
    Ok(())
}

/// For LIKE, in which the text stands for itself.
fn pattern(search: &Search) -> String {
    let mut pattern = String::from("%");
    for character in search.folded().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_for_itself() {
        assert_eq!(pattern(&Search::new("50%_\\ OFF")), "%50\\%\\_\\\\ off%");
    }
}
