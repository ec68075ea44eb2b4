//! The messages with one id: there is one for each source at most, found by the key of events.

use std::ops::Range;

use super::connection::{PgError, Session};
use super::rows;
use crate::event::{Event, Source};
use crate::message::{Message, Name};
use crate::query::{Filter, Place};
use crate::store::matches::{Matches, to_u64, to_usize};

/// The sources that the database has events of, by a few looks at the key of events for each.
const SOURCES: &str = "\
    WITH RECURSIVE found AS (
        SELECT bucket::smallint, (SELECT min(source) FROM event WHERE event.bucket = buckets.bucket) AS source
        FROM generate_series(0, 63) AS buckets (bucket)
        UNION ALL
        SELECT bucket, (SELECT min(event.source) FROM event
                        WHERE event.bucket = found.bucket AND event.source > found.source)
        FROM found WHERE source IS NOT NULL
    )
    SELECT DISTINCT source FROM found WHERE source IS NOT NULL";

/// The messages that match a filter with an id, in the order of listings.
pub(super) struct ById(Vec<Message>);

impl ById {
    /// Finds the messages with this id that match the rest of `filter`.
    pub(super) fn find(session: &Session<'_>, id: &str, filter: &Filter) -> Result<Self, PgError> {
        let Ok(id) = Name::new(id) else { return Ok(Self(Vec::new())) };
        let sources: Vec<Source> = if let Some(name) = &filter.source {
            Source::new(name).into_iter().collect()
        } else {
            let rows = session.query(SOURCES, &[])?;
            rows.iter().map(|row| rows::source(row.try_get(0)?)).collect::<Result<_, PgError>>()?
        };
        let keys: Vec<_> = sources.iter().map(|source| (source, &id)).collect();
        let found = rows::stored(session, &keys)?;
        let mut found: Vec<Message> = found.iter().filter_map(Event::message).collect();
        found.retain(|message| matches(filter, message));
        found.sort_by_key(Place::of);
        Ok(Self(found))
    }
}

/// Whether a message matches a filter, apart from its id.
fn matches(filter: &Filter, message: &Message) -> bool {
    let Filter { id: _, source, from, to, since, until, search } = filter;
    let is = |wanted: &Option<String>, found: Option<&Name>| {
        wanted.as_deref().is_none_or(|wanted| found.map(Name::as_str) == Some(wanted))
    };
    let moment = message.ts.moment();
    source.as_deref().is_none_or(|source| message.source.as_str() == source)
        && is(from, message.from.as_ref())
        && is(to, message.to.as_ref())
        && since.is_none_or(|since| moment >= since.moment())
        && until.is_none_or(|until| moment < until.moment())
        && search.as_ref().is_none_or(|search| message.text.as_deref().is_some_and(|text| search.is_in(text)))
}

impl Matches for ById {
    type Error = PgError;

    fn total(&self) -> Result<u64, PgError> {
        Ok(to_u64(self.0.len()))
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, PgError> {
        let is_before = |message: &Message| {
            let place = Place::of(message);
            place < *position || including && place == *position
        };
        Ok(to_u64(self.0.partition_point(is_before)))
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, PgError> {
        Ok(self.0.get(to_usize(range.start)..to_usize(range.end)).unwrap_or_default().to_vec())
    }
}
