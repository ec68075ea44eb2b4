//! What happens when the database is taken away, locked, full or broken: never a 200 for what is not stored,
//! never a 500, and when the cause is gone the service is well again by itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lyftr::store::Store;
use lyftr::store::sqlite::{Sqlite, Tuning};
use rusqlite::Connection as Database;
use serde_json::Value;

use crate::support::client::{Client, Reply};
use crate::support::process::Process;
use crate::support::{Messages as _, eventually, message, message_with, parsed};

pub(crate) mod disk;
mod dump;
mod faults;
mod files;
mod limit;
mod neighbours;

/// The ids that a service has, by its own account.
#[track_caller]
fn ids(client: &mut Client) -> Vec<String> {
    let listing = client.json("/messages?limit=100");
    let rows = listing["data"].as_array().unwrap();
    assert_eq!(listing["total"], rows.len());
    rows.iter().map(|row| row["message_id"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_refused(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.line());
    assert_eq!(reply.header("retry-after"), Some("1"));
}

/// Messages cannot be stored now, and the service says why and lives on.
#[track_caller]
fn assert_ailing(client: &mut Client, reason: &str) {
    assert_refused(&client.send(&message("refused")));
    let ready = client.get("/health/ready");
    assert_eq!((ready.status, &ready.json()["status"]), (503, &Value::from("not_ready")));
    let detail = ready.json()["detail"].to_string();
    assert!(detail.contains(reason), "{detail} should say {reason:?}");
    assert_eq!(client.get("/health/live").status, 200);
}

#[track_caller]
fn assert_heals(client: &mut Client) {
    let begin = Instant::now();
    eventually("it is ready again", || (client.get("/health/ready").status == 200).then_some(()));
    println!("healed in {:?}", begin.elapsed());
    client.store(&message("after"));
    client.store(&message("refused"));
}

/// Everything as expected, now and after a restart.
#[track_caller]
fn assert_kept(process: &mut Process, expected: &[&str]) {
    assert_eq!(ids(&mut process.client()), expected);
    assert_eq!(process.terminate().code(), Some(0), "{:?}", process.log_lines().last());
    let again = Process::builder().folder(process.folder()).start();
    assert_eq!(ids(&mut again.client()), expected);
    let sound: String = Database::open(again.database())
        .unwrap()
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn a_locked_database_is_said_to_be_and_heals() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let mut process = Process::start();
        let mut client = process.client();
        client.store(&message("before"));
        let other = Database::open(process.database()).unwrap();
        other.execute_batch(lock).unwrap();
        // More than once: the first time it finds out, then it tries to come back.
        for _ in 0..2 {
            assert_ailing(&mut client, "another process");
            assert_eq!(ids(&mut client), ["before"], "reads go on");
            assert_eq!(client.json("/stats")["total_messages"], 1);
        }
        other.execute_batch("COMMIT").unwrap();
        drop(other);
        assert_heals(&mut client);
        assert_kept(&mut process, &["after", "before", "refused"]);
    }
}

#[test]
fn a_lock_shorter_than_the_patience_is_waited_for() {
    let process = Process::start();
    let mut client = process.client();
    client.store(&message("before"));
    let other = Database::open(process.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let sender = std::thread::spawn(move || {
        client.store(&message("waited"));
        ids(&mut client)
    });
    std::thread::sleep(Duration::from_millis(100));
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sender.join().unwrap(), ["before", "waited"]);
}

fn files(process: &Process) -> Vec<PathBuf> {
    ["app.db", "app.db-wal", "app.db-shm"].iter().map(|name| process.folder().join(name)).collect()
}

#[test]
fn a_database_that_was_deleted_takes_nothing_more() {
    for deleted in [&[0][..], &[0, 1], &[0, 1, 2]] {
        for read_before in [false, true] {
            let process = Process::start();
            let mut client = process.client();
            client.store(&message("before"));
            if read_before {
                // A connection that reads keeps the files open, too.
                assert_eq!(ids(&mut client), ["before"]);
            }
            for nth in deleted {
                std::fs::remove_file(&files(&process)[*nth]).unwrap();
            }
            assert_refused(&client.send(&message("lost")));
            for _ in 0..3 {
                assert_ailing(&mut client, "database file");
            }
            assert!(!process.database().exists(), "no empty database in its place");
        }
    }
}

#[test]
fn readiness_finds_out_by_itself_that_the_database_was_deleted() {
    let process = Process::start();
    let mut client = process.client();
    assert_eq!(client.get("/health/ready").status, 200);
    std::fs::remove_file(process.database()).unwrap();
    assert_eq!(client.get("/health/ready").status, 503);
    assert_ailing(&mut client, "database file");
}

#[test]
fn a_database_that_was_moved_away_and_back_heals() {
    for moved in [&[0][..], &[0, 1, 2]] {
        for read_before in [false, true] {
            let mut process = Process::start();
            let mut client = process.client();
            client.store(&message("before"));
            if read_before {
                assert_eq!(ids(&mut client), ["before"]);
            }
            let away = tempfile::tempdir_in(process.folder()).unwrap();
            let moves: Vec<_> = moved
                .iter()
                .map(|nth| files(&process)[*nth].clone())
                .map(|path| (away.path().join(path.file_name().unwrap()), path))
                .collect();
            for (there, here) in &moves {
                std::fs::rename(here, there).unwrap();
            }
            for _ in 0..2 {
                assert_ailing(&mut client, "database file");
            }
            // What is closed for good takes its log along, so not all need be there any more.
            for (there, here) in moves.iter().filter(|(there, _)| there.exists()) {
                std::fs::rename(there, here).unwrap();
            }
            assert_heals(&mut client);
            assert_kept(&mut process, &["after", "before", "refused"]);
        }
    }
}

#[test]
fn a_database_that_was_replaced_is_neither_written_nor_believed() {
    for read_before in [false, true] {
        let mut process = Process::start();
        let mut client = process.client();
        for n in 0..20 {
            client.store(&message(&format!("ours {n}")));
        }
        if read_before {
            assert_eq!(ids(&mut client).len(), 20);
        }
        let theirs = process.folder().join("other.db");
        let store = Sqlite::open(&theirs, Tuning::default()).unwrap();
        let row = parsed(&message("theirs"));
        store.insert_messages(&[row]).unwrap();
        store.close();
        let before = std::fs::read(&theirs).unwrap();
        std::fs::rename(&theirs, process.database()).unwrap();

        for _ in 0..3 {
            assert_ailing(&mut client, "removed or replaced");
        }
        process.terminate();
        assert!(std::fs::read(process.database()).unwrap() == before, "the other database was written to");
    }
}

#[test]
fn a_table_that_was_dropped_is_noticed() {
    let process = Process::start();
    let mut client = process.client();
    client.store(&message("before"));
    Database::open(process.database()).unwrap().execute_batch("DROP TABLE event").unwrap();
    assert_eq!(client.get("/health/ready").status, 503);
    assert_ailing(&mut client, "schema");
    assert_refused(&client.get("/messages"));
    assert_refused(&client.get("/stats"));
}

#[test]
fn a_schema_that_became_another_is_noticed() {
    let process = Process::start();
    let mut client = process.client();
    Database::open(process.database()).unwrap().pragma_update(None, "user_version", 77).unwrap();
    let ready = client.get("/health/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("schema"), "{}", ready.text());
}

/// Fails with a line in the log that names the place and says what to do.
#[track_caller]
fn assert_does_not_start(folder: &Path, url: &str, reason: &str) {
    let finished = Process::builder().folder(folder).env("DATABASE_URL", url).run();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let last: Value = serde_json::from_str(finished.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["level"], &last["message"]), (&"ERROR".into(), &"the service cannot run".into()));
    let error = last["error"].as_str().unwrap();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn the_service_does_not_start_on_a_folder_that_cannot_be_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    assert_does_not_start(folder.path(), "sqlite:///file/app.db", "cannot create the folder file");
    std::fs::create_dir(folder.path().join("app.db")).unwrap();
    assert_does_not_start(folder.path(), "sqlite:///app.db", "cannot open the database app.db");
}

#[test]
fn the_service_does_not_start_on_a_file_that_is_no_database_and_leaves_it_alone() {
    for garbage in [&b"not a database at all, only some text. "[..], &[0xff], &[0; 512]] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let garbage = garbage.repeat(1000);
        std::fs::write(&path, &garbage).unwrap();
        assert_does_not_start(folder.path(), "sqlite:///app.db", "cannot open the database app.db");
        assert!(std::fs::read(&path).unwrap() == garbage, "the file was changed");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "files were left beside it");
    }
}

