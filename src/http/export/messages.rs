//! The messages of an export, in the order of lists: page after page, each from the place where the last one ended.

use super::{Pages, Reached, Rows};
use crate::message::Message;
use crate::query::{Filter, Page, PageCursor, Place};
use crate::store::{self, Store};

/// Maximum number of messages that a page is read of.
const PAGE_MESSAGES: u32 = 1_000;
/// A shorter search text is in no index.
const INDEXED_CHARS_MIN: usize = 3;
/// A search looks at about so many texts to find one, since it looks at what lies together.
const TEXTS_A_MATCH: u64 = 100;
/// To read a message costs as much as to look at so many texts.
const TEXTS_A_MESSAGE: u64 = 10;

/// The messages that a filter selects.
#[derive(Debug)]
pub(in crate::http) struct Messages {
    filter: Filter,
    way: Way,
    descending: bool,
    /// The page begins there.
    place: Option<PageCursor>,
    /// How many there may be yet.
    left: u64,
}

/// How they are found.
#[derive(Debug)]
enum Way {
    /// By the filter, unless the first page shows that the other way is shorter.
    Undecided,
    /// By the filter: the store finds them.
    Found,
    /// By a look at each message that this part of the filter selects, which the store has in order.
    LookedAt(Filter),
}

impl Messages {
    /// The messages from where the page begins and in its order, `limit` of them at most.
    pub(in crate::http) fn new(filter: Filter, page: Page, limit: Option<u64>) -> Self {
        let is_short = |text: &str| text.chars().nth(INDEXED_CHARS_MIN - 1).is_none();
        let way = match (filter.search.as_ref(), ordered(&filter)) {
            (Some(search), Some(ordered)) if is_short(search.folded()) => Way::LookedAt(ordered),
            (_, Some(_)) => Way::Undecided,
            (_, None) => Way::Found,
        };
        let Page { descending, cursor, .. } = page;
        Self { filter, way, descending, place: cursor, left: limit.unwrap_or(u64::MAX) }
    }

    /// Decides after the first page, by the number of all that are found.
    fn decide(&self, store: &dyn Store, found: u64) -> Result<Way, store::Error> {
        let Some(ordered) = ordered(&self.filter) else { return Ok(Way::Found) };
        let all = store.list(&ordered, &Page { limit: 1, ..self.page() })?.total;
        // What it costs to find one page, and with it the number of all, in texts to look at; and what to look at all messages.
        let to_look_at_all = all.saturating_mul(TEXTS_A_MESSAGE);
        let a_page = match self.filter.search {
            Some(_) => found.saturating_mul(TEXTS_A_MATCH).min(all),
            None => to_look_at_all,
        };
        let pages = found.min(self.left).div_ceil(PAGE_MESSAGES.into());
        Ok(if pages.saturating_mul(a_page) > to_look_at_all { Way::LookedAt(ordered) } else { Way::Found })
    }

    fn page(&self) -> Page {
        Page { limit: PAGE_MESSAGES, offset: 0, descending: self.descending, cursor: self.place.clone() }
    }
}

/// The part of a filter whose messages each engine has in order; `None` if that is all of it.
fn ordered(filter: &Filter) -> Option<Filter> {
    let Filter { id, source, from, to, since, until, search } = filter;
    let is_of_two = source.is_some() && (from.is_some() || to.is_some());
    if id.is_some() || search.is_none() && !is_of_two {
        return None;
    }
    let source = source.clone().filter(|_| !is_of_two);
    Some(Filter {
        id: None,
        source,
        from: from.clone(),
        to: to.clone(),
        since: *since,
        until: *until,
        search: None,
    })
}

impl Pages for Messages {
    const NAME: &'static str = "messages";
    const COLUMNS: &'static [&'static str] = Rows::OF_MESSAGES;

    fn read(&mut self, store: &dyn Store, rows: &mut Rows) -> Result<Reached, store::Error> {
        let mut page = self.page();
        let mut found = None;
        let messages = match &self.way {
            Way::LookedAt(ordered) => store.messages(ordered, &page)?,
            way => {
                page.limit = u32::try_from(self.left).unwrap_or(u32::MAX).min(page.limit);
                if matches!(way, Way::Undecided) {
                    let listing = store.list(&self.filter, &page)?;
                    found = Some(listing.total);
                    listing.data
                } else {
                    store.messages(&self.filter, &page)?
                }
            }
        };
        let is_looked_at = matches!(self.way, Way::LookedAt(_));
        let is_wanted = |message: &&Message| !is_looked_at || self.filter.lets_through(message);
        for message in messages.iter().filter(is_wanted) {
            rows.message(message);
            self.left -= 1;
            if self.left == 0 {
                return Ok(Reached::End);
            }
        }
        let is_full = u64::try_from(messages.len()).unwrap_or(u64::MAX) >= page.limit.into();
        let Some(last) = messages.last().filter(|_| is_full) else { return Ok(Reached::End) };
        self.place = Some(PageCursor::After(Place::of(last)));
        if let Some(found) = found {
            self.way = self.decide(store, found)?;
        }
        Ok(Reached::More)
    }
}
