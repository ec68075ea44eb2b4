//! The whole comparison: which rows are measured, in which order, and what they have to reach.
//!
//! The machine is shared and drifts, so all rows are measured once a round, neighbours next to
//! each other, round after round; ratios are taken within a round. Every measurement starts its
//! server anew on an empty store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fsync::{self, Times};
use crate::load::{self, Load, Outcome, Pace};
use crate::procfs;
use crate::report::{Bound, Figures, Goal};
use crate::request::{Ids, Requests, Settings};
use crate::target::{Kind, Programs, SECRET, Server};

/// Host header of all requests of the comparison, whatever the port.
const HOST: &str = "127.0.0.1";

/// Part of its cores that the load generator may use before a row is marked: above it the figure
/// is the generator's and no longer the server's.
const GENERATOR_BUSY: f64 = 0.9;

/// What to measure and for how long.
#[derive(Debug)]
pub struct Plan {
    /// The servers to measure.
    pub kinds: Vec<Kind>,
    /// Where their programs are.
    pub programs: Programs,
    /// Where the stores are made, each in a directory of its own.
    pub directory: PathBuf,
    /// How often everything is measured.
    pub rounds: usize,
    /// Time under load before each measured window.
    pub warm_up: Duration,
    /// Length of each measured window.
    pub measured: Duration,
    /// Threads of the load generator.
    pub threads: usize,
    /// Decides random ids.
    pub seed: u64,
    /// Syncs per round and kind.
    pub syncs: usize,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The server.
    pub kind: Kind,
    /// Connections to it.
    pub connections: usize,
    /// How the ids follow one another.
    pub ids: Ids,
    /// When requests are sent.
    pub pace: RowPace,
}

/// When the requests of a row are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPace {
    /// As fast as the answers come.
    Closed,
    /// At half of what [`PEAK`] reached in the same round.
    HalfOfPeak,
}

/// All rows in the order of a round. Those that are compared stand close together.
const ROWS: [Row; 14] = [
    Row::closed(Kind::Lyftr, 1, Ids::Ordered),
    Row::closed(Kind::Noop, 1, Ids::Ordered),
    Row::closed(Kind::Lyftr, 1, Ids::Random),
    PEAK,
    Row::closed(Kind::Noop, 64, Ids::Ordered),
    Row::closed(Kind::Lyftr, 64, Ids::Random),
    Row::closed(Kind::Plain, 64, Ids::Ordered),
    Row::closed(Kind::Tuned, 64, Ids::Ordered),
    Row { pace: RowPace::HalfOfPeak, ..PEAK },
    Row::closed(Kind::Lyftr, 256, Ids::Ordered),
    Row::closed(Kind::Noop, 256, Ids::Ordered),
    Row::closed(Kind::Lyftr, 256, Ids::Random),
    Row::closed(Kind::Plain, 1, Ids::Ordered),
    Row::closed(Kind::Tuned, 1, Ids::Ordered),
];

/// The row whose throughput is Lyftr's peak.
const PEAK: Row = Row::closed(Kind::Lyftr, 64, Ids::Ordered);

/// What a round has brought.
#[derive(Debug)]
pub struct Round {
    /// What a bare sync took.
    pub syncs: Times,
    /// Figures by row; a row that was not asked for or failed is missing.
    pub figures: Vec<(Row, Figures)>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// One entry per round.
    pub rounds: Vec<Round>,
    /// Everything that was wrong, in words: wrong answers, lost messages, missing log lines.
    pub faults: Vec<String>,
    /// What a reader should know about single rows.
    pub notes: Vec<String>,
}

impl Row {
    const fn closed(kind: Kind, connections: usize, ids: Ids) -> Self {
        Self { kind, connections, ids, pace: RowPace::Closed }
    }

    fn label(self) -> [String; 4] {
        let ids = match self.ids {
            Ids::Ordered => "in order",
            Ids::Random => "random",
        };
        let pace = match self.pace {
            RowPace::Closed => "closed loop",
            RowPace::HalfOfPeak => "open loop at half of the peak",
        };
        [self.kind.to_string(), self.connections.to_string(), ids.to_owned(), pace.to_owned()]
    }
}

impl Round {
    fn figures(&self, row: Row) -> Option<&Figures> {
        self.figures.iter().find(|(measured, _)| *measured == row).map(|(_, figures)| figures)
    }
}

