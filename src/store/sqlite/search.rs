//! Messages by a part of their text.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::ops::Range;
use std::time::Instant;

use rusqlite::{Connection, ffi};

use super::failed::Failed;
use super::index::key::List;
use super::ordered::Ordered;
use super::party::Party;
use super::recent::Part;
use super::rows;
use super::texts::{self, Conditions, TextFile};
use crate::message::Moment;
use crate::query::{Filter, Page, Place, Search as Text};
use crate::store::matches::{Anchor, Entry};
use crate::store::nearest::Nearest;

const TEXT: &str = "SELECT ts_second, ts_nanosecond, text FROM message WHERE seq = ?1";

/// So few messages are looked at one by one.
const FEW: u64 = 500;
/// A row of a message costs as much as so many pages of texts, since rows lie far apart and pages in order.
const PAGES_A_ROW: u64 = 5;

/// What a search works with.
pub(super) struct Search<'a> {
    pub(super) messages: &'a Connection,
    pub(super) index: &'a Connection,
    pub(super) texts: &'a TextFile,
    pub(super) parts: &'a [Part],
    /// The messages that the parties of the filter leave, or its source.
    pub(super) list: &'a Ordered<'a>,
    /// The sender and the recipient that each message must have.
    pub(super) parties: List,
    pub(super) range: Range<Moment>,
    /// What each message has to match as a whole, unless list, parties and range say all of it.
    pub(super) rest: Option<&'a Filter>,
    pub(super) deadline: Instant,
}

impl<'a> Search<'a> {
    /// Finds the messages that match and hold `text`, if there is one, as far as `page` needs them.
    pub(super) fn run(&self, text: Option<&Text>, page: &'a Page) -> Result<Nearest<'a, Connection>, Failed> {
        let mut found = Nearest::new(self.messages, page);
        let anchor = Anchor::of(page).position;
        let mut offer = |moment, seq| {
            let place = anchor.map(|anchor| self.compare(moment, seq, anchor)).transpose()?;
            found.offer(Entry { moment, seq }, place);
            Ok(())
        };
        match (text, self.rest) {
            (Some(text), _) if !self.is_cheaper_one_by_one(text)? => self.by_text(text, &mut offer)?,
            (Some(text), None) => self.one_by_one(text, &mut offer)?,
            (_, Some(filter)) => self.whole_one_by_one(filter, &mut offer)?,
            (None, None) => {}
        }
        Ok(found)
    }

    /// Whether to look at the messages that the rest of the filter leaves, rather than at the blocks that may hold the text.
    fn is_cheaper_one_by_one(&self, text: &Text) -> Result<bool, Failed> {
        let count = self.list.count(&self.range)?;
        if count <= FEW {
            return Ok(true);
        }
        let give_up = || Instant::now() > self.deadline;
        let mut search = texts::Search::new(text.folded(), self.conditions(), &give_up);
        let pages = search.pages(self.index).map_err(failed)?;
        Ok(count.saturating_mul(PAGES_A_ROW) <= pages)
    }

    /// What must be true of a message beside its text.
    fn conditions(&self) -> Conditions {
        let number = |party: Party| (party != Party::ANY).then_some(party.0);
        Conditions {
            sender: number(self.parties.sender),
            recipient: number(self.parties.recipient),
            moments: self.range.clone(),
        }
    }

    /// How a message stands to a place.
    fn compare(&self, moment: Moment, seq: i64, place: &Place) -> rusqlite::Result<Ordering> {
        Ok(match moment.cmp(&place.moment) {
            Ordering::Equal => (*rows::order_key(self.messages, seq)?).cmp(&rows::order_key_of(place)),
            order => order,
        })
    }

    /// Looks at each message that the rest of the filter leaves.
    fn one_by_one(&self, text: &Text, offer: Offer<'_>) -> Result<(), Failed> {
        let mut by_seq = self.messages.prepare_cached(TEXT)?;
        self.list.each(&self.range, &mut |seq| {
            let moment = by_seq.query_row([seq], |row| {
                let holds = row.get_ref(2)?.as_str_or_null()?.is_some_and(|one| text.is_in(one));
                let moment = Moment { second: row.get(0)?, nanosecond: row.get(1)? };
                Ok(holds.then_some(moment))
            })?;
            moment.map_or(Ok(()), |moment| offer(moment, seq))
        })
    }

    /// Looks at each message of the list as a whole.
    fn whole_one_by_one(&self, filter: &Filter, offer: Offer<'_>) -> Result<(), Failed> {
        let mut by_seq = self.messages.prepare_cached(rows::BY_SEQ)?;
        self.list.each(&self.range, &mut |seq| {
            let message = by_seq.query_row([seq], rows::message)?;
            if filter.lets_through(&message) { offer(message.ts.moment(), seq) } else { Ok(()) }
        })
    }

    /// Looks into the folded texts.
    fn by_text(&self, text: &Text, offer: Offer<'_>) -> Result<(), Failed> {
        let refused = RefCell::new(None);
        let give_up = || refused.borrow().is_some() || Instant::now() > self.deadline;
        let mut by_seq = self.messages.prepare_cached(rows::BY_SEQ)?;
        let mut matches = |seq| match self.rest {
            Some(filter) => Ok(filter.lets_through(&by_seq.query_row([seq], rows::message)?)),
            None => Ok(true),
        };
        let mut each = |moment, seq| {
            if refused.borrow().is_none() {
                let offered =
                    matches(seq).and_then(|it_does| if it_does { offer(moment, seq) } else { Ok(()) });
                *refused.borrow_mut() = offered.err();
            }
        };
        let mut search = texts::Search::new(text.folded(), self.conditions(), &give_up);
        let searched = search
            .segments(self.texts, self.index, &mut each)
            .and_then(|()| self.parts.iter().try_for_each(|part| search.blocks(&part.texts, &mut each)));
        if let Some(error) = refused.take() {
            return Err(rows::missing(error));
        }
        searched.map_err(failed)
    }
}

fn failed(error: texts::Error) -> Failed {
    match error {
        texts::Error::GivenUp => Failed::Database(failure(ffi::SQLITE_INTERRUPT, None)),
        texts::Error::Index(error) => Failed::Index(error),
        other => Failed::Index(failure(ffi::SQLITE_CORRUPT, Some(other.to_string()))),
    }
}

/// Takes a message that matches.
type Offer<'o> = &'o mut dyn FnMut(Moment, i64) -> rusqlite::Result<()>;

fn failure(code: std::ffi::c_int, why: Option<String>) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), why)
}
