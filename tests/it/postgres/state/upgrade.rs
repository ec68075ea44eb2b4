//! From the first schema to the second one, whose arrival numbers are unique.

use lyftr::store::check::{self, Event};
use lyftr::store::{Settings, Store};

use super::{COLUMNS, MADE, Numbers, add, assert_answers, assert_right, backed_up, numbers, open, store};
use crate::support::eventually;
use crate::support::postgres::{Database, Session};

/// A database as the first release has left it, with these messages.
fn of_the_first_release(messages: std::ops::Range<u32>) -> (Database, Session) {
    let database = Database::new();
    let session = database.session();
    session.run(include_str!("../../../../migrations/postgres/0001_message.sql"));
    session.run("CREATE TABLE lyftr_schema (one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), version bigint NOT NULL);
        INSERT INTO lyftr_schema (version) VALUES (1)");
    add(&database, messages, "(n + 2)::bigint << 16");
    (database, session)
}

#[test]
fn a_database_of_the_first_release_is_brought_up_to_date() {
    let (database, session) = of_the_first_release(0..40);
    session.run("SELECT setval('message_batch', 60)");
    let service = open(&database);
    assert_right(&service, &database, &numbers(0..40));
    store(&service, 40..50);
    assert_right(&service, &database, &numbers(0..50));
    assert_eq!(database.number("SELECT count(*) FROM pg_class WHERE relname = 'message_by_arrival'"), 0);
}

#[test]
fn aggregates_of_the_first_release_are_kept() {
    let (database, session) = of_the_first_release(0..1);
    // As its thread has left it: up to the horizon, which is beyond the latest message.
    session.run("SELECT setval('message_batch', 60);
        INSERT INTO sender_total VALUES ('+1', 1); INSERT INTO recipient_total VALUES ('+14155550100', 1);
        INSERT INTO day_total SELECT ts_second / 86400, 1 FROM message; INSERT INTO minute_total SELECT ts_second / 60, 1 FROM message;
        INSERT INTO message_text SELECT seq, message_id, sender, recipient, ts_second, ts_nanosecond, lower(text) FROM message;
        UPDATE derived SET figures_upto = (60 << 16) + 65535, texts_upto = (60 << 16) + 65535, messages = 1, senders = 1");
    let service = open(&database);
    assert_eq!(database.number("SELECT count(*) FROM derived WHERE is_void OR latest_id <> 'm0'"), 0);
    assert_answers(&service, &numbers(0..1));
    store(&service, 1..30);
    assert_right(&service, &database, &numbers(0..30));
}

#[test]
fn arrival_numbers_that_were_given_twice_or_manually_are_given_anew() {
    let (database, _) = of_the_first_release(0..40);
    // As after a move without the sequence: it is at its beginning, and has given numbers again.
    add(&database, 40..60, "((n - 40) / 2 + 2)::bigint << 16");
    add(&database, 60..70, "0");
    add(&database, 70..75, "-n");
    let service = open(&database);
    let all = numbers(0..75);
    assert_answers(&service, &all);
    store(&service, 75..90);
    assert_right(&service, &database, &numbers(0..90));
    assert_eq!(database.number("SELECT count(*) FROM message WHERE seq <= 0"), 0);
    assert_eq!(service.arrived(0, 1_000).unwrap().len(), 90);
}

/// Before it is upgraded, as one should.
#[test]
fn a_database_of_the_first_release_can_be_checked_and_backed_up() {
    let (database, session) = of_the_first_release(0..40);
    session.run("SELECT setval('message_batch', 60)");
    let check = || {
        let mut told = Vec::new();
        let url = database.url().parse().unwrap();
        check::check(&url, Settings::default(), &mut |event| told.push(event)).unwrap();
        told.retain(|event| !matches!(event, Event::Part(_)));
        told
    };
    let told = check();
    assert!(
        matches!(told.as_slice(), [Event::Remark(told)] if told.starts_with("schema: version 1")),
        "{told:?}"
    );
    assert_eq!(backed_up(&database).unwrap(), 40);
    // One is passed over by who reads on from the other.
    add(&database, 40..41, "2::bigint << 16");
    let told = check();
    assert!(
        told.iter().any(|event| matches!(event, Event::Problem(told) if told.contains("occur twice"))),
        "{told:?}"
    );
    session.run("ALTER SEQUENCE message_batch RESTART");
    assert_eq!(backed_up(&database).unwrap(), 41, "the sequence is moved on there too");
}

/// For a large table, so that nobody waits.
#[test]
fn an_index_that_was_made_beforehand_is_used_and_a_broken_one_is_not() {
    for broken in [false, true] {
        let (database, session) = of_the_first_release(0..40);
        if broken {
            add(&database, 40..41, "2::bigint << 16");
        }
        let made = session.try_run("CREATE UNIQUE INDEX CONCURRENTLY message_by_seq ON message (seq)");
        assert_eq!(made.is_err(), broken);
        let index = "SELECT oid::bigint FROM pg_class WHERE relname = 'message_by_seq'";
        let before = database.number(index);
        let service = open(&database);
        assert_eq!(database.number(index) != before, broken);
        store(&service, 50..60);
        let expected: Numbers = numbers((0..if broken { 41 } else { 40 }).chain(50..60));
        assert_right(&service, &database, &expected);
    }
}

/// A process of the release before, which goes on while the others are replaced, and says nothing of its batches.
#[test]
fn a_batch_of_the_first_release_is_stored_under_numbers_of_its_own() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..5);
    let sql = format!(
        "WITH begun AS MATERIALIZED (
             SELECT pg_advisory_xact_lock_shared(1283024500, (last_value & 2147483647)::integer) FROM message_batch
         ), batch AS MATERIALIZED (
             SELECT nextval('message_batch') AS number FROM begun
         )
         INSERT INTO message ({COLUMNS})
         SELECT 'm' || n, (batch.number << 16) + place - 1, {MADE}
         FROM batch, unnest(ARRAY[3, 5, 6, 4, 7]) WITH ORDINALITY AS message (n, place)
         ON CONFLICT (message_id) DO NOTHING RETURNING seq"
    );
    let created = database.query(&sql, &[]);
    // By its place in the batch it knows which message was created.
    let places: Vec<i64> = created.iter().map(|row| row.get::<_, i64>(0) % 65_536).collect();
    assert_eq!(places, [1, 2, 4]);
    store(&service, 8..20);
    assert_right(&service, &database, &numbers(0..20));
    eventually("it is derived", || (database.number("SELECT messages FROM derived") == 20).then_some(()));
}
