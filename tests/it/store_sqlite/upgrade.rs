//! Databases of previous releases: `tests/data/sqlite-schema-2/` and `tests/data/sqlite-schema-3/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lyftr::cursor::CursorName;
use lyftr::event::{Arrived, Event, Kind, LogFilter, LogRead, Position, Source, Start};
use lyftr::message::{Message, Name};
use lyftr::query::{Filter, Page};
use lyftr::store::check::{self, check};
use lyftr::store::{Outcome, Settings, Url};
use rusqlite::Connection;
use tempfile::TempDir;

use super::open;
use crate::support::process::Process;
use crate::support::reference::{Reference, Wanted};
use crate::support::{Messages as _, message, parsed, settle, sqlite_url};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sqlite-schema-2");
const MARKS: &str = "PRAGMA application_id = 1283024500; PRAGMA user_version = 2;";

/// The messages of that database, in the order of arrival.
fn sent() -> Vec<Message> {
    let lines = std::fs::read_to_string(Path::new(DATA).join("messages.jsonl")).unwrap();
    lines.lines().map(|line| parsed(&serde_json::from_str(line).unwrap())).collect()
}

/// A folder that has these files of the database, under names that begin with `app.db`.
fn restored(files: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    for file in files {
        let (from, name) = (Path::new(DATA).join(file), file.replace("backup", "app"));
        if *file == "dump.sql" {
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch(&std::fs::read_to_string(from).unwrap()).unwrap();
            conn.execute_batch(MARKS).unwrap();
        } else {
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
    }
    (folder, path)
}

/// What `lyftr check` reports.
pub(crate) fn findings(path: &Path) -> (u64, Vec<String>) {
    let mut told = Vec::new();
    let url: Url = sqlite_url(path).parse().unwrap();
    let count = check(&url, Settings::default(), &mut |event| match event {
        check::Report::Part(_) => {}
        check::Report::Problem(text) | check::Report::Remark(text) => told.push(text),
    });
    (count.unwrap(), told)
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, (), |row| row.get(0)).unwrap()
}

#[test]
fn every_row_of_the_previous_release_is_there_and_none_has_a_time_of_receipt() {
    let killed: &[&str] = &["app.db", "app.db-wal"];
    for files in
        [killed, &["app.db", "app.db-wal", "app.db-index", "app.db-index-wal"], &["backup.db"], &["dump.sql"]]
    {
        let (_folder, path) = restored(files);
        let store = open(&path).unwrap();
        let arrived = store.arrived(0, 1_000).unwrap();
        let expected = sent().into_iter().map(|message| Event::of_message(message, None, None));
        let expected: Vec<_> = (1..).zip(expected).map(|(seq, event)| Arrived { seq, event }).collect();
        assert_eq!(arrived, expected, "{files:?}");

        let reference: Reference = sent().into_iter().collect();
        settle(store.as_ref());
        for wanted in
            [Wanted::default(), Wanted::from("+49171"), Wanted::search("привет"), Wanted::search("message 1")]
        {
            reference.assert_page(store.as_ref(), &wanted, &Page { limit: 100, ..Page::default() });
        }
        reference.assert_stats(store.as_ref());

        // What is there stays, and what comes goes behind it.
        let outcomes = store.insert_messages(&sent()).unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Duplicate), "{outcomes:?}");
        let mut other = sent().remove(7);
        other.text = Some("another text".into());
        let outcomes = store.insert_messages(&[other, parsed(&message("new"))]).unwrap();
        let seq = i64::try_from(sent().len()).unwrap() + 1;
        assert_eq!(outcomes, [Outcome::Conflict, Outcome::Created { seq }], "{files:?}");
        settle(store.as_ref());
        store.close();
        assert_eq!(findings(&path), (53, Vec::new()), "{files:?}");
        assert_eq!(number(&path, "PRAGMA user_version"), 5);
        let mut whole = String::new();
        Connection::open(&path)
            .unwrap()
            .pragma_query(None, "integrity_check", |row| {
                whole = row.get(0)?;
                Ok(())
            })
            .unwrap();
        assert_eq!(whole, "ok");
    }
}

/// Rows that were written before the migration and after it are read by the same statements.
#[test]
fn a_follower_reads_on_from_rows_of_the_previous_release() {
    let (_folder, path) = restored(&["backup.db"]);
    let store = open(&path).unwrap();
    store.insert_messages(&[parsed(&message("new"))]).unwrap();
    let read = |start| {
        let mut found = Vec::new();
        let read = lyftr::event::LogRead { start, filter: lyftr::event::LogFilter::default(), limit: 1_000 };
        let reached = store.read_log(&read, &mut |recorded| {
            found.push(recorded);
            true
        });
        (found, reached.unwrap().unwrap())
    };
    let (all, reached) = read(Start::Beginning);
    assert_eq!((all.len(), reached.end), (53, true));
    let from: Position = all[50].position;
    assert_eq!(read(Start::After(from)).0, all[51..]);
    assert_eq!(store.event_at(from).unwrap().as_ref(), Some(&all[50]));
}

