//! What holds for SQLite only: its file, whose it is, and what happens when a statement fails in mid-batch.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lyftr::message::{Message, Timestamp};
use lyftr::query::{Filter, Page, Search};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{self, Error, OpenError, Settings, Store, Url};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{Fate, Messages as _, eventually, fates, message_with, names, parsed, settle};

pub(crate) mod erasure;
mod upgrade;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    (folder, path)
}

fn open(path: &Path) -> Result<Arc<dyn Store>, OpenError> {
    store::open(&Url::Sqlite(path.to_owned()), Settings::default())
}

fn message(id: &str) -> Message {
    parsed(&message_with(id, "+1", "2025-01-15T12:00:00Z", Some(&"x".repeat(100))))
}

fn batch(ids: &[&str]) -> Vec<Message> {
    ids.iter().map(|id| message(id)).collect()
}

fn total(store: &dyn Store) -> u64 {
    store.list(&Filter::default(), &Page::default()).unwrap().total
}

/// A message with this id fails its batch.
const POISON: &str = "CREATE TRIGGER poison BEFORE INSERT ON event WHEN new.identity = 'poison'
    BEGIN SELECT raise(ABORT, 'poison'); END";

#[test]
fn a_batch_that_fails_in_the_middle_leaves_nothing() {
    let (_folder, path) = folder();
    let store = open(&path).unwrap();
    store.insert_messages(&batch(&["before"])).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch(POISON).unwrap();
    for round in 0..3 {
        let failed = store.insert_messages(&batch(&["a", "b", "poison", "c"]));
        assert!(matches!(failed, Err(Error::Unavailable { .. } | Error::Failed(_))), "{failed:?}");
        assert_eq!(total(store.as_ref()), 1 + round);
        // And the next batch is as good as any.
        assert_eq!(
            fates(&store.insert_messages(&batch(&[&format!("after {round}")])).unwrap()),
            [Fate::Created]
        );
    }
    other.execute_batch("DROP TRIGGER poison").unwrap();
    assert_eq!(
        fates(&store.insert_messages(&batch(&["a", "b", "poison", "c"])).unwrap()),
        [Fate::Created; 4]
    );
    assert_eq!(total(store.as_ref()), 8);
}

#[test]
fn a_store_makes_its_folder() {
    let (folder, _) = folder();
    let path = folder.path().join("one/two/three/app.db");
    let store = open(&path).unwrap();
    store.insert_messages(&batch(&["a"])).unwrap();
    store.close();
    assert!(path.is_file());
}

#[test]
fn a_closed_store_has_moved_its_whole_log() {
    let (folder, path) = folder();
    let store = open(&path).unwrap();
    store.insert_messages(&batch(&["a"])).unwrap();
    assert_eq!(total(store.as_ref()), 1);
    assert!(store.backlog().wal_bytes > 0);
    settle(store.as_ref());
    store.close();
    assert_eq!(names(folder.path(), ""), ["app.db", "app.db-index", "app.db-lock", "app.db-texts"]);
}

#[test]
fn the_space_is_that_of_all_files_and_of_the_disk_they_are_on() {
    let (folder, path) = folder();
    let store = open(&path).unwrap();
    store.insert_messages(&batch(&["a"])).unwrap();
    settle(store.as_ref());
    // A checkpoint of the index may still be under way.
    eventually("the space is the sum of the files", || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap());
        let files = files.filter(|file| file.file_name() != "app.db-lock");
        let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        (store.space().unwrap().used == bytes && bytes > 0).then_some(())
    });
    let free = store.space().unwrap().free;
    let disk = rustix::fs::statvfs(folder.path()).unwrap();
    assert!(free <= disk.f_blocks * disk.f_frsize, "{free} bytes");
    store.close();
    assert_eq!(store.space().map(|space| space.used > 0), Some(true), "it stays after the end");
    drop(folder);
    assert_eq!(store.space(), None, "the folder is gone");
}