#[test]
fn a_database_that_is_damaged_inside_gives_no_500_and_no_panic() {
    let mut process = Process::start();
    let mut client = process.client();
    for n in 0..100 {
        client.store(&message_with(&format!("{n}"), "+1", "2025-01-15T10:00:00Z", Some(&"x".repeat(900))));
    }
    process.terminate();
    let whole = std::fs::read(process.database()).unwrap();
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
        std::fs::write(process.database(), damaged).unwrap();
        let mut started = Process::builder().folder(process.folder()).spawn();
        let listens = eventually("it listens or gives up", || {
            let listens = started.log_lines().iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                line["address"].as_str().map(|address| address.parse().unwrap())
            });
            listens.map(Some).or_else(|| (!started.is_running()).then_some(None))
        });
        let Some(address) = listens else { continue };
        let mut client = Client::new(address);
        for target in ["/messages", "/messages?limit=100&q=x", "/stats", "/health/ready"] {
            let status = client.get(target).status;
            assert!(matches!(status, 200 | 503), "{target}: {status}");
        }
        for n in 0..3 {
            let status = client.send(&message(&format!("new {n}"))).status;
            assert!(matches!(status, 200 | 503), "{status}");
        }
        assert_eq!(client.get("/health/live").status, 200);
        started.terminate();
        assert!(started.log_values().iter().all(|line| line["message"] != "panic"), "page {page}");
    }
}
