//! Lyftr on PostgreSQL: next to one `INSERT` per request on a pool of connections, and on a large database next to
//! an empty one. The server of the database is the benchmark's own.

mod cluster;
mod fill;
mod measure;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::Bench;
use crate::fsync;
use crate::load::Pace;
use crate::procfs::Machine;
use crate::report::{goals_table, median, thousands};
use crate::request::Requests;
use crate::scale::chance::Chance;
use crate::scale::messages::Messages;
use crate::scale::questions::{Ask, KINDS};
use crate::scale::reads::{Reader, Windows};
use crate::scale::{WINDOWS, WINDOWS_QUICK};
use crate::suite::Scratch;
use crate::target::{Kind, Programs, Server};

use cluster::{Cluster, Database, SETTINGS};
use measure::{Measured, Remarks, Row, RowLoad, Run};
use report::{LARGE, NEXT_TO_LARGE, PEAK, Read, Round};

/// Messages in the large database when nothing is said.
const SIZE: u64 = 10_000_000;
const SIZE_QUICK: u64 = 30_000;
/// Messages in the database that reads from the large one are compared with.
const SMALL: u64 = 10_000;
/// How long the large database is written into before that is measured.
const SETTLE: Duration = Duration::from_secs(30);
const SETTLE_QUICK: Duration = Duration::from_secs(1);
/// What is read, of all kinds of `scale`.
const READS: [&str; 9] = [
    "first page",
    "middle by `offset`",
    "`order=desc`, first page",
    "`since` the middle",
    "`from` a typical sender",
    "`from` the heaviest sender",
    "`q` in 20 messages",
    "`q` in no message",
    "`GET /stats`",
];

/// Options of `postgres`.
#[derive(Debug, Args)]
pub struct PostgresArguments {
    /// One round of short windows and a small database, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Length of each measured window in seconds [default: 5, quick: 1]
    #[arg(long, value_parser = crate::positive)]
    seconds: Option<f64>,
    /// How often everything is measured; the table has the medians [default: 3, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Numbers of connections to the servers; what has a target is measured at 64
    #[arg(long, value_delimiter = ',', default_value = "16,64,256")]
    connections: Vec<usize>,
    /// Messages in the large database, 0 for none [default: 10000000, quick: 30000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    size: Option<u64>,
    /// Seconds under load on the large database before it is measured [default: 30, quick: 1]
    #[arg(long, value_parser = crate::positive)]
    settle: Option<f64>,
    /// Decides the random ids, the messages of the large database and the questions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of initdb and postgres [default: that of the newest version in /usr/lib/postgresql]
    #[arg(long)]
    programs: Option<PathBuf>,
    #[command(flatten)]
    bench: Bench,
}

/// What to measure and for how long.
#[derive(Debug)]
struct Plan {
    programs: Programs,
    /// Where everything lies.
    directory: PathBuf,
    connections: Vec<usize>,
    size: u64,
    settle: Duration,
    rounds: usize,
    warm_up: Duration,
    measured: Duration,
    threads: usize,
    seed: u64,
    windows: Windows,
    syncs: usize,
}

/// Everything that was measured.
#[derive(Default)]
struct Results {
    rounds: Vec<Round>,
    reads: Vec<Read>,
    remarks: Remarks,
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &PostgresArguments) -> Result<Vec<String>> {
    let here = std::env::current_exe()?;
    let here = here.parent().context("this program is nowhere")?;
    // Dropped in the reverse order: first the server, then its files.
    let scratch = Scratch::new(arguments.bench.directory(here))?;
    let machine = Machine::look(scratch.path());
    let plan = plan(arguments, here, scratch.path())?;
    let cluster = Cluster::start(scratch.path(), arguments.programs.as_deref())?;
    eprintln!("PostgreSQL {} runs in {}", cluster.version(), scratch.path().display());
    let bench = Suite { plan: &plan, cluster: &cluster, template: migrated(&plan, &cluster)? };
    let mut results = Results::default();
    bench.compare(&mut results)?;
    if plan.size > 0
        && let Err(error) = bench.large(&mut results)
    {
        results.remarks.faults.push(format!("large database: {error:#}"));
    }
    print(&plan, &machine, cluster.version(), &results);
    Ok(results.remarks.faults)
}

fn plan(arguments: &PostgresArguments, here: &Path, directory: &Path) -> Result<Plan> {
    let quick = arguments.quick;
    let programs =
        Programs { lyftr: arguments.bench.lyftr(here)?, pool: here.join("pool"), ..Programs::default() };
    crate::must_exist(&programs.lyftr)?;
    crate::must_exist(&programs.pool)?;
    ensure!(!arguments.connections.contains(&0), "at least one connection is needed");
    let measured = Duration::from_secs_f64(arguments.seconds.unwrap_or(if quick { 1.0 } else { 5.0 }));
    let settle = if quick { SETTLE_QUICK } else { SETTLE };
    let size = arguments.size.unwrap_or(if quick { SIZE_QUICK } else { SIZE });
    ensure!(size == 0 || size > SMALL, "--size must be 0 or more than {SMALL}");
    Ok(Plan {
        programs,
        directory: directory.to_owned(),
        connections: arguments.connections.clone(),
        size,
        settle: arguments.settle.map_or(settle, Duration::from_secs_f64),
        rounds: arguments.rounds.unwrap_or(if quick { 1 } else { 3 }).into(),
        warm_up: crate::warm_up(measured),
        measured,
        threads: arguments.bench.threads(),
        seed: arguments.seed,
        windows: if quick { WINDOWS_QUICK } else { WINDOWS },
        syncs: if quick { crate::SYNCS_QUICK } else { crate::SYNCS },
    })
}

