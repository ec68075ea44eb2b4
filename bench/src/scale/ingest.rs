//! Writing into a filled store, and starting again after a crash. Both work on copies, so that every measurement
//! finds the store as large as it says, and its indexes complete.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Plan;
use super::store::{self, Copy};
use crate::load::{self, Load, Pace};
use crate::procfs;
use crate::report::Figures;
use crate::request::{Ids, Requests, Settings};
use crate::suite;
use crate::target::{SECRET, Server};

/// Connections that write.
const CONNECTIONS: usize = 64;
const HOST: &str = "127.0.0.1";

/// What writing brought.
#[derive(Clone, Copy, Debug)]
pub struct Ingest {
    /// Throughput, latency, CPU and memory.
    pub figures: Figures,
    /// The longest time that a request took, in milliseconds.
    pub longest_ms: f64,
    /// No commit took longer than this, in seconds; the bound of a bucket of the service's own histogram.
    pub commit_s: f64,
}

/// The requests of a run that is repeated, signed once.
pub fn requests(plan: &Plan, ids: Ids) -> Result<Requests> {
    let mut requests = made(ids, plan.seed)?;
    requests.sign_ahead(load::requests_needed(plan.warm_up, plan.measured, Pace::Closed));
    Ok(requests)
}

fn made(ids: Ids, seed: u64) -> Result<Requests> {
    Requests::new(Settings { host: HOST, secret: SECRET, ids, seed, first: 0 })
}

/// Writes into a copy of the store of this size, and checks afterwards that what was acknowledged is there.
pub fn measure(plan: &Plan, size: u64, requests: &Requests, faults: &mut Vec<String>) -> Result<Ingest> {
    let copy = Copy::new(&plan.store(size), plan.copy())?;
    let server = Server::open(&plan.programs, copy.path())?;
    store::wait_for_indexes(&server)?;
    let load = Load {
        address: server.address(),
        connections: CONNECTIONS,
        threads: plan.threads,
        pace: Pace::Closed,
        warm_up: plan.warm_up,
        measured: plan.measured,
    };
    let cpu = || Ok([procfs::cpu_time(server.pid())?, procfs::cpu_time(std::process::id())?]);
    let outcome = load::run(&load, requests, cpu)?;
    let commit_s = store::longest_commit(&store::metrics(&server)?).context("not one commit in /metrics")?;
    let memory_kib = procfs::peak_memory_kib(server.pid())?;
    let tally = &outcome.tally;
    if let Some(error) = &tally.first_error {
        faults.push(format!("{} wrong or missing answers; the first: {error}", tally.errors));
    } else {
        let stored = server.total_messages()?.saturating_sub(size);
        if stored != tally.right {
            faults.push(format!("{} messages were acknowledged and {stored} are stored", tally.right));
        }
    }
    let lines = server.stop()?;
    if lines < tally.right {
        faults.push(format!("{} requests were answered and {lines} lines logged", tally.right));
    }
    ensure!(tally.right_in_window > 0, "not one right answer in the measured window");
    let longest_ms = tally.latency.max() as f64 / 1e6;
    Ok(Ingest { figures: suite::figures(&outcome, plan.measured, memory_kib), longest_ms, commit_s })
}

/// Kills the server under load and starts it again, over and over on one copy; returns how long each start took
/// until it was ready.
pub fn restarts(plan: &Plan, size: u64, faults: &mut Vec<String>) -> Result<Vec<Duration>> {
    let copy = Copy::new(&plan.store(size), plan.copy())?;
    let mut server = Server::open(&plan.programs, copy.path())?;
    store::wait_for_indexes(&server)?;
    let mut times = Vec::new();
    let mut stored = size;
    for number in 0..plan.restarts {
        let acknowledged = kill_under_load(plan, number, &mut server)?;
        let begin = Instant::now();
        server = Server::open(&plan.programs, copy.path())?;
        times.push(begin.elapsed());
        let there = server.total_messages()?;
        if there < stored + acknowledged {
            let new = there.saturating_sub(stored);
            faults.push(format!(
                "{acknowledged} messages were acknowledged before a crash and {new} are stored"
            ));
        }
        stored = there;
    }
    server.stop()?;
    Ok(times)
}

/// Loads the server with new messages and kills it meanwhile; returns how many of them it has acknowledged.
fn kill_under_load(plan: &Plan, number: u64, server: &mut Server) -> Result<u64> {
    let load = Load {
        address: server.address(),
        connections: CONNECTIONS,
        threads: plan.threads,
        pace: Pace::Closed,
        warm_up: plan.kill_after,
        // What is sent after the kill is lost; the load ends with its last connection.
        measured: Duration::from_millis(100),
    };
    let requests = made(Ids::Random, plan.seed.wrapping_add(1 + number))?;
    let mut alive = true;
    let outcome = load::run(&load, &requests, || {
        if std::mem::take(&mut alive) {
            server.kill()?;
        }
        Ok(())
    })?;
    ensure!(outcome.tally.right > 0, "not one right answer before the kill");
    Ok(outcome.tally.right)
}
