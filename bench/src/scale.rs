//! Whether it costs the same at any size: reads, writing and restarts on stores of several sizes.

pub mod chance;
mod ingest;
pub mod messages;
pub mod questions;
pub mod reads;
mod report;
pub mod store;
mod texts;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::Bench;
use crate::procfs::{self, Machine};
use crate::report::thousands;
use crate::request::Ids;
use crate::suite::Scratch;
use crate::target::{Programs, Server};

use chance::Chance;
use messages::Messages;
use questions::KINDS;
use reads::{Reader, Windows};
use report::Results;

/// Sizes when nothing is said.
const SIZES: [u64; 3] = [10_000, 1_000_000, 10_000_000];
const SIZES_QUICK: [u64; 2] = [10_000, 100_000];
/// How long a kind of read is measured.
pub const WINDOWS: Windows = Windows {
    requests: 200,
    time: Duration::from_secs(3),
    cpu: Duration::from_millis(100),
    time_max: Duration::from_secs(5),
};
/// The same, to see that everything works.
pub const WINDOWS_QUICK: Windows = Windows {
    requests: 50,
    time: Duration::from_millis(500),
    cpu: Duration::from_millis(50),
    time_max: Duration::from_secs(1),
};
/// Where stores lie that are kept.
const KEPT: &str = "lyftr-bench-scale";

/// Options of `scale`.
#[derive(Debug, Args)]
pub struct ScaleArguments {
    /// Small stores and short windows, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Messages in the stores [default: 10000,1000000,10000000, quick: 10000,100000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    sizes: Option<Vec<u64>>,
    /// Length of each window of writing in seconds [default: 10, quick: 1]
    #[arg(long, value_parser = crate::positive)]
    seconds: Option<f64>,
    /// How often writing is measured; the table has the medians [default: 2, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Decides the messages and the questions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the filled stores, and use those that an earlier run with the same seed has kept
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    bench: Bench,
}

/// What to measure and for how long.
#[derive(Debug)]
struct Plan {
    programs: Programs,
    /// Where the stores are.
    directory: PathBuf,
    /// The smallest first.
    sizes: Vec<u64>,
    rounds: usize,
    warm_up: Duration,
    measured: Duration,
    threads: usize,
    seed: u64,
    windows: Windows,
    /// Crashes of each store.
    restarts: u64,
    /// Time under load before each of them.
    kill_after: Duration,
}

impl Plan {
    fn store(&self, size: u64) -> PathBuf {
        self.directory.join(format!("seed-{}-size-{size}", self.seed))
    }

    /// Where copies are made, one at a time.
    fn copy(&self) -> PathBuf {
        self.directory.join(format!("copy-{}", std::process::id()))
    }
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &ScaleArguments) -> Result<Vec<String>> {
    let here = std::env::current_exe()?;
    let here = here.parent().context("this program is nowhere")?;
    let parent = arguments.bench.directory(here);
    let (_scratch, directory) = if arguments.keep {
        let kept = parent.join(KEPT);
        std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        (None, kept.canonicalize()?)
    } else {
        let scratch = Scratch::new(parent)?;
        let path = scratch.path().to_owned();
        (Some(scratch), path)
    };
    let machine = Machine::look(&directory);
    let plan = plan(arguments, here, directory)?;
    let mut faults = Vec::new();
    let mut stores = fill_and_read(&plan, &mut faults)?;
    print_head(&plan, &machine);
    println!("{}\n", report::reads_targets());
    println!("{}", report::reads_table(&stores));
    write(&plan, &mut stores, &mut faults)?;
    for results in &mut stores {
        let label = label(results.size);
        match ingest::restarts(&plan, results.size, &mut faults) {
            Ok(times) => results.restarts = times,
            Err(error) => faults.push(format!("{label}, restarts: {error:#}")),
        }
        eprintln!("{label}, restarts: {:.0?}", results.restarts);
    }
    println!("{}", report::rest_table(&stores));
    Ok(faults)
}

fn plan(arguments: &ScaleArguments, here: &Path, directory: PathBuf) -> Result<Plan> {
    let quick = arguments.quick;
    let lyftr = arguments.bench.lyftr(here)?;
    crate::must_exist(&lyftr)?;
    let default = if quick { SIZES_QUICK.to_vec() } else { SIZES.to_vec() };
    let mut sizes = arguments.sizes.clone().unwrap_or(default);
    sizes.sort_unstable();
    sizes.dedup();
    let measured = Duration::from_secs_f64(arguments.seconds.unwrap_or(if quick { 1.0 } else { 10.0 }));
    Ok(Plan {
        programs: Programs { lyftr, ..Programs::default() },
        directory,
        sizes,
        rounds: arguments.rounds.unwrap_or(if quick { 1 } else { 2 }).into(),
        warm_up: crate::warm_up(measured),
        measured,
        threads: arguments.bench.threads(),
        seed: arguments.seed,
        windows: if quick { WINDOWS_QUICK } else { WINDOWS },
        restarts: if quick { 3 } else { 10 },
        kill_after: Duration::from_millis(if quick { 500 } else { 2_000 }),
    })
}

