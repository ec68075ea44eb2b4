//! A database comes back otherwise than the process left it: without its sequence, from an older moment, by replication,
//! out of another database, or with messages that were added manually. Each message is there once, and each answer is right.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use lyftr::message::Message;
use lyftr::query::{Filter, Page, Search};
use lyftr::store::check::{self, Report};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{Error, OpenError, Settings, Store, backup};

use super::address;
use crate::support::postgres::{Cluster, Database};
use crate::support::{Fate, Messages as _, eventually, fates, message_with, parsed, settle};

mod manual_changes;
mod release_before;
mod schemas;
mod upgrade;

/// Numbers of messages.
pub(super) type Numbers = BTreeSet<u32>;

pub(super) fn made(n: u32) -> Message {
    let (id, from, text) = (format!("m{n}"), format!("+{}", n % 3 + 1), format!("The text {n} of {}", n % 7));
    let ts = format!("2025-01-{:02}T10:{:02}:00Z", n % 28 + 1, n % 60);
    parsed(&message_with(&id, &from, &ts, Some(&text)))
}

pub(super) fn number(message: &Message) -> u32 {
    message.message_id.as_str()[1..].parse().unwrap()
}

/// The columns of a message, as a manual change names them.
const COLUMNS: &str = "message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text";

/// What [`made`] gives for `n`, without the arrival number.
const MADE: &str = "'+' || n % 3 + 1, '+14155550100', extract(epoch FROM timestamptz '2025-01-01 10:00:00Z' \
    + (n % 28) * interval '1 day' + (n % 60) * interval '1 minute')::bigint, 0, 0, 'The text ' || n || ' of ' || n % 7";

/// Adds messages past the service, under arrival numbers that may well be given.
fn add(database: &Database, range: std::ops::Range<u32>, seq: &str) {
    let (first, last) = (i64::from(range.start), i64::from(range.end) - 1);
    let sql = format!(
        "INSERT INTO message ({COLUMNS}) SELECT 'm' || n, {seq}, {MADE} FROM generate_series($1::bigint, $2::bigint) AS n"
    );
    database.query(&sql, &[&first, &last]);
}

/// Looks often at what has arrived, in portions, and looks texts up however few messages there are.
pub(super) fn open(database: &Database) -> Postgres {
    try_open(database).unwrap()
}

fn try_open(database: &Database) -> Result<Postgres, OpenError> {
    let index_pause = Duration::from_millis(20);
    let tuning = Tuning { index_pause, few: 0, aggregates_batch: 16, texts_batch: 8, ..Tuning::default() };
    Postgres::open(&address(&database.url()), tuning)
}

#[track_caller]
pub(super) fn store(store: &Postgres, numbers: impl IntoIterator<Item = u32>) {
    let batch: Vec<Message> = numbers.into_iter().map(made).collect();
    assert_eq!(fates(&store.insert_messages(&batch).unwrap()), vec![Fate::Created; batch.len()]);
}

/// Compares each kind of answer with what should be there.
#[track_caller]
pub(super) fn assert_answers(store: &Postgres, expected: &Numbers) {
    let page = Page { limit: 1_000, ..Page::default() };
    let assert_listed = |filter: &Filter, matches: &dyn Fn(&Message) -> bool| {
        let listing = store.list(filter, &page).unwrap();
        let found: Vec<u32> = listing.data.iter().map(number).collect();
        let expected: Numbers = expected.iter().copied().filter(|&n| matches(&made(n))).collect();
        assert_eq!(found.iter().copied().collect::<Numbers>(), expected, "{filter:?}");
        assert_eq!((found.len(), listing.total), (expected.len(), expected.len() as u64), "{filter:?}");
        assert!(listing.data.iter().all(|message| *message == made(number(message))));
    };
    assert_listed(&Filter::default(), &|_| true);
    for from in ["+1", "+2", "+3"] {
        let filter = Filter { from: Some(from.to_owned()), ..Filter::default() };
        assert_listed(&filter, &|message| message.from.as_ref().unwrap().as_str() == from);
    }
    for text in ["text 1", "of 6", "the text"] {
        let filter = Filter { search: Some(Search::new(text)), ..Filter::default() };
        assert_listed(&filter, &|message| message.text.as_ref().unwrap().to_lowercase().contains(text));
    }
    let since = lyftr::message::Timestamp::parse("2025-01-09T00:00:00Z").unwrap();
    assert_listed(&Filter { since: Some(since), ..Filter::default() }, &|message| {
        message.ts.moment() >= since.moment()
    });
    let stats = store.stats().unwrap();
    let senders: BTreeSet<u32> = expected.iter().map(|n| n % 3).collect();
    let counted: u64 = stats.messages_per_sender.iter().map(|sender| sender.count).sum();
    let all = expected.len() as u64;
    assert_eq!((stats.total_messages, stats.senders_count, counted), (all, senders.len() as u64, all));
}

