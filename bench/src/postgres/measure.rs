//! One measurement: a server on a database, under load, and the check that what it acknowledged is in the table.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Plan;
use super::cluster::{Cluster, Database};
use crate::load::{self, Load, Outcome, Pace};
use crate::procfs;
use crate::report::Figures;
use crate::request::{Ids, Requests, Settings};
use crate::suite;
use crate::target::{Kind, SECRET, Server};

const HOST: &str = "127.0.0.1";
const COUNT: &str = "SELECT count(*) FROM message";
/// Runs on the large database are so many requests apart, so that each sends new messages.
const RUN: u64 = 1 << 32;
/// Part of its cores that the load generator may use before a row is marked.
const GENERATOR_BUSY: f64 = 0.9;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The server.
    pub kind: Kind,
    /// Connections to it.
    pub connections: usize,
    /// When requests are sent.
    pub load: RowLoad,
    /// The database that is written into.
    pub store: RowStore,
}

/// When the requests of a row are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowLoad {
    /// As fast as the answers come.
    Closed,
    /// At half of the peak of the same round.
    HalfOfPeak,
}

/// The database of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStore {
    /// A new one.
    Empty,
    /// A new one, measured next to the large one.
    EmptyNextToLarge,
    /// The one that was filled.
    Large,
}

/// What one measurement of a row brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Throughput, latency and CPU of the server and of the generator.
    pub figures: Figures,
    /// CPU time of all processes of PostgreSQL per request in microseconds.
    pub database_cpu_us: f64,
    /// What was written to the write-ahead log per request in KiB, warm-up included.
    pub log_kib: f64,
}

/// What a measurement is made with.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// How long, and with what.
    pub plan: &'a Plan,
    /// The server of the database.
    pub cluster: &'a Cluster,
    /// The database.
    pub database: &'a Database,
    /// The messages.
    pub requests: &'a Requests,
    /// Length of the window.
    pub measured: Duration,
}

/// What was not as it should be.
#[derive(Debug, Default)]
pub struct Remarks {
    /// What was wrong.
    pub faults: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Signed requests with random ids for a run of this length; another `number`, other messages.
pub fn requests(plan: &Plan, number: u64, measured: Duration) -> Result<Requests> {
    let settings =
        Settings { host: HOST, secret: SECRET, ids: Ids::Random, seed: plan.seed, first: number * RUN };
    let mut requests = Requests::new(settings)?;
    requests.sign_ahead(load::requests_needed(plan.warm_up, measured, Pace::Closed));
    Ok(requests)
}

impl Run<'_> {
    /// Measures once; what was wrong with single requests or messages goes into `remarks`.
    pub fn measure(
        &self,
        kind: Kind,
        connections: usize,
        pace: Pace,
        remarks: &mut Remarks,
    ) -> Result<Measured> {
        let Self { plan, cluster, database, requests, measured } = *self;
        let session = database.session()?;
        let (rows_before, log_before) = (session.count(COUNT)?, cluster.log_bytes()?);
        let server = Server::start_on(&database.url(), kind, &plan.programs, plan.directory.join("server"))?;
        let load = Load {
            address: server.address(),
            connections,
            threads: plan.threads,
            pace,
            warm_up: plan.warm_up,
            measured,
        };
        let outcome = load::run(&load, requests, || {
            let [server, generator] = [server.pid(), std::process::id()].map(procfs::cpu_time);
            Ok([server?, generator?, cluster.cpu_time()?])
        })?;
        let memory_kib = procfs::peak_memory_kib(server.pid())?;
        let log_bytes = cluster.log_bytes()?.saturating_sub(log_before);
        let stored = session.count(COUNT)?.saturating_sub(rows_before);
        let lines = server.stop()?;
        let measured = measurement(outcome, measured, memory_kib, log_bytes, remarks, stored)?;
        let right = measured.1;
        if kind == Kind::Lyftr && lines < right {
            remarks.faults.push(format!("{right} requests were answered and {lines} lines logged"));
        }
        if measured.0.figures.generator_cores() > GENERATOR_BUSY * plan.threads as f64 {
            remarks.notes.push("the load generator was at its limit; give it more --threads".to_owned());
        }
        Ok(measured.0)
    }
}

/// The figures of a run whose samples are the CPU times of server, generator and PostgreSQL, and how many right
/// answers it has had in all.
fn measurement(
    outcome: Outcome<[Duration; 3]>,
    measured: Duration,
    memory_kib: u64,
    log_bytes: u64,
    remarks: &mut Remarks,
    stored: u64,
) -> Result<(Measured, u64)> {
    let Outcome { tally, before, after } = outcome;
    if let Some(error) = &tally.first_error {
        remarks.faults.push(format!("{} wrong or missing answers; the first: {error}", tally.errors));
    }
    if tally.unsent > 0 {
        remarks.notes.push(format!("{} requests came due and could not be sent", tally.unsent));
    }
    // What was not answered may be stored all the same.
    if stored < tally.right || tally.errors == 0 && stored > tally.right {
        remarks.faults.push(format!("{} messages were acknowledged and {stored} are stored", tally.right));
    }
    ensure!(tally.right_in_window > 0, "not one right answer in the measured window");
    let (in_window, right) = (tally.right_in_window as f64, tally.right);
    let [server_before, generator_before, database_before] = before;
    let [server_after, generator_after, database_after] = after;
    let outcome =
        Outcome { tally, before: [server_before, generator_before], after: [server_after, generator_after] };
    let measured = Measured {
        figures: suite::figures(&outcome, measured, memory_kib),
        database_cpu_us: database_after.saturating_sub(database_before).as_secs_f64() * 1e6 / in_window,
        log_kib: log_bytes as f64 / 1024.0 / right as f64,
    };
    Ok((measured, right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Tally;

    fn outcome(right: u64, errors: u64) -> Outcome<[Duration; 3]> {
        let tally = Tally { right, right_in_window: right / 2, errors, ..Tally::new().unwrap() };
        let millis = |times: [u64; 3]| times.map(Duration::from_millis);
        Outcome { tally, before: millis([10, 20, 30]), after: millis([11, 22, 40]) }
    }

    #[test]
    fn cpu_is_told_apart_and_shared_by_the_requests_of_the_window() {
        let mut remarks = Remarks::default();
        let (measured, right) =
            measurement(outcome(200, 0), Duration::from_secs(1), 0, 200 * 2048, &mut remarks, 200).unwrap();
        assert_eq!(right, 200);
        assert!((measured.figures.server_cpu_us - 10.0).abs() < 1e-9);
        assert!((measured.figures.generator_cpu_us - 20.0).abs() < 1e-9);
        assert!((measured.database_cpu_us - 100.0).abs() < 1e-9);
        assert!((measured.log_kib - 2.0).abs() < 1e-9);
        assert!(remarks.faults.is_empty());
    }

    #[test]
    fn a_lost_message_is_a_fault_and_one_too_many_only_without_errors() {
        for (errors, stored, faults) in [(0, 199, 1), (1, 199, 1), (0, 201, 1), (1, 201, 0), (0, 200, 0)] {
            let mut remarks = Remarks::default();
            measurement(outcome(200, errors), Duration::from_secs(1), 0, 0, &mut remarks, stored).unwrap();
            assert_eq!(remarks.faults.len(), faults, "{errors} errors, {stored} stored");
        }
    }
}
