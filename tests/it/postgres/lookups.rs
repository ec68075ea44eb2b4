//! Events that are looked up: how much of the table that takes, and what is held back. What they promise on every engine is in
//! `store_events/lookups.rs`.

use lyftr::event::{LogFilter, Start};
use lyftr::store::Store;

use super::events::plain;
use super::log::{everything, keys, page};
use super::open;
use crate::support::eventually;
use crate::support::postgres::Database;

const EVENTS: usize = 45_000;

fn of(source: &str, key: &str) -> LogFilter {
    LogFilter { source: Some(source.into()), key: Some(key.into()), ..everything() }
}

/// A log of this many events, of which the server's statistics know only the first few.
fn unknown_to_the_planner() -> Database {
    let database = Database::new();
    let store = open(&database);
    let add = |range: std::ops::RangeInclusive<usize>| {
        let (first, last) = (range.start(), range.end());
        database.query(
            &format!(
                "INSERT INTO event (source, key, kind) SELECT 'shop', n::text, 9 FROM generate_series({first}, {last}) AS n"
            ),
            &[],
        );
    };
    database.query("ALTER TABLE event SET (autovacuum_enabled = false)", &[]);
    add(1..=100);
    database.query("ANALYZE event", &[]);
    // By the greatest number there is, it takes the others to be few.
    database.query("SELECT setval('event_batch', last_value + 1000000000) FROM event_batch", &[]);
    add(101..=EVENTS);
    let is_derived =
        "SELECT count(*) FROM derived WHERE least(figures_upto, texts_upto) >= (SELECT max(seq) FROM event)";
    eventually("all of them are passed over", || (database.number(is_derived) == 1).then_some(()));
    store.close();
    database
}

/// The rows of the table that were read so far, by whatever way.
fn rows_read(database: &Database) -> i64 {
    // A session tells of itself when it ends.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually("the sessions have ended", || (database.number(others) == 0).then_some(()));
    database.number("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'event'")
}

#[test]
fn the_event_of_a_key_is_read_without_those_before_it_and_after_it() {
    let database = unknown_to_the_planner();
    let before = rows_read(&database);
    let store = open(&database);
    let (_, reached) = page(&store, Start::Beginning, 1_000, &everything()).unwrap();
    let middle = reached.next.unwrap();
    for start in [Start::Beginning, Start::After(middle), Start::Latest] {
        for (key, count) in [("44000", 1), ("none", 0)] {
            let (found, reached) = page(&store, start, 10, &of("shop", key)).unwrap();
            assert_eq!((found.len(), reached.end), (count, true), "{start:?} {key}");
        }
    }
    assert_eq!(page(&store, Start::Before(middle), 10, &of("shop", "7")).unwrap().0.len(), 1);
    store.close();
    drop(store);
    let rows = rows_read(&database) - before;
    assert!((1_000..1_100).contains(&rows), "a page of 1000, and {rows} rows in all");
}

/// A batch that is late hides what has a greater number, from a look-up as from every read.
#[test]
fn what_is_held_back_is_found_later_by_who_reads_on() {
    let database = Database::new();
    let store = open(&database);
    store.insert(&[plain("before")]).unwrap();
    let late = database.session_that_stores("late");
    store.insert(&[plain("after")]).unwrap();
    let mut places = Vec::new();
    for key in ["late", "after"] {
        for start in [Start::Beginning, Start::Latest] {
            let (found, reached) = page(&store, start, 10, &of("webhook", key)).unwrap();
            assert_eq!((keys(&found), reached.end), (vec![], true), "{start:?} {key}");
            let at = store.event_at(reached.next.unwrap()).unwrap().unwrap();
            assert_eq!(at.arrived.event.key.as_str(), "before");
            places.push((key, reached.next.unwrap()));
        }
    }
    late.run("COMMIT");
    for (key, place) in places {
        let (found, reached) = page(&store, Start::After(place), 10, &of("webhook", key)).unwrap();
        assert_eq!((keys(&found), reached.end), (vec![key], true));
    }
}