/// Measures everything in `plan`, telling on standard error how far it is.
pub fn run(plan: &Plan) -> Result<Results> {
    let mut ordered = plan.requests(Ids::Ordered)?;
    let mut random = plan.requests(Ids::Random)?;
    let needed = load::requests_needed(plan.warm_up, plan.measured, Pace::Closed);
    ordered.sign_ahead(needed);
    random.sign_ahead(needed);

    let mut results = Results::default();
    for number in 1..=plan.rounds {
        let syncs = fsync::measure(&plan.directory, plan.syncs)?;
        eprintln!("round {number} of {}: fsync {:?}", plan.rounds, syncs.fsync);
        let mut round = Round { syncs, figures: Vec::new() };
        for row in ROWS.into_iter().filter(|row| plan.kinds.contains(&row.kind)) {
            let pace = match row.pace {
                RowPace::Closed => Pace::Closed,
                RowPace::HalfOfPeak => match round.figures(PEAK) {
                    Some(peak) if peak.per_second > 0.0 => Pace::Open(peak.per_second / 2.0),
                    _ => continue,
                },
            };
            let requests = match row.ids {
                Ids::Ordered => &ordered,
                Ids::Random => &random,
            };
            let mut faults = Vec::new();
            match measure(plan, row, pace, requests, &mut faults, &mut results.notes) {
                Ok(figures) => round.figures.push((row, figures)),
                Err(error) => faults.push(format!("{error:#}")),
            }
            let label = format!("round {number}, {}", row.label().join(", "));
            match round.figures(row) {
                Some(figures) => eprintln!("{label}: {:.0} req/s", figures.per_second),
                None => eprintln!("{label}: failed"),
            }
            results.faults.extend(faults.into_iter().map(|fault| format!("{label}: {fault}")));
        }
        results.rounds.push(round);
    }
    Ok(results)
}

impl Plan {
    fn requests(&self, ids: Ids) -> Result<Requests> {
        Requests::new(Settings { host: HOST, secret: SECRET, ids, seed: self.seed, first: 0 })
    }
}

