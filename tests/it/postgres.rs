//! What is PostgreSQL's own: how the service gets to a server, on which ones it will not work, and the order of
//! arrival. That the answers are the same as those of SQLite is tested where the answers are:
//! `LYFTR_TEST_STORE=postgres` runs those tests with this store.

use std::sync::Barrier;
use std::time::Duration;

use lyftr::message::{self, Message};
use lyftr::query::{Filter, Page};
use lyftr::store::postgres::{Address, Postgres, Tuning};
use lyftr::store::{Error, OpenError, Outcome, Store};

use crate::support::postgres::{Cluster, Database};
use crate::support::process::Process;
use crate::support::{eventually, settle};

mod horizon;
mod tls;

fn address(url: &str) -> Address {
    url.parse().unwrap()
}

fn open(database: &Database) -> Postgres {
    Postgres::open(&address(&database.url()), Tuning::default()).unwrap()
}

fn message(id: &str) -> Message {
    message::parse(crate::support::message(id).to_string().as_bytes()).unwrap()
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
    assert_eq!(store.insert(&[message("a")]).unwrap(), [Outcome::Created]);
    database.query(&off, &[]);
    // The connections that are open keep what they began with; new ones are not used.
    database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
        &[],
    );
    let refused = eventually("a new connection is refused", || match store.insert(&[message("b")]) {
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
fn a_newer_schema_is_refused_and_found_missing_later() {
    let database = Database::new();
    let store = open(&database);
    store.ready().unwrap();
    database.query("UPDATE lyftr_schema SET version = 77", &[]);
    assert!(store.ready().is_err());
    let refused = Postgres::open(&address(&database.url()), Tuning::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 77, .. }), "{refused}");
    database.query("UPDATE lyftr_schema SET version = 1", &[]);
    store.ready().unwrap();
    database.query("DROP TABLE message", &[]);
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
                let tuning = Tuning { connections: 3, ..Tuning::default() };
                let store = Postgres::open(&address(&database.url()), tuning).unwrap();
                assert_eq!(store.insert(&[message(&format!("m{n}"))]).unwrap(), [Outcome::Created]);
                store.close();
            });
        }
    });
    assert_eq!(database.number("SELECT count(*) FROM message"), 8);
    assert_eq!(database.number("SELECT version FROM lyftr_schema"), 1);
}

#[test]
fn the_schema_can_be_brought_up_to_date_by_itself() {
    let database = Database::new();
    let migrate = || Process::builder().env("DATABASE_URL", &database.url()).args(&["migrate"]).run();
    for _ in 0..2 {
        let done = migrate();
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
        assert!(done.stdout.contains("schema version 1"), "{}", done.stdout);
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
    let both = Process::builder().env("DATABASE_URL", &database.url()).env("DATABASE_URL_FILE", file).run();
    assert_eq!(both.code(), Some(2));
    assert!(both.stderr.contains("both set"), "{}", both.stderr);
}

#[test]
fn what_a_hand_changes_is_noticed() {
    let database = Database::new();
    let store = open(&database);
    store.insert(&["a", "b", "c"].map(message)).unwrap();
    settle(&store);
    database.query("DELETE FROM message WHERE message_id = 'b'", &[]);
    let check = || {
        let all = store.list(&Filter::default(), &Page::default()).unwrap();
        let stats = store.stats().unwrap();
        let top = stats.messages_per_sender.first().map(|top| top.count);
        assert_eq!((all.total, all.data.len(), stats.total_messages, top), (2, 2, 2, Some(2)));
    };
    check();
    eventually("the figures are made anew", || {
        check();
        (database.number("SELECT messages FROM derived") == 2).then_some(())
    });
    check();
}

#[test]
fn a_statement_that_takes_too_long_is_ended_and_the_next_one_works() {
    let database = Database::new();
    let tuning = Tuning { timeout: Duration::from_millis(300), ..Tuning::default() };
    let store = Postgres::open(&address(&database.url()), tuning).unwrap();
    store.insert(&[message("a")]).unwrap();
    let other = database.session();
    other.run("BEGIN; LOCK TABLE message IN ACCESS EXCLUSIVE MODE");
    let too_long = |error| match error {
        Error::Unavailable { reason, .. } => assert_eq!(reason, "the question took too long to answer"),
        Error::Failed(cause) => panic!("{cause}"),
    };
    too_long(store.insert(&[message("b")]).unwrap_err());
    too_long(store.list(&Filter::default(), &Page::default()).unwrap_err());
    too_long(store.ready().unwrap_err());
    other.run("ROLLBACK");
    assert_eq!(store.insert(&[message("b")]).unwrap(), [Outcome::Created]);
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
        Err(Error::Unavailable { reason: "the database cannot be written", .. }) => Some(()),
        _ => None,
    });
}
