//! A dump of the release before this one: `tests/data/postgres-schema-2/`, which `pg_dump` has made of a database in service
//! (without the lines that begin with `\restrict` and `\unrestrict`, which older `psql` do not know).

use std::path::Path;

use lyftr::event::{Event, LogFilter, LogRead, Start};
use lyftr::message::Message;
use lyftr::query::Page;
use lyftr::store::check::{self, Report as Told};
use lyftr::store::{self as stores, Settings, Store, copy};

use super::{backed_up, open, try_open};
use crate::support::postgres::{Cluster, Database, Session};
use crate::support::process::Process;
use crate::support::reference::{Reference, Wanted};
use crate::support::{Messages as _, eventually, message, parsed, settle};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/postgres-schema-2");

/// The messages of that database, in the order of arrival.
fn sent() -> Vec<Message> {
    let lines = std::fs::read_to_string(Path::new(DATA).join("messages.jsonl")).unwrap();
    lines.lines().map(|line| parsed(&serde_json::from_str(line).unwrap())).collect()
}

fn restored_on(cluster: &Cluster) -> Database {
    let database = cluster.database();
    let dump = format!("{DATA}/dump.sql");
    let quietly = ["--set=ON_ERROR_STOP=1", "--quiet", "--output=/dev/null", "--file", &dump];
    cluster.tool("psql", &database, &quietly, None);
    database
}

fn restored() -> Database {
    restored_on(Cluster::shared())
}

fn told(database: &Database) -> (u64, Vec<String>) {
    let mut told = Vec::new();
    let url = database.url().parse().unwrap();
    let count = check::check(&url, Settings::default(), &mut |event| match event {
        Told::Part(_) => {}
        Told::Problem(text) | Told::Remark(text) => told.push(text),
    });
    (count.unwrap(), told)
}

#[test]
fn every_message_is_there_in_order_and_none_has_a_time_of_receipt() {
    let database = restored();
    let seqs = "SELECT string_agg(seq::text, ' ' ORDER BY seq) FROM message";
    let before: String = database.query(seqs, &[])[0].get(0);
    let store = open(&database);
    let expected: Vec<Event> =
        sent().into_iter().map(|message| Event::of_message(message, None, None)).collect();
    let arrived: Vec<Event> =
        store.arrived(0, 1_000).unwrap().into_iter().map(|arrived| arrived.event).collect();
    assert_eq!(arrived, expected);
    assert_eq!(database.query(seqs, &[])[0].get::<_, String>(0), before, "arrival numbers stay");
    // What was derived is kept, the texts without their buckets.
    assert_eq!(database.number("SELECT count(*) FROM derived WHERE is_void OR messages <> 52"), 0);
    assert_eq!(database.number("SELECT count(*) FROM message_text WHERE bucket = -1"), 43);

    let assert_pages = |reference: &Reference| {
        for wanted in
            [Wanted::default(), Wanted::from("+49171"), Wanted::search("привет"), Wanted::search("message 1")]
        {
            reference.assert_page(&store, &wanted, &Page { limit: 100, ..Page::default() });
        }
    };
    let mut reference: Reference = sent().into_iter().collect();
    settle(&store);
    assert_pages(&reference);
    assert_eq!(told(&database), (52, vec![]));
    assert_eq!(backed_up(&database).unwrap(), 52);

    // Each is there once, and what comes is after them.
    let repeated = store.insert_messages(&sent()).unwrap();
    assert!(repeated.iter().all(|outcome| *outcome == stores::Outcome::Duplicate), "{repeated:?}");
    let new = parsed(&message("new"));
    store.insert_messages(std::slice::from_ref(&new)).unwrap();
    reference.insert(&new);
    let last = store.arrived(0, 1_000).unwrap().pop().unwrap();
    assert_eq!(last.event.key.as_str(), "new");
    settle(&store);
    assert_pages(&reference);
    assert_eq!(told(&database), (53, vec![]));

    // A manual change makes derived data anew, and the texts get their buckets.
    database.query("DELETE FROM message WHERE message_id = 'new'", &[]);
    eventually("it is made anew", || {
        let texts = "SELECT count(*) FROM message_text JOIN event USING (bucket, seq)";
        (database.number(texts) == 43).then_some(())
    });
    settle(&store);
    assert_eq!(told(&database), (52, vec![]));
}

#[test]
fn positions_of_messages_without_a_time_of_receipt_are_those_of_others() {
    let database = restored();
    let store = open(&database);
    let mut found = Vec::new();
    let read = LogRead { start: Start::Beginning, filter: LogFilter::default(), limit: 1_000 };
    store
        .read_log(&read, &mut |recorded| {
            found.push(recorded);
            true
        })
        .unwrap();
    assert_eq!(found.len(), 52);
    for one in &found {
        assert_eq!(store.event_at(one.position).unwrap().as_ref(), Some(one));
    }
}

/// Before it is upgraded, as one should.
#[test]
fn it_can_be_checked_and_backed_up_as_it_is_and_copied() {
    let database = restored();
    let remark = "schema: version 2; a start of the service brings it to 5".to_owned();
    assert_eq!(told(&database), (52, vec![remark]));
    assert_eq!(backed_up(&database).unwrap(), 52);
    assert_eq!(database.number("SELECT version FROM lyftr_schema"), 2);
    let other = Database::new();
    let (from, to) = (open(&database), open(&other));
    assert_eq!(copy::copy(&from, &to, |_| ()).unwrap().created, 52);
    let (one, other) = copy::compare(&from, &to, i64::MAX, |_| ()).unwrap();
    assert_eq!((one, one.events), (other, 52));
}

