//! One measurement of one server under load, and the checks that go with it.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Postgres;
use crate::load::{self, Load, Outcome, Pace, Requests, Tally};
use crate::machine::{cpu_time, peak_memory_mib};
use crate::options::{Plan, warm_up};
use crate::report::Figure::{
    Commit, DatabaseCpu, Errors, GeneratorCpu, Longest, Memory, P50, P99, P999, PerSecond, ServerCpu, Wal,
};
use crate::report::Figures;
use crate::server::{Kind, Server};
use crate::stores::longest_commit_s;

/// Part of its cores that the load generator may use before a row is marked: above it the figure is the generator's
/// and no longer the server's.
const GENERATOR_BUSY: f64 = 0.9;

/// Remarks on measurements.
#[derive(Debug, Default)]
pub struct Remarks {
    label: String,
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Remarks {
    /// From here on remarks are about this.
    pub fn about(&mut self, label: &str) {
        label.clone_into(&mut self.label);
    }

    /// Something is wrong: a response, a lost message, a missing log line.
    pub fn fault(&mut self, fault: impl Display) {
        self.faults.push(format!("{}: {fault}", self.label));
    }

    /// Prints the notes; returns the faults.
    pub fn finish(self) -> Vec<String> {
        for note in &self.notes {
            println!("- {note}");
        }
        self.faults
    }

    /// Readers should know this about a row.
    pub fn note(&mut self, note: impl Display) {
        self.notes.push(format!("{}: {note}", self.label));
    }
}

/// One measurement.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub plan: &'a Plan,
    pub kind: Kind,
    pub connections: usize,
    pub pace: Pace,
    pub requests: &'a Requests,
    /// The server of the database, where it is not SQLite.
    pub postgres: Option<&'a Postgres>,
    /// Length of the window.
    pub measured: Duration,
}

impl Run<'_> {
    /// Loads the server, checks afterwards that every acknowledged message is stored and logged, and stops it.
    pub fn measure(&self, server: Server, remarks: &mut Remarks) -> Result<Figures> {
        let Self { plan, kind, connections, pace, requests, postgres, measured } = *self;
        let stored_before = if kind.stores() { server.total_messages()? } else { 0 };
        let wal_before = postgres.map_or(0, Postgres::wal_bytes);
        let (address, threads, warm_up) = (server.address(), plan.threads, warm_up(measured));
        let load = Load { address, connections, threads, pace, warm_up, measured };
        let outcome = load::run(&load, requests, || {
            let database = postgres.map_or(Ok(Duration::ZERO), Postgres::cpu_time)?;
            Ok([cpu_time(server.pid())?, cpu_time(std::process::id())?, database])
        })?;
        let mut figures = figures(&outcome, measured);
        let Tally { right, right_in_window, unsent, .. } = outcome.tally;
        figures.insert(Memory, peak_memory_mib(server.pid())?);
        if let Some(postgres) = postgres {
            let bytes = postgres.wal_bytes() - wal_before;
            figures.insert(Wal, bytes as f64 / 1024.0 / right as f64);
        }
        if kind == Kind::Lyftr {
            let commit_s = longest_commit_s(&server.metrics()?).context("not one commit in /metrics")?;
            figures.insert(Commit, commit_s * 1e3);
        }
        if kind.stores() {
            check_stored(&outcome.tally, server.total_messages()?.saturating_sub(stored_before), remarks);
        }
        let lines = server.stop()?;
        if kind.logs() && lines < right {
            remarks.fault(format_args!("{right} requests were answered and {lines} lines logged"));
        }
        if unsent > 0 {
            remarks.note(format_args!("{unsent} requests came due and could not be sent"));
        }
        let generator_cores = figures[&PerSecond] * figures[&GeneratorCpu] / 1e6;
        if generator_cores > GENERATOR_BUSY * threads as f64 {
            remarks.note("the load generator was at its limit; give it more --threads");
        }
        ensure!(right_in_window > 0, "not one right response in the measured window");
        Ok(figures)
    }
}

/// Compares the responses with the messages that the server has stored meanwhile.
fn check_stored(tally: &Tally, stored: u64, remarks: &mut Remarks) {
    let Tally { right, errors, first_error, .. } = tally;
    if let Some(error) = first_error {
        remarks.fault(format_args!("{errors} wrong or missing responses; the first: {error}"));
    }
    // A message that was not acknowledged may be stored all the same.
    if stored < *right || *errors == 0 && stored > *right {
        remarks.fault(format_args!("{right} messages were acknowledged and {stored} are stored"));
    }
}

/// The figures of a run whose samples are the CPU times of server, generator and PostgreSQL.
pub fn figures(outcome: &Outcome<[Duration; 3]>, measured: Duration) -> Figures {
    let Outcome { tally, samples: [before, after] } = outcome;
    let requests = tally.right_in_window as f64;
    let ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e6;
    let cpu_us = |process: usize| {
        after[process].saturating_sub(before[process]).as_secs_f64() * 1e6 / requests.max(1.0)
    };
    Figures::from([
        (PerSecond, requests / measured.as_secs_f64()),
        (P50, ms(0.5)),
        (P99, ms(0.99)),
        (P999, ms(0.999)),
        (Longest, ms(1.0)),
        (ServerCpu, cpu_us(0)),
        (GeneratorCpu, cpu_us(1)),
        (DatabaseCpu, cpu_us(2)),
        (Errors, tally.errors as f64),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_told_apart_and_shared_by_the_requests_of_the_window() {
        let tally = Tally { right: 200, right_in_window: 100, ..Tally::new().unwrap() };
        let samples = [[10, 20, 30], [11, 22, 40]].map(|times| times.map(Duration::from_millis));
        let figures = figures(&Outcome { tally, samples }, Duration::from_secs(1));
        for (figure, expected) in [(ServerCpu, 10.0), (GeneratorCpu, 20.0), (DatabaseCpu, 100.0)] {
            assert!((figures[&figure] - expected).abs() < 1e-9, "{figure:?}");
        }
    }

    #[test]
    fn a_lost_message_is_a_fault_and_one_too_many_only_without_errors() {
        for (errors, stored, faults) in [(0, 199, 1), (1, 199, 1), (0, 201, 1), (1, 201, 0), (0, 200, 0)] {
            let mut remarks = Remarks::default();
            check_stored(&Tally { right: 200, errors, ..Tally::new().unwrap() }, stored, &mut remarks);
            assert_eq!(remarks.faults.len(), faults, "{errors} errors, {stored} stored");
        }
    }
}
