//! Manual changes: messages that are added past Lyftr, tables of two times put together, columns of somebody's own.

use std::time::Duration;

use lyftr::query::{Filter, Page};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{self as stores, Error, Settings, Store, backup, copy};

use super::{
    ENABLE_TRIGGERS, MADE, Numbers, add, address, assert_answers, assert_right, backed_up, made, numbers,
    open, store,
};
use crate::support::postgres::Database;
use crate::support::{eventually, settle};

#[test]
fn messages_that_are_added_manually_are_in_every_read_whatever_their_arrival_numbers() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    let mut expected = numbers(0..40);
    for (n, seq) in (0..).zip(["0", "-n", "131072", "(3::bigint << 16) + n % 7", "1::bigint << 60"]) {
        let added = 100 * (n + 1)..100 * (n + 1) + 30;
        add(&database, added.clone(), seq);
        expected.extend(added.clone());
        assert_answers(&service, &expected);
        store(&service, [added.end]);
        expected.insert(added.end);
        assert_right(&service, &database, &expected);
    }
}

/// A manual change that adds messages for long is a batch that is under way.
#[test]
fn messages_that_are_being_added_manually_hold_the_horizon_back() {
    let database = Database::new();
    let service = open(&database);
    let past_lyftr = database.session_that_stores("m1000");
    store(&service, 0..5);
    let seq = |id: &str| database.number(&format!("SELECT seq FROM message WHERE message_id = '{id}'"));
    assert!(service.horizon().unwrap() < seq("m0"));
    assert_eq!(service.arrived(0, 10).unwrap().len(), 0);
    past_lyftr.run("COMMIT");
    assert_eq!(service.arrived(0, 10).unwrap().len(), 6);
    assert!(seq("m1000") < seq("m0"));
}

/// Aggregates of one time and messages of another, which no trigger has seen come together.
#[test]
fn aggregates_of_other_messages_are_not_used() {
    let database = Database::new();
    let tuning = Tuning { index_pause: Duration::from_millis(20), few: 0, ..Tuning::default() };
    let service = Postgres::open(&address(&database.url()), tuning).unwrap();
    store(&service, 0..40);
    settle(&service);
    let session = database.session();
    let unseen = |sql: &str| {
        session.run(&format!(
            "BEGIN; ALTER TABLE message DISABLE TRIGGER ALL; {sql}; {ENABLE_TRIGGERS}; COMMIT"
        ));
    };
    // The messages of an earlier time …
    unseen("DELETE FROM message WHERE seq > (SELECT min(seq) + 19 FROM message)");
    let ids = service.list(&Filter::default(), &Page { limit: 100, ..Page::default() }).unwrap().data;
    let left: Numbers = ids.iter().map(super::number).collect();
    assert_eq!(left.len(), 20);
    assert_right(&service, &database, &left);
    // … and others under the same numbers.
    unseen(&format!(
        "UPDATE message SET (message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text) =
             (SELECT 'm' || n, {MADE} FROM (SELECT 1000 + substr(message_id, 2)::integer) AS other (n))"
    ));
    assert_right(&service, &database, &left.iter().map(|n| 1000 + n).collect());
}

#[test]
fn a_manual_change_under_the_role_of_a_replica_is_noticed() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    let session = database.session();
    session
        .run("SET session_replication_role = replica; DELETE FROM message WHERE message_id IN ('m3', 'm4')");
    let left: Numbers = (0..40).filter(|n| ![3, 4].contains(n)).collect();
    assert_right(&service, &database, &left);
    session.run("TRUNCATE message");
    assert_answers(&service, &Numbers::new());
    store(&service, 50..60);
    assert_right(&service, &database, &numbers(50..60));
}

#[test]
fn a_row_of_derived_data_that_was_deleted_is_rebuilt() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    database.query("DELETE FROM derived", &[]);
    assert_right(&service, &database, &numbers(0..40));
}