#[test]
fn columns_grants_and_indexes_of_somebodys_own_outlive_the_migration() {
    let database = restored();
    let session = database.session();
    let role = format!("{}_reader", database.name());
    session.run(&format!(
        "CREATE ROLE {role}; GRANT SELECT ON message TO {role};
         ALTER TABLE message ADD COLUMN note text DEFAULT 'mine', ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY;
         UPDATE message SET note = 'of m1' WHERE message_id = 'm1'; CREATE INDEX mine ON message (note)"
    ));
    let store = open(&database);
    store.insert_messages(&[parsed(&message("new"))]).unwrap();
    assert_eq!(database.number("SELECT count(*) FROM event WHERE note = 'of m1' AND key = 'm1'"), 1);
    assert_eq!(database.number("SELECT count(*) FROM event WHERE note = 'mine'"), 52);
    let granted = format!("SELECT has_table_privilege('{role}', 'event', 'SELECT')::integer::bigint");
    assert_eq!(database.number(&granted), 1);
    session.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// Has the migration stop at one of its statements until the session ends that this returns.
fn stop_at(database: &Database, statement: u32) -> Session {
    let session = database.session();
    session.run(&format!(
        "CREATE SCHEMA IF NOT EXISTS stop;
         CREATE SEQUENCE IF NOT EXISTS stop.statements;
         SELECT setval('stop.statements', 1, false);
         CREATE OR REPLACE FUNCTION stop.here() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('stop.statements') = {statement} THEN PERFORM pg_advisory_xact_lock_shared(99); END IF;
         END $$;
         DROP EVENT TRIGGER IF EXISTS stop;
         CREATE EVENT TRIGGER stop ON ddl_command_start EXECUTE FUNCTION stop.here();
         SELECT setval('stop.statements', 1, false), pg_advisory_lock(99)"
    ));
    session
}

fn assert_as_it_was(database: &Database) {
    assert_eq!(database.number("SELECT version FROM lyftr_schema"), 2);
    assert_eq!(database.number("SELECT count(*) FROM message"), 52);
    let tables = "SELECT count(*) FROM pg_class WHERE relname IN ('event', 'log', 'cursor', 'event_batch')";
    assert_eq!(database.number(tables), 0);
}

/// Of the statements that change the schema: the first ones, the one that writes the table anew, and later ones.
const STATEMENTS: [u32; 6] = [1, 8, 11, 14, 25, 41];

#[test]
fn a_server_that_is_killed_in_the_migration_comes_back_as_it_was() {
    let mut cluster = Cluster::start(&[]);
    let database = restored_on(&cluster);
    for statement in STATEMENTS {
        let held = stop_at(&database, statement);
        std::thread::scope(|scope| {
            let migration = scope.spawn(|| try_open(&database).map(drop));
            database.until_a_batch_waits();
            cluster.kill9();
            migration.join().unwrap().unwrap_err();
        });
        drop(held);
        cluster.run();
        assert_as_it_was(&database);
    }
    database.query("DROP EVENT TRIGGER stop", &[]);
    let store = open(&database);
    settle(&store);
    assert_eq!(told(&database), (52, vec![]));
    store.close();
}

#[test]
fn a_process_that_is_killed_in_the_migration_leaves_it_to_the_next_one() {
    let database = restored();
    for statement in STATEMENTS {
        let held = stop_at(&database, statement);
        let mut process = Process::builder().env("DATABASE_URL", &database.url()).spawn();
        database.until_a_batch_waits();
        process.kill9();
        // The server notices once it has carried out the statement.
        drop(held);
        eventually("its session has ended", || {
            let left = "SELECT count(*) FROM pg_stat_activity
                        WHERE application_name = 'lyftr' AND datname = current_database()";
            (database.number(left) == 0).then_some(())
        });
        assert_as_it_was(&database);
    }
    database.query("DROP EVENT TRIGGER stop", &[]);
    let store = open(&database);
    settle(&store);
    assert_eq!(told(&database), (52, vec![]));
}

#[test]
fn the_log_says_what_the_migration_does() {
    let database = restored();
    let process = Process::builder().env("DATABASE_URL", &database.url()).start();
    let logged = process.log_lines();
    for said in ["bringing the schema up to date", "all steps of the migration are done"] {
        assert!(logged.iter().any(|line| line.contains(said)), "{logged:?}");
    }
}

#[test]
fn the_command_that_migrates_says_what_it_does_and_how_far_it_is() {
    let database = restored();
    let migrated = Process::builder().env("DATABASE_URL", &database.url()).args(&["migrate"]).run();
    assert_eq!(migrated.code(), Some(0), "{}", migrated.stderr);
    let said: Vec<_> = migrated.stderr.lines().collect();
    assert!(
        said[0].starts_with("lyftr: bringing the schema up to date; this takes a while events="),
        "{said:?}"
    );
    assert!(said[1].starts_with("lyftr: a step of the migration begins step=1 of="), "{said:?}");
    assert!(said.iter().any(|line| line.contains("giving each message its bucket")), "{said:?}");
    assert_eq!(migrated.stdout.lines().count(), 1, "{}", migrated.stdout);
}
