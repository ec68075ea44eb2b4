//! Writes and syncs that fail, with `EIO` and with `ENOSPC`, by [`shim.c`](shim.c).

use rusqlite::Connection as Database;
use rustix::io::Errno;

use super::kill::start;
use super::shim::Shim;
use super::{Torture, assert_alive_but_not_ready, await_healing};
use crate::support::process::Process;
use crate::support::senders::{Load, pause};
use crate::support::{eventually, message, message_with};

#[test]
fn acknowledged_messages_survive_writes_and_syncs_that_fail() {
    let mut torture = Torture::new("fault", 8);
    let shim = Shim::new();
    let mut process = shim.under(Process::builder().env("LOG_LEVEL", "WARN")).start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |round, rng| {
        pause(rng, 100);
        let error = if rng.u64(..2) == 0 { Errno::IO } else { Errno::NOSPC };
        // Each at least once, then at random.
        match if round < 2 { round } else { rng.u64(..2) } {
            0 => shim.fail_writes(error),
            _ => shim.fail_syncs(error),
        }
        assert_alive_but_not_ready(&mut client, &["the disk is full", "disk I/O error", "a write failed"]);
        pause(rng, 100);
        shim.heal();
        (await_healing(&mut client), load.check())
    });
    assert!(shim.hits() > 0, "the shim was never asked");
    process.kill9();
    // What the kernel still has is read by another process.
    let (mut again, _) = start(process.folder(), &load);
    torture.judgement += load.check();
    again.terminate();
    assert!(again.log_values().iter().all(|line| line["message"] != "panic"));
    torture.end();
}

#[test]
fn a_connection_whose_sync_failed_is_not_trusted() {
    let shim = Shim::new();
    let mut process = shim.under(Process::builder()).start();
    let mut client = process.client();
    client.store(&message("before"));
    shim.fail_syncs(Errno::IO);
    assert_eq!(client.send(&message("m")).status, 503);
    shim.heal();
    client.store(&message("m"));
    assert_eq!(client.json("/messages")["total"], 2);
    process.terminate();
    let anew = "the database was reopened after a failure";
    assert!(process.log_values().iter().any(|line| line["message"] == anew));
}

/// Another program reads all the while, so that the log can neither be moved whole nor begin anew.
#[test]
fn a_failed_sync_heals_while_another_program_reads() {
    let shim = Shim::new();
    let mut process = shim.under(Process::builder()).start();
    let mut client = process.client();
    client.store(&message("before"));
    let reader = Database::open(process.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    client.store(&message("unseen by the reader"));
    for (error, id) in [(Errno::IO, "one"), (Errno::NOSPC, "two")] {
        shim.fail_syncs(error);
        // Twice: the first time it finds out, then it tries to come back.
        for _ in 0..2 {
            assert_eq!(client.send(&message(id)).status, 503);
        }
        shim.heal();
        await_healing(&mut client);
        client.store(&message(id));
    }
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(client.json("/messages")["total"], 4);
    process.kill9();
    let again = Process::builder().folder(process.folder()).start();
    assert_eq!(again.client().json("/messages")["total"], 4);
}

/// A part of the log is moved while another program reads. SQLite does not sync that part by itself, and the sync after
/// the next part, which fails, takes back both. A checkpoint that then goes on where the last one ended would have the
/// log begin anew without the first part.
#[test]
fn a_checkpoint_whose_sync_failed_is_done_again() {
    let shim = Shim::new();
    let mut process = shim.under(Process::builder()).start();
    let mut client = process.client();
    let mut stored: u64 = 0;
    let text = "x".repeat(4000);
    let mut store = |count: u64| {
        for _ in 0..count {
            let message = message_with(&stored.to_string(), "+1", "2025-01-15T10:00:00Z", Some(&text));
            stored += u64::from(client.send(&message).status == 200);
        }
        stored
    };
    let log_bytes = |process: &Process| {
        let metrics = process.client().get("/metrics");
        let line = metrics.text().lines().find_map(|line| line.strip_prefix("store_wal_bytes "));
        line.unwrap().parse::<u64>().unwrap()
    };
    let failed = |process: &Process| {
        process.log_values().iter().any(|line| line["message"].as_str().unwrap_or("").contains("checkpoint"))
    };
    store(50);
    let reader = Database::open(process.database()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    // A checkpoint is due at 4 MiB, and after one that was held up at 4 MiB more.
    eventually("a part of the log is moved", || {
        store(10);
        (log_bytes(&process) > 5 << 20).then_some(())
    });
    reader.execute_batch("COMMIT").unwrap();
    shim.fail_syncs_of_checkpoints(Errno::IO);
    eventually("the next checkpoint fails", || {
        if !failed(&process) {
            store(1);
        }
        failed(&process).then_some(())
    });
    shim.heal();
    await_healing(&mut process.client());
    // Until the log has begun anew.
    eventually("a checkpoint succeeds", || {
        store(10);
        (log_bytes(&process) < 1 << 20).then_some(())
    });
    let total = store(10);
    process.kill9();
    let again = Process::builder().folder(process.folder()).start();
    assert_eq!(again.client().json("/messages?limit=1")["total"], total);
    let integrity = "PRAGMA integrity_check";
    let database = Database::open(again.database()).unwrap();
    let sound: String = database.query_row(integrity, (), |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn a_start_writes_the_log_anew_if_the_process_before_was_killed_after_a_failed_sync() {
    let shim = Shim::new();
    let mut process = shim.under(Process::builder()).start();
    let lock = process.folder().join("app.db-lock");
    let word = || std::fs::read_to_string(&lock).unwrap();
    let mut client = process.client();
    client.store(&message("before"));
    assert_eq!(word(), format!("{}\n", process.id()));
    shim.fail_syncs(Errno::IO);
    assert_eq!(client.send(&message("m")).status, 503);
    assert_eq!(word(), format!("{}\nunsynced\n", process.id()));
    process.kill9();
    // It cannot be written anew either. What there is can be read, and nothing is acknowledged.
    let mut again = shim.under(Process::builder().folder(process.folder())).start();
    let mut client = again.client();
    assert_alive_but_not_ready(&mut client, &["disk I/O error"]);
    assert_eq!(client.send(&message("before")).status, 503);
    again.kill9();
    shim.heal();
    let mut again = shim.under(Process::builder().folder(process.folder())).start();
    assert_eq!(word(), format!("{}\n", again.id()), "it was settled at the start");
    let mut client = again.client();
    client.store(&message("m"));
    assert_eq!(client.json("/messages")["total"], 2);
    assert_eq!(again.terminate().code(), Some(0));
}
