//! Other programs that use the database beside the service, as Litestream does: one always reads, and checkpoints by
//! itself; one takes the write lock for two seconds now and then.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::Connection as Database;

use super::{assert_ailing, assert_heals, assert_kept, ids};
use crate::support::process::Process;
use crate::support::{DEADLINE, eventually, message};

const READ: &str = "BEGIN; SELECT count(*) FROM message";

/// Whether the log says that the database was reopened, which a mere lock gives no reason for.
fn was_opened_anew(process: &Process) -> bool {
    process.log_values().iter().any(|line| line["message"].as_str().unwrap_or("").contains("reopened"))
}

#[test]
fn a_lock_costs_no_connection_however_long_another_program_reads() {
    let mut process = Process::start();
    let mut client = process.client();
    client.store(&message("before"));
    let reader = Database::open(process.database()).unwrap();
    reader.execute_batch(READ).unwrap();
    let other = Database::open(process.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..2 {
        assert_ailing(&mut client, "another process");
        assert_eq!(ids(&mut client), ["before"], "reads go on");
    }
    other.execute_batch("COMMIT").unwrap();
    assert_heals(&mut client);
    reader.execute_batch("COMMIT").unwrap();
    assert!(!was_opened_anew(&process));
    drop((reader, other));
    assert_kept(&mut process, &["after", "before", "refused"]);
}

#[test]
fn programs_that_always_read_checkpoint_and_lock_are_survived() {
    let mut process = Process::start();
    let mut client = process.client();
    client.store(&message("before"));
    let path = process.database();
    let (sent, locks, done) = (40, AtomicBool::new(false), AtomicBool::new(false));
    let mut expected: Vec<String> = vec!["after".into(), "before".into(), "refused".into()];
    std::thread::scope(|scope| {
        // There is no moment at which nobody reads.
        scope.spawn(|| {
            let open = || {
                let reader = Database::open(&path).unwrap();
                reader.execute_batch(READ).unwrap();
                reader
            };
            let mut reader = open();
            let moves = Database::open(&path).unwrap();
            moves.busy_timeout(Duration::from_secs(1)).unwrap();
            for mode in ["PASSIVE", "RESTART", "TRUNCATE"].iter().cycle() {
                if done.load(Relaxed) {
                    break;
                }
                reader = (open(), reader).0;
                let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
                moves.query_row(&checkpoint, (), |_| Ok(())).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
            drop(reader);
        });
        scope.spawn(|| {
            let other = Database::open(&path).unwrap();
            other.busy_timeout(DEADLINE).unwrap();
            while !done.load(Relaxed) {
                other.execute_batch("BEGIN IMMEDIATE").unwrap();
                locks.store(true, Relaxed);
                std::thread::sleep(Duration::from_secs(2));
                other.execute_batch("COMMIT").unwrap();
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("it is locked", || locks.load(Relaxed).then_some(()));
            for n in 0..sent {
                // Across several of the locks.
                std::thread::sleep(Duration::from_millis(100));
                let id = format!("{n:02}");
                eventually("it is stored", || (client.send(&message(&id)).status == 200).then_some(()));
                expected.push(id);
            }
        }));
        done.store(true, Relaxed);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_heals(&mut client);
    assert!(!was_opened_anew(&process));
    expected.sort();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert_kept(&mut process, &expected);
}

#[test]
fn a_start_beside_a_locked_database_answers_reads_and_heals() {
    let mut process = Process::start();
    process.client().store(&message("before"));
    process.terminate();
    let other = Database::open(process.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut process = Process::builder().folder(process.folder()).start();
    let mut client = process.client();
    assert_ailing(&mut client, "another process");
    assert_eq!(ids(&mut client), ["before"]);
    assert_eq!(client.json("/stats")["total_messages"], 1);
    other.execute_batch("COMMIT").unwrap();
    assert_heals(&mut client);
    drop(other);
    assert_kept(&mut process, &["after", "before", "refused"]);
}

#[test]
fn a_locked_index_is_kept_and_taken_up_again() {
    let mut process = Process::start();
    process.client().store(&message("before"));
    process.terminate();
    let index = process.folder().join("app.db-index");
    let other = Database::open(&index).unwrap();
    // Whoever has it for himself keeps readers out too.
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT").unwrap();
    let number = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&index).unwrap());
    let before = number();
    let mut process = Process::builder().folder(process.folder()).start();
    let mut client = process.client();
    let cannot = "the index cannot be written";
    eventually("it finds the index locked", || {
        process.log_values().iter().any(|line| line["message"] == cannot).then_some(())
    });
    assert_eq!(ids(&mut client), ["before"]);
    client.store(&message("after"));
    drop(other);
    eventually("the index is caught up with", || {
        let metrics = client.get("/metrics");
        metrics.text().contains("\nstore_index_behind_messages 0\n").then_some(())
    });
    assert_eq!(number(), before, "the index was made anew");
    assert_kept(&mut process, &["after", "before"]);
}
