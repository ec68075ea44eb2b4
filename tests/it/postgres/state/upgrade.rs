//! From the schemas of older releases to that of today.

use lyftr::store::check::{self, Report};
use lyftr::store::{Settings, Store};

use super::{COLUMNS, MADE, Numbers, add, assert_answers, assert_right, backed_up, numbers, open, store};
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
    assert_eq!(
        database.number(
            "SELECT count(*) FROM pg_class WHERE relname IN ('message_by_arrival', 'message_by_seq')"
        ),
        0
    );
}

/// With aggregates and texts, which are kept; what is erased then is erased from them.
#[test]
fn a_database_of_version_3_is_brought_up_to_date_and_can_forget() {
    let database = Database::new();
    let session = database.session();
    for migration in [
        include_str!("../../../../migrations/postgres/0001_message.sql"),
        include_str!("../../../../migrations/postgres/0002_arrival_number.sql"),
        include_str!("../../../../migrations/postgres/0003_event.sql"),
    ] {
        session.run(migration);
    }
    session.run("CREATE TABLE lyftr_schema (one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row), version bigint NOT NULL);
        INSERT INTO lyftr_schema (version) VALUES (3)");
    add(&database, 0..40, "0");
    let service = open(&database);
    store(&service, 40..60);
    assert_right(&service, &database, &numbers(0..60));
    service.close();
    drop(service);
    // A backup is made and checked by this release before any service has brought the database up to date.
    session.run(
        "UPDATE lyftr_schema SET version = 3; DROP TABLE erasure, erased, keeper;
        DROP FUNCTION event_erased",
    );
    assert_eq!(backed_up(&database).unwrap(), 60);
    let service = open(&database);
    let from = lyftr::event::LogFilter { from: Some("+1".to_owned()), ..lyftr::event::LogFilter::default() };
    let erasure = lyftr::erasure::Erasure::new(from, None, None).unwrap();
    assert_eq!(service.erase(&erasure, 0).unwrap().events, 20);
    assert_right(&service, &database, &(0..60).filter(|n| n % 3 != 0).collect());
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
    assert_eq!(database.number("SELECT count(*) FROM derived WHERE is_void OR latest_key <> 'm0'"), 0);
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
        told.retain(|event| !matches!(event, Report::Part(_)));
        told
    };
    let told = check();
    assert!(
        matches!(told.as_slice(), [Report::Remark(told)] if told.starts_with("schema: version 1")),
        "{told:?}"
    );
    assert_eq!(backed_up(&database).unwrap(), 40);
    // One is passed over by who reads on from the other.
    add(&database, 40..41, "2::bigint << 16");
    let told = check();
    assert!(
        told.iter().any(|event| matches!(event, Report::Problem(told) if told.contains("occur twice"))),
        "{told:?}"
    );
    session.run("ALTER SEQUENCE message_batch RESTART");
    assert_eq!(backed_up(&database).unwrap(), 41, "the sequence is moved on there too");
}

/// As the second release advised for large tables.
#[test]
fn an_index_that_was_made_beforehand_is_in_nobodys_way() {
    for broken in [false, true] {
        let (database, session) = of_the_first_release(0..40);
        if broken {
            add(&database, 40..41, "2::bigint << 16");
        }
        let made = session.try_run("CREATE UNIQUE INDEX CONCURRENTLY message_by_seq ON message (seq)");
        assert_eq!(made.is_err(), broken);
        let service = open(&database);
        store(&service, 50..60);
        let expected: Numbers = numbers((0..if broken { 41 } else { 40 }).chain(50..60));
        assert_right(&service, &database, &expected);
    }
}

/// A process of the release before, which goes on while the others are replaced.
#[test]
fn a_process_of_the_release_before_stores_reads_and_moves_nothing() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..5);
    let old = database.session();
    for statement in [
        // It stores a batch …
        format!(
            "WITH begun AS MATERIALIZED (SELECT last_value AS latest FROM message_batch)
             INSERT INTO message ({COLUMNS}) SELECT 'm' || n, 1 << 16, {MADE} FROM begun, generate_series(5, 6) AS n
             ON CONFLICT (message_id) DO NOTHING RETURNING seq"
        ),
        format!("INSERT INTO message ({COLUMNS}) SELECT 'm' || n, 1 << 16, {MADE} FROM generate_series(5, 6) AS n
                 ON CONFLICT (message_id) DO NOTHING RETURNING seq"),
        // … compares the sequence with arrival numbers, which are far greater now …
        "SELECT setval('message_batch', (SELECT max(seq) >> 16 FROM message))".to_owned(),
        // … and looks at derived data, whose state it does not understand.
        "SELECT figures_upto, texts_upto, is_void OR latest_seq IS NOT NULL AND NOT EXISTS (
             SELECT FROM message WHERE seq = latest_seq AND message_id = latest_id) FROM derived".to_owned(),
    ] {
        old.try_run(&statement).unwrap_err();
    }
    store(&service, 5..20);
    assert_right(&service, &database, &numbers(0..20));
}

/// The index by object, which can be made beforehand while a process of the release before goes on.
#[test]
fn a_database_of_version_4_gets_its_index_unless_it_was_made_beforehand() {
    const INDEX: &str =
        "SELECT indexrelid::bigint FROM pg_index WHERE indexrelid = to_regclass('event_by_ref')";
    for (made, is_valid) in [(false, false), (true, true), (true, false)] {
        let database = Database::new();
        let service = open(&database);
        let about = |key: &str| {
            let mut event = crate::postgres::events::full("shop", key, lyftr::event::Kind::Status);
            event.r#ref = Some(crate::postgres::events::name("m"));
            event
        };
        service.insert(&[about("before")]).unwrap();
        service.close();
        drop(service);
        let session = database.session();
        session.run("UPDATE lyftr_schema SET version = 4; DROP INDEX event_by_ref");
        let mut beforehand = None;
        if made {
            session.run("CREATE INDEX CONCURRENTLY event_by_ref ON event (ref, seq) WHERE ref IS NOT NULL");
            session.run(&format!(
                "UPDATE pg_index SET indisvalid = {is_valid} WHERE indexrelid = 'event_by_ref'::regclass"
            ));
            beforehand = Some(database.number(INDEX));
        }
        let service = open(&database);
        assert_eq!(beforehand == Some(database.number(INDEX)), made && is_valid);
        assert_eq!(
            database.number(&format!("{INDEX} AND indisvalid AND indisready")),
            database.number(INDEX)
        );
        service.insert(&[about("after")]).unwrap();
        let filter = lyftr::event::LogFilter { r#ref: Some("m".to_owned()), ..Default::default() };
        let found = crate::postgres::log::all(&service, lyftr::event::Start::Beginning, 10, &filter);
        let keys: Vec<_> = found.iter().map(|one| one.arrived.event.key.as_str()).collect();
        assert_eq!(keys, ["before", "after"]);
        assert_eq!(crate::postgres::events::check_of(&database), []);
    }
}
