//! Manual changes: messages that are added past Lyftr, tables of two times put together, columns of somebody's own.

use std::time::Duration;

use lyftr::query::{Filter, Page};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{self as stores, Error, Settings, Store, backup, copy};

use super::{
    COLUMNS, ENABLE_TRIGGERS, MADE, Numbers, add, address, assert_answers, assert_right, backed_up, made,
    numbers, open, store,
};
use crate::support::postgres::Database;
use crate::support::{Messages as _, eventually, settle};

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
        session
            .run(&format!("BEGIN; ALTER TABLE event DISABLE TRIGGER ALL; {sql}; {ENABLE_TRIGGERS}; COMMIT"));
    };
    // The messages of an earlier time …
    unseen("DELETE FROM message WHERE seq > (SELECT seq FROM message ORDER BY seq OFFSET 19 LIMIT 1)");
    let ids = service.list(&Filter::default(), &Page { limit: 100, ..Page::default() }).unwrap().data;
    let left: Numbers = ids.iter().map(super::number).collect();
    assert_eq!(left.len(), 20);
    assert_right(&service, &database, &left);
    // … and others under the same numbers.
    unseen(&format!(
        "UPDATE message SET (message_id, bucket, sender, recipient, ts_second, ts_nanosecond, ts_digits, text) =
             (SELECT 'm' || n, get_byte(sha256(convert_to(E'\\x1fm' || n, 'UTF8')), 0) & 63, {MADE} FROM (SELECT 1000 + substr(message_id, 2)::integer) AS other (n))"
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
    session.run("TRUNCATE event");
    assert_answers(&service, &Numbers::new());
    store(&service, 50..60);
    assert_right(&service, &database, &numbers(50..60));
}

/// Whether derived data is void, or was begun before the latest manual change.
const VOID: &str = "SELECT count(*) FROM derived, event_change WHERE is_void OR change <> last_value";

/// Its effects come at its commit, which may be long after the statement; and reads and the thread go on meanwhile.
#[test]
fn a_manual_change_that_is_under_way_voids_derived_data_until_it_has_ended() {
    for end in ["COMMIT", "ROLLBACK"] {
        let database = Database::new();
        let service = open(&database);
        store(&service, 0..40);
        settle(&service);
        let session = database.session();
        session.run("BEGIN; DELETE FROM message WHERE message_id IN ('m3', 'm4')");
        assert_eq!(database.number(VOID), 1, "from the statement on");
        // More arrives, and is right in each read.
        for n in 40..60 {
            store(&service, [n]);
            assert_answers(&service, &numbers(0..=n));
        }
        eventually("the texts are taken away", || {
            (database.number("SELECT count(*) FROM message_text") == 0).then_some(())
        });
        assert_eq!(database.number(VOID), 1, "nothing is begun anew before the end");
        session.run(end);
        let left = |n: &u32| end == "ROLLBACK" || ![3, 4].contains(n);
        let expected: Numbers = (0..60).filter(left).collect();
        assert_answers(&service, &expected);
        assert_right(&service, &database, &expected);
        assert_eq!(database.number(VOID), 0);
    }
}

/// A read that has begun before a change ends after it with what was there when it began; one that begins later sees it.
#[test]
fn manual_changes_at_once_while_everybody_reads_are_in_each_answer() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..200);
    settle(&service);
    std::thread::scope(|scope| {
        let changes: Vec<_> = (0..4_u32)
            .map(|changer| {
                let session = database.session();
                scope.spawn(move || {
                    for n in (0..100).filter(|n| n % 4 == changer) {
                        let end = if n % 3 == 0 { "ROLLBACK" } else { "COMMIT" };
                        session.run(&format!("BEGIN; DELETE FROM message WHERE message_id = 'm{n}'"));
                        session.run(end);
                    }
                })
            })
            .collect();
        while changes.iter().any(|change| !change.is_finished()) {
            let listing =
                service.list(&Filter::default(), &Page { limit: 1_000, ..Page::default() }).unwrap();
            assert_eq!(listing.data.len() as u64, listing.total);
            let stats = service.stats().unwrap();
            let counted: u64 = stats.messages_per_sender.iter().map(|sender| sender.count).sum();
            assert_eq!(counted, stats.total_messages);
        }
    });
    let left = (0..200).filter(|n| *n >= 100 || n % 3 == 0);
    assert_right(&service, &database, &numbers(left));
}

/// A sequence is logged some numbers ahead, and a server that crashed comes back with one beyond those that were given.
#[test]
fn derived_data_outlives_a_crash_of_the_server_after_a_manual_change() {
    let mut cluster = crate::support::postgres::Cluster::start(&[]);
    let database = cluster.database();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    database.query("DELETE FROM message WHERE message_id = 'm7'", &[]);
    eventually("it is made anew", || {
        let made = "SELECT count(*) FROM derived WHERE NOT is_void AND messages = 39";
        (database.number(made) == 1).then_some(())
    });
    settle(&service);
    service.close();
    drop(service);
    cluster.kill9();
    cluster.run();
    assert_eq!(database.number(VOID), 0);
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
    database.session().run("ALTER TABLE event DISABLE TRIGGER event_was_added");
    database.query(
        &format!("INSERT INTO message (bucket, {COLUMNS}) SELECT 5, 'm' || n, -1, {MADE} FROM generate_series(50, 50) AS n"),
        &[],
    );
    let refused = backed_up(&database).unwrap_err();
    assert!(matches!(refused, backup::Error::Differs { expected: 41, found: 40 }), "{refused}");
    assert!(refused.to_string().contains("40 events, and the database 41"), "{refused}");
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
        "ALTER TABLE event ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
             ADD COLUMN length integer GENERATED ALWAYS AS (length(text)) STORED,
             ADD COLUMN seen timestamptz NOT NULL DEFAULT now(), ADD COLUMN note text,
             ADD COLUMN folded text, ADD COLUMN figures_upto bigint, ADD COLUMN latest_seq bigint,
             ADD COLUMN latest_key text, ADD COLUMN messages bigint DEFAULT 7, ADD COLUMN change bigint, ADD COLUMN last_value bigint, ADD COLUMN place integer,
             ADD COLUMN id text, ADD COLUMN second bigint, ADD COLUMN day bigint, ADD COLUMN minute bigint,
             ADD COLUMN message_id text, ADD COLUMN needed bigint, ADD COLUMN is_void boolean",
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
         CREATE TRIGGER leave_out BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION leave_out()",
    );
    assert!(matches!(service.insert_messages(&[made(1)]), Err(Error::Unavailable { .. })));
    database.query("DROP TRIGGER leave_out ON event", &[]);
    store(&service, [1]);
    assert_right(&service, &database, &numbers(1..2));
}
