//! Search: the messages whose text contains a string.

use tokio_postgres::Row;

use super::aggregates::Aggregates;
use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::rows::{bigint, count, moment};
use crate::query::{Filter, Page, Place, Search};
use crate::store::matches::{Anchor, Entry};
use crate::store::nearest::Nearest;

/// A search in one snapshot.
pub(super) struct TextSearch<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) aggregates: &'a Aggregates,
    /// Maximum number of messages that are scanned without the search index, if the other filters leave no more.
    pub(super) few: u64,
}

impl<'a> TextSearch<'a> {
    /// Finds the messages that match `filter` and contain `search`, as far as `page` needs them.
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
            let upto = conditions.bind(self.aggregates.texts_upto);
            conditions.add(format!("seq > {upto}"));
        }
        scan(self.session, &conditions, search, |row| offer(&mut found, row, anchor))?;
        Ok(found)
    }

    /// Whether at most `few` messages match the filter without its search.
    fn are_few(&self, filter: &Filter) -> Result<bool, PgError> {
        let mut conditions = Conditions::of(filter);
        let most = conditions.bind(bigint(self.few + 1));
        let sql = format!(
            "SELECT count(*) FROM (SELECT seq FROM message WHERE {} LIMIT {most}) AS found",
            conditions.sql()
        );
        Ok(count(&self.session.row(&sql, &conditions.parameters())?, 0)? <= self.few)
    }

    /// Passes the matches in the search index to `found`.
    fn look_up(
        &self,
        filter: &Filter,
        search: &Search,
        found: impl FnMut(&Row) -> Result<(), PgError>,
    ) -> Result<(), PgError> {
        let mut conditions = Conditions::of(filter);
        let pattern = conditions.bind(pattern(search));
        conditions.add(format!("folded LIKE {pattern}"));
        let upto = conditions.bind(self.aggregates.texts_upto);
        conditions.add(format!("seq <= {upto}"));
        let sql = format!(
            "SELECT seq, ts_second, ts_nanosecond, message_id, source FROM (
                 SELECT seq, ts_second, ts_nanosecond, message_id, sender, recipient, folded,
                        CASE source WHEN '' THEN 'webhook' ELSE source END AS source
                 FROM message_text
             ) AS message_text WHERE {}",
            conditions.sql()
        );
        self.session.each(&sql, &conditions.parameters(), found)
    }
}

/// Reads each message that meets the conditions, and passes those that contain the text to `found`.
fn scan(
    session: &Session<'_>,
    conditions: &Conditions,
    search: &Search,
    mut found: impl FnMut(&Row) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let sql = format!(
        "SELECT seq, ts_second, ts_nanosecond, message_id, source, text FROM message WHERE {} AND text IS NOT NULL",
        conditions.sql()
    );
    session.each(&sql, &conditions.parameters(), |row| {
        if search.is_in(row.try_get(5)?) { found(row) } else { Ok(()) }
    })
}

fn offer(found: &mut Nearest<'_, Session<'_>>, row: &Row, anchor: Option<&Place>) -> Result<(), PgError> {
    let moment = moment(row, 1)?;
    let (id, source): (&str, &str) = (row.try_get(3)?, row.try_get(4)?);
    let of = |anchor: &Place| {
        (moment, id, source).cmp(&(anchor.moment, anchor.message_id.as_str(), anchor.source.as_str()))
    };
    let place = anchor.map(of);
    found.offer(Entry { moment, seq: row.try_get(0)? }, place);
    Ok(())
}

/// The pattern for LIKE, with the special characters of the text escaped.
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