/// Makes the stores, lets the service index them, and reads from them. A store that cannot be made is a fault.
fn fill_and_read(plan: &Plan, faults: &mut Vec<String>) -> Result<Vec<Results>> {
    let mut stores = Vec::new();
    for size in plan.sizes.iter().copied() {
        match fill(plan, size) {
            Ok(store) => stores.push(store),
            Err(error) => faults.push(format!("{}: {error:#}", label(size))),
        }
    }
    read(plan, &mut stores, faults)?;
    let close = |(mut results, server): (Results, Server)| -> Result<Results> {
        results.memory_kib = procfs::peak_memory_kib(server.pid())?;
        server.stop()?;
        results.files = store::file_sizes(&plan.store(results.size))?;
        Ok(results)
    };
    stores.into_iter().map(close).collect()
}

/// Makes the store of this size and lets the service index it; the server goes on running.
fn fill(plan: &Plan, size: u64) -> Result<(Results, Server)> {
    let label = label(size);
    let directory = plan.store(size);
    eprintln!("{label}: filling {}", directory.display());
    let filled = store::fill(&plan.programs, &directory, &Messages::new(plan.seed, size), plan.seed)?;
    match filled {
        Some(took) => eprintln!("{label}: filled in {took:.1?}"),
        None => eprintln!("{label}: there from an earlier run"),
    }
    let server = Server::open(&plan.programs, &directory)?;
    let indexing = store::wait_for_indexes(&server)?;
    eprintln!("{label}: indexed in {:.1?}", indexing.all);
    Ok((Results { size, filled, indexing: filled.map(|_| indexing), ..Results::default() }, server))
}

/// Measures each kind of read at all sizes in turn.
fn read(plan: &Plan, stores: &mut [(Results, Server)], faults: &mut Vec<String>) -> Result<()> {
    let readers: Vec<_> = stores
        .iter()
        .map(|(results, server)| Reader::new(server, questions::open(&plan.store(results.size))?))
        .collect::<Result<_>>()?;
    let mut costs = vec![Vec::new(); readers.len()];
    for (index, (name, ask)) in (0..).zip(KINDS) {
        for ((reader, costs), (results, _)) in readers.iter().zip(&mut costs).zip(&*stores) {
            let label = format!("{}, {name}", label(results.size));
            let cost = reader.measure(ask, Chance::new(plan.seed, index), plan.windows);
            match &cost {
                Ok(cost) => eprintln!("{label}: {:.2} ms, p99 {:.2} ms", cost.p50_ms, cost.p99_ms),
                Err(error) => faults.push(format!("{label}: {error:#}")),
            }
            costs.push(cost.ok());
        }
    }
    drop(readers);
    for ((results, _), costs) in stores.iter_mut().zip(costs) {
        results.reads = costs;
    }
    Ok(())
}

fn label(size: u64) -> String {
    format!("{} messages", thousands(size as f64))
}

/// Writes into all sizes in turn, round after round: the machine drifts, and a ratio is taken within a round.
fn write(plan: &Plan, stores: &mut [Results], faults: &mut Vec<String>) -> Result<()> {
    let requests = [ingest::requests(plan, Ids::Ordered)?, ingest::requests(plan, Ids::Random)?];
    for round in 1..=plan.rounds {
        for (ids, requests) in ["in order", "random"].into_iter().zip(&requests) {
            for results in &mut *stores {
                let label = format!("round {round}, {}, ids {ids}", label(results.size));
                let mut wrong = Vec::new();
                let measured = ingest::measure(plan, results.size, requests, &mut wrong);
                match &measured {
                    Ok(ingest) => eprintln!("{label}: {:.0} req/s", ingest.figures.per_second),
                    Err(error) => wrong.push(format!("{error:#}")),
                }
                faults.extend(wrong.into_iter().map(|fault| format!("{label}: {fault}")));
                let rounds = if ids == "random" { &mut results.random } else { &mut results.ordered };
                rounds.push(measured.ok());
            }
        }
    }
    Ok(())
}

fn print_head(plan: &Plan, machine: &Machine) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    println!("Measured {now} on {machine}.");
    println!(
        "Seed {}; reads over 1 connection; writing over 64, {} rounds of {:?} after {:?} of warm-up, load generator \
         on the same machine in {} threads; {} restarts, each after {:?} under load.\n",
        plan.seed, plan.rounds, plan.measured, plan.warm_up, plan.threads, plan.restarts, plan.kill_after
    );
    if machine.stores_in_memory() {
        println!("**The stores lie in memory: nothing here says what durability costs.**\n");
    }
}
