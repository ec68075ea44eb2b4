//! Compares the index with the messages.

use std::path::Path;

use rusqlite::Connection;

use super::{Expected, integrity, part};
use crate::message::Moment;
use crate::store::check::{Error, Report, Sum, Tell, compare};
use crate::store::sqlite::connection;
use crate::store::sqlite::existing::{CACHE_KIB, Existing};
use crate::store::sqlite::files::beside;
use crate::store::sqlite::index::{NUMBER_STEPS, State, TIME_STEPS, VERSION, moment, number_key, state};
use crate::store::sqlite::kept::{self, NumberKey};
use crate::store::sqlite::phone_number::ANY;

const ENTRIES: &str = "\
    SELECT sender, recipient, ts_second, ts_nanosecond, seq FROM by_number
    ORDER BY sender, recipient, ts_second, ts_nanosecond, seq";
/// By the entries, which have been compared with the messages, since they are sorted by sender: senders, messages, and
/// the senders of whom another number is kept.
const SENDERS: &str = "\
    SELECT count(*), coalesce(sum(entries), 0), coalesce(sum(messages IS NOT entries), 0) FROM (
        SELECT sender, count(*) AS entries FROM by_number WHERE sender > 0 AND recipient = 0 GROUP BY sender
    ) AS each LEFT JOIN sender ON number = each.sender";
const SENDERS_KEPT: &str = "SELECT count(*), coalesce(sum(messages), 0) FROM sender";
const MOMENTS: &str = "\
    SELECT ts_second, ts_nanosecond, seq FROM message ORDER BY ts_second, ts_nanosecond";
/// Which groups of three characters the index of texts has, and of how many texts.
const GROUPS: &str = "CREATE VIRTUAL TABLE temp.text_group USING fts5vocab (main, by_text, row)";
const EACH_GROUP: &str = "SELECT term, doc FROM temp.text_group";

/// One snapshot of an index that can be compared.
#[derive(Debug)]
pub(super) struct Index {
    conn: Connection,
    state: State,
}

impl Index {
    /// Opens the index of the database at `path`. The error is the report to make instead.
    pub(super) fn open(path: &Path) -> Result<Self, Report> {
        let path = beside(path, "-index");
        if !path.exists() {
            return Err(Report::Remark("index: missing; a start of the service creates it".to_owned()));
        }
        let open = || {
            let conn = connection::reader(&path, CACHE_KIB)?;
            conn.execute_batch("BEGIN")?;
            let version: i64 = conn.query_row("PRAGMA user_version", (), |row| row.get(0))?;
            let state = if version == VERSION { Some(state(&conn)?) } else { None };
            Ok::<_, rusqlite::Error>((conn, state))
        };
        match open() {
            Ok((conn, Some(state))) => Ok(Self { conn, state }),
            Ok((_, None)) => {
                let remark = "index: it has another version; the service rebuilds it";
                Err(Report::Remark(remark.to_owned()))
            }
            Err(error) => {
                let why = connection::explain(error);
                Err(Report::Problem(format!("index: {why}; a start of the service rebuilds it")))
            }
        }
    }

    /// The same, if it is that of these messages.
    pub(super) fn of_these(self, existing: &Existing, tell: &mut Tell<'_>) -> Option<Self> {
        let is =
            |edition, latest| edition == self.state.edition && self.upto().0.max(self.upto().1) <= latest;
        // If the messages cannot be read, that has been reported.
        match (kept::edition(&existing.conn), existing.latest()) {
            (Ok(edition), Ok(latest)) if is(edition, latest) => Some(self),
            _ => {
                let remark =
                    "index: it was derived from other messages, and is not compared; the service rebuilds it";
                tell(Report::Remark(remark.to_owned()));
                None
            }
        }
    }

    /// The watermarks of the party index and the search index.
    pub(super) fn upto(&self) -> (i64, i64) {
        (self.state.numbers_upto, self.state.texts_upto)
    }