/// The answers are right now, and when everything is derived; then the check finds nothing, and a backup has everything.
#[track_caller]
pub(super) fn assert_right(store: &Postgres, database: &Database, expected: &Numbers) {
    assert_answers(store, expected);
    store.ready().unwrap();
    eventually("everything is derived", || {
        let derived = "SELECT count(*) FROM derived WHERE NOT is_void AND messages = (SELECT count(*) FROM message) \
                       AND change = (SELECT last_value FROM event_change) AND texts_upto >= (SELECT coalesce(max(seq), 0) FROM message)";
        (database.number(derived) == 1).then_some(())
    });
    settle(store);
    assert_answers(store, expected);
    let mut told = Vec::new();
    check::check(&database.url().parse().unwrap(), Settings::default(), &mut |event| told.push(event))
        .unwrap();
    told.retain(|event| !matches!(event, Report::Part(_)));
    assert_eq!(told, []);
    assert_eq!(backed_up(database).unwrap(), expected.len() as u64);
}

fn backed_up(database: &Database) -> Result<u64, backup::Error> {
    let folder = tempfile::tempdir().unwrap();
    let url = database.url().parse().unwrap();
    backup::backup(&url, Settings::default(), &folder.path().join("backup.db"), |_| true)
        .map(|done| done.events)
}

/// The triggers as Lyftr makes them, after somebody has turned them off.
const ENABLE_TRIGGERS: &str = "\
    ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_added;
    ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_renamed;
    ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_touched;
    ALTER TABLE event ENABLE REPLICA TRIGGER event_was_changed;
    ALTER TABLE event ENABLE REPLICA TRIGGER event_was_replicated";

pub(super) fn numbers(all: impl IntoIterator<Item = u32>) -> Numbers {
    all.into_iter().collect()
}

/// Sets the sequence back, as `pg_dump --schema-only` and replication leave it.
const SET_BACK: &str = "ALTER SEQUENCE event_batch RESTART";

#[test]
fn a_sequence_that_stayed_behind_is_moved_on_at_the_start() {
    let database = Database::new();
    let before = open(&database);
    (0..20).for_each(|n| store(&before, [n]));
    settle(&before);
    before.close();
    database.query(SET_BACK, &[]);
    // Without a start too.
    assert_eq!(backed_up(&database).unwrap(), 20);
    database.query(SET_BACK, &[]);
    let after = open(&database);
    assert_answers(&after, &numbers(0..20));
    store(&after, 20..40);
    assert_right(&after, &database, &numbers(0..40));
}