#[test]
fn a_store_that_is_closed_beside_a_reader_leaves_its_log_for_the_next_start() {
    let (_folder, path) = folder();
    let store = open(&path).unwrap();
    store.insert_messages(&batch(&["a"])).unwrap();
    let reader = Connection::open(&path).unwrap();
    let count = || -> u64 { reader.query_row("SELECT count(*) FROM message", (), |row| row.get(0)).unwrap() };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 1);
    store.insert_messages(&batch(&["b"])).unwrap();
    store.close();
    assert_eq!(count(), 1, "the snapshot stays as it is");
    let log = || std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(log() > 0);
    let next = open(&path).unwrap();
    assert_eq!(total(next.as_ref()), 2);
    reader.execute_batch("COMMIT").unwrap();
    next.close();
    assert_eq!((count(), log()), (2, 0));
}

#[test]
fn the_rows_survive_a_checkpoint_at_every_turn() {
    let (_folder, path) = folder();
    let tuning = Tuning { wal_bytes: 0, wal_idle_bytes: 0, wal_bytes_max: 0, ..Tuning::default() };
    let store = Sqlite::open(&path, tuning).unwrap();
    for n in 0..200 {
        store.insert_messages(&batch(&[&format!("{n}"), &format!("and {n}")])).unwrap();
        assert_eq!(total(&store), 2 * n + 2);
    }
    assert!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len() < 1 << 20, "the log grows");
}

