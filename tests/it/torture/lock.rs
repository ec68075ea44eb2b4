//! Another process holds the database locked, for longer than the service waits.

use rusqlite::Connection as Database;

use super::{Torture, assert_alive_but_not_ready, await_healing};
use crate::support::process::Process;
use crate::support::senders::{Load, pause};
use crate::support::{DEADLINE, eventually};

#[test]
fn acknowledged_messages_survive_locks_of_another_process() {
    let mut torture = Torture::new("lock", 3);
    let process = Process::builder().env("LOG_LEVEL", "ERROR").start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |_, rng| {
        pause(rng, 100);
        let refused = load.unacknowledged();
        let other = Database::open(process.database()).unwrap();
        other.busy_timeout(DEADLINE).unwrap();
        let lock = ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"][rng.usize(..2)];
        other.execute_batch(lock).unwrap();
        assert_alive_but_not_ready(&mut client, &["another process", "did not answer in"]);
        eventually("messages are refused", || (load.unacknowledged() > refused).then_some(()));
        pause(rng, 300);
        other.execute_batch("ROLLBACK").unwrap();
        drop(other);
        (await_healing(&mut client), load.check())
    });
    torture.judgement += load.check();
    torture.end();
}