/// The database that all others are copies of, made by `lyftr migrate`.
fn migrated(plan: &Plan, cluster: &Cluster) -> Result<Database> {
    let database = cluster.create("migrated", None)?;
    let done = std::process::Command::new(&plan.programs.lyftr)
        .arg("migrate")
        .env_clear()
        .env("DATABASE_URL", database.url())
        .output()
        .context("cannot run lyftr migrate")?;
    if !done.status.success() {
        bail!("lyftr migrate: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(database)
}

/// What everything is measured with.
struct Suite<'a> {
    plan: &'a Plan,
    cluster: &'a Cluster,
    template: Database,
}

impl Suite<'_> {
    /// Lyftr and the pool next to each other, on a new database each, round after round.
    fn compare(&self, results: &mut Results) -> Result<()> {
        let plan = self.plan;
        let requests = measure::requests(plan, 0, plan.measured)?;
        for number in 1..=plan.rounds {
            let mut round = self.round()?;
            for row in rows(&plan.connections) {
                let database = self.cluster.create("empty", Some(&self.template))?;
                let run = self.run(&database, &requests);
                measure_row(run, row, number, &mut round, &mut results.remarks);
                // This writes out what is in the server's memory, so that none pays for the one before.
                self.cluster.drop(&database)?;
            }
            results.rounds.push(round);
        }
        Ok(())
    }

    /// Fills a small and a large database, reads from both, and writes into the large one next to empty ones. Nothing
    /// is dropped meanwhile: the server would write out its memory, and log all of a page that is touched next.
    fn large(&self, results: &mut Results) -> Result<()> {
        let plan = self.plan;
        let stores = [("small", SMALL), ("large", plan.size)].map(|(name, size)| self.filled(name, size));
        let [small, large] = stores;
        let (small, large) = (small?, large?);
        results.reads = self.read([&small, &large], &mut results.remarks.faults)?;

        let requests = measure::requests(plan, 0, plan.measured)?;
        let first = measure::requests(plan, 1, plan.settle)?;
        let run = Run { measured: plan.settle, ..self.run(&large, &first) };
        let mut remarks = Remarks::default();
        let settled = run.measure(Kind::Lyftr, PEAK.connections, Pace::Closed, &mut remarks)?;
        add("large database, to begin with", remarks, &mut results.remarks);
        results.remarks.notes.push(settling(plan, &settled));
        for number in 1..=plan.rounds {
            let mut round = self.round()?;
            let empty = self.cluster.create(&format!("empty_{number}"), Some(&self.template))?;
            measure_row(self.run(&empty, &requests), NEXT_TO_LARGE, number, &mut round, &mut results.remarks);
            let others = measure::requests(plan, 1 + number as u64, plan.measured)?;
            measure_row(self.run(&large, &others), LARGE, number, &mut round, &mut results.remarks);
            results.rounds.push(round);
        }
        Ok(())
    }

    fn filled(&self, name: &str, size: u64) -> Result<Database> {
        eprintln!("filling a database with {} messages", thousands(size as f64));
        let begin = Instant::now();
        let database = self.cluster.create(name, Some(&self.template))?;
        fill::fill(&database, &Messages::new(self.plan.seed, size))?;
        eprintln!("filled in {:.1?}", begin.elapsed());
        Ok(database)
    }

    /// Measures each kind of read on both databases in turn.
    fn read(&self, databases: [&Database; 2], faults: &mut Vec<String>) -> Result<Vec<Read>> {
        let plan = self.plan;
        let [small, large] = [0, 1].map(|n| {
            let directory = plan.directory.join(format!("reads-{n}"));
            Server::start_on(&databases[n].url(), Kind::Lyftr, &plan.programs, directory)
        });
        let servers = [small?, large?];
        let [small, large] = [0, 1].map(|n| Reader::new(&servers[n], databases[n].session()?));
        let readers = [small?, large?];
        let mut reads = Vec::new();
        for (index, (name, ask)) in (0..).zip(reads_of(&KINDS)) {
            let costs = [0, 1].map(|n| {
                let label = format!("{}, {name}", ["small", "large"][n]);
                let cost = readers[n].measure(ask, Chance::new(plan.seed, index), plan.windows);
                match &cost {
                    Ok(cost) => eprintln!("{label}: {:.2} ms, p99 {:.2} ms", cost.p50_ms, cost.p99_ms),
                    Err(error) => faults.push(format!("{label}: {error:#}")),
                }
                cost.ok()
            });
            reads.push((name, costs));
        }
        drop(readers);
        for server in servers {
            server.stop()?;
        }
        Ok(reads)
    }

    fn round(&self) -> Result<Round> {
        let syncs = fsync::measure(&self.plan.directory, self.plan.syncs)?;
        Ok(Round { syncs, measured: Vec::new() })
    }

    fn run<'a>(&'a self, database: &'a Database, requests: &'a Requests) -> Run<'a> {
        Run { plan: self.plan, cluster: self.cluster, database, requests, measured: self.plan.measured }
    }
}

