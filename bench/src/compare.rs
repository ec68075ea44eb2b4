//! The comparison: Lyftr, the same HTTP stack doing nothing, and the original design.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::tempdir_in;

use crate::load::{Delivery, Ids};
use crate::options::{Options, PACKAGE, Plan};
use crate::report::{
    Bound, ERRORS, Figure, GENERATOR_CPU, Goal, MEMORY, P50, P99, P999, PER_SECOND, SERVER_CPU, goals_table,
};
use crate::results::{Results, Row, Subject};
use crate::server::{Kind, Server, sqlite_url};

/// The row whose throughput is the peak.
const PEAK: Row = Row::lyftr(64, Ids::Ordered);
const RANDOM: Row = Row::lyftr(64, Ids::Random);
const HALF: Row = Row { is_open: true, ..PEAK };
/// What WhatsApp sends: mostly one message at a time.
const WHATSAPP: Row = Row { delivery: Delivery::WhatsApp(1), ..RANDOM };
/// So few that they fit into the queue.
const WHATSAPP_BATCH: Row = Row { delivery: Delivery::WhatsApp(100), connections: 16, ..RANDOM };
const ONE: Row = Row::lyftr(1, Ids::Ordered);
const MANY: Row = Row::lyftr(256, Ids::Ordered);
/// All rows in the order of a round. Those that are compared stand close together.
const ROWS: [Row; 16] = [
    ONE,
    ONE.of(Kind::Noop),
    Row::lyftr(1, Ids::Random),
    PEAK,
    PEAK.of(Kind::Noop),
    RANDOM,
    WHATSAPP,
    WHATSAPP_BATCH,
    PEAK.of(Kind::Plain),
    PEAK.of(Kind::Tuned),
    HALF,
    MANY,
    MANY.of(Kind::Noop),
    Row::lyftr(256, Ids::Random),
    ONE.of(Kind::Plain),
    ONE.of(Kind::Tuned),
];
const FIGURES: [Figure; 8] = [PER_SECOND, P50, P99, P999, SERVER_CPU, GENERATOR_CPU, MEMORY, ERRORS];

/// Measures and prints the comparison; returns what was wrong.
pub fn run(options: &Options) -> Result<Vec<String>> {
    let plan = Plan::new(options, 5, 3)?;
    let mut kinds = vec![Kind::Lyftr, Kind::Noop];
    match prepare_python() {
        Ok(()) => kinds.extend([Kind::Plain, Kind::Tuned]),
        Err(error) => eprintln!("going on without (c), it has no Python: {error:#}"),
    }
    let mut results = Results::default();
    for _ in 0..plan.rounds {
        results.begin_round(&plan)?;
        for row in ROWS.into_iter().filter(|row| kinds.contains(&row.kind)) {
            let folder = tempdir_in(&plan.folder)?;
            let start = || Server::start(row.kind, &plan, &sqlite_url(folder.path()));
            results.measure(&plan, row, plan.measured, None, start);
        }
    }
    // By server, then as measured.
    let rows = kinds.into_iter().flat_map(|kind| ROWS.into_iter().filter(move |row| row.kind == kind));
    println!("{plan}\n{}\n{}", results.syncs(&plan), results.table(rows, &FIGURES));
    println!("{}", goals_table(&goals(&results)));
    Ok(results.faults)
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

fn goals(results: &Results) -> [Goal; 8] {
    let ratio = |what, least, above, below| (what, Bound::AtLeast(least), "", results.ratios(above, below));
    let cpu = |what, most, above| (what, Bound::AtMost(most), "", results.cpu_ratios(above, RANDOM));
    let (to_fsync, open) = (results.to_syncs(ONE), results.values(Subject::Load(HALF), P99));
    [
        ratio("(a) / (b), 64 connections, ids in order", 0.5, PEAK, PEAK.of(Kind::Noop)),
        ratio("(a) / (b), 64 connections, random ids", 0.3, RANDOM, PEAK.of(Kind::Noop)),
        ratio("(a) / (c) plain, 64 connections", 100.0, PEAK, PEAK.of(Kind::Plain)),
        ratio("(a) / (c) tuned, 64 connections", 30.0, PEAK, PEAK.of(Kind::Tuned)),
        cpu("(a) server CPU, WhatsApp with one text / a message", 2.0, WHATSAPP),
        cpu("(a) server CPU, WhatsApp with 100 texts / a message", 15.0, WHATSAPP_BATCH),
        ("(a) p50 at 1 connection / p50 of a bare fsync", Bound::AtMost(1.5), "", to_fsync),
        ("(a) p99, open loop at half of the peak", Bound::AtMost(10.0), " ms", open),
    ]
}
