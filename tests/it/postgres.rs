//! What is PostgreSQL's own: how the service gets to a server, on which ones it will not work, and the order of
//! arrival. That the answers are the same as those of SQLite is tested where the answers are:
//! `LYFTR_TEST_STORE=postgres` runs those tests with this store.

use std::sync::Barrier;
use std::time::Duration;

use lyftr::message::Message;
use lyftr::query::{Filter, Page};
use lyftr::store::postgres::{Address, Postgres, Tuning};
use lyftr::store::{self, Error, OpenError, Settings, Store};

use crate::support::postgres::{Cluster, Database};
use crate::support::process::Process;
use crate::support::{Fate, Messages as _, eventually, fates, parsed, settle};

mod behind;
mod cursors;
mod erasure;
mod events;
mod horizon;
mod hosts;
mod listed;
mod log;
mod lookups;
mod plans;
mod pooler;
mod secrets;
mod state;
mod tls;

fn address(url: &str) -> Address {
    url.parse().unwrap()
}

fn open(database: &Database) -> Postgres {
    Postgres::open(&address(&database.url()), Tuning::default()).unwrap()
}

fn message(id: &str) -> Message {
    parsed(&crate::support::message(id))
}

/// Why a store is not opened.
fn refusal(url: &str) -> String {
    Postgres::open(&address(url), Tuning::default()).unwrap_err().to_string()
}

#[test]
fn a_server_that_does_not_sync_is_refused() {
    let cluster = Cluster::start(&["fsync=off"]);
    let refused = refusal(&cluster.database().url());
    assert!(refused.contains("fsync=off") && refused.contains("set it to on"), "{refused}");
}

#[test]
fn a_database_that_does_not_sync_at_commit_is_refused_also_when_it_begins_later() {
    let database = Database::new();
    let name = database.name().to_owned();
    let off = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    database.query(&off, &[]);
    let refused = refusal(&database.url());
    assert!(refused.contains("synchronous_commit is off"), "{refused}");
    database.query(&format!("ALTER DATABASE {name} RESET synchronous_commit"), &[]);
    let store = open(&database);
    assert_eq!(fates(&store.insert_messages(&[message("a")]).unwrap()), [Fate::Created]);
    database.query(&off, &[]);
    // The connections that are open keep what they began with; new ones are not used.
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
        &[],
    );
    let refused =
        eventually("a new connection is refused", || match store.insert_messages(&[message("b")]) {
            Err(Error::Unavailable { reason, .. }) if reason.contains("synchronous_commit") => Some(reason),
            _ => None,
        });
    assert!(refused.contains("off"), "{refused}");
    assert!(store.ready().is_err());
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let made = Database::new();
    let name = format!("{}_latin1", made.name());
    made.query(
        &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        &[],
    );
    let refused = refusal(&made.url_of(&name));
    assert!(refused.contains("ENCODING 'UTF8'"), "{refused}");
    made.query(&format!("DROP DATABASE {name} WITH (FORCE)"), &[]);
}

#[test]
fn a_schema_that_is_newer_is_refused_and_one_that_becomes_newer_is_noticed() {
    let database = Database::new();
    let store = open(&database);
    store.ready().unwrap();
    database.query("UPDATE lyftr_schema SET version = 77", &[]);
    assert!(store.ready().is_err());
    let refused = Postgres::open(&address(&database.url()), Tuning::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 77, .. }), "{refused}");
    database.query("UPDATE lyftr_schema SET version = 5", &[]);
    store.ready().unwrap();
    database.query("DROP TABLE event CASCADE", &[]);
    let Err(Error::Unavailable { reason, .. }) = store.ready() else { panic!("ready without its table") };
    assert!(reason.contains("schema"), "{reason}");
}

#[test]
fn many_processes_may_begin_at_once_on_a_new_database() {
    const PROCESSES: usize = 8;
    let database = Database::new();
    let start = Barrier::new(PROCESSES);
    std::thread::scope(|scope| {
        for n in 0..PROCESSES {
            let (database, start) = (&database, &start);
            scope.spawn(move || {
                start.wait();
                let tuning = Tuning {
                    settings: Settings { connections: 3, ..Settings::default() },
                    ..Tuning::default()
                };
                let store = Postgres::open(&address(&database.url()), tuning).unwrap();
                assert_eq!(
                    fates(&store.insert_messages(&[message(&format!("m{n}"))]).unwrap()),
                    [Fate::Created]
                );
                store.close();
            });
        }
    });
    assert_eq!(database.number("SELECT count(*) FROM message"), 8);
    assert_eq!(database.number("SELECT version FROM lyftr_schema"), 5);
}