#[test]
fn the_index_of_the_previous_release_is_rebuilt() {
    let (_folder, path) = restored(&["app.db", "app.db-wal", "app.db-index", "app.db-index-wal"]);
    let store = open(&path).unwrap();
    settle(store.as_ref());
    let found =
        store.list(&Filter { from: Some("+49171".into()), ..Filter::default() }, &Page::default()).unwrap();
    assert_eq!(found.total, 6);
    store.close();
    assert_eq!(findings(&path), (52, Vec::new()));
}

#[test]
fn the_previous_schema_is_checked_and_backed_up_as_it_is() {
    let (folder, path) = restored(&["app.db", "app.db-wal", "app.db-index", "app.db-index-wal"]);
    let older = "index: it has another version; the service rebuilds it".to_owned();
    assert_eq!(findings(&path), (52, vec![older]));
    let backup = folder.path().join("another.db");
    let done = Process::builder()
        .env("DATABASE_URL", &sqlite_url(&path))
        .args(&["backup", backup.to_str().unwrap()])
        .run();
    assert_eq!(done.code(), Some(0), "{}", done.stderr);
    assert!(done.stdout.contains(": 52 events, "), "{}", done.stdout);
    assert_eq!((number(&path, "PRAGMA user_version"), number(&backup, "PRAGMA user_version")), (2, 2));
}

#[test]
fn a_start_on_the_previous_schema_says_what_it_has_done() {
    let (folder, _path) = restored(&["app.db", "app.db-wal"]);
    let mut process = Process::builder().folder(folder.path()).start();
    let total = process.client().json("/messages")["total"].clone();
    process.terminate();
    let log = process.log_values();
    let told: Vec<_> =
        log.iter().filter(|line| line["message"] == "the schema was brought up to date").collect();
    let [line] = told.as_slice() else { panic!("{log:?}") };
    assert_eq!((&line["from"], &line["to"], &total), (&2.into(), &5.into(), &52.into()));
    assert!(line["milliseconds"].is_u64(), "{line}");
}

#[test]
fn a_backup_of_the_previous_release_is_copied_from() {
    let (folder, path) = restored(&["backup.db"]);
    let target = folder.path().join("target.db");
    let done =
        Process::builder().args(&["copy", "--from", &sqlite_url(&path), "--to", &sqlite_url(&target)]).run();
    assert_eq!(done.code(), Some(0), "{}", done.stderr);
    assert!(done.stdout.starts_with("copied 52 events; 0 were there already\n"), "{}", done.stdout);
    let store = open(&target).unwrap();
    let events: Vec<_> = store.arrived(0, 1_000).unwrap().into_iter().map(|arrived| arrived.event).collect();
    assert_eq!(
        events,
        sent().into_iter().map(|message| Event::of_message(message, None, None)).collect::<Vec<_>>()
    );
}

/// The migration edits the text of the table, so what somebody has added to it must stay where it is.
#[test]
fn what_somebody_has_added_to_the_previous_schema_is_kept() {
    let (_folder, path) = restored(&["backup.db"]);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "ALTER TABLE message ADD COLUMN note TEXT; ALTER TABLE message ADD COLUMN seen INTEGER NOT NULL DEFAULT 7;
         UPDATE message SET note = 'note ' || seq WHERE seq % 2 = 0;
         CREATE INDEX mine ON message (note); CREATE VIEW ours AS SELECT message_id, note FROM message;
         DROP INDEX message_by_instant; ANALYZE",
    )
    .unwrap();
    let mut store = open(&path).unwrap();
    let messages: Vec<_> =
        store.arrived_messages(0, 1_000).unwrap().into_iter().map(|(_, message)| message).collect();
    assert_eq!(messages, sent());
    store.insert_messages(&[parsed(&message("new"))]).unwrap();
    assert_eq!(store.list(&Filter::default(), &Page::default()).unwrap().total, 53);
    settle(store.as_ref());
    store.close();
    assert_eq!(number(&path, "SELECT count(*) FROM event WHERE note = 'note ' || seq AND seen = 7"), 26);
    assert_eq!(number(&path, "SELECT count(*) FROM ours"), 53);
    let (count, told) = findings(&path);
    assert_eq!(count, 53);
    let remark = |what: &str| format!("database: the {what}");
    let mut expected = vec![remark("table event has columns that are not part of Lyftr's schema")];
    expected.extend(["index mine", "view ours"].map(|what| remark(what) + " is not part of Lyftr's schema"));
    assert_eq!(told, expected);
    store = open(&path).unwrap();
    assert_eq!(store.find(&[(Source::WEBHOOK, Name::new("new").unwrap())]).unwrap().len(), 1);
}

