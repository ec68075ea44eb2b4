//! A time of day that jumps, by [`shim.c`](shim.c): nothing of what is kept or limited depends on it.

use std::sync::atomic::Ordering::Relaxed;

use super::Torture;
use super::shim::Shim;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::senders::{Load, pause};

const YEAR_S: i64 = 365 * 24 * 3600;

#[test]
fn no_message_is_lost_and_no_request_cut_off_when_the_clock_jumps() {
    let mut torture = Torture::new("clock", 6);
    let shim = Shim::new();
    let process = shim.under(Process::builder()).start();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |round, rng| {
        pause(rng, 50);
        let jump = [3600, -3600, YEAR_S, -YEAR_S, 1, 0][usize::try_from(round % 6).unwrap()];
        shim.move_clock(jump);
        let before = load.acknowledged.load(Relaxed);
        eventually("it goes on", || (load.acknowledged.load(Relaxed) > before + 20).then_some(()));
        let healing = super::await_healing(&mut client);
        assert_eq!(client.connections, 1, "no connection was cut");
        (healing, load.check())
    });
    assert_eq!(load.unacknowledged(), 0, "a clock that jumps is no reason to refuse");
    assert!(torture.judgement.is_good(), "{:?}", torture.judgement);
    // It is the clock of the log, so the shim was at work.
    let years: std::collections::BTreeSet<String> =
        process.log_values().iter().map(|line| line["ts"].as_str().unwrap()[..4].to_owned()).collect();
    assert!(years.len() >= 3, "the clock did not jump: {years:?}");
}