#[test]
fn the_schema_can_be_brought_up_to_date_by_itself() {
    let database = Database::new();
    let migrate = || Process::builder().env("DATABASE_URL", &database.url()).args(&["migrate"]).run();
    for _ in 0..2 {
        let done = migrate();
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
        assert!(done.stdout.contains("schema version 5"), "{}", done.stdout);
    }
    assert_eq!(database.number("SELECT count(*) FROM message"), 0);
    database.query("UPDATE lyftr_schema SET version = 77", &[]);
    let refused = migrate();
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("newer"), "{}", refused.stderr);
}

#[test]
fn a_password_is_printed_nowhere() {
    const PASSWORD: &str = "s3cret-of-the-database";
    let nobody = format!("postgres://me:{PASSWORD}@127.0.0.1:1/inbox");
    for arguments in [&[][..], &["migrate"], &["--help"], &["--log-level=DEBUG"]] {
        let ended = Process::builder().env("DATABASE_URL", &nobody).args(arguments).run();
        assert!(!ended.stdout.contains(PASSWORD) && !ended.stderr.contains(PASSWORD), "{arguments:?}");
        let is_help = arguments == ["--help"];
        assert_eq!(ended.code(), Some(i32::from(!is_help)), "{}", ended.stderr);
        assert!(is_help || (ended.stdout + &ended.stderr).contains("me@127.0.0.1:1/inbox"));
    }
    let bad = Process::builder().env("DATABASE_URL", &format!("postgres://me:{PASSWORD}@:x/")).run();
    assert_eq!(bad.code(), Some(2));
    assert!(!bad.stderr.contains(PASSWORD) && bad.stderr.contains("DATABASE_URL"), "{}", bad.stderr);
}

#[test]
fn the_url_may_come_from_a_file() {
    let database = Database::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, format!("{}\n", database.url())).unwrap();
    let file = file.to_str().unwrap();
    let process = Process::builder().env_remove("DATABASE_URL").env("DATABASE_URL_FILE", file).start();
    process.client().store(&crate::support::message("m"));
    assert_eq!(database.number("SELECT count(*) FROM message"), 1);
    drop(process);
    // A variable that is empty is as good as none.
    let process = Process::builder().env("DATABASE_URL", "").env("DATABASE_URL_FILE", file).start();
    assert_eq!(process.client().json("/messages")["total"], 1);
    let both = Process::builder().env("DATABASE_URL", &database.url()).env("DATABASE_URL_FILE", file).run();
    assert_eq!(both.code(), Some(2));
    assert!(both.stderr.contains("both set"), "{}", both.stderr);
}

#[test]
fn a_manual_change_is_noticed_and_derived_data_is_deleted_in_portions() {
    const LEFT: u64 = 19;
    let database = Database::new();
    // Fewer than there are, so that forgetting and making anew take several steps.
    let tuning = Tuning {
        aggregates_batch: 4,
        texts_batch: 4,
        index_pause: Duration::from_millis(20),
        ..Tuning::default()
    };
    let store = Postgres::open(&address(&database.url()), tuning).unwrap();
    store.insert_messages(&(0..=LEFT).map(|n| message(&format!("{n:02}"))).collect::<Vec<_>>()).unwrap();
    settle(&store);
    database.query("DELETE FROM message WHERE message_id = '05'", &[]);
    let check = || {
        let all = store.list(&Filter::default(), &Page::default()).unwrap();
        let stats = store.stats().unwrap();
        let top = stats.messages_per_sender.first().map(|top| top.count);
        assert_eq!((all.total, stats.total_messages, top), (LEFT, LEFT, Some(LEFT)));
        assert_eq!(u64::try_from(all.data.len()).unwrap(), LEFT);
    };
    check();
    let made = "SELECT (messages = 19 AND senders = 1 AND NOT is_void)::integer::bigint FROM derived";
    eventually("the aggregates are rebuilt", || {
        check();
        (database.number(made) == 1).then_some(())
    });
    eventually("so are the texts", || {
        check();
        (database.number("SELECT count(*) FROM message_text") == 19).then_some(())
    });
    assert_eq!(database.number("SELECT sum(messages)::bigint FROM minute_total"), 19);
    check();
}

