//! All that a run measures, round after round.
//!
//! The machine is shared and drifts, so rows that are compared are measured next to each other, and ratios are taken
//! within a round.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Postgres;
use crate::load::{self, Delivery, Ids, Load, Requests, Tally};
use crate::machine::{cpu_time, peak_memory_mib};
use crate::options::{Plan, warm_up};
use crate::report::{
    ERRORS, Figure, Figures, GENERATOR_CPU, LONGEST, MEMORY, P50, P99, P999, PER_SECOND, POSTGRES_CPU,
    SERVER_CPU, Table, WAL, median, thousands,
};
use crate::server::{HOST, Kind, SECRET, Server};

/// One server under one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub kind: Kind,
    pub connections: usize,
    pub ids: Ids,
    pub delivery: Delivery,
    /// Requests come at half of the rate that the closed loop has reached in the same round.
    pub is_open: bool,
    /// Messages in the store at the start, and a remark on it.
    pub stored: (u64, &'static str),
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    Load(Row),
    /// Reads of this name from a store of this size.
    Reads(&'static str, u64),
    /// A store of this size: filling it, its files, its starts.
    Store(u64),
}

/// All figures, and all that was wrong.
#[derive(Debug, Default)]
pub struct Results {
    /// Microseconds of one write of 4 KiB with fsync, and with fdatasync, in each round.
    syncs: Vec<[f64; 2]>,
    /// With the number of the round, which is 0 before the first.
    measured: Vec<(usize, Subject, Figures)>,
    /// Loads so far. Each has a seed of its own, so that it sends new messages.
    loads: u64,
    label: String,
    pub faults: Vec<String>,
}

impl Row {
    /// Lyftr on an empty store in a closed loop.
    pub const fn lyftr(connections: usize, ids: Ids) -> Self {
        let delivery = Delivery::Message;
        Self { kind: Kind::Lyftr, connections, ids, delivery, is_open: false, stored: (0, "") }
    }

    /// The same row on a store of so many messages, with a remark on it.
    pub const fn on(self, messages: u64, remark: &'static str) -> Self {
        Self { stored: (messages, remark), ..self }
    }

    /// The same row of another server.
    pub const fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    fn cells(self) -> [String; 5] {
        let ids = if self.ids == Ids::Ordered { "in order" } else { "random" };
        let load = if self.is_open { "open loop at half of the peak" } else { "closed loop" };
        let load = match self.delivery {
            Delivery::Message => load.to_owned(),
            Delivery::WhatsApp(events) => format!("{load}, {events} of WhatsApp"),
        };
        let stored = format!("{}{}", thousands(self.stored.0 as f64), self.stored.1);
        [self.kind.name().to_owned(), self.connections.to_string(), ids.to_owned(), load, stored]
    }
}

impl Results {
    /// From here on faults and notes are about this.
    pub fn about(&mut self, label: impl Display) {
        self.label = label.to_string();
    }

    /// Something is wrong: a response, a lost message, a missing log line.
    pub fn fault(&mut self, fault: impl Display) {
        self.faults.push(format!("{}: {fault}", self.label));
    }

    /// Begins another round with bare syncs.
    pub fn begin_round(&mut self, plan: &Plan) -> Result<()> {
        let time = |sync: fn(&File) -> io::Result<()>| -> Result<f64> {
            let mut file = tempfile::tempfile_in(&plan.folder)?;
            let mut times = Vec::new();
            for _ in 0..plan.syncs() {
                let start = Instant::now();
                file.write_all(&[0x5a; 4096])?;
                sync(&file)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            median(times).context("no syncs")
        };
        self.syncs.push([time(File::sync_all)?, time(File::sync_data)?]);
        Ok(())
    }

    pub fn record(&mut self, subject: Subject, figures: Figures) {
        self.measured.push((self.syncs.len(), subject, figures));
    }

    /// Measures a row for so long, on the server that `start` starts; failure is a fault.
    pub fn measure(
        &mut self,
        plan: &Plan,
        row: Row,
        measured: Duration,
        postgres: Option<&Postgres>,
        start: impl FnOnce() -> Result<Server>,
    ) {
        self.about(format_args!("round {}, {}", self.syncs.len(), row.cells().join(", ")));
        match start().and_then(|server| self.load(plan, row, measured, postgres, server)) {
            Ok(figures) => {
                eprintln!("{}: {:.0} req/s", self.label, figures[&PER_SECOND]);
                self.record(Subject::Load(row), figures);
            }
            Err(error) => self.fault(format_args!("{error:#}")),
        }
    }

    /// Loads the server, checks afterwards that every acknowledged message is stored and logged, and stops it.
    fn load(
        &mut self,
        plan: &Plan,
        row: Row,
        measured: Duration,
        postgres: Option<&Postgres>,
        server: Server,
    ) -> Result<Figures> {
        let Row { kind, connections, ids, delivery, .. } = row;
        let peak = || self.rate(self.syncs.len(), Row { is_open: false, ..row }).context("no peak");
        let rate = if row.is_open { Some(peak()? / 2.0) } else { None };
        let requests = Requests::new(HOST, SECRET, ids, plan.seed.wrapping_add(self.loads)).of(delivery);
        self.loads += 1;
        let stored_before = if kind.stores() { server.total_messages()? } else { 0 };
        let wal_before = postgres.map_or(0, Postgres::wal_bytes);
        let (address, warm_up) = (server.address, warm_up(measured));
        let load = Load { address, connections, rate, warm_up, measured };
        let (tally, samples) = load::run(&load, &requests, || {
            let database = postgres.map_or(Ok(Duration::ZERO), Postgres::cpu_time)?;
            Ok([cpu_time(server.pid())?, cpu_time(std::process::id())?, database])
        })?;
        let mut figures = figures(&tally, samples, measured);
        let Tally { right, right_in_window, unsent, .. } = tally;
        figures.insert(MEMORY, peak_memory_mib(server.pid())?);
        if let Some(postgres) = postgres {
            let bytes = postgres.wal_bytes() - wal_before;
            figures.insert(WAL, bytes as f64 / 1024.0 / right as f64);
        }
        if kind.stores() {
            let stored = server.total_messages()?.saturating_sub(stored_before);
            self.check_stored(&tally, delivery, stored);
        }
        let lines = server.stop()?;
        if kind.logs() && (lines as u64) < right {
            self.fault(format_args!("{right} requests were answered and {lines} lines logged"));
        }
        if unsent > 0 {
            eprintln!("{}: {unsent} requests came due and could not be sent", self.label);
        }
        ensure!(right_in_window > 0, "not one right response in the measured window");
        Ok(figures)
    }

    /// Compares the responses with the messages that the server has stored meanwhile.
    fn check_stored(&mut self, tally: &Tally, delivery: Delivery, stored: u64) {
        let Tally { right, errors, first_error, .. } = tally;
        let right = right * delivery.events();
        if let Some(error) = first_error {
            self.fault(format_args!("{errors} wrong or missing responses; the first: {error}"));
        }
        // A message that was not acknowledged may be stored all the same.
        if stored < right || *errors == 0 && stored > right {
            self.fault(format_args!("{right} messages were acknowledged and {stored} are stored"));
        }
    }

    fn find(&self, round: usize, row: Row) -> Option<&Figures> {
        let is_it = |(of, subject): (usize, Subject)| of == round && subject == Subject::Load(row);
        self.measured.iter().find_map(|(round, of, figures)| is_it((*round, *of)).then_some(figures))
    }

    fn rate(&self, round: usize, row: Row) -> Option<f64> {
        Some(self.find(round, row)?[&PER_SECOND])
    }

    /// The server's CPU time for a request of one row to that of another, round by round.
    pub fn cpu_ratios(&self, above: Row, below: Row) -> Vec<f64> {
        let ratio =
            |round| Some(self.find(round, above)?[&SERVER_CPU] / self.find(round, below)?[&SERVER_CPU]);
        (1..=self.syncs.len()).filter_map(ratio).collect()
    }

    /// A figure, one value for all times that it was measured.
    pub fn value(&self, subject: Subject, figure: Figure) -> Option<f64> {
        figure.combine(self.values(subject, figure))
    }

    pub fn values(&self, subject: Subject, figure: Figure) -> Vec<f64> {
        let measured = self.measured.iter().filter(|(_, of, _)| *of == subject);
        measured.filter_map(|(.., figures)| figures.get(&figure).copied()).collect()
    }

    /// The throughput of one row to that of another, round by round.
    pub fn ratios(&self, above: Row, below: Row) -> Vec<f64> {
        let ratio = |round| Some(self.rate(round, above)? / self.rate(round, below)?);
        (1..=self.syncs.len()).filter_map(ratio).collect()
    }

    /// The median latency of a row to a bare sync, round by round.
    pub fn to_syncs(&self, row: Row) -> Vec<f64> {
        let rounds = (1..).zip(&self.syncs);
        rounds.filter_map(|(round, [fsync, _])| Some(self.find(round, row)?[&P50] * 1e3 / fsync)).collect()
    }

    /// The table of those of these rows that were measured.
    pub fn table(&self, rows: impl IntoIterator<Item = Row>, figures: &[Figure]) -> Table {
        let heads = ["server", "connections:", "ids", "load", "messages there:"].map(str::to_owned);
        let mut table =
            Table::new(heads.into_iter().chain(figures.iter().map(|figure| format!("{}:", figure.0))));
        for row in rows {
            let value = |figure: &Figure| self.value(Subject::Load(row), *figure);
            if value(&PER_SECOND).is_some() {
                let cells = figures.iter().map(|figure| figure.text(value(figure)));
                table.row(row.cells().into_iter().chain(cells));
            }
        }
        table
    }

    /// The cost of a bare sync, in words.
    pub fn syncs(&self, plan: &Plan) -> String {
        let [fsync, fdatasync] =
            [0, 1].map(|n| median(self.syncs.iter().map(|syncs| syncs[n])).unwrap_or_default());
        let times = plan.syncs();
        format!(
            "One write of 4 KiB and a sync, {times} times, p50: fsync {fsync:.0} µs, fdatasync {fdatasync:.0} µs.\n"
        )
    }
}

/// The figures of a run whose samples are the CPU times of server, generator and PostgreSQL.
pub fn figures(tally: &Tally, [before, after]: [[Duration; 3]; 2], measured: Duration) -> Figures {
    let requests = tally.right_in_window as f64;
    let ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e6;
    let cpu_us = |process: usize| {
        after[process].saturating_sub(before[process]).as_secs_f64() * 1e6 / requests.max(1.0)
    };
    Figures::from([
        (PER_SECOND, requests / measured.as_secs_f64()),
        (P50, ms(0.5)),
        (P99, ms(0.99)),
        (P999, ms(0.999)),
        (LONGEST, ms(1.0)),
        (SERVER_CPU, cpu_us(0)),
        (GENERATOR_CPU, cpu_us(1)),
        (POSTGRES_CPU, cpu_us(2)),
        (ERRORS, tally.errors as f64),
    ])
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const PEAK: Row = Row::lyftr(64, Ids::Ordered);

    /// Rounds with these throughputs, a latency of 0.3 ms and syncs of 0.25 ms.
    pub fn rounds(rounds: &[&[(Row, f64)]]) -> Results {
        let mut results = Results::default();
        for rows in rounds {
            results.syncs.push([250.0, 200.0]);
            for (row, rate) in *rows {
                results.record(Subject::Load(*row), Figures::from([(PER_SECOND, *rate), (P50, 0.3)]));
            }
        }
        results
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let noop = PEAK.of(Kind::Noop);
        let results =
            rounds(&[&[(PEAK, 40.0), (noop, 80.0)], &[(PEAK, 10.0), (noop, 40.0)], &[(PEAK, 40.0)]]);
        assert_eq!(results.ratios(PEAK, noop), [0.5, 0.25]);
        assert_eq!(results.ratios(PEAK, PEAK.of(Kind::Plain)), [0.0; 0]);
        assert!((results.to_syncs(PEAK)[0] - 1.2).abs() < 1e-9);
    }

    #[test]
    fn a_table_has_the_medians_of_the_rows_that_were_measured() {
        let results = rounds(&[&[(PEAK, 1_000.0)], &[(PEAK, 3_000.0)]]);
        let table = results.table([PEAK, PEAK.of(Kind::Noop)], &[PER_SECOND, WAL]);
        let expected = "| server | connections | ids | load | messages there | req/s | WAL KiB/req |\n\
                        |---|--:|---|---|--:|--:|--:|\n\
                        | (a) lyftr | 64 | in order | closed loop | 0 | 2,000 | – |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn cpu_is_told_apart_and_shared_by_the_requests_of_the_window() {
        let tally = Tally { right: 200, right_in_window: 100, ..Tally::new().unwrap() };
        let samples = [[10, 20, 30], [11, 22, 40]].map(|times| times.map(Duration::from_millis));
        let figures = figures(&tally, samples, Duration::from_secs(1));
        for (figure, expected) in [(SERVER_CPU, 10.0), (GENERATOR_CPU, 20.0), (POSTGRES_CPU, 100.0)] {
            assert!((figures[&figure] - expected).abs() < 1e-9, "{figure:?}");
        }
    }

    #[test]
    fn a_lost_message_is_a_fault_and_one_too_many_only_without_errors() {
        for (errors, stored, faults) in [(0, 199, 1), (1, 199, 1), (0, 201, 1), (1, 201, 0), (0, 200, 0)] {
            let mut results = Results::default();
            let tally = Tally { right: 200, errors, ..Tally::new().unwrap() };
            results.check_stored(&tally, Delivery::Message, stored);
            assert_eq!(results.faults.len(), faults, "{errors} errors, {stored} stored");
        }
    }
}
