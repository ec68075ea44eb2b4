//! The comparison: Lyftr, the same HTTP stack doing nothing, and the original design.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tempfile::tempdir_in;

use crate::load::Ids;
use crate::options::{Options, PACKAGE, Plan};
use crate::report::Figure::{Errors, GeneratorCpu, Memory, P50, P99, P999, PerSecond, ServerCpu};
use crate::report::{Bound, Figure, Goal, goals_table};
use crate::rounds::{Rounds, Row, RowPace};
use crate::server::{Kind, Server, sqlite_url};

/// Options of the comparison.
#[derive(Debug, Args)]
#[group(id = "comparison")]
pub struct Arguments {
    /// What to measure: a = lyftr, b = noop, c = the reference
    #[arg(long, value_parser = ["a", "b", "c"], value_delimiter = ',', default_value = "a,b,c")]
    only: Vec<String>,
    #[command(flatten)]
    options: Options,
}

/// The row whose throughput is the peak.
const PEAK: Row = Row::lyftr(64, Ids::Ordered);
const RANDOM: Row = Row::lyftr(64, Ids::Random);
const HALF: Row = Row { pace: RowPace::HalfOfPeak, ..PEAK };
const ONE: Row = Row::lyftr(1, Ids::Ordered);
const MANY: Row = Row::lyftr(256, Ids::Ordered);
/// All rows in the order of a round. Those that are compared stand close together.
const ROWS: [Row; 14] = [
    ONE,
    ONE.of(Kind::Noop),
    Row::lyftr(1, Ids::Random),
    PEAK,
    PEAK.of(Kind::Noop),
    RANDOM,
    PEAK.of(Kind::Plain),
    PEAK.of(Kind::Tuned),
    HALF,
    MANY,
    MANY.of(Kind::Noop),
    Row::lyftr(256, Ids::Random),
    ONE.of(Kind::Plain),
    ONE.of(Kind::Tuned),
];
const FIGURES: [Figure; 8] = [PerSecond, P50, P99, P999, ServerCpu, GeneratorCpu, Memory, Errors];

/// Measures and prints the comparison; returns what was wrong.
pub fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let plan = Plan::new(&arguments.options, 5.0, 3)?;
    let kinds = kinds(&arguments.only);
    let requests = [Ids::Ordered, Ids::Random].map(|ids| plan.requests(ids, 0));
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        rounds.begin(&plan)?;
        for row in ROWS.into_iter().filter(|row| kinds.contains(&row.kind)) {
            let requests = &requests[usize::from(row.ids == Ids::Random)];
            let folder = tempdir_in(&plan.folder)?;
            let start = || Server::start(row.kind, &plan, folder.path(), &sqlite_url(folder.path()));
            rounds.measure(&plan, row, requests, None, start);
        }
    }
    println!("{plan}\n{}", rounds.syncs(&plan));
    // By server, then as measured.
    let rows = kinds.iter().flat_map(|kind| ROWS.into_iter().filter(|row| row.kind == *kind));
    let label = |row: Row| {
        [row.kind.to_string(), row.connections.to_string(), row.ids().to_owned(), row.load().to_owned()]
    };
    println!("{}", rounds.table(rows, ["server", "connections:", "ids", "load"], label, &FIGURES));
    println!("{}", goals_table(&goals(&rounds)));
    Ok(rounds.remarks.finish())
}

fn kinds(groups: &[String]) -> Vec<Kind> {
    let has = |group: &str| groups.iter().any(|given| given == group);
    let mut kinds = Vec::new();
    kinds.extend(has("a").then_some(Kind::Lyftr));
    kinds.extend(has("b").then_some(Kind::Noop));
    match has("c").then(prepare_python) {
        Some(Ok(())) => kinds.extend([Kind::Plain, Kind::Tuned]),
        Some(Err(error)) => eprintln!("going on without (c), it has no Python: {error:#}"),
        None => {}
    }
    kinds
}

/// Makes sure that `bench/.venv` has the packages of `requirements.txt`.
fn prepare_python() -> Result<()> {
    let script = "
        cmp -s reference/requirements.txt .venv/installed.txt && exit
        echo making bench/.venv with pip, once >&2
        python3 -m venv --clear .venv &&
        .venv/bin/pip install --quiet --disable-pip-version-check --requirement reference/requirements.txt >&2 &&
        cp reference/requirements.txt .venv/installed.txt";
    let done = Command::new("sh").args(["-c", script]).current_dir(PACKAGE).status().context("sh")?;
    ensure!(done.success(), "python3 or pip has failed");
    Ok(())
}

fn goals(rounds: &Rounds) -> [Goal; 6] {
    let ratio = |what, least, above, below| (what, Bound::AtLeast(least), "", rounds.ratios(above, below));
    let (to_fsync, open) = (rounds.to_syncs(ONE), rounds.values(HALF, P99));
    [
        ratio("(a) / (b), 64 connections, ids in order", 0.5, PEAK, PEAK.of(Kind::Noop)),
        ratio("(a) / (b), 64 connections, random ids", 0.3, RANDOM, PEAK.of(Kind::Noop)),
        ratio("(a) / (c) plain, 64 connections", 100.0, PEAK, PEAK.of(Kind::Plain)),
        ratio("(a) / (c) tuned, 64 connections", 30.0, PEAK, PEAK.of(Kind::Tuned)),
        ("(a) p50 at 1 connection / p50 of a bare fsync", Bound::AtMost(1.5), "", to_fsync),
        ("(a) p99, open loop at half of the peak", Bound::AtMost(10.0), " ms", open),
    ]
}
