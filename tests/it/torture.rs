//! Hurts the service while senders are at work, and holds everything that it has acknowledged against what it has
//! afterwards: nothing lost, doubled, altered or invented.
//!
//! Each mode hurts in its own way, a few times, or `LYFTR_ROUNDS` times; `LYFTR_SEED` repeats the choices of an
//! earlier run. Each ends with one line that begins with `torture`; `make torture` runs them all and gathers those.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::senders::{Judgement, Load};

mod clock;
mod cut;
mod erase;
mod fault;
mod follow;
mod kill;
mod lock;
mod overload;
mod power;
mod replicas;
mod server;
mod shim;
mod slow;

pub(crate) use crate::support::lasting_port;

/// What a mode does, and what came of it.
#[derive(Debug)]
struct Torture {
    mode: &'static str,
    seed: u64,
    rng: Rng,
    rounds: u64,
    /// Rounds in which the hurt hit a request that was under way, which then got no 200.
    hits: u64,
    acknowledged: u64,
    /// The longest that the service took to be well again, once the cause was gone.
    healing: Duration,
    judgement: Judgement,
}

impl Torture {
    /// With this many rounds unless told otherwise.
    fn new(mode: &'static str, rounds: u64) -> Self {
        let random = || std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
        let seed = number("LYFTR_SEED").unwrap_or_else(random);
        println!("{mode}: LYFTR_SEED={seed}");
        let rounds = number("LYFTR_ROUNDS").unwrap_or(rounds);
        let (rng, judgement) = (Rng::with_seed(seed), Judgement::default());
        Self { mode, seed, rng, rounds, hits: 0, acknowledged: 0, healing: Duration::ZERO, judgement }
    }

    /// Lets senders work at `load`, and calls `round` for each of `rounds`, which hurts the service, takes the cause
    /// away, and tells how long it then took to be well again and what it has.
    fn run(
        &mut self,
        load: &Load,
        rounds: u64,
        mut round: impl FnMut(u64, &mut Rng) -> (Duration, Judgement),
    ) {
        load.while_sending(&mut self.rng, Duration::ZERO, |rng| {
            for number in 0..rounds {
                let before = load.unacknowledged();
                let (healing, judgement) = round(number, rng);
                self.healing = self.healing.max(healing);
                self.judgement += judgement;
                self.hits += u64::from(load.unacknowledged() > before);
            }
        });
        self.acknowledged += load.acknowledged.load(Relaxed);
    }

    /// Says in one line what came of it.
    ///
    /// # Panics
    /// If the service broke its promise, or if nothing was proved, since no hurt hit anything.
    fn end(self) {
        let Self { mode, seed, rounds, hits, acknowledged, healing, judgement, .. } = self;
        let Judgement { lost, doubled, altered, invented, unanswered, told } = &judgement;
        let proved = hits > 0 && acknowledged > 0;
        let verdict = match (judgement.is_good(), proved) {
            (false, _) => "BROKEN",
            (true, false) => "NOTHING PROVED",
            (true, true) => "kept",
        };
        println!(
            "torture {mode}: seed {seed}, {rounds} rounds, {hits} of which hit a request in flight, {acknowledged} acknowledged, \
             {lost} lost, {doubled} doubled, {altered} altered, {invented} invented ({unanswered} stored without an answer), healed within {} ms: {verdict}",
            healing.as_millis()
        );
        assert!(judgement.is_good(), "{}", told.join("\n"));
        assert!(proved, "no hurt hit a request that was under way: this run has shown nothing");
    }
}

#[expect(clippy::disallowed_methods, reason = "how often to hurt is not a setting of the service")]
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} should be a number: {value}")))
}

/// While the service is hurt it must live on, say that it is not ready, and answer reads.
#[track_caller]
fn assert_alive_but_not_ready(client: &mut Client, reasons: &[&str]) {
    let ready = eventually("it says that it is not ready", || {
        Some(client.get("/health/ready")).filter(|ready| ready.status == 503)
    });
    let detail = ready.json()["detail"].to_string();
    assert!(reasons.iter().any(|reason| detail.contains(reason)), "{detail} should be one of {reasons:?}");
    assert_eq!(client.get("/health/live").status, 200);
    client.json("/messages?limit=1");
    client.json("/stats");
}

/// Waits until the service is well again by itself; how long that was.
#[track_caller]
fn await_healing(client: &mut Client) -> Duration {
    let begin = Instant::now();
    eventually("it is ready again", || (client.get("/health/ready").status == 200).then_some(()));
    begin.elapsed()
}