#[test]
fn a_sequence_that_is_set_back_under_the_service_gives_no_number_twice() {
    let database = Database::new();
    let service = open(&database);
    let other = open(&database);
    let mut there = 0;
    // To its beginning, to numbers that messages have, and to the latest one.
    for back in [
        SET_BACK,
        "ALTER SEQUENCE event_batch RESTART WITH 5",
        "SELECT setval('event_batch', 7)",
        "SELECT setval('event_batch', (SELECT max(seq) >> 22 FROM message))",
        "SELECT setval('event_batch', (SELECT max(seq) >> 22 FROM message), false)",
    ] {
        for _ in 0..5 {
            store(&service, [there]);
            store(&other, there + 1..there + 4);
            there += 4;
        }
        database.query(back, &[]);
        std::thread::scope(|scope| {
            for (service, n) in [(&service, there), (&other, there + 1)] {
                scope.spawn(move || store(service, [n]));
            }
        });
        there += 2;
        assert_answers(&service, &numbers(0..there));
    }
    assert_right(&service, &database, &numbers(0..there));
    assert_right(&other, &database, &numbers(0..there));
    let doubled = "SELECT count(*) - count(DISTINCT seq) FROM message";
    assert_eq!(database.number(doubled), 0);
}

#[test]
fn readiness_and_the_thread_that_derives_move_the_sequence_on() {
    let behind = "SELECT count(*) FROM event_batch WHERE last_value <= (SELECT max(seq) >> 22 FROM message)";
    for by_itself in [false, true] {
        let database = Database::new();
        let index_pause = if by_itself { Duration::from_millis(20) } else { Duration::from_hours(1) };
        let tuning = Tuning { index_pause, ..Tuning::default() };
        let service = Postgres::open(&address(&database.url()), tuning).unwrap();
        (0..5).for_each(|n| store(&service, [n]));
        database.query(SET_BACK, &[]);
        if by_itself {
            eventually("it is moved on", || (database.number(behind) == 0).then_some(()));
        } else {
            service.ready().unwrap();
            assert_eq!(database.number(behind), 0);
        }
    }
}

#[test]
fn a_role_that_may_not_move_the_sequence_on_is_told_what_to_do() {
    let database = Database::new();
    let owner = open(&database);
    store(&owner, 0..5);
    settle(&owner);
    owner.close();
    let role = format!("{}_service", database.name());
    let session = database.session();
    session.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON event TO {role};
         GRANT SELECT ON message, log, event_change TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON cursor TO {role};
         GRANT SELECT, USAGE ON SEQUENCE event_batch TO {role}; GRANT SELECT ON lyftr_schema, erasure, erased TO {role};
         GRANT SELECT, UPDATE ON derived TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON
             sender_total, recipient_total, day_total, minute_total, message_text TO {role}"
    ));
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let service = Postgres::open(&address(&url), Tuning::default()).unwrap();
    store(&service, 5..9);
    database.query(SET_BACK, &[]);
    let Err(Error::Unavailable { reason, .. }) = service.ready() else { panic!("ready") };
    assert!(reason.contains("GRANT UPDATE ON SEQUENCE event_batch"), "{reason}");
    assert!(
        service.insert_messages(&[made(9)]).is_err(),
        "nothing is stored under a number that was given before"
    );
    let Err(refused) = Postgres::open(&address(&url), Tuning::default()) else { panic!("it starts") };
    assert!(refused.to_string().contains("GRANT UPDATE"), "{refused}");
    session.run(&format!("GRANT UPDATE ON SEQUENCE event_batch TO {role}"));
    eventually("it is moved on", || service.ready().ok());
    store(&service, 9..12);
    assert_right(&service, &database, &numbers(0..12));
    service.close();
    drop(service);
    session.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_copy_of_the_database_by_the_server_goes_on_by_itself() {
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    service.close();
    drop(service);
    let copy = database.copy();
    let of_copy = open(&copy);
    let void = "SELECT count(*) FROM derived, event_change WHERE is_void OR change <> last_value";
    assert_eq!(copy.number(void), 0, "nothing is made anew");
    store(&of_copy, 40..50);
    assert_right(&of_copy, &copy, &numbers(0..50));
    let service = open(&database);
    store(&service, 60..70);
    assert_right(&service, &database, &numbers((0..40).chain(60..70)));
}