    pub(super) fn check(
        &self,
        messages: &Connection,
        expected: &Expected,
        tell: &mut Tell<'_>,
    ) -> Result<(), Error> {
        tell(Report::Part("pages of the index"));
        part("index", tell, |tell| integrity(&self.conn, "index", tell))?;
        tell(Report::Part("times"));
        part("index", tell, |tell| self.check_times(messages, expected.indexed, tell))?;
        tell(Report::Part("numbers"));
        part("index", tell, |tell| self.check_numbers(expected.numbers, tell))?;
        part("index", tell, |tell| self.check_senders(tell))?;
        tell(Report::Part("texts"));
        part("index", tell, |tell| self.check_texts(expected.texts, tell))
    }

    fn check_times(&self, messages: &Connection, expected: u64, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        let mut steps = Steps::read(&self.conn, TIME_STEPS, |row| Ok((moment(row, 0)?, row.get(2)?)))?;
        let mut statement = messages.prepare(MOMENTS)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(2)? <= self.state.numbers_upto {
                steps.add(moment(row, 0)?);
            }
        }
        steps.compare("time_step", Moment::MIN, expected, tell);
        Ok(())
    }

    fn check_numbers(&self, expected: Sum, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        let mut steps = Steps::read(&self.conn, NUMBER_STEPS, |row| Ok((number_key(row)?, row.get(4)?)))?;
        let mut found = Sum::default();
        let mut statement = self.conn.prepare(ENTRIES)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let key = number_key(row)?;
            let NumberKey { sender, recipient, moment } = key;
            found.add(&[sender.0, recipient.0, moment.second, moment.nanosecond.into(), row.get(4)?]);
            steps.add(key);
        }
        Sum::compare(expected, found, "index: entries of by_number", tell);
        steps.compare("number_step", NumberKey::MIN, found.count, tell);
        Ok(())
    }

    fn check_senders(&self, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        debug_assert_eq!(ANY.0, 0, "as in SENDERS");
        let (senders, messages, wrong): (u64, u64, u64) =
            self.conn.query_row(SENDERS, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (kept, messages_kept): (u64, u64) =
            self.conn.query_row(SENDERS_KEPT, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
        compare("index: senders", senders, kept, tell);
        compare("index: messages of all senders", messages, messages_kept, tell);
        compare("index: senders with another number of messages than they have", 0, wrong, tell);
        Ok(())
    }

    fn check_texts(&self, expected: Sum, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        self.conn.execute_batch(GROUPS)?;
        let mut found = Sum::default();
        let mut statement = self.conn.prepare(EACH_GROUP)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            found.add_group(row.get_ref(0)?.as_str()?, row.get(1)?);
        }
        Sum::compare(expected, found, "index: groups of three characters in by_text", tell);
        Ok(())
    }
}

/// The steps of a sorted index as they are kept, and as they are found.
struct Steps<K> {
    /// Where each begins, what is kept of it, and what is found in it.
    kept: Vec<(K, u64, u64)>,
    /// The one that the last key was in.
    at: usize,
}

impl<K: Copy + Ord> Steps<K> {
    fn read(
        index: &Connection,
        sql: &str,
        step: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<(K, u64)>,
    ) -> rusqlite::Result<Self> {
        let mut statement = index.prepare(sql)?;
        let steps = statement.query_map((), |row| step(row).map(|(first, kept)| (first, kept, 0)))?;
        Ok(Self { kept: steps.collect::<Result<_, _>>()?, at: 0 })
    }

    /// Notes a key. They come in order.
    fn add(&mut self, key: K) {
        while self.kept.get(self.at + 1).is_some_and(|next| next.0 <= key) {
            self.at += 1;
        }
        if let Some(step) = self.kept.get_mut(self.at) {
            step.2 += 1;
        }
    }

    fn compare(&self, table: &str, least: K, expected: u64, tell: &mut Tell<'_>) {
        let in_order = self.kept.is_sorted_by(|one, other| one.0 < other.0);
        let begins = self.kept.first().is_none_or(|step| step.0 == least);
        if !in_order || !begins {
            tell(Report::Problem(format!("index: the steps of {table} are not in order")));
            return;
        }
        let in_all = self.kept.iter().map(|step| step.1).sum();
        compare(&format!("index: entries in all steps of {table}"), expected, in_all, tell);
        let wrong = self.kept.iter().filter(|step| step.1 != step.2).count();
        let wrong = u64::try_from(wrong).unwrap_or(u64::MAX);
        compare(
            &format!("index: steps of {table} with another number of entries than they have"),
            0,
            wrong,
            tell,
        );
    }
}