/// Measures one row once, on a server and a store of its own, and checks afterwards that what was
/// acknowledged is stored and logged.
fn measure(
    plan: &Plan,
    row: Row,
    pace: Pace,
    requests: &Requests,
    faults: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Result<Figures> {
    let server = Server::start(row.kind, &plan.programs, plan.directory.join("store"))?;
    let load = Load {
        address: server.address(),
        connections: row.connections,
        threads: plan.threads,
        pace,
        warm_up: plan.warm_up,
        measured: plan.measured,
    };
    let outcome = load::run(&load, requests, || cpu_times(server.pid()))?;
    let tally = &outcome.tally;
    let memory_kib = procfs::peak_memory_kib(server.pid())?;
    if let Some(error) = &tally.first_error {
        faults.push(format!("{} wrong or missing answers; the first: {error}", tally.errors));
    }
    if tally.unsent > 0 {
        notes.push(format!(
            "{}: {} requests came due and could not be sent",
            row.label().join(", "),
            tally.unsent
        ));
    }
    if row.kind.stores() && tally.errors == 0 {
        let stored = server.total_messages()?;
        if stored != tally.right {
            faults.push(format!("{} messages were acknowledged and {stored} are stored", tally.right));
        }
    }
    let lines = server.stop()?;
    if row.kind.stores() && lines < tally.right {
        faults.push(format!("{} requests were answered and {lines} lines logged", tally.right));
    }
    ensure!(tally.right_in_window > 0, "not one right answer in the measured window");
    let figures = figures(&outcome, plan.measured, memory_kib);
    if figures.generator_cores() > GENERATOR_BUSY * plan.threads as f64 {
        notes.push(format!(
            "{}: the load generator was at its limit; give it more --threads",
            row.label().join(", ")
        ));
    }
    Ok(figures)
}

/// CPU time of the server and of this process.
fn cpu_times(server: u32) -> Result<[Duration; 2]> {
    Ok([procfs::cpu_time(server)?, procfs::cpu_time(std::process::id())?])
}

/// The figures of one run whose samples are the CPU times of server and generator.
pub fn figures(outcome: &Outcome<[Duration; 2]>, measured: Duration, memory_kib: u64) -> Figures {
    let Outcome { tally, before, after } = outcome;
    let requests = tally.right_in_window as f64;
    let percentile_ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e6;
    let [server, generator] = [0, 1].map(|process| after[process].saturating_sub(before[process]));
    let cpu_us = |time: Duration| if requests > 0.0 { time.as_secs_f64() * 1e6 / requests } else { 0.0 };
    Figures {
        per_second: requests / measured.as_secs_f64(),
        p50_ms: percentile_ms(0.5),
        p99_ms: percentile_ms(0.99),
        p999_ms: percentile_ms(0.999),
        server_cpu_us: cpu_us(server),
        generator_cpu_us: cpu_us(generator),
        memory_mib: memory_kib as f64 / 1024.0,
        errors: tally.errors,
    }
}

impl Results {
    /// Labels and figures of every row, in the order of the table: by server, then as measured.
    pub fn rows(&self) -> Vec<([String; 4], Vec<Figures>)> {
        let kinds = [Kind::Lyftr, Kind::Noop, Kind::Plain, Kind::Tuned];
        kinds
            .into_iter()
            .flat_map(|kind| ROWS.into_iter().filter(move |row| row.kind == kind))
            .map(|row| {
                let rounds = self.rounds.iter().filter_map(|round| round.figures(row)).copied();
                (row.label(), rounds.collect())
            })
            .collect()
    }

    /// What was promised, and what each round has reached.
    pub fn goals(&self) -> Vec<Goal> {
        let rate = |row: Row| move |round: &Round| Some(round.figures(row)?.per_second);
        let ratio = |what, bound, above: Row, below: Row| {
            let (above, below) = (rate(above), rate(below));
            self.goal(what, bound, "", move |round| Some(above(round)? / below(round)?))
        };
        let random = Row { ids: Ids::Random, ..PEAK };
        let noop = Row { kind: Kind::Noop, ..PEAK };
        let plain = Row { kind: Kind::Plain, ..PEAK };
        let tuned = Row { kind: Kind::Tuned, ..PEAK };
        let one = Row { connections: 1, ..PEAK };
        let half = Row { pace: RowPace::HalfOfPeak, ..PEAK };
        vec![
            ratio("(a) / (b), 64 connections, ids in order", Bound::AtLeast(0.5), PEAK, noop),
            ratio("(a) / (b), 64 connections, random ids", Bound::AtLeast(0.3), random, noop),
            ratio("(a) / (c) plain, 64 connections", Bound::AtLeast(100.0), PEAK, plain),
            ratio("(a) / (c) tuned, 64 connections", Bound::AtLeast(30.0), PEAK, tuned),
            self.goal("(a) p50 at 1 connection / p50 of a bare fsync", Bound::AtMost(1.5), "", |round| {
                Some(round.figures(one)?.p50_ms / (round.syncs.fsync.as_secs_f64() * 1e3))
            }),
            self.goal("(a) p99, open loop at half of the peak", Bound::AtMost(10.0), " ms", |round| {
                Some(round.figures(half)?.p99_ms)
            }),
        ]
    }

    fn goal(
        &self,
        what: &'static str,
        bound: Bound,
        unit: &'static str,
        value: impl Fn(&Round) -> Option<f64>,
    ) -> Goal {
        let values = self.rounds.iter().filter_map(value).collect();
        Goal { what, bound, unit, values }
    }
}

/// A directory for the stores of one run, removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a directory of this process's own in `parent`, and `parent` too if need be.
    pub fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("lyftr-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize()?;
        Ok(Self(path))
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left behind; the figures are right all the same.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rates: &[(Row, f64)]) -> Round {
        let sync = Duration::from_micros(250);
        let figures = rates.iter().map(|(row, per_second)| {
            (*row, Figures { per_second: *per_second, p50_ms: 0.3, p99_ms: 4.0, ..Figures::default() })
        });
        Round { syncs: Times { fsync: sync, fdatasync: sync }, figures: figures.collect() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let noop = Row { kind: Kind::Noop, ..PEAK };
        let rounds = vec![
            round(&[(PEAK, 40.0), (noop, 80.0)]),
            round(&[(PEAK, 10.0), (noop, 40.0)]),
            round(&[(PEAK, 40.0)]),
        ];
        let goals = Results { rounds, ..Results::default() }.goals();
        assert_eq!(goals.first().unwrap().values, [0.5, 0.25]);
        assert!(goals.get(1).unwrap().values.is_empty());
    }

    #[test]
    fn latency_at_one_connection_is_held_against_the_sync_of_the_round() {
        let one = Row { connections: 1, ..PEAK };
        let results = Results { rounds: vec![round(&[(one, 1.0)])], ..Results::default() };
        let goal = results.goals().into_iter().find(|goal| goal.what.contains("fsync")).unwrap();
        assert!((goal.values.first().unwrap() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn every_row_is_in_the_table_once() {
        let labels: Vec<_> = Results::default().rows().into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels.len(), ROWS.len());
        for (index, label) in labels.iter().enumerate() {
            assert!(!labels[index + 1..].contains(label), "{label:?}");
        }
    }

    #[test]
    fn the_peak_is_measured_before_its_half() {
        let place = |row: Row| ROWS.iter().position(|candidate| *candidate == row).unwrap();
        assert!(place(PEAK) < place(Row { pace: RowPace::HalfOfPeak, ..PEAK }));
    }
}