/// One transaction: a killed migration has done nothing.
#[test]
fn a_migration_that_is_killed_begins_again() {
    let (folder, path) = restored(&["backup.db"]);
    let large = folder.path().join("large.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
         INSERT INTO message SELECT n, 'large ' || n, '+1', '+2', n, 0, 0, hex(randomblob(100)) FROM n",
    )
    .unwrap();
    drop(conn);
    std::fs::copy(&path, &large).unwrap();
    let mut left_undone = 0;
    for round in 0..20 {
        std::fs::copy(&large, &path).unwrap();
        for ending in ["db-wal", "db-shm"] {
            let _may_not_be_there = std::fs::remove_file(path.with_extension(ending));
        }
        let mut process =
            Process::builder().env("DATABASE_URL", &sqlite_url(&path)).args(&["migrate"]).spawn();
        std::thread::sleep(Duration::from_millis(5 * round));
        process.kill9();
        let version = number(&path, "PRAGMA user_version");
        left_undone += u32::from(version == 2);
        assert!([2, 5].contains(&version));
        let table = if version == 2 { "message" } else { "event" };
        assert_eq!(number(&path, &format!("SELECT count(*) FROM {table}")), 19_953);
        let finished = Process::builder().env("DATABASE_URL", &sqlite_url(&path)).args(&["migrate"]).run();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert_eq!(
            number(&path, "SELECT count(*) FROM event WHERE kind = 0 AND received_ms IS NULL"),
            19_953
        );
    }
    println!("{left_undone} of 20 were killed before they were done");
    assert!(left_undone > 0);
    assert_eq!(findings(&path).0, 19_953);
}

/// Nothing that clients know of the log changes, and what is there can be erased.
#[test]
fn events_positions_and_cursors_of_schema_version_3_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    for file in ["app.db", "app.db-wal"] {
        let from = Path::new(DATA).parent().unwrap().join("sqlite-schema-3").join(file);
        std::fs::copy(from, folder.path().join(file)).unwrap();
    }
    assert_eq!(findings(&path), (52, vec!["index: missing; a start of the service creates it".to_owned()]));
    let store = open(&path).unwrap();
    let arrived = store.arrived(0, 1_000).unwrap();
    let keys: Vec<_> = arrived.iter().map(|arrived| &arrived.event.key).collect();
    assert!(keys.into_iter().eq(sent().iter().map(|message| &message.message_id)));
    assert!(arrived.iter().all(|arrived| arrived.event.received_at.is_some()));
    let cursor = store.cursor(&CursorName::new("billing").unwrap()).unwrap().unwrap();
    assert_eq!((cursor.position.to_string().as_str(), cursor.lag), ("00000000000000148ea2b1690026700c", 32));
    assert_eq!(store.event_at(cursor.position).unwrap().unwrap().arrived, arrived[19]);
    let outcomes = store.insert_messages(&sent()).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Duplicate), "{outcomes:?}");
    let all = lyftr::event::LogFilter { source: Some("webhook".into()), ..Default::default() };
    let all = lyftr::erasure::Erasure::new(all, None, None).unwrap();
    assert_eq!(crate::store_events::erasure::erase(store.as_ref(), &all), 52);
    let outcomes = store.insert_messages(&sent()).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Erased), "{outcomes:?}");
    let cursor = store.cursor(&CursorName::new("billing").unwrap()).unwrap().unwrap();
    assert_eq!((cursor.position.seq, cursor.lag), (20, 0));
    store.close();
    assert_eq!(number(&path, "PRAGMA user_version"), 5);
}

/// What stands in it by then is looked up like what comes later.
#[test]
fn events_of_schema_version_4_are_found_by_what_they_are_about() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let status = |n: usize| {
        let source = Source::new("shop").unwrap();
        let mut event = Event::bare(source, Name::new(&n.to_string()).unwrap(), Kind::Status);
        event.r#ref = (!n.is_multiple_of(3)).then(|| Name::new("m").unwrap());
        event
    };
    let store = open(&path).unwrap();
    store.insert(&(0..6).map(status).collect::<Vec<_>>()).unwrap();
    store.close();
    drop(store);
    let older = Connection::open(&path).unwrap();
    older.execute_batch("DROP INDEX event_by_ref; PRAGMA user_version = 4").unwrap();
    drop(older);
    assert_eq!(findings(&path), (6, Vec::new()), "it is checked as it is");
    let store = open(&path).unwrap();
    store.insert(&(6..9).map(status).collect::<Vec<_>>()).unwrap();
    let filter = LogFilter { r#ref: Some("m".into()), ..LogFilter::default() };
    let mut found = Vec::new();
    let read = LogRead { start: Start::Beginning, filter, limit: 100 };
    let reached = store.read_log(&read, &mut |recorded| {
        found.push(recorded.arrived.event.key.as_str().to_owned());
        true
    });
    assert_eq!(
        (found, reached.unwrap().unwrap().end),
        (["1", "2", "4", "5", "7", "8"].map(Into::into).to_vec(), true)
    );
    store.close();
    drop(store);
    let missing = Connection::open(&path).unwrap();
    missing.execute_batch("DROP INDEX event_by_ref").unwrap();
    assert_eq!(findings(&path), (9, vec!["database: the index event_by_ref is missing".to_owned()]));
}
