//! Lyftr on PostgreSQL: next to one `INSERT` per request on a pool of connections, and on a large database next to
//! an empty one. The server of the database is the benchmark's own.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use tempfile::tempdir_in;

use crate::cluster::{Database, Postgres, SETTINGS};
use crate::load::{Ids, Pace, Requests};
use crate::measure::{Remarks, Run};
use crate::messages::Messages;
use crate::options::{Options, Plan, positive};
use crate::reads::{self, Read, Store};
use crate::report::Figure::{DatabaseCpu, Errors, GeneratorCpu, P50, P99, P999, PerSecond, ServerCpu, Wal};
use crate::report::{Bound, Figure, Goal, goals_table, list, median, thousands};
use crate::rounds::{Rounds, Row, RowPace, Stored};
use crate::server::{Kind, Server};
use crate::stores;

/// Messages in the large database when nothing is said.
const SIZE: u64 = 10_000_000;
const SIZE_QUICK: u64 = 30_000;
/// Messages in the database that reads from the large one are compared with.
const SMALL: u64 = 10_000;
/// Runs on the large database are so many requests apart, so that each sends new messages.
const RUN: u64 = 1 << 32;
/// The kinds of reads that are measured.
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
/// The row whose throughput is the peak; everything that has a target is measured with as many connections.
const PEAK: Row = Row::lyftr(64, Ids::Random);
const HALF: Row = Row { pace: RowPace::HalfOfPeak, ..PEAK };
const NEXT_TO_LARGE: Row = Row { stored: Stored::NoneNextToLarge, ..PEAK };
const FIGURES: [Figure; 9] = [PerSecond, P50, P99, P999, ServerCpu, DatabaseCpu, GeneratorCpu, Wal, Errors];

/// Options of `postgres`.
#[derive(Debug, Args)]
#[group(id = "postgres")]
pub struct Arguments {
    /// Numbers of connections to the servers; what has a target is measured at 64
    #[arg(long, value_delimiter = ',', default_value = "16,64,256")]
    connections: Vec<usize>,
    /// Messages in the large database, 0 for none [default: 10000000, quick: 30000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    size: Option<u64>,
    /// Seconds under load on the large database before it is measured [default: 30, quick: 1]
    #[arg(long, value_parser = positive)]
    settle: Option<f64>,
    #[command(flatten)]
    options: Options,
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let plan = Plan::new(&arguments.options, 5.0, 3)?;
    let size = arguments.size.unwrap_or(if plan.quick { SIZE_QUICK } else { SIZE });
    ensure!(size == 0 || size > SMALL, "--size must be 0 or more than {SMALL}");
    let settle = Duration::from_secs_f64(arguments.settle.unwrap_or(if plan.quick { 1.0 } else { 30.0 }));
    let suite = Suite { postgres: &Postgres::start(&plan)?, plan: &plan };
    let mut rounds = Rounds::default();
    suite.compare(&arguments.connections, &mut rounds)?;
    let mut reads = Vec::new();
    if size > 0 {
        rounds.remarks.about("large database");
        match suite.large(size, settle, &mut rounds) {
            Ok(done) => reads = done,
            Err(error) => rounds.remarks.fault(format_args!("{error:#}")),
        }
    }
    let (version, settings) = (suite.postgres.version(), SETTINGS.join(", "));
    println!("{plan}PostgreSQL {version} on a Unix socket of the same machine, {settings}; random ids.\n");
    println!("{}\n{}", rounds.syncs(&plan), rows_table(&arguments.connections, size, &rounds));
    println!("{}", goals_table(&goals(size, &rounds)));
    for connections in arguments.connections.iter().filter(|connections| **connections != PEAK.connections) {
        let lyftr = Row { connections: *connections, ..PEAK };
        let ratios = rounds.ratios(lyftr, lyftr.of(Kind::Pool));
        if let Some(ratio) = median(ratios.iter().copied()) {
            println!("- (a) / (b), {connections} connections: {ratio:.2} (each round {})", list(&ratios));
        }
    }
    let faults = rounds.remarks.finish();
    if !reads.is_empty() {
        println!("\n{}", reads::table(&reads, [SMALL, size], false));
    }
    Ok(faults)
}

/// What everything is measured with.
struct Suite<'a> {
    plan: &'a Plan,
    postgres: &'a Postgres,
}