/// A backup reads for minutes. The writer waits for it a few times, not every few pages, and the log begins anew
/// once it has ended.
#[test]
fn a_reader_that_reads_for_long_does_not_stop_the_writer_time_and_again() {
    let (_folder, path) = folder();
    let tuning = Tuning {
        wal_bytes: 128 << 10,
        wal_idle_bytes: 32 << 10,
        wal_step_bytes: 64 << 10,
        wal_bytes_max: 512 << 10,
        ..Tuning::default()
    };
    let store = Sqlite::open(&path, tuning).unwrap();
    let write = |n: usize| {
        let ids: Vec<_> = (0..20).map(|m| format!("{}", (n * 20 + m) * 7919 % 100_003)).collect();
        let begin = Instant::now();
        store.insert_messages(&batch(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        // The writer waits for a second.
        begin.elapsed() >= Duration::from_millis(900)
    };
    write(0);
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    let mut waited = 0;
    let mut n = 1;
    while store.backlog().wal_bytes < 3 << 20 {
        waited += u32::from(write(n));
        n += 1;
    }
    assert!((1..=3).contains(&waited), "{waited} times");
    reader.execute_batch("COMMIT").unwrap();
    eventually("the log begins anew", || {
        write(n);
        n += 1;
        (store.backlog().wal_bytes < 512 << 10).then_some(())
    });
}

#[test]
fn the_log_is_bounded_while_it_is_written() {
    let (_folder, path) = folder();
    let tuning = Tuning {
        wal_bytes: 256 << 10,
        wal_idle_bytes: 64 << 10,
        wal_bytes_max: 1 << 20,
        ..Tuning::default()
    };
    let store = Sqlite::open(&path, tuning).unwrap();
    for n in 0..300 {
        let ids: Vec<_> = (0..20).map(|m| format!("{}", (n * 20 + m) * 7919 % 6007)).collect();
        store.insert_messages(&batch(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        // Whoever reads at the time may hold a checkpoint up, until the log is so large that it is waited for.
        assert!(store.backlog().wal_bytes <= 1280 << 10, "{}", store.backlog().wal_bytes);
    }
}

#[test]
fn readiness_checks_alone_do_not_make_the_log_grow() {
    let (_folder, path) = folder();
    // Nothing but the checks looks after the log.
    let tuning = Tuning { wal_idle_bytes: 64 << 10, wal_pause: Duration::from_hours(1), ..Tuning::default() };
    let store = Sqlite::open(&path, tuning).unwrap();
    for _ in 0..100 {
        store.ready().unwrap();
    }
    let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(log < 256 << 10, "{log} bytes");
}

/// A backup has held up the log. Whatever comes when it has ended must not wait until all of that is moved.
#[test]
fn a_log_that_has_grown_is_moved_beside_the_writer_also_when_nothing_waits() {
    let (_folder, path) = folder();
    // Nothing but the checks looks after the log.
    let tuning = Tuning {
        wal_idle_bytes: 16 << 10,
        wal_step_bytes: 64 << 10,
        wal_pause: Duration::from_hours(1),
        ..Tuning::default()
    };
    let store = Sqlite::open(&path, tuning).unwrap();
    store.insert_messages(&batch(&["before"])).unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    let text = "x".repeat(4_000);
    let large = |n: usize| Message { text: Some(text.clone().into()), ..message(&n.to_string()) };
    store.insert_messages(&(0..50).map(large).collect::<Vec<_>>()).unwrap();
    reader.execute_batch("COMMIT").unwrap();
    assert!(store.backlog().wal_bytes > 128 << 10);
    store.ready().unwrap();
    assert!(store.backlog().wal_bytes > 0, "the writer has moved it all");
    eventually("the log begins anew", || {
        store.ready().unwrap();
        (store.backlog().wal_bytes == 0).then_some(())
    });
    assert_eq!(total(&store), 51);
}

/// A reader has held up the log, so that the next checkpoint waits until the log is larger. After a failure the log begins
/// anew, and that size counts no longer. The end of the indexer's read may hold a checkpoint up just as the reader did, but not
/// every time.
#[test]
fn a_log_that_began_anew_after_a_failure_is_bounded_as_any_other() {
    assert!((0..10).any(|_| is_bounded_after_a_failure()));
}

fn is_bounded_after_a_failure() -> bool {
    let (_folder, path) = folder();
    let tuning = Tuning {
        wal_bytes: 64 << 10,
        wal_idle_bytes: 4 << 20,
        wal_step_bytes: 1 << 40,
        wal_pause: Duration::from_hours(1),
        ..Tuning::default()
    };
    let store = Sqlite::open(&path, tuning).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch(POISON).unwrap();
    let insert = |n: usize| {
        let ids: Vec<_> = (0..20).map(|m| format!("{n} {m}")).collect();
        store.insert_messages(&batch(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        let backlog = store.backlog();
        eventually("the indexer has read them", || (store.backlog().behind.index == 0).then_some(()));
        backlog.wal_bytes
    };
    insert(0);
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    let mut numbers = 1..;
    while insert(numbers.next().unwrap()) < 512 << 10 {}
    reader.execute_batch("COMMIT").unwrap();
    store.insert_messages(&batch(&["a", "poison"])).unwrap_err();
    numbers.take(30).all(|number| insert(number) < 256 << 10)
}

#[test]
fn the_log_begins_anew_by_itself_while_nothing_is_stored() {
    let (_folder, path) = folder();
    let tuning = Tuning { wal_idle_bytes: 0, wal_pause: Duration::from_millis(1), ..Tuning::default() };
    let store = Sqlite::open(&path, tuning).unwrap();
    let ids: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    store.insert_messages(&batch(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    eventually("the log begins anew", || (store.backlog().wal_bytes == 0).then_some(()));
    assert_eq!(total(&store), 100);
}

#[test]
fn the_log_is_moved_in_steps_while_the_writer_goes_on() {
    let (_folder, path) = folder();
    // The writer never moves anything by itself.
    let tuning =
        Tuning { wal_bytes: 1 << 40, wal_bytes_max: 1 << 40, wal_step_bytes: 32 << 10, ..Tuning::default() };
    let store = Sqlite::open(&path, tuning).unwrap();
    let bytes = || std::fs::metadata(&path).unwrap().len();
    let (before, mut stored) = (bytes(), 0);
    eventually("what is in the log comes into the database", || {
        let ids: Vec<_> = (stored..stored + 50).map(|n| n.to_string()).collect();
        store.insert_messages(&batch(&ids.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
        stored += 50;
        (bytes() > before + (64 << 10)).then_some(())
    });
    assert_eq!(total(&store), stored);
    store.close();
    assert_eq!(total(open(&path).unwrap().as_ref()), stored);
}

#[test]
fn the_first_queries_after_a_start_use_the_index() {
    let (_folder, path) = folder();
    let tuning = Tuning { part_messages: 64, ..Tuning::default() };
    let store = Sqlite::open(&path, tuning).unwrap();
    let at = |n: u32| Timestamp::parse(&format!("2025-01-15T12:{:02}:{:02}Z", n / 60 % 60, n % 60)).unwrap();
    let messages: Vec<_> = (0..5000).map(|n| Message { ts: at(n), ..message(&n.to_string()) }).collect();
    store.insert_messages(&messages).unwrap();
    settle(&store);
    let of = |from: &str| Filter { from: Some(from.to_owned()), ..Filter::default() };
    for filter in [of("+1"), of("+7")] {
        store.close();
        // No time for a way that goes through all messages.
        let store = Sqlite::open(&path, Tuning { read_timeout: Duration::ZERO, ..tuning }).unwrap();
        let total = store.list(&filter, &Page { limit: 1, ..Page::default() }).unwrap().total;
        assert_eq!(total, if filter == of("+1") { 5000 } else { 0 }, "{filter:?}");
        store.close();
    }
}

#[test]
fn a_query_that_times_out_is_ended_and_the_next_one_is_answered() {
    let (_folder, path) = folder();
    let search = Filter { search: Some(Search::new("nowhere")), ..Filter::default() };
    let settings = Settings { timeout: Duration::ZERO, ..Settings::default() };
    let store = store::open(&Url::Sqlite(path.clone()), settings).unwrap();
    let messages: Vec<_> = (0..5000).map(|n| message(&n.to_string())).collect();
    store.insert_messages(&messages).unwrap();
    for _ in 0..2 {
        let error = store.list(&search, &Page::default()).unwrap_err();
        assert_eq!(error.to_string(), "query timed out");
    }
    store.close();
    assert_eq!(
        open(&path).unwrap().list(&search, &Page::default()).unwrap().total,
        0,
        "there is time for it"
    );
}

#[test]
fn a_query_that_times_out_in_the_index_does_not_cost_the_index() {
    let (folder, path) = folder();
    let tuning = Tuning { read_timeout: Duration::ZERO, part_messages: 5_000, ..Tuning::default() };
    let store = Sqlite::open(&path, tuning).unwrap();
    let messages: Vec<_> = (0..10_000).map(|n| message(&n.to_string())).collect();
    store.insert_messages(&messages).unwrap();
    settle(&store);
    let index = folder.path().join("app.db-index");
    // While this name stands, the number of the file is not given to another.
    std::fs::hard_link(&index, folder.path().join("other-name")).unwrap();
    let number = || std::fs::metadata(&index).unwrap().ino();
    let before = number();
    let search = Filter { search: Some(Search::new("nowhere")), ..Filter::default() };
    let error = store.list(&search, &Page::default()).unwrap_err();
    assert_eq!(error.to_string(), "query timed out");
    store.insert_messages(&batch(&["one more, which the index takes in next"])).unwrap();
    settle(&store);
    assert_eq!(number(), before, "the index was made anew");
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    open(&path).unwrap().close();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 1000, .. }), "{refused:?}");
    assert!(refused.to_string().contains("start the newer Lyftr"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    for theirs in [
        "CREATE TABLE message (theirs)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1; CREATE TABLE a (b)",
    ] {
        let (_folder, path) = folder();
        Connection::open(&path).unwrap().execute_batch(theirs).unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = open(&path).unwrap_err();
        assert!(matches!(refused, OpenError::Foreign { .. }), "{theirs}: {refused:?}");
        assert!(refused.to_string().contains("of another program"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{theirs}");
    }
}