/// The latest message is not there any more, and nothing waits to be derived.
#[test]
fn a_message_that_was_deleted_before_it_was_derived_from_is_not_waited_for() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    database.query("DELETE FROM message WHERE seq = (SELECT max(seq) FROM message)", &[]);
    eventually("the aggregates are rebuilt", || {
        (database.number("SELECT count(*) FROM derived WHERE messages = 39 AND NOT is_void") == 1)
            .then_some(())
    });
    settle(&service);
}

#[test]
fn a_backup_that_lacks_a_message_fails() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    service.close();
    // As no message of Lyftr's is: nobody who reads on from the beginning comes by it.
    database.session().run("ALTER TABLE message DISABLE TRIGGER message_was_added");
    add(&database, 50..51, "-1");
    let refused = backed_up(&database).unwrap_err();
    assert!(matches!(refused, backup::Error::Differs { expected: 41, found: 40 }), "{refused}");
    assert!(refused.to_string().contains("40 messages, and the database 41"), "{refused}");
}

#[test]
fn columns_that_somebody_adds_are_left_alone() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..20);
    settle(&service);
    // Of the kinds that fill themselves, and of names that statements use themselves.
    let session = database.session();
    session.run(
        "ALTER TABLE message ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
             ADD COLUMN length integer GENERATED ALWAYS AS (length(text)) STORED,
             ADD COLUMN seen timestamptz NOT NULL DEFAULT now(), ADD COLUMN note text,
             ADD COLUMN folded text, ADD COLUMN figures_upto bigint, ADD COLUMN latest_seq bigint,
             ADD COLUMN latest_id text, ADD COLUMN messages bigint DEFAULT 7, ADD COLUMN place integer,
             ADD COLUMN id text, ADD COLUMN second bigint, ADD COLUMN day bigint, ADD COLUMN minute bigint,
             ADD COLUMN key text, ADD COLUMN needed bigint, ADD COLUMN is_void boolean",
    );
    for table in ["sender_total", "recipient_total", "day_total", "minute_total", "message_text", "derived"] {
        session.run(&format!(
            "ALTER TABLE {table} ADD COLUMN mine bigint GENERATED ALWAYS AS IDENTITY, ADD COLUMN seq_ bigint DEFAULT 3,
                 ADD COLUMN sender_ text, ADD COLUMN mine_too integer GENERATED ALWAYS AS (1) STORED"
        ));
    }
    session.run(
        "ALTER TABLE sender_total ADD COLUMN sender text, ADD COLUMN seq bigint;
        ALTER TABLE derived ADD COLUMN seq bigint, ADD COLUMN message_id text, ADD COLUMN last_value bigint",
    );
    store(&service, 20..40);
    assert_right(&service, &database, &numbers(0..40));
    database.query("DELETE FROM message WHERE message_id = 'm39'", &[]);
    assert_right(&service, &database, &numbers(0..39));
    service.close();
    let service = open(&database);
    store(&service, 39..50);
    assert_right(&service, &database, &numbers(0..50));
    let other = Database::new();
    let target = stores::open(&other.url().parse().unwrap(), Settings::default()).unwrap();
    assert_eq!(copy::copy(&service, target.as_ref(), |_| ()).unwrap().created, 50);
    assert_eq!(copy::copy(target.as_ref(), &service, |_| ()).unwrap().duplicates, 50);
    target.close();
}

/// A rule that the messages cannot meet refuses them, and is told apart from a fault.
#[test]
fn a_message_that_a_trigger_leaves_out_is_not_acknowledged() {
    let database = Database::new();
    let service = open(&database);
    database.session().run(
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER leave_out BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION leave_out()",
    );
    assert!(matches!(service.insert(&[made(1)]), Err(Error::Unavailable { .. })));
    database.query("DROP TRIGGER leave_out ON message", &[]);
    store(&service, [1]);
    assert_right(&service, &database, &numbers(1..2));
}
