//! Compares the index files with the messages.

use std::path::Path;

use rusqlite::Connection;

use super::{Expected, integrity, part};
use crate::message::Moment;
use crate::query::fold;
use crate::store::check::{Error, Report, Sum, Tell, compare};
use crate::store::sqlite::connection;
use crate::store::sqlite::existing::{CACHE_KIB, Existing};
use crate::store::sqlite::files::beside;
use crate::store::sqlite::identity::source_name;
use crate::store::sqlite::index::entries::Entries;
use crate::store::sqlite::index::key::{Entry, List};
use crate::store::sqlite::index::{Mark, VERSION, parties, version};
use crate::store::sqlite::party::Party;
use crate::store::sqlite::texts::{self, TextFile};
use crate::store::sqlite::view::State;

const SENDERS: &str = "SELECT number, messages FROM sender ORDER BY number";
/// What is told of an index that belongs to other messages.
const OTHER: &str = "index: it was derived from other messages, and is not compared; the service rebuilds it";

/// One snapshot of an index that can be compared.
#[derive(Debug)]
pub(super) struct Index {
    conn: Connection,
    texts: TextFile,
    mark: Mark,
}

/// The messages of each sender, as the entries come.
#[derive(Debug, Default)]
struct Senders(Vec<(i64, u64)>);

impl Index {
    /// Opens the index of the database at `path`. The error is the report to make instead.
    pub(super) fn open(path: &Path) -> Result<Self, Report> {
        let (path, texts) = (beside(path, "-index"), beside(path, "-texts"));
        if !path.exists() {
            return Err(Report::Remark("index: missing; a start of the service creates it".to_owned()));
        }
        let problem = |why: &dyn std::fmt::Display| {
            Report::Problem(format!("index: {why}; a start of the service rebuilds it"))
        };
        let open = || {
            let conn = connection::reader(&path, CACHE_KIB)?;
            conn.execute_batch("BEGIN")?;
            let mark = if version(&conn)? == VERSION { Some(Mark::read(&conn)?) } else { None };
            Ok::<_, rusqlite::Error>((conn, mark))
        };
        let (conn, mark) = open().map_err(|error| problem(&connection::explain(error)))?;
        let Some(mark) = mark else {
            let remark = "index: it has another version; the service rebuilds it";
            return Err(Report::Remark(remark.to_owned()));
        };
        let texts = TextFile::open_to_read(&texts).map_err(|error| problem(&error))?;
        Ok(Self { conn, texts, mark })
    }

    /// The same, if it is that of these messages.
    pub(super) fn of_these(self, existing: &Existing, tell: &mut Tell<'_>) -> Option<Self> {
        // If the messages cannot be read, that has been reported.
        let state = State::read(&existing.conn).ok();
        let fits = state.as_ref().is_some_and(|state| self.mark.fits(&existing.conn, state).unwrap_or(false));
        let remark = match state {
            Some(state) if fits && state.removed == self.mark.removed => return Some(self),
            Some(_) if fits => "index: it has yet to follow the last removals, and is not compared",
            _ => OTHER,
        };
        tell(Report::Remark(remark.to_owned()));
        None
    }

    /// The index holds the messages up to this arrival number.
    pub(super) fn upto(&self) -> i64 {
        self.mark.upto
    }

    /// Adds what the index should have of a message.
    pub(super) fn expect(
        &self,
        seq: i64,
        (parties, identity): ([Option<&str>; 2], &str),
        moment: Moment,
        text: Option<&str>,
        expected: &mut Expected,
    ) -> rusqlite::Result<()> {
        let number = |name: Option<&str>| -> rusqlite::Result<Party> {
            let Some(name) = name else { return Ok(Party::NONE) };
            // A name without a number is in no entry.
            Ok(parties::find(&self.conn, &parties::NewNames::default(), name)?.unwrap_or(Party(-1)))
        };
        let [sender, recipient] = parties;
        let (sender, recipient) = (number(sender)?, number(recipient)?);
        let source = source_name(identity).map_or(Ok(Party::ANY), |name| number(Some(name)))?;
        for list in List::of(sender, recipient, source) {
            add(&mut expected.entries, list, moment, seq);
        }
        if let Some(text) = text {
            expected.texts.add_text(seq, &fold(text));
        }
        Ok(())
    }

    pub(super) fn check(&self, expected: &Expected, tell: &mut Tell<'_>) -> Result<(), Error> {
        tell(Report::Part("pages of the index"));
        part("index", tell, |tell| integrity(&self.conn, "index", tell))?;
        tell(Report::Part("entries"));
        part("index", tell, |tell| self.check_entries(expected.entries, tell))?;
        tell(Report::Part("texts"));
        part("index", tell, |tell| self.check_texts(expected.texts, tell))
    }

    fn check_entries(&self, expected: Sum, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        let (mut found, mut senders) = (Sum::default(), Senders::default());
        let counts_are_right = Entries::new(&self.conn).check(&mut |entry| {
            let Entry { list, moment, seq, .. } = entry;
            add(&mut found, list, moment, seq);
            if list.recipient == Party::ANY && list.sender > Party::ANY && list.sender != Party::NONE {
                senders.add(list.sender.0);
            }
            Ok(())
        })?;
        Sum::compare(expected, found, "index: entries", tell);
        if !counts_are_right {
            tell(Report::Problem("index: the counts of entries are not those of the entries".to_owned()));
        }
        self.check_senders(&senders.0, tell)
    }

    fn check_senders(&self, expected: &[(i64, u64)], tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare(SENDERS)?;
        let kept: Vec<(i64, u64)> =
            statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let count = |senders: &[(i64, u64)]| u64::try_from(senders.len()).unwrap_or(u64::MAX);
        compare("index: senders", count(expected), count(&kept), tell);
        let wrong = expected.iter().filter(|sender| kept.binary_search(sender).is_err()).count();
        let wrong = u64::try_from(wrong).unwrap_or(u64::MAX);
        compare("index: senders with another number of messages than they have", 0, wrong, tell);
        Ok(())
    }

    fn check_texts(&self, expected: Sum, tell: &mut Tell<'_>) -> rusqlite::Result<()> {
        let mut found = Sum::default();
        match self.texts.check(&self.conn, &mut |seq, folded| found.add_text(seq, folded)) {
            Ok(()) => Sum::compare(expected, found, "index: texts", tell),
            Err(texts::Error::Index(error)) => return Err(error),
            Err(error) => tell(Report::Problem(format!("index: {error}"))),
        }
        Ok(())
    }
}

impl Senders {
    /// Counts a message. Those of one sender come one after the other.
    fn add(&mut self, sender: i64) {
        match self.0.last_mut() {
            Some((last, messages)) if *last == sender => *messages += 1,
            _ => self.0.push((sender, 1)),
        }
    }
}

fn add(sum: &mut Sum, list: List, moment: Moment, seq: i64) {
    sum.add(&[list.sender.0, list.recipient.0, moment.second, moment.nanosecond.into(), seq]);
}