#[test]
fn an_older_dump_that_is_restored_under_the_service_is_gone_on_from() {
    let cluster = Cluster::shared();
    let database = Database::new();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let dump = dump.to_str().unwrap();
    cluster.tool("pg_dump", &database, &["--format=custom"], Some(dump));
    store(&service, 40..90);
    settle(&service);
    let latest = database.number("SELECT max(seq) FROM message");
    // It is in the way of the service, which looks at what has arrived, and the other way round.
    eventually("it is restored", || {
        let restore = ["--clean", "--if-exists", "--single-transaction", dump];
        cluster.try_tool("pg_restore", &database, &restore, None).ok()
    });
    assert_answers(&service, &numbers(0..40));
    eventually("it is stored", || service.insert_messages(&[made(100)]).ok());
    store(&service, 101..110);
    assert_right(&service, &database, &numbers((0..40).chain(100..110)));
    let given_again = format!(
        "SELECT count(*) FROM message WHERE seq <= {latest} AND message_id >= 'm100' \
                               AND length(message_id) > 3"
    );
    assert_eq!(database.number(&given_again), 0, "a follower may have read on from these");
}

/// All but what is in `message` stays as it is, or is that of an empty database.
#[test]
fn messages_that_are_restored_without_the_rest_are_numbered_anew() {
    let cluster = Cluster::shared();
    for arguments in [&[][..], &["--disable-triggers"]] {
        let (database, other) = (Database::new(), Database::new());
        let service = open(&database);
        store(&service, 0..40);
        settle(&service);
        service.close();
        let folder = tempfile::tempdir().unwrap();
        let dump = folder.path().join("dump");
        let dump = dump.to_str().unwrap();
        cluster.tool("pg_dump", &database, &["--format=custom"], Some(dump));
        let service = open(&other);
        store(&service, 200..210);
        settle(&service);
        let restore = [&["--data-only", "--table=event"], arguments, &[dump]].concat();
        if arguments.is_empty() {
            cluster.tool("pg_restore", &other, &restore, None);
            assert_right(&service, &other, &numbers((0..40).chain(200..210)));
        } else {
            // Without triggers nobody notices, so the service is told by whoever does such a thing.
            other.query("DELETE FROM message", &[]);
            cluster.tool("pg_restore", &other, &restore, None);
            let mut told = Vec::new();
            let url = other.url().parse().unwrap();
            check::check(&url, Settings::default(), &mut |event| told.push(event)).unwrap();
            let problem = |report: &Report| matches!(report, Report::Problem(told) if told.contains("ENABLE ALWAYS TRIGGER event_was_added"));
            assert!(told.iter().any(problem), "{told:?}");
            other.session().run(&format!("{ENABLE_TRIGGERS}; UPDATE derived SET is_void = true"));
            assert_right(&service, &other, &numbers(0..40));
        }
        store(&service, 300..310);
        let first = if arguments.is_empty() { 200..210 } else { 0..0 };
        assert_right(&service, &other, &numbers((0..40).chain(first).chain(300..310)));
    }
}

/// As a standby is that became the primary without the latest transactions.
#[test]
fn a_server_that_comes_back_without_its_latest_transactions_is_gone_on_from() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let service = open(&database);
    store(&service, 0..40);
    settle(&service);
    let (data, older) = (cluster.data(), cluster.data().with_file_name("older"));
    cluster.stop();
    assert!(Command::new("cp").arg("-a").args([&data, &older]).status().unwrap().success());
    cluster.run();
    eventually("it is stored", || service.insert_messages(&[made(40)]).ok());
    (41..90).for_each(|n| store(&service, [n]));
    settle(&service);
    let latest = database.number("SELECT max(seq) FROM message");
    cluster.stop();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&older, &data).unwrap();
    cluster.run();
    eventually("it answers", || service.stats().ok());
    assert_answers(&service, &numbers(0..40));
    settle(&service);
    // Among them some that were lost, which their senders send again.
    store(&service, 80..100);
    assert_right(&service, &database, &numbers((0..40).chain(80..100)));
    assert!(database.number("SELECT max(seq) FROM message") > latest);
    assert_eq!(database.number(&format!("SELECT count(*) FROM message WHERE seq > {latest}")), 20);
    service.close();
}

