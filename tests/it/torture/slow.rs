//! A disk whose every sync takes a second more, and longer than anybody waits, and a process that is frozen.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::process::Signal;

use super::Torture;
use super::shim::Shim;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::senders::{Load, SENDERS, pause};

/// So long that a message is not stored in time, and its sender is told so.
const TOO_SLOW_MS: u32 = 7000;

#[test]
fn acknowledged_messages_survive_a_slow_disk() {
    let mut torture = Torture::new("slow", 2);
    let shim = Shim::new();
    let process = shim.under(Process::builder().env("LOG_LEVEL", "ERROR")).start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |round, rng| {
        pause(rng, 100);
        let (before, refused) = (load.acknowledged.load(Relaxed), load.unacknowledged());
        // A second more: everything is answered, and with 200.
        shim.delay_syncs(1000);
        eventually("slowly, but surely", || {
            (load.acknowledged.load(Relaxed) >= before + 2 * SENDERS).then_some(())
        });
        assert_eq!(load.unacknowledged(), refused, "a second is no reason to refuse");
        assert_eq!(client.get("/health/live").status, 200);
        client.json("/messages?limit=1");
        // More than anybody waits: a 503, and what was refused may be stored all the same.
        if round % 2 == 0 {
            shim.delay_syncs(TOO_SLOW_MS);
            eventually("some are refused", || (load.unacknowledged() > refused).then_some(()));
            assert_eq!(client.get("/health/ready").status, 503);
            assert_eq!(client.get("/health/live").status, 200);
            client.json("/messages?limit=1");
        }
        shim.heal();
        (super::await_healing(&mut client), load.check())
    });
    torture.end();
}

#[test]
fn a_service_that_was_frozen_goes_on_where_it_was() {
    let process = Process::builder().env("LOG_LEVEL", "ERROR").start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    let mut torture = Torture::new("freeze", 2);
    torture.run(&load, torture.rounds, |_, rng| {
        let refused = load.unacknowledged();
        for _ in 0..5 {
            pause(rng, 100);
            process.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(200));
            process.signal(Signal::CONT);
        }
        // Longer than a message or a header may take by the clock.
        process.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(5500));
        let before = load.acknowledged.load(Relaxed);
        process.signal(Signal::CONT);
        eventually("it goes on", || (load.acknowledged.load(Relaxed) > before).then_some(()));
        println!("freeze: {} were refused or broken off", load.unacknowledged() - refused);
        (super::await_healing(&mut client), load.check())
    });
    torture.judgement += load.check();
    assert!(torture.judgement.is_good(), "{:?}", torture.judgement);
}
