//! Messages by a part of their text: candidates are gathered in the cheapest way there is, and each is looked at.

use std::ops::Range;

use rusqlite::{CachedStatement, Connection, Row};

use super::failed::Failed;
use super::index::IndexView;
use super::kept::latest;
use super::order::Order;
use crate::message::Moment;
use crate::query::{Filter, Page, Place, Search as Text};
use crate::store::matches::{Anchor, Entry};
use crate::store::nearest::Nearest;

const CANDIDATE: &str = "\
    SELECT seq, ts_second, ts_nanosecond, message_id, source, sender, recipient, text FROM message WHERE seq = ?1";
const CANDIDATES_AFTER: &str = "\
    SELECT seq, ts_second, ts_nanosecond, message_id, source, sender, recipient, text FROM message
    WHERE seq > ?1 ORDER BY seq";

/// So few candidates are looked at without asking for better ones.
const FEW: u64 = 500;
/// Most trigrams that are looked up for a text; the candidates are compared with the whole of it.
const TRIGRAMS_MAX: usize = 16;

/// What a search works with.
pub(super) struct Search<'a> {
    pub(super) messages: &'a Connection,
    pub(super) index: &'a IndexView<'a>,
    pub(super) filter: &'a Filter,
    /// The messages that the numbers of the filter leave, and the range of time.
    pub(super) order: &'a dyn Order,
    pub(super) range: Range<Moment>,
    /// Numbers or times leave some messages out.
    pub(super) narrowed: bool,
}

impl<'a> Search<'a> {
    /// Finds the messages that match and hold `text`, as far as `page` needs them.
    pub(super) fn run(&self, text: &Text, page: &'a Page) -> Result<Nearest<'a, Connection>, Failed> {
        let others = self.order.rank(self.range.end)?.saturating_sub(self.order.rank(self.range.start)?);
        let trigrams = trigrams(text.folded());
        let indexed = self.index.state.texts_upto;
        let unindexed = u64::try_from(latest(self.messages)?.saturating_sub(indexed)).unwrap_or(0);
        let few = self.narrowed && others <= FEW.max(unindexed);
        // As soon as there are more candidates by text than by the other filters, those are the better way.
        let most = if self.narrowed { others } else { u64::MAX };
        let mut pass = Pass::new(self, text, page)?;
        if !few && !trigrams.is_empty() && pass.holding(&trigrams, most)? {
            pass.arrived_after(indexed)?;
            return Ok(pass.sieve.found);
        }
        let mut pass = Pass::new(self, text, page)?;
        if self.narrowed {
            self.order.entries(self.range.clone(), i64::MAX, &mut |entry| pass.candidate(entry.seq))?;
        } else {
            pass.arrived_after(0)?;
        }
        Ok(pass.sieve.found)
    }
}

/// Groups of three characters that a text which holds `text` must have; none if it is shorter than that.
fn trigrams(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut trigrams: Vec<String> = chars.windows(3).map(|three| three.iter().collect()).collect();
    trigrams.sort_unstable();
    trigrams.dedup();
    trigrams.truncate(TRIGRAMS_MAX);
    trigrams
}

/// Goes through candidates.
struct Pass<'s, 'a> {
    search: &'s Search<'a>,
    by_seq: CachedStatement<'s>,
    sieve: Sieve<'s, 'a>,
}

impl<'s, 'a> Pass<'s, 'a> {
    fn new(search: &'s Search<'a>, text: &'s Text, page: &'a Page) -> Result<Self, Failed> {
        let found = Nearest::new(search.messages, page);
        let sieve = Sieve { filter: search.filter, text, anchor: Anchor::of(page).position, found };
        Ok(Self { search, by_seq: search.messages.prepare_cached(CANDIDATE)?, sieve })
    }

    /// Those that the index names. False, and to no avail, if it names more than `most`.
    fn holding(&mut self, trigrams: &[String], most: u64) -> Result<bool, Failed> {
        let mut failed = None;
        let mut named = 0;
        let index = self.search.index;
        index
            .matches(trigrams, |seq| {
                named += 1;
                failed = if named <= most { self.candidate(seq).err() } else { None };
                named <= most && failed.is_none()
            })
            .map_err(Failed::Index)?;
        failed.map_or(Ok(named <= most), |failed| Err(failed.into()))
    }

    fn arrived_after(&mut self, seq: i64) -> rusqlite::Result<()> {
        let mut statement = self.search.messages.prepare_cached(CANDIDATES_AFTER)?;
        let mut rows = statement.query([seq])?;
        while let Some(row) = rows.next()? {
            self.sieve.look(row)?;
        }
        Ok(())
    }

    fn candidate(&mut self, seq: i64) -> rusqlite::Result<()> {
        let mut rows = self.by_seq.query([seq])?;
        match rows.next()? {
            Some(row) => self.sieve.look(row),
            None => Ok(()),
        }
    }
}

/// Keeps the candidates that match.
struct Sieve<'s, 'a> {
    filter: &'s Filter,
    text: &'s Text,
    anchor: Option<&'a Place>,
    found: Nearest<'a, Connection>,
}

impl Sieve<'_, '_> {
    fn look(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let moment = Moment { second: row.get(1)?, nanosecond: row.get(2)? };
        if !self.matches(moment, row)? {
            return Ok(());
        }
        let place = (moment, row.get_ref(3)?.as_str()?, row.get_ref(4)?.as_str()?);
        let place = self
            .anchor
            .map(|anchor| place.cmp(&(anchor.moment, anchor.message_id.as_str(), anchor.source.as_str())));
        self.found.offer(Entry { moment, seq: row.get(0)? }, place);
        Ok(())
    }

    fn matches(&self, moment: Moment, row: &Row<'_>) -> rusqlite::Result<bool> {
        // The order is of the source already, and an id is not searched for here.
        let Filter { from, to, since, until, search: _, id: _, source: _ } = self.filter;
        let is = |number: &Option<String>, column| -> rusqlite::Result<bool> {
            Ok(match number {
                Some(number) => row.get_ref(column)?.as_str_or_null()? == Some(number.as_str()),
                None => true,
            })
        };
        Ok(since.is_none_or(|since| moment >= since.moment())
            && until.is_none_or(|until| moment < until.moment())
            && is(from, 5)?
            && is(to, 6)?
            && row.get_ref(7)?.as_str_or_null()?.is_some_and(|text| self.text.is_in(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_trigrams_of_its_characters() {
        assert_eq!(trigrams(""), [""; 0]);
        assert_eq!(trigrams("ab"), [""; 0]);
        assert_eq!(trigrams("abc"), ["abc"]);
        assert_eq!(trigrams("привет"), ["вет", "иве", "при", "рив"]);
        assert_eq!(trigrams("aaaa"), ["aaa"]);
        assert_eq!(trigrams(&('a'..='z').collect::<String>()).len(), TRIGRAMS_MAX);
    }
}