fn replicate(source: &Database, target: &Database) {
    source.session().run("CREATE PUBLICATION move FOR TABLE event");
    let from = source.connection_string();
    target.session().run(&format!("CREATE SUBSCRIPTION move CONNECTION '{from}' PUBLICATION move"));
}

#[track_caller]
fn until_replicated(target: &Database, messages: usize) {
    eventually("all is replicated", || {
        (target.number("SELECT count(*) FROM message") == i64::try_from(messages).unwrap()).then_some(())
    });
}

#[test]
fn messages_that_are_replicated_under_the_service_are_in_every_answer() {
    let (here, there) = (Cluster::start(&["wal_level=logical"]), Cluster::start(&[]));
    let (source, target) = (here.database(), there.database());
    let old = open(&source);
    (0..30).for_each(|n| store(&old, [n]));
    let new = open(&target);
    store(&new, 200..210);
    replicate(&source, &target);
    // Both at once, as while senders are led from the one to the other.
    for n in 30..60 {
        store(&old, [n]);
        store(&new, [180 + n]);
    }
    let expected = numbers((0..60).chain(200..240));
    until_replicated(&target, expected.len());
    assert_right(&new, &target, &expected);
    // The row that goes is one that was derived.
    source.query("DELETE FROM message WHERE message_id IN ('m7', 'm44')", &[]);
    source.query("UPDATE message SET sender = '+3', text = 'The text 8 of 1' WHERE message_id = 'm9'", &[]);
    source.query("UPDATE message SET sender = '+1', text = 'The text 9 of 2' WHERE message_id = 'm9'", &[]);
    let expected: Numbers = expected.into_iter().filter(|n| ![7, 44].contains(n)).collect();
    until_replicated(&target, expected.len());
    assert_right(&new, &target, &expected);
    store(&new, 300..310);
    let expected: Numbers = expected.into_iter().chain(300..310).collect();
    assert_right(&new, &target, &expected);
    source.query("TRUNCATE event", &[]);
    until_replicated(&target, 0);
    assert_answers(&new, &Numbers::new());
    target.session().run("ALTER SUBSCRIPTION move DISABLE");
    target.session().run("DROP SUBSCRIPTION move");
    old.close();
    new.close();
}

/// The way most take: the tables without their rows by `pg_dump`, and then the rows of all of them.
#[test]
fn a_database_that_was_moved_by_replication_of_all_its_tables_goes_on() {
    let (here, there) = (Cluster::start(&["wal_level=logical"]), Cluster::start(&[]));
    let (source, target) = (here.database(), there.database());
    let old = open(&source);
    (0..40).for_each(|n| store(&old, [n]));
    settle(&old);
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let dump = dump.to_str().unwrap();
    here.tool("pg_dump", &source, &["--format=custom", "--schema-only"], Some(dump));
    there.tool("pg_restore", &target, &[dump], None);
    source.session().run("CREATE PUBLICATION move FOR ALL TABLES");
    let from = source.connection_string();
    target.session().run(&format!("CREATE SUBSCRIPTION move CONNECTION '{from}' PUBLICATION move"));
    until_replicated(&target, 40);
    store(&old, 40..50);
    settle(&old);
    old.close();
    until_replicated(&target, 50);
    eventually("the rest is replicated too", || {
        (target.number("SELECT count(*) FROM derived WHERE messages = 50") == 1).then_some(())
    });
    target.session().run("DROP SUBSCRIPTION move");
    let new = open(&target);
    assert_answers(&new, &numbers(0..50));
    store(&new, 50..60);
    assert_right(&new, &target, &numbers(0..60));
    new.close();
}
