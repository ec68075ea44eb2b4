//! Writes and syncs that fail, with `EIO` and with `ENOSPC`, by [`shim.c`](shim.c).

use rustix::io::Errno;

use super::kill::start;
use super::shim::Shim;
use super::{Torture, assert_alive_but_not_ready, await_healing};
use crate::support::message;
use crate::support::process::Process;
use crate::support::senders::Load;

#[test]
fn what_was_acknowledged_survives_writes_and_syncs_that_fail() {
    let mut torture = Torture::new("fault", 8);
    let shim = Shim::new();
    let mut process = shim.under(Process::builder().env("LOG_LEVEL", "WARN")).start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |round, dice| {
        dice.pause(100);
        let error = if dice.roll(2) == 0 { Errno::IO } else { Errno::NOSPC };
        // Each at least once, then at random.
        match if round < 2 { round } else { dice.roll(2) } {
            0 => shim.fail_writes(error),
            _ => shim.fail_syncs(error),
        }
        assert_alive_but_not_ready(&mut client, &["the disk is full", "the disk failed to read or write"]);
        dice.pause(100);
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
fn after_a_failed_sync_nothing_is_believed_of_the_connection() {
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
    let anew = "the database was opened anew after a failure";
    assert!(process.log_values().iter().any(|line| line["message"] == anew));
}
