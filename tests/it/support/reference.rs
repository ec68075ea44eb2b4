//! The reference: a store that is a plain map. The tests of the engines hold every page and every count to it.
//!
//! It shares no code with the engines, neither for the order of time nor for the search: instants are compared as texts,
//! and a search text is looked for as the test wrote it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use lyftr::message::{Message, Timestamp};
use lyftr::query::{Filter, Listing, Page, PageCursor, Place, Search};
use lyftr::store::Store;

use super::Fate;

/// An instant and an id: the place of a message in the order of listings.
type Spot = (String, String);

/// Messages in the order of listings.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    rows: BTreeMap<Spot, Message>,
    places: HashMap<String, Spot>,
    /// The ids of messages that were erased.
    erased: HashSet<String>,
}

/// A filter as a test writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) source: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) search: Option<String>,
}

impl Wanted {
    pub(crate) fn from(sender: &str) -> Self {
        Self { from: Some(sender.to_owned()), ..Self::default() }
    }

    pub(crate) fn search(text: &str) -> Self {
        Self { search: Some(text.to_owned()), ..Self::default() }
    }

    pub(crate) fn filter(&self) -> Filter {
        let timestamp = |ts: &String| Timestamp::parse(ts).unwrap();
        Filter {
            source: self.source.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            since: self.since.as_ref().map(timestamp),
            until: self.until.as_ref().map(timestamp),
            search: self.search.as_deref().map(Search::new),
            ..Filter::default()
        }
    }

    pub(crate) fn matches(&self, message: &Message) -> bool {
        let ts = || instant(&message.ts.to_string());
        let holds = |search: &String| {
            let (text, search) = (message.text.as_deref().map(fold), fold(search));
            text.is_some_and(|text| text.contains(&search))
        };
        self.source.as_ref().is_none_or(|source| message.source.as_str() == source)
            && self.from.as_ref().is_none_or(|from| message.from.as_ref().unwrap().as_str() == from)
            && self.to.as_ref().is_none_or(|to| message.to.as_ref().unwrap().as_str() == to)
            && self.since.as_ref().is_none_or(|since| ts() >= instant(since))
            && self.until.as_ref().is_none_or(|until| ts() < instant(until))
            && self.search.as_ref().is_none_or(holds)
    }
}

impl Reference {
    pub(crate) fn insert(&mut self, message: &Message) -> Fate {
        let id = message.message_id.as_str();
        if self.erased.contains(id) {
            return Fate::Erased;
        }
        if let Some(place) = self.places.get(id) {
            return if self.rows[place] == *message { Fate::Duplicate } else { Fate::Conflict };
        }
        let place = (instant(&message.ts.to_string()), id.to_owned());
        self.places.insert(id.to_owned(), place.clone());
        self.rows.insert(place, message.clone());
        Fate::Created
    }

    /// Erases the messages of a person and those to one; returns how many that were.
    pub(crate) fn erase(&mut self, person: &str) -> usize {
        let is = |message: &Message| {
            [&message.from, &message.to].into_iter().flatten().any(|party| party.as_str() == person)
        };
        let gone: Vec<Spot> =
            self.rows.iter().filter(|(_, message)| is(message)).map(|(spot, _)| spot.clone()).collect();
        for spot in &gone {
            self.rows.remove(spot);
            self.places.remove(&spot.1);
            self.erased.insert(spot.1.clone());
        }
        gone.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The messages that match, in the order of listings.
    pub(crate) fn matching<'a>(&'a self, wanted: &Wanted) -> impl DoubleEndedIterator<Item = &'a Message> {
        self.rows.values().filter(|message| wanted.matches(message))
    }

    /// Reads a page from the store, which must be the page that the reference has. Returns it.
    #[track_caller]
    pub(crate) fn assert_page(&self, store: &dyn Store, wanted: &Wanted, page: &Page) -> Listing {
        let mut matching: Vec<_> = self.matching(wanted).collect();
        if page.descending {
            matching.reverse();
        }
        let precedes = |message: &Message, position: &Place| {
            let (one, other) = (spot(&Place::of(message)), spot(position));
            if page.descending { one > other } else { one < other }
        };
        let limit = usize::try_from(page.limit).unwrap();
        let after = |begin: usize| (begin, matching.len().min(begin + limit));
        let (begin, end) = match &page.cursor {
            None => after(usize::try_from(page.offset).unwrap_or(usize::MAX).min(matching.len())),
            Some(PageCursor::After(position)) => {
                after(matching.partition_point(|m| precedes(m, position) || Place::of(m) == *position))
            }
            Some(PageCursor::Before(position)) => {
                let end = matching.partition_point(|m| precedes(m, position));
                (end.saturating_sub(limit), end)
            }
        };
        let data: Vec<Message> = matching[begin..end].iter().map(|message| (*message).clone()).collect();
        let expected = Listing::new(page, data, count(matching.len()), begin > 0, end < matching.len());
        let listing = store.list(&wanted.filter(), page).unwrap();
        assert_eq!(listing, expected, "{wanted:?} {page:?}");
        listing
    }

    /// The store's counts are those of the reference.
    #[track_caller]
    pub(crate) fn assert_stats(&self, store: &dyn Store) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for message in self.rows.values() {
            *counts.entry(message.from.as_ref().unwrap().as_str()).or_default() += 1;
        }
        let mut top: Vec<_> = counts.iter().map(|(from, count)| (*from, *count)).collect();
        // The map has the senders by their phone number, and the sort is stable.
        top.sort_by_key(|(_, count)| Reverse(*count));
        top.truncate(10);
        let stats = store.stats().unwrap();
        let found: Vec<_> =
            stats.messages_per_sender.iter().map(|one| (one.from.as_str(), one.count)).collect();
        assert_eq!(found, top);
        let totals = (stats.total_messages, stats.senders_count);
        assert_eq!(totals, (count(self.rows.len()), count(counts.len())));
        // Written as one of the messages of that instant.
        let found = [stats.first_message_ts, stats.last_message_ts];
        let found = found.map(|ts| ts.map(|ts| instant(&ts.to_string())));
        let expected = [self.rows.first_key_value(), self.rows.last_key_value()];
        assert_eq!(found, expected.map(|row| row.map(|(place, _)| place.0.clone())));
    }
}

impl FromIterator<Message> for Reference {
    fn from_iter<T: IntoIterator<Item = Message>>(messages: T) -> Self {
        let mut reference = Self::default();
        for message in messages {
            assert_eq!(reference.insert(&message), Fate::Created);
        }
        reference
    }
}

/// The instant, as a text that sorts like time.
fn instant(ts: &str) -> String {
    let (second, fraction) = ts.strip_suffix('Z').unwrap().split_at(19);
    format!("{second}{:0<9}", fraction.trim_start_matches('.'))
}

fn spot(place: &Place) -> Spot {
    let ts = Timestamp::from_parts(place.moment.second, place.moment.nanosecond, 9).unwrap();
    (instant(&ts.to_string()), place.message_id.as_str().to_owned())
}

/// Without the differences of case, as far as the tests' texts have any.
fn fold(text: &str) -> String {
    text.to_lowercase().replace('ß', "ss")
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap()
}
