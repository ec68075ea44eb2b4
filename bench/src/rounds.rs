//! The rows of a table: each is one server under one load, measured once a round.
//!
//! The machine is shared and drifts, so rows that are compared are measured next to each other, round after round,
//! and ratios are taken within a round.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cluster::Postgres;
use crate::load::{Ids, Pace, Requests};
use crate::measure::{Remarks, Run};
use crate::options::Plan;
use crate::report::{Figure, Figures, Table, median, thousands};
use crate::server::{Kind, Server};

/// One server under one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub kind: Kind,
    pub connections: usize,
    pub ids: Ids,
    pub pace: RowPace,
    pub stored: Stored,
}

/// When the requests of a row are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPace {
    /// As fast as the responses come.
    Closed,
    /// At half of the throughput that the closed loop has reached in the same round.
    HalfOfPeak,
}

/// The messages in a row's store at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    None,
    /// None either, measured next to a large store.
    NoneNextToLarge,
    Some(u64),
}

impl fmt::Display for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("0"),
            Self::NoneNextToLarge => out.write_str("0, next to the large one"),
            Self::Some(size) => out.write_str(&thousands(*size as f64)),
        }
    }
}

/// Median microseconds of one write of 4 KiB and one sync: the least that one durable request can take.
#[derive(Clone, Copy, Debug)]
struct Syncs {
    fsync: f64,
    fdatasync: f64,
}

/// All that was measured under load.
#[derive(Debug, Default)]
pub struct Rounds {
    rounds: Vec<(Syncs, Vec<(Row, Figures)>)>,
    pub remarks: Remarks,
}

impl Row {
    /// Lyftr on an empty store in a closed loop.
    pub const fn lyftr(connections: usize, ids: Ids) -> Self {
        Self { kind: Kind::Lyftr, connections, ids, pace: RowPace::Closed, stored: Stored::None }
    }

    /// The same row of another server.
    pub const fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Its ids in words.
    pub fn ids(self) -> &'static str {
        match self.ids {
            Ids::Ordered => "in order",
            Ids::Random => "random",
        }
    }

    /// Its load in words.
    pub fn load(self) -> &'static str {
        match self.pace {
            RowPace::Closed => "closed loop",
            RowPace::HalfOfPeak => "open loop at half of the peak",
        }
    }
}

