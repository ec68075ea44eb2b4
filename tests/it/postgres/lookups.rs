//! Events that are looked up: how much of the table that takes, and what is held back. What they promise on every engine is in
//! `store_events/lookups.rs`.

use lyftr::event::{Kind, LogFilter, Start};
use lyftr::store::Store;

use super::events::{full, name, plain};
use super::log::{everything, keys, page};
use super::open;
use crate::support::eventually;
use crate::support::postgres::Database;

const EVENTS: usize = 45_000;

fn about(object: &str) -> LogFilter {
    LogFilter { r#ref: Some(object.into()), ..everything() }
}

fn of(source: &str, key: &str) -> LogFilter {
    LogFilter { source: Some(source.into()), key: Some(key.into()), ..everything() }
}

/// A log of this many events, of which the server's statistics know only the first few. The expression says of the nth event
/// what it is about.
fn unknown_to_the_planner(reference: &str) -> Database {
    let database = Database::new();
    let store = open(&database);
    let add = |range: std::ops::RangeInclusive<usize>| {
        let (first, last) = (range.start(), range.end());
        database.query(
            &format!(
                "INSERT INTO event (source, key, kind, ref)
                 SELECT 'shop', n::text, 9, {reference} FROM generate_series({first}, {last}) AS n"
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
    let database = unknown_to_the_planner("NULL");
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

#[test]
fn events_about_an_object_are_read_without_those_between_them() {
    // The planner takes half of the events to be about one object, then each to be about another one.
    let half = "CASE WHEN n <= 110 AND n % 2 = 0 OR n % 15000 = 7 THEN 'one' ELSE md5(n::text) END";
    for (reference, analyzed) in [(half, false), ("(n % 15000)::text", true)] {
        let object = if analyzed { "5" } else { "one" };
        let database = unknown_to_the_planner(reference);
        if analyzed {
            database.query("ANALYZE event", &[]);
        }
        // It weighs an index and the table as it does where there are millions of events.
        database.query(&format!("ALTER DATABASE {} SET random_page_cost = 40", database.name()), &[]);
        let expected: Vec<i64> = database
            .query("SELECT seq FROM event WHERE ref = $1 ORDER BY seq", &[&object])
            .iter()
            .map(|row| row.get(0))
            .collect();
        let before = rows_read(&database);
        let store = open(&database);
        let seqs = |start, limit| {
            let (found, reached) = page(&store, start, limit, &about(object)).unwrap();
            (found.iter().map(|one| one.position.seq).collect::<Vec<_>>(), reached)
        };
        let (found, reached) = seqs(Start::Beginning, 1_000);
        assert_eq!((&found, reached.end), (&expected, true));
        let (_, middle) = seqs(Start::Beginning, 2);
        assert!(!middle.end);
        for (start, expected) in [
            (Start::After(middle.next.unwrap()), expected[2..].to_vec()),
            (Start::Before(reached.next.unwrap()), expected.iter().rev().copied().collect()),
            (Start::Latest, expected.iter().rev().copied().collect()),
        ] {
            let (found, reached) = seqs(start, 1_000);
            assert_eq!((found, reached.end), (expected, true), "{start:?}");
        }
        assert_eq!(page(&store, Start::Beginning, 10, &about("nothing")).unwrap().0, []);
        store.close();
        drop(store);
        let rows = rows_read(&database) - before;
        assert!(rows < 2_000, "{rows} rows for the {} of {object}, five times", expected.len());
    }
}

/// As many as a read may look at are looked at, though another filter lets none through.
#[test]
fn a_read_about_an_object_of_very_many_events_goes_on_with_another_one() {
    let database = unknown_to_the_planner("'all'");
    let store = open(&database);
    let filter = LogFilter { source: Some("none".into()), ..about("all") };
    for start in [Start::Beginning, Start::Latest] {
        let (mut from, mut pages) = (start, 0);
        loop {
            let (found, reached) = page(&store, from, 10, &filter).unwrap();
            assert_eq!(found, []);
            pages += 1;
            if reached.end {
                break;
            }
            let next = reached.next.unwrap();
            from = if start.is_backwards() { Start::Before(next) } else { Start::After(next) };
        }
        assert_eq!(pages, EVENTS.div_ceil(20_000), "{start:?}");
    }
}

/// A batch that is late hides what has a greater number, from a look-up as from every read.
#[test]
fn what_is_held_back_is_found_later_by_who_reads_on() {
    let database = Database::new();
    let store = open(&database);
    store.insert(&[plain("before")]).unwrap();
    let late = database.session();
    late.run("BEGIN; INSERT INTO event (source, key, kind, ref) VALUES ('shop', 'late', 1, 'm')");
    let mut after = full("shop", "after", Kind::Reaction);
    after.r#ref = Some(name("m"));
    store.insert(&[after]).unwrap();
    let lookups = [
        (of("shop", "late"), vec!["late"]),
        (of("shop", "after"), vec!["after"]),
        (about("m"), vec!["late", "after"]),
    ];
    let mut places = Vec::new();
    for (filter, expected) in lookups {
        for start in [Start::Beginning, Start::Latest] {
            let (found, reached) = page(&store, start, 10, &filter).unwrap();
            assert_eq!((keys(&found), reached.end), (vec![], true), "{start:?} {filter:?}");
            let at = store.event_at(reached.next.unwrap()).unwrap().unwrap();
            assert_eq!(at.arrived.event.key.as_str(), "before");
            places.push((filter.clone(), reached.next.unwrap(), expected.clone()));
        }
    }
    late.run("COMMIT");
    for (filter, place, expected) in places {
        let (found, reached) = page(&store, Start::After(place), 10, &filter).unwrap();
        assert_eq!((keys(&found), reached.end), (expected, true), "{filter:?}");
    }
}
