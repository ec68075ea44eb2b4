//! Reads of the log against a plain list: from anywhere, in both directions, through any filter, over the end of what one read
//! looks at, with events that are gone.

use lyftr::event::{Event, Kind, LogFilter, LogRead, Recorded, Start};
use lyftr::store::Store;
use lyftr::store::sqlite::{Sqlite, Tuning};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{bare, name};

const SOURCES: [&str; 4] = ["webhook", "shop", "shop-2", "sh"];
const KINDS: [Kind; 3] = [Kind::Message, Kind::Status, Kind::Malformed];
const NAMES: [&str; 3] = ["+1", "Bot", "+2"];

/// An event by the numbers of its source, kind and parties.
type Shape = (usize, usize, Option<usize>, Option<usize>);

fn made(n: usize, (source, kind, from, thread): Shape) -> Event {
    let mut event = bare(SOURCES[source], &format!("{n}"), KINDS[kind]);
    let of = |which: Option<usize>| which.map(|which| name(NAMES[which]));
    event.from = of(from);
    event.to = of(thread);
    event.thread = of(thread);
    event.r#ref = of(from).filter(|_| source > 0);
    event.ts = (kind == 0).then(|| super::ts("2025-01-15T10:00:00Z"));
    event.with_implied()
}

fn shape() -> impl Strategy<Value = Shape> {
    (0..SOURCES.len(), 0..KINDS.len(), prop::option::of(0..NAMES.len()), prop::option::of(0..NAMES.len()))
}

fn filter() -> impl Strategy<Value = LogFilter> {
    let sources = prop_oneof![3 => Just(None), 4 => (0..SOURCES.len()).prop_map(|n| Some(SOURCES[n].to_owned())), 1 => Just(Some("none".to_owned()))];
    let kind = prop_oneof![2 => Just(None), 1 => (0..KINDS.len()).prop_map(|n| Some(KINDS[n]))];
    let party =
        || prop_oneof![4 => Just(None), 1 => (0..NAMES.len()).prop_map(|n| Some(NAMES[n].to_owned()))];
    let key = prop_oneof![4 => Just(None), 1 => (0..70_u32).prop_map(|n| Some(n.to_string()))];
    (sources, key, kind, party(), party(), party(), party()).prop_map(
        |(source, key, kind, from, to, thread, r#ref)| LogFilter {
            source,
            key,
            kind,
            from,
            to,
            thread,
            r#ref,
        },
    )
}

/// Reads on from one end to the other. Each read looks at something, in order, and says rightly whether there is more.
fn walk(
    store: &dyn Store,
    log: &[Recorded],
    filter: &LogFilter,
    limit: u32,
    stop_at: usize,
    backwards: bool,
) {
    let mut expected: Vec<_> = log.iter().collect();
    if backwards {
        expected.reverse();
    }
    let at = |position| expected.iter().position(|one| Some(one.position) == position);
    let mut start = if backwards { Start::Latest } else { Start::Beginning };
    let (mut done, mut reads) = (0, 0);
    loop {
        let mut found = Vec::new();
        let read = LogRead { start, filter: filter.clone(), limit };
        let reached = store.read_log(&read, &mut |recorded| {
            found.push(recorded);
            found.len() < stop_at
        });
        let reached = reached.unwrap().unwrap();
        let upto = at(reached.next).map_or(done, |at| at + 1);
        let matching = expected[done..upto].iter().filter(|one| filter.lets_through(&one.arrived.event));
        assert!(found.iter().eq(matching.copied()), "{start:?} {filter:?}: {found:?}");
        assert!(found.len() <= stop_at && found.len() <= usize::try_from(limit).unwrap());
        assert_eq!(reached.end, upto == expected.len());
        assert!(upto > done || reached.end, "it moves on");
        reads += 1;
        assert!(reads <= log.len() + 1);
        if reached.end {
            return;
        }
        done = upto;
        let next = reached.next.unwrap();
        start = if backwards { Start::Before(next) } else { Start::After(next) };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_read_of_the_log_is_that_of_a_plain_list(
        shapes in vec(shape(), 0..60),
        gone in vec(0..60_i64, 0..20),
        gap in 0..2_i64,
        walks in vec((filter(), 1..12_u32, 1..12_usize, any::<bool>()), 1..12),
        window in 1..9_u32,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let store = Sqlite::open(&path, Tuning { log_window: window, ..Tuning::default() }).unwrap();
        let events: Vec<_> = shapes.into_iter().enumerate().map(|(n, shape)| made(n, shape)).collect();
        for batch in events.chunks(7) {
            store.insert(batch).unwrap();
        }
        let past_lyftr = rusqlite::Connection::open(&path).unwrap();
        for seq in gone {
            past_lyftr.execute("DELETE FROM event WHERE seq = ?1", [seq]).unwrap();
        }
        // A gap that is wider than what one read looks at.
        past_lyftr.execute("UPDATE event SET seq = seq + 1000 WHERE seq > 30 AND ?1 = 1", [gap]).unwrap();
        let log = read_on(&store);
        let seqs: Vec<i64> = log.iter().map(|one| one.position.seq).collect();
        let mut statement = past_lyftr.prepare("SELECT seq FROM event ORDER BY seq").unwrap();
        let stored: Vec<i64> = statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(seqs, stored);
        for (filter, limit, stop_at, backwards) in walks {
            walk(&store, &log, &filter, limit, stop_at, backwards);
        }
        store.close();
    }
}

/// Nothing but the filter is between a follower and the end, so it must not take one read for each event.
#[test]
fn a_read_looks_at_as_many_events_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Sqlite::open(&folder.path().join("app.db"), Tuning { log_window: 10, ..Tuning::default() }).unwrap();
    let events: Vec<_> = (0..25).map(|n| made(n, (1, 1, None, None))).collect();
    store.insert(&events).unwrap();
    let log = read_on(&store);
    let nothing = LogFilter { source: Some("none".into()), ..LogFilter::default() };
    let (mut start, mut seen) = (Start::Beginning, Vec::new());
    loop {
        let (found, reached) = super::read_log(&store, start, &nothing, 5).unwrap();
        assert_eq!(found, []);
        seen.push(reached.next);
        if reached.end {
            break;
        }
        start = Start::After(reached.next.unwrap());
    }
    assert_eq!(seen, [9, 19, 24].map(|at: usize| Some(log[at].position)));
}

/// All events, by as many reads as it takes.
fn read_on(store: &dyn Store) -> Vec<Recorded> {
    let mut log = Vec::new();
    let mut start = Start::Beginning;
    loop {
        let (more, reached) = super::read_log(store, start, &LogFilter::default(), 1_000).unwrap();
        log.extend(more);
        if reached.end {
            return log;
        }
        start = Start::After(reached.next.unwrap());
    }
}