/// The rows of a round in their order. Those that are compared stand next to each other.
fn rows(connections: &[usize]) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in connections.iter().copied() {
        let lyftr = Row { connections, ..PEAK };
        rows.extend([lyftr, Row { kind: Kind::Pool, ..lyftr }]);
        if lyftr == PEAK {
            rows.push(Row { load: RowLoad::HalfOfPeak, ..PEAK });
        }
    }
    rows
}

/// Measures a row into its round; what fails is a fault.
fn measure_row(run: Run<'_>, row: Row, number: usize, round: &mut Round, all: &mut Remarks) {
    let pace = match row.load {
        RowLoad::Closed => Pace::Closed,
        RowLoad::HalfOfPeak => match round.get(PEAK) {
            Some(peak) => Pace::Open(peak.figures.per_second / 2.0),
            None => return,
        },
    };
    let label = format!("round {number}, {}", row.label(run.plan.size).join(", "));
    let mut remarks = Remarks::default();
    match run.measure(row.kind, row.connections, pace, &mut remarks) {
        Ok(measured) => {
            eprintln!("{label}: {:.0} req/s", measured.figures.per_second);
            round.measured.push((row, measured));
        }
        Err(error) => remarks.faults.push(format!("{error:#}")),
    }
    add(&label, remarks, all);
}

/// Adds remarks, and what they are about.
fn add(label: &str, remarks: Remarks, all: &mut Remarks) {
    all.faults.extend(remarks.faults.into_iter().map(|fault| format!("{label}: {fault}")));
    all.notes.extend(remarks.notes.into_iter().map(|note| format!("{label}: {note}")));
}

/// The kinds of [`READS`], in the order of all kinds.
fn reads_of(kinds: &[(&'static str, Ask)]) -> impl Iterator<Item = (&'static str, Ask)> {
    kinds.iter().copied().filter(|(name, _)| READS.contains(name))
}

fn settling(plan: &Plan, settled: &Measured) -> String {
    let Measured { figures, log_kib, .. } = settled;
    format!(
        "(a) on the large database, the first {:?} after a checkpoint, in which pages are logged whole when they are \
         first touched: {} req/s, {log_kib:.1} KiB of WAL a request. What is in the table came after that.",
        plan.settle,
        thousands(figures.per_second)
    )
}

fn print(plan: &Plan, machine: &Machine, version: &str, results: &Results) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    println!("Measured {now} on {machine}.");
    println!(
        "PostgreSQL {version} on a Unix socket of the same machine, {}; {} rounds, {:?} a row after {:?} of warm-up, \
         random ids, seed {}, load generator on the same machine in {} threads.\n",
        SETTINGS.join(", "),
        plan.rounds,
        plan.measured,
        plan.warm_up,
        plan.seed,
        plan.threads
    );
    if machine.stores_in_memory() {
        println!("**The databases lie in memory: nothing here says what durability costs.**\n");
    }
    let fsync = median(results.rounds.iter().map(|round| round.syncs.fsync.as_secs_f64() * 1e6));
    println!(
        "One write of 4 KiB and a sync, {} times, p50: fsync {:.0} µs.\n",
        plan.syncs,
        fsync.unwrap_or_default()
    );
    println!("{}", report::rows_table(&results.rounds, plan.size));
    println!("{}", goals_table(&report::goals(&results.rounds)));
    let ratios = report::other_ratios(&results.rounds, &plan.connections);
    for note in ratios.iter().chain(&results.remarks.notes) {
        println!("- {note}");
    }
    if !results.reads.is_empty() {
        println!("\n{}", report::reads_table(&results.reads, [SMALL, plan.size]));
    }
}

#[cfg(test)]
mod tests {
    use super::measure::RowStore;
    use super::*;

    #[test]
    fn all_reads_are_kinds_of_the_other_suite() {
        assert_eq!(reads_of(&KINDS).count(), READS.len());
    }

    #[test]
    fn the_peak_is_measured_before_its_half_and_servers_take_turns() {
        let rows = rows(&[16, 64, 256]);
        assert_eq!(rows.len(), 7);
        let half = Row { load: RowLoad::HalfOfPeak, ..PEAK };
        assert!(rows.iter().position(|row| *row == PEAK) < rows.iter().position(|row| *row == half));
        assert!(rows.iter().all(|row| row.store == RowStore::Empty));
        assert_eq!(rows.iter().filter(|row| row.kind == Kind::Pool).count(), 3);
    }
}
