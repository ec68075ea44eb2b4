//! Many times more is offered than can be stored: early refusals, bounded memory, and no collapse.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::shim::Shim;
use super::{Torture, number};
use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::senders::Load;

/// Each sync takes so long that storing is what limits, not this machine's cores.
const SYNC_MS: u32 = 100;
/// Messages that may wait, while as many are being stored: so twice as many senders keep the store as busy as it can
/// be, and hardly any is refused.
const QUEUE_MAX: u64 = 16;
/// Senders that are too many.
const FLOOD: u64 = 8 * QUEUE_MAX;
const PHASE: Duration = Duration::from_secs(3);
/// Most memory that the service may hold, in bytes.
const MEMORY_BYTES_MAX: usize = 128 << 20;
/// How many times as much as can be stored is too much.
const TIMES: u64 = 10;
/// What must be left of the peak under overload, in percent, in a run that is asked for (`LYFTR_ROUNDS`): a share of
/// the same run's own figure, and no matter of this machine's speed, since the disk is what limits.
const GOODPUT_PERCENT_MIN: u64 = 80;

#[derive(Debug)]
struct Phase {
    acknowledged: u64,
    offered: u64,
}

/// So many senders at work for a while.
fn offer(load: &Load, senders: u64, torture: &mut Torture, beside: impl FnOnce()) -> Phase {
    let count = || (load.acknowledged.load(Relaxed), load.unacknowledged());
    let (before, end) = (count(), Instant::now() + PHASE);
    std::thread::scope(|scope| {
        for _ in 0..senders {
            let rng = torture.rng.fork();
            scope.spawn(move || load.send_while(rng, || Instant::now() < end));
        }
        beside();
    });
    let after = count();
    Phase { acknowledged: after.0 - before.0, offered: after.0 - before.0 + after.1 - before.1 }
}

#[test]
fn ten_times_too_many_messages_are_refused_early_and_those_that_can_be_stored_are() {
    let mut torture = Torture::new("overload", 1);
    let shim = Shim::new();
    let builder = Process::builder().env("LOG_LEVEL", "ERROR").env("QUEUE_MAX", &QUEUE_MAX.to_string());
    let process = shim.under(builder).start_silent();
    let load = Load::new(process.address());
    let (mut ten_times, asked) = (0, number("LYFTR_ROUNDS").is_some());
    let least = if asked { GOODPUT_PERCENT_MIN } else { 0 };
    for _ in 0..torture.rounds {
        shim.delay_syncs(SYNC_MS);
        let peak = offer(&load, 2 * QUEUE_MAX, &mut torture, || {});
        let mut client = process.client();
        let flood = offer(&load, FLOOD, &mut torture, || probe(&mut client));
        shim.heal();
        torture.hits += u64::from(flood.offered > flood.acknowledged);
        torture.judgement += load.check();
        let percent = flood.acknowledged * 100 / peak.acknowledged;
        println!("overload: {peak:?}, {flood:?}: {percent} % of the peak");
        // A machine that is busy with other things may not offer that much.
        if flood.offered >= TIMES * peak.acknowledged {
            ten_times += 1;
            assert!(percent >= least, "{percent} % of the peak are left");
        }
    }
    #[cfg(target_os = "linux")]
    {
        let memory = process.memory("VmHWM");
        assert!(memory <= MEMORY_BYTES_MAX, "{memory} bytes");
    }
    println!("overload: {TIMES} times the peak was offered in {ten_times} rounds");
    assert!(ten_times > 0 || !asked, "this machine did not offer {TIMES} times the peak");
    torture.acknowledged = load.acknowledged.load(Relaxed);
    torture.end();
}

/// Reads and probes go on beside the flood.
fn probe(client: &mut Client) {
    let end = Instant::now() + PHASE / 2;
    while Instant::now() < end {
        assert_eq!(client.get("/health/live").status, 200);
        client.json("/messages?limit=1");
        client.json("/stats");
    }
}