impl Rounds {
    /// Begins another round with bare syncs.
    pub fn begin(&mut self, plan: &Plan) -> Result<()> {
        let times = |sync: fn(&File) -> io::Result<()>| -> Result<f64> {
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
        let syncs = Syncs { fsync: times(File::sync_all)?, fdatasync: times(File::sync_data)? };
        self.rounds.push((syncs, Vec::new()));
        Ok(())
    }

    /// Measures a row in the round that has begun, on the server that `start` starts; failure is a fault.
    pub fn measure(
        &mut self,
        plan: &Plan,
        row: Row,
        requests: &Requests,
        postgres: Option<&Postgres>,
        start: impl FnOnce() -> Result<Server>,
    ) {
        let number = self.rounds.len();
        let Some((_, round)) = self.rounds.last_mut() else { return };
        let pace = match (row.pace, find(round, Row { pace: RowPace::Closed, ..row })) {
            (RowPace::Closed, _) => Pace::Closed,
            (RowPace::HalfOfPeak, Some(peak)) => Pace::Open(peak[&Figure::PerSecond] / 2.0),
            (RowPace::HalfOfPeak, None) => return,
        };
        let Row { kind, connections, stored, .. } = row;
        let (ids, load) = (row.ids(), row.load());
        let label =
            format!("round {number}, {kind}, {connections} connections, ids {ids}, {load}, stored: {stored}");
        self.remarks.about(&label);
        let run = Run { plan, kind, connections, pace, requests, postgres, measured: plan.measured };
        match start().and_then(|server| run.measure(server, &mut self.remarks)) {
            Ok(figures) => {
                eprintln!("{label}: {:.0} req/s", figures[&Figure::PerSecond]);
                round.push((row, figures));
            }
            Err(error) => self.remarks.fault(format_args!("{error:#}")),
        }
    }

    /// A figure of a row, one value for all rounds.
    pub fn value(&self, row: Row, figure: Figure) -> Option<f64> {
        figure.combine(self.values(row, figure))
    }

    /// A figure of a row in each round that has it.
    pub fn values(&self, row: Row, figure: Figure) -> Vec<f64> {
        self.rounds.iter().filter_map(|(_, round)| find(round, row)?.get(&figure).copied()).collect()
    }

    /// The throughput of one row to that of another, round by round.
    pub fn ratios(&self, above: Row, below: Row) -> Vec<f64> {
        let rate = Figure::PerSecond;
        let ratio = |round: &[_]| Some(find(round, above)?[&rate] / find(round, below)?[&rate]);
        self.rounds.iter().filter_map(|(_, round)| ratio(round)).collect()
    }

    /// The median latency of a row to a bare sync, round by round.
    pub fn to_syncs(&self, row: Row) -> Vec<f64> {
        let ratio = |syncs: &Syncs, round| Some(find(round, row)?[&Figure::P50] * 1e3 / syncs.fsync);
        self.rounds.iter().filter_map(|(syncs, round)| ratio(syncs, round)).collect()
    }

    /// The table of those of these rows that were measured: `label` fills the first columns, `heads`.
    pub fn table(
        &self,
        rows: impl IntoIterator<Item = Row>,
        heads: [&str; 4],
        label: impl Fn(Row) -> [String; 4],
        figures: &[Figure],
    ) -> Table {
        let more = figures.iter().map(|figure| format!("{}:", figure.head()));
        let mut table = Table::new(heads.map(str::to_owned).into_iter().chain(more));
        for row in rows.into_iter().filter(|row| self.value(*row, Figure::PerSecond).is_some()) {
            let cells = figures.iter().map(|figure| figure.text(self.value(row, *figure)));
            table.row(label(row).into_iter().chain(cells));
        }
        table
    }

    /// The cost of a bare sync, in words.
    pub fn syncs(&self, plan: &Plan) -> String {
        let of = |time: fn(&Syncs) -> f64| median(self.rounds.iter().map(|(syncs, _)| time(syncs)));
        let [fsync, fdatasync] =
            [of(|syncs| syncs.fsync), of(|syncs| syncs.fdatasync)].map(Option::unwrap_or_default);
        format!(
            "One write of 4 KiB and a sync, {} times, p50: fsync {fsync:.0} µs, fdatasync {fdatasync:.0} µs.\n",
            plan.syncs()
        )
    }
}

fn find(round: &[(Row, Figures)], row: Row) -> Option<&Figures> {
    round.iter().find(|(measured, _)| *measured == row).map(|(_, figures)| figures)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const PEAK: Row = Row::lyftr(64, Ids::Ordered);

    /// Rounds with these throughputs, a latency of 0.3 ms and syncs of 0.25 ms.
    pub fn rounds(rounds: &[&[(Row, f64)]]) -> Rounds {
        let figures = |rate| Figures::from([(Figure::PerSecond, rate), (Figure::P50, 0.3)]);
        let round = |rows: &&[(Row, f64)]| {
            let rows = rows.iter().map(|(row, rate)| (*row, figures(*rate))).collect();
            (Syncs { fsync: 250.0, fdatasync: 200.0 }, rows)
        };
        Rounds { rounds: rounds.iter().map(round).collect(), remarks: Remarks::default() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let noop = PEAK.of(Kind::Noop);
        let rounds = rounds(&[&[(PEAK, 40.0), (noop, 80.0)], &[(PEAK, 10.0), (noop, 40.0)], &[(PEAK, 40.0)]]);
        assert_eq!(rounds.ratios(PEAK, noop), [0.5, 0.25]);
        assert_eq!(rounds.ratios(PEAK, PEAK.of(Kind::Plain)), [0.0; 0]);
        assert!((rounds.to_syncs(PEAK)[0] - 1.2).abs() < 1e-9);
    }

    #[test]
    fn a_table_has_the_medians_of_the_rows_that_were_measured() {
        let rounds = rounds(&[&[(PEAK, 1_000.0)], &[(PEAK, 3_000.0)]]);
        let label = |row: Row| [row.kind.to_string(), String::new(), String::new(), row.load().to_owned()];
        let rows = [PEAK, PEAK.of(Kind::Noop)];
        let table = rounds.table(rows, ["server", "", "", "load"], label, &[Figure::PerSecond, Figure::Wal]);
        let expected = "| server |  |  | load | req/s | WAL KiB/req |\n|---|---|---|---|--:|--:|\n\
                        | (a) lyftr |  |  | closed loop | 2,000 | – |\n";
        assert_eq!(table.to_string(), expected);
    }
}
