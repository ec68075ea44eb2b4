//! Ways that the server chooses: by an index where there is one.

use lyftr::event::{LogFilter, LogRead, Start};
use lyftr::query::{Filter, Page};
use lyftr::store::Store;

use super::log::assorted;
use super::open;
use crate::support::postgres::Database;
use crate::support::{eventually, settle};

/// The number of events that sessions have read without an index, once all of them have ended: each tells of itself then.
fn passed_over(database: &Database) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually("the sessions have ended", || (database.number(others) == 0).then_some(()));
    database.number("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'event'")
}

#[test]
fn a_range_of_time_is_read_by_an_index_and_not_by_going_through_all_messages() {
    let database = Database::new();
    let store = open(&database);
    // A year of messages, by half a dozen senders.
    database.query(
        "INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
         SELECT 'm' || n, 0, '+' || 1 + n % 6, '+9', 1700000000 + n::bigint * 631, 0, 0, 'text'
         FROM generate_series(0, 49999) AS n",
        &[],
    );
    for made in ["SELECT messages FROM derived", "SELECT count(*) FROM message_text"] {
        eventually("what is derived is made", || (database.number(made) == 50_000).then_some(()));
    }
    store.close();
    drop(store);
    database.query("ANALYZE", &[]);
    // The planner weighs the two as it does where there are millions of messages.
    database.query(&format!("ALTER DATABASE {} SET random_page_cost = 40", database.name()), &[]);
    let before = passed_over(&database);

    let store = open(&database);
    let middle = lyftr::message::Timestamp::parse("2024-05-15T10:00:00Z").unwrap();
    let end = lyftr::message::Timestamp::parse("2024-05-15T12:00:00Z").unwrap();
    let sender = Some("+3".to_owned());
    let mut totals = Vec::new();
    for filter in [
        Filter { since: Some(middle), ..Filter::default() },
        Filter { since: Some(middle), until: Some(end), ..Filter::default() },
        Filter { since: Some(middle), until: Some(end), from: sender, ..Filter::default() },
    ] {
        for descending in [false, true] {
            let first = store.list(&filter, &Page { limit: 5, descending, ..Page::default() }).unwrap();
            totals.push(first.total);
            let next = Page { limit: 5, descending, cursor: first.next, ..Page::default() };
            assert_eq!(store.list(&filter, &next).unwrap().total, first.total);
        }
    }
    store.close();
    drop(store);
    assert_eq!(totals, [25_012, 25_012, 12, 12, 2, 2]);
    assert_eq!(passed_over(&database), before, "messages that were read without an index");
}

#[test]
fn the_end_of_a_page_of_the_log_is_found_by_the_index_and_not_by_going_through_what_comes_before() {
    let database = Database::new();
    let store = open(&database);
    for batch in (0..4_000).map(assorted).collect::<Vec<_>>().chunks(500) {
        store.insert(batch).unwrap();
    }
    settle(&store);
    store.close();
    drop(store);
    database.query("ANALYZE", &[]);
    let before = passed_over(&database);

    let store = open(&database);
    let read = |start, limit| {
        let mut last = None;
        let each = &mut |recorded: lyftr::event::Recorded| {
            last = Some(recorded.position);
            true
        };
        let read = LogRead { start, filter: LogFilter::default(), limit };
        let reached = store.read_log(&read, each).unwrap().unwrap();
        assert!(!reached.end);
        last.unwrap()
    };
    let middle = read(Start::Beginning, 2_000);
    read(Start::After(middle), 10);
    read(Start::Before(middle), 10);
    read(Start::Latest, 10);
    store.close();
    drop(store);
    assert_eq!(passed_over(&database), before, "events that were read without an index");
}