impl Suite<'_> {
    /// Lyftr and the pool next to each other, on a new database each, round after round.
    fn compare(&self, connections: &[usize], rounds: &mut Rounds) -> Result<()> {
        let requests = self.plan.requests(Ids::Random, 0);
        for _ in 0..self.plan.rounds {
            rounds.begin(self.plan)?;
            for row in rows(connections) {
                // Dropping it writes out the memory of PostgreSQL, so that none pays for the one before.
                self.measure(row, &self.postgres.database(), &requests, rounds)?;
            }
        }
        Ok(())
    }

    /// Fills a small and a large database, reads from both, and writes into the large one next to empty ones. Nothing
    /// is dropped meanwhile: PostgreSQL would write out its memory, and log all of a page that is touched next.
    fn large(&self, size: u64, settle: Duration, rounds: &mut Rounds) -> Result<Vec<Read>> {
        let Self { plan, postgres } = *self;
        let databases = [postgres.database(), postgres.database()];
        let reads = self.read([(&databases[0], SMALL), (&databases[1], size)], &mut rounds.remarks)?;
        let large = &databases[1];

        rounds.remarks.about("(a) on the large database, to begin with");
        let requests = plan.requests(Ids::Random, RUN);
        let Row { kind, connections, .. } = PEAK;
        let (pace, requests, postgres) = (Pace::Closed, &requests, Some(postgres));
        let run = Run { plan, kind, connections, pace, requests, postgres, measured: settle };
        let folder = tempdir_in(&plan.folder)?;
        let server = Server::start(kind, plan, folder.path(), &large.url())?;
        let settled = run.measure(server, &mut rounds.remarks)?;
        rounds.remarks.note(format_args!(
            "{} req/s, {:.1} KiB of WAL a request in the first {settle:?} after a checkpoint, in which pages are logged \
             whole when they are first touched. The rows of the table came after that",
            thousands(settled[&PerSecond]),
            settled[&Wal]
        ));
        let requests = plan.requests(Ids::Random, 0);
        let mut empties = Vec::new();
        for number in 1..=plan.rounds as u64 {
            rounds.begin(plan)?;
            let empty = self.postgres.database();
            self.measure(NEXT_TO_LARGE, &empty, &requests, rounds)?;
            empties.push(empty);
            let others = plan.requests(Ids::Random, (1 + number) * RUN);
            self.measure(large_row(size), large, &others, rounds)?;
        }
        Ok(reads)
    }

    fn measure(&self, row: Row, database: &Database, requests: &Requests, rounds: &mut Rounds) -> Result<()> {
        let folder = tempdir_in(&self.plan.folder)?;
        let start = || Server::start(row.kind, self.plan, folder.path(), &database.url());
        rounds.measure(self.plan, row, requests, Some(self.postgres), start);
        Ok(())
    }

    /// Fills databases with so many messages and reads from them.
    fn read(&self, databases: [(&Database, u64); 2], remarks: &mut Remarks) -> Result<Vec<Read>> {
        let mut stores = Vec::new();
        for (database, size) in databases {
            let messages = Messages::new(self.plan.seed, size);
            stores::settle(&*stores::fill(&database.url(), &messages)?.0);
            database.session().run("VACUUM (ANALYZE)");
            database.session().run("CHECKPOINT");
            // Its log goes with the plan's folder.
            let folder = tempdir_in(&self.plan.folder)?.keep();
            let server = Server::start(Kind::Lyftr, self.plan, &folder, &database.url())?;
            stores.push(Store { messages, server });
        }
        let reads = reads::measure(&stores, |name| READS.contains(&name), self.plan.quick, remarks)?;
        stores.into_iter().try_for_each(|store| store.server.stop().map(drop))?;
        Ok(reads)
    }
}

/// The rows of a round in their order. Those that are compared stand next to each other.
fn rows(connections: &[usize]) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in connections.iter().copied() {
        let lyftr = Row { connections, ..PEAK };
        rows.extend([lyftr, lyftr.of(Kind::Pool)]);
        rows.extend((lyftr == PEAK).then_some(HALF));
    }
    rows
}

fn large_row(size: u64) -> Row {
    Row { stored: Stored::Some(size), ..PEAK }
}

fn rows_table(connections: &[usize], size: u64, rounds: &Rounds) -> impl std::fmt::Display {
    let label = |row: Row| {
        [row.kind.to_string(), row.connections.to_string(), row.load().to_owned(), row.stored.to_string()]
    };
    let rows = rows(connections).into_iter().chain([NEXT_TO_LARGE, large_row(size)]);
    rounds.table(rows, ["server", "connections:", "load", "messages there:"], label, &FIGURES)
}

fn goals(size: u64, rounds: &Rounds) -> [Goal; 3] {
    let to_pool = rounds.ratios(PEAK, PEAK.of(Kind::Pool));
    let open = rounds.values(HALF, P99);
    let to_empty = rounds.ratios(large_row(size), NEXT_TO_LARGE);
    [
        ("(a) / (b), 64 connections", Bound::AtLeast(3.0), "", to_pool),
        ("(a) p99, 64 connections, open loop at half of the peak", Bound::AtMost(20.0), " ms", open),
        ("(a) on the large database / on an empty one, 64 connections", Bound::AtLeast(0.7), "", to_empty),
    ]
}
