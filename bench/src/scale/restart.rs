//! Starting again after a crash.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Filled;
use crate::load::{self, Ids, Load, Pace, Requests};
use crate::measure::Remarks;
use crate::options::Plan;
use crate::server::{HOST, SECRET, Server};
use crate::stores;

/// Kills the server under load and starts it again, over and over on one copy; returns how many milliseconds each
/// start took until the server was ready.
pub fn measure(plan: &Plan, filled: &Filled, remarks: &mut Remarks) -> Result<Vec<f64>> {
    let copy = filled.copy(plan)?;
    let mut server = Server::on_sqlite(plan, copy.path())?;
    stores::wait_for_indexes(&server, filled.size)?;
    let mut times = Vec::new();
    let mut stored = filled.size;
    for number in 1..=if plan.quick { 3 } else { 10 } {
        let requests = Requests::new(HOST, SECRET, Ids::Random, plan.seed.wrapping_add(number), 0);
        let acknowledged = kill_under_load(plan, &requests, &mut server)?;
        let begin = Instant::now();
        server = Server::on_sqlite(plan, copy.path())?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        let before = std::mem::replace(&mut stored, server.total_messages()?);
        if stored < before + acknowledged {
            let new = stored.saturating_sub(before);
            remarks.fault(format_args!(
                "{acknowledged} messages were acknowledged before a crash, {new} are stored"
            ));
        }
    }
    server.stop()?;
    Ok(times)
}

/// Loads the server and kills it meanwhile; returns how many messages it has acknowledged.
fn kill_under_load(plan: &Plan, requests: &Requests, server: &mut Server) -> Result<u64> {
    let load = Load {
        address: server.address(),
        connections: 64,
        threads: plan.threads,
        pace: Pace::Closed,
        // The server is killed at the end of the warm-up.
        warm_up: Duration::from_millis(if plan.quick { 500 } else { 2_000 }),
        measured: Duration::from_millis(100),
    };
    let outcome = load::run(&load, requests, || server.kill())?;
    ensure!(outcome.tally.right > 0, "not one right response before the kill");
    Ok(outcome.tally.right)
}
