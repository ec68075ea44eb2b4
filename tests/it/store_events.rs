//! Events and the log of a store: what [`Store`] promises beyond messages of the built-in source. Most of these tests know a
//! store only by its URL, so that each engine is one more name in [`engines!`].

use std::ops::Range;
use std::sync::Arc;

use lyftr::event::{Data, Event, Kind, LogFilter, LogRead, Reached, Recorded, Source, Start};
use lyftr::message::{Name, Timestamp};
use lyftr::store::Store;

use crate::support::postgres::Database;
use crate::support::{open_store, sqlite_url};

mod arrival_numbers;
mod cursors;
pub(crate) mod erasure;
mod lookups;
mod messages;
mod model;
mod positions;
mod record;
mod volume;

/// A place for a store, which is opened at this URL.
struct Place {
    url: String,
    _kept: Box<dyn std::any::Any>,
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { url: sqlite_url(&folder.path().join("app.db")), _kept: Box::new(folder) }
    }

    fn postgres() -> Self {
        let database = Database::new();
        Self { url: database.url(), _kept: Box::new(database) }
    }

    fn open(&self) -> Arc<dyn Store> {
        open_store(&self.url)
    }
}

/// Runs each promise against each engine.
macro_rules! engines {
    ($($engine:ident)+: $promises:tt) => { $( $crate::store_events::engines! { @one $engine $promises } )+ };
    (@one $engine:ident ($($promise:ident)+)) => {
        mod $engine { $(
            #[test]
            fn $promise() {
                super::$promise(&crate::store_events::Place::$engine());
            }
        )+ }
    };
}
use engines;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn ts(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// A message in which every field has a value that its source can give it.
fn event(source: &str, key: &str) -> Event {
    let source = Source::new(source).unwrap();
    let of_others = |text: &str| (!source.is_built_in()).then(|| name(text));
    Event {
        key: name(key),
        kind: Kind::Message,
        r#type: Some(name("image")),
        from: Some(name("+491701")),
        to: Some(name("+14155550100")),
        user_id: of_others("user 7"),
        thread: Some(name("thread 7")),
        r#ref: of_others("about 7"),
        account: of_others("account 7"),
        ts: Some(ts("2025-01-15T10:00:00.50Z")),
        received_at: Some(ts("2025-01-15T10:00:01.234Z")),
        text: Some("Hello".into()),
        data: Some(Data::from_json("{\"n\": 1e400,\r\n \"x\":\"\\u00e9\"}")),
        source,
    }
    .with_implied()
}

/// An event of another kind than a message, with nothing but what it must have.
fn bare(source: &str, key: &str, kind: Kind) -> Event {
    let received_at = Some(ts("2025-01-15T10:00:01.000Z"));
    Event { received_at, ..Event::bare(Source::new(source).unwrap(), name(key), kind) }.with_implied()
}

fn keys(events: &[Recorded]) -> Vec<&str> {
    events.iter().map(|recorded| recorded.arrived.event.key.as_str()).collect()
}

/// One read of the log; `None` where the position names no event.
fn read_log(
    store: &dyn Store,
    start: Start,
    filter: &LogFilter,
    limit: u32,
) -> Option<(Vec<Recorded>, Reached)> {
    let mut found = Vec::new();
    let read = LogRead { start, filter: filter.clone(), limit };
    let reached = store.read_log(&read, &mut |recorded| {
        found.push(recorded);
        true
    });
    reached.unwrap().map(|reached| (found, reached))
}

/// All events, in the order of arrival.
fn all(store: &dyn Store) -> Vec<Recorded> {
    let (found, reached) = read_log(store, Start::Beginning, &LogFilter::default(), 1_000).unwrap();
    assert!(reached.end);
    found
}

fn numbered(source: &str, range: Range<usize>) -> Vec<Event> {
    range.map(|n| event(source, &format!("{source} {n}"))).collect()
}
