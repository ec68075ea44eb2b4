//! Lyftr on PostgreSQL: next to one `INSERT` per request on a pool of connections, and on a large database next to
//! an empty one. The server of the database is the benchmark's own.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::cluster::{Database, Postgres, SETTINGS};
use crate::load::Ids;
use crate::messages::Messages;
use crate::options::{Options, Plan};
use crate::reads::{self, Store};
use crate::report::{
    Bound, ERRORS, Figure, GENERATOR_CPU, Goal, P50, P99, P999, PER_SECOND, POSTGRES_CPU, SERVER_CPU, WAL,
    goals_table,
};
use crate::results::{Results, Row, Subject};
use crate::server::{Kind, Server};
use crate::stores;

/// Messages in the large database when nothing is said.
const SIZE: u64 = 10_000_000;
const SIZE_QUICK: u64 = 30_000;
/// Messages in the database that reads from the large one are compared with.
const SMALL: u64 = 10_000;
const CONNECTIONS: [usize; 3] = [16, 64, 256];
/// The row whose throughput is the peak; everything that has a target is measured with as many connections.
const PEAK: Row = Row::lyftr(64, Ids::Random);
const HALF: Row = Row { is_open: true, ..PEAK };
const NEXT_TO_LARGE: Row = PEAK.on(0, ", next to the large one");
/// Pages are logged whole then.
const FIRST: &str = ", first touched after a checkpoint";
const FIGURES: [Figure; 9] =
    [PER_SECOND, P50, P99, P999, SERVER_CPU, POSTGRES_CPU, GENERATOR_CPU, WAL, ERRORS];

#[derive(Debug, Args)]
#[group(id = "postgres")]
pub struct Arguments {
    /// Messages in the large database, 0 for none [default: 10000000, quick: 30000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    size: Option<u64>,
    #[command(flatten)]
    options: Options,
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let plan = Plan::new(&arguments.options, 5, 3)?;
    let size = arguments.size.unwrap_or(if plan.quick { SIZE_QUICK } else { SIZE });
    ensure!(size == 0 || size > SMALL, "--size must be 0 or more than {SMALL}");
    let settle = Duration::from_secs(if plan.quick { 1 } else { 30 });
    let suite = Suite { postgres: &Postgres::start(&plan)?, plan: &plan };
    let mut results = Results::default();
    suite.compare(&mut results)?;
    if size > 0 {
        results.about("large database");
        if let Err(error) = suite.large(size, settle, &mut results) {
            results.fault(format_args!("{error:#}"));
        }
    }
    let (version, settings) = (suite.postgres.version(), SETTINGS.join(", "));
    println!("{plan}PostgreSQL {version} on a Unix socket of the same machine, {settings}.\n");
    let rows = rows().chain([PEAK.on(size, FIRST), NEXT_TO_LARGE, PEAK.on(size, "")]);
    println!("{}\n{}", results.syncs(&plan), results.table(rows, &FIGURES));
    println!("{}", goals_table(&goals(size, &results)));
    println!("{}", reads::table(&results, &[SMALL, size], false));
    Ok(results.faults)
}

/// What everything is measured with.
struct Suite<'a> {
    plan: &'a Plan,
    postgres: &'a Postgres,
}

impl Suite<'_> {
    /// Lyftr and the pool next to each other, on a new database each, round after round.
    fn compare(&self, results: &mut Results) -> Result<()> {
        for _ in 0..self.plan.rounds {
            results.begin_round(self.plan)?;
            for row in rows() {
                // Dropping it writes out the memory of PostgreSQL, so that none pays for the one before.
                self.measure(row, &self.postgres.database(), self.plan.measured, results);
            }
        }
        Ok(())
    }

    /// Fills a small and a large database, reads from both, and writes into the large one next to empty ones. Nothing
    /// is dropped meanwhile: PostgreSQL would write out its memory, and log all of a page that is touched next.
    fn large(&self, size: u64, settle: Duration, results: &mut Results) -> Result<()> {
        let databases = [(self.postgres.database(), SMALL), (self.postgres.database(), size)];
        let stores = databases.each_ref().map(|(database, size)| self.store(database, *size));
        let stores = stores.into_iter().collect::<Result<Vec<_>>>()?;
        reads::measure(&stores, true, self.plan.quick, results);
        stores.into_iter().try_for_each(|store| store.server.stop().map(drop))?;
        let [_, (large, _)] = &databases;
        self.measure(PEAK.on(size, FIRST), large, settle, results);
        let mut empties = Vec::new();
        for _ in 0..self.plan.rounds {
            results.begin_round(self.plan)?;
            empties.push(self.postgres.database());
            self.measure(NEXT_TO_LARGE, &empties[empties.len() - 1], self.plan.measured, results);
            self.measure(PEAK.on(size, ""), large, self.plan.measured, results);
        }
        Ok(())
    }

    fn measure(&self, row: Row, database: &Database, measured: Duration, results: &mut Results) {
        let start = || Server::start(row.kind, self.plan, &database.url());
        results.measure(self.plan, row, measured, Some(self.postgres), start);
    }

    /// Fills a database with so many messages, and has the service open it.
    fn store(&self, database: &Database, size: u64) -> Result<Store> {
        let messages = Messages::new(self.plan.seed, size);
        stores::fill(&database.url(), &messages)?;
        let server = Server::start(Kind::Lyftr, self.plan, &database.url())?;
        stores::wait_for_indexes(&server, size)?;
        database.session().run("VACUUM (ANALYZE)");
        database.session().run("CHECKPOINT");
        Ok(Store { messages, server })
    }
}

/// The rows of a round in their order. Those that are compared stand next to each other.
fn rows() -> impl Iterator<Item = Row> {
    CONNECTIONS.into_iter().flat_map(|connections| {
        let lyftr = Row { connections, ..PEAK };
        [Some(lyftr), Some(lyftr.of(Kind::Pool)), (lyftr == PEAK).then_some(HALF)].into_iter().flatten()
    })
}

fn goals(size: u64, results: &Results) -> [Goal; 3] {
    let to_pool = results.ratios(PEAK, PEAK.of(Kind::Pool));
    let open = results.values(Subject::Load(HALF), P99);
    let to_empty = results.ratios(PEAK.on(size, ""), NEXT_TO_LARGE);
    [
        ("(a) / (b), 64 connections", Bound::AtLeast(3.0), "", to_pool),
        ("(a) p99, 64 connections, open loop at half of the peak", Bound::AtMost(20.0), " ms", open),
        ("(a) on the large database / on an empty one, 64 connections", Bound::AtLeast(0.7), "", to_empty),
    ]
}