#[test]
fn a_statement_that_takes_too_long_is_ended_and_the_next_one_works() {
    let database = Database::new();
    let settings = Settings { timeout: Duration::from_millis(300), ..Settings::default() };
    let store = store::open(&database.url().parse().unwrap(), settings).unwrap();
    store.insert_messages(&[message("a")]).unwrap();
    let other = database.session();
    other.run("BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE");
    let too_long = |error| match error {
        Error::Unavailable { reason, .. } => assert_eq!(reason, "query timed out"),
        Error::Failed(cause) => panic!("{cause}"),
    };
    too_long(store.insert_messages(&[message("b")]).unwrap_err());
    too_long(store.list(&Filter::default(), &Page::default()).unwrap_err());
    too_long(store.ready().unwrap_err());
    other.run("ROLLBACK");
    assert_eq!(fates(&store.insert_messages(&[message("b")]).unwrap()), [Fate::Created]);
    assert_eq!(store.stats().unwrap().total_messages, 2);
    store.ready().unwrap();
}

#[test]
fn a_database_that_only_reads_is_not_ready() {
    let database = Database::new();
    let store = open(&database);
    store.ready().unwrap();
    database
        .query(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name()), &[]);
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
        &[],
    );
    eventually("it says why it is not ready", || match store.ready() {
        Err(Error::Unavailable { reason: "the database is read-only", .. }) => Some(()),
        _ => None,
    });
}

#[test]
fn a_store_opens_no_more_connections_than_it_may() {
    let database = Database::new();
    let settings = Settings { connections: 2, ..Settings::default() };
    let store = store::open(&database.url().parse().unwrap(), settings).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for m in 0..5 {
                    store.insert_messages(&[message(&format!("{n} {m}"))]).unwrap();
                    store.stats().unwrap();
                }
            });
        }
    });
    let open = database.number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lyftr'
        AND datname = current_database()",
    );
    assert!((1..=2).contains(&open), "{open}");
    assert_eq!(store.stats().unwrap().total_messages, 40);
}

/// Has every insert fail with an error code, or only the first ones.
fn fail_inserts(database: &Database, code: &str, times: u32) {
    let session = database.session();
    session.run(&format!(
        "CREATE SEQUENCE IF NOT EXISTS tries;
         SELECT setval('tries', 1, false);
         CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END IF;
             RETURN NEW;
         END $$;
         CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION fail()"
    ));
}

#[test]
fn a_batch_that_was_in_the_way_of_another_one_is_tried_again_a_few_times() {
    let database = Database::new();
    let store = open(&database);
    for code in ["40001", "40P01"] {
        fail_inserts(&database, code, 2);
        assert_eq!(fates(&store.insert_messages(&[message(code)]).unwrap()), [Fate::Created]);
        fail_inserts(&database, code, 3);
        let Err(Error::Unavailable { reason, .. }) = store.insert_messages(&[message("other")]) else {
            panic!("{code}")
        };
        assert_eq!(reason, "conflict with another transaction");
    }
    assert_eq!(database.number("SELECT count(*) FROM message"), 2);
}

/// Arrival numbers say the batch and the place in it.
#[test]
fn a_batch_of_more_messages_than_it_has_numbers_for_is_refused() {
    let database = Database::new();
    let store = open(&database);
    let batch: Vec<Message> = (0..=1 << 16).map(|n| message(&n.to_string())).collect();
    assert!(matches!(store.insert_messages(&batch), Err(Error::Failed(_))));
    assert_eq!(database.number("SELECT count(*) FROM message"), 0);
}

#[test]
fn an_error_of_the_server_is_told_in_words_of_lyftr() {
    let database = Database::new();
    let store = open(&database);
    for (code, said) in [
        ("53100", "the disk of the database is full"),
        ("53200", "the database is out of memory"),
        ("53300", "too many connections to the database"),
        ("57014", "query timed out"),
        ("25006", "the database is read-only"),
        ("42501", "the database user lacks a privilege"),
        ("3D000", "the database does not exist"),
        ("58030", "disk I/O error on the database server"),
        ("55P03", "the database is locked by another process"),
        ("XX001", "the database is damaged"),
        ("XX002", "the database is damaged"),
        ("42P01", "unexpected schema in the database"),
        ("42703", "unexpected schema in the database"),
        ("42883", "unexpected schema in the database"),
        ("08006", "the database cannot be reached"),
        ("28000", "the database rejected the user or the password"),
        ("57P01", "the database is starting or stopping"),
    ] {
        fail_inserts(&database, code, 100);
        match store.insert_messages(&[message("m")]) {
            Err(Error::Unavailable { reason, .. }) => assert_eq!(reason, said, "{code}"),
            other => panic!("{code}: {other:?}"),
        }
        assert_eq!(database.number("SELECT last_value FROM tries"), 1, "{code}: to try it again is no use");
    }
    fail_inserts(&database, "22012", 100);
    assert!(matches!(store.insert_messages(&[message("m")]), Err(Error::Failed(_))));
    assert_eq!(database.number("SELECT count(*) FROM message"), 0);
}
