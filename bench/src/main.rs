//! End-to-end load benchmark of Lyftr. Without a subcommand it measures Lyftr, the same HTTP stack
//! doing nothing, and the design Lyftr replaces, and prints the comparison as Markdown; `scale`
//! measures Lyftr on small and large stores; `postgres` measures Lyftr on PostgreSQL; `load` fires at a server that is running already.
//! What the figures mean stands in `README.md`.

mod engine;
mod fsync;
mod load;
mod postgres;
mod procfs;
mod report;
mod request;
mod response;
mod scale;
mod suite;
mod target;
mod venv;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::{Load, Pace};
use crate::postgres::PostgresArguments;
use crate::procfs::Machine;
use crate::report::{Figures, median, thousands};
use crate::request::{Ids, Requests, Settings};
use crate::scale::ScaleArguments;
use crate::suite::{Plan, Results, Scratch};
use crate::target::{Kind, Programs};

/// The folder of this package, where the reference service lies.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
/// Part of the measured time that is spent warming up before it, up to [`WARM_UP_MAX`].
const WARM_UP_PART: f64 = 0.2;
const WARM_UP_MAX: Duration = Duration::from_secs(1);
const SYNCS: usize = 1000;
const SYNCS_QUICK: usize = 200;

/// Measures Lyftr under load, next to doing nothing and to the design it replaces.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    comparison: Comparison,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a server that is running already
    Load(LoadArguments),
    /// Measure reads, ingestion and restarts on small and large stores
    Scale(ScaleArguments),
    /// Measure Lyftr on PostgreSQL, next to one INSERT a request, and on a large database
    Postgres(PostgresArguments),
}

/// Options of the comparison.
#[derive(Debug, Args)]
struct Comparison {
    /// One round of one second a row, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Length of each measured window in seconds [default: 5, quick: 1]
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// How often everything is measured; the table has the medians [default: 3, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Decides the random ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to measure: a = lyftr, b = noop, c = the reference
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,b,c")]
    only: Vec<Group>,
    #[command(flatten)]
    bench: Bench,
}

/// What every measurement is made with.
#[derive(Debug, Args)]
struct Bench {
    /// The lyftr binary [default: the one beside this program]
    #[arg(long)]
    lyftr: Option<PathBuf>,
    /// Where the stores are made; a real disk, or the syncs are none [default: beside this program]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Threads of the load generator [default: half of the cores]
    #[arg(long)]
    threads: Option<usize>,
}

impl Bench {
    /// The lyftr binary; `here` is the folder of this program.
    fn lyftr(&self, here: &Path) -> Result<PathBuf> {
        let lyftr = self.lyftr.clone().unwrap_or_else(|| here.join("lyftr"));
        Ok(std::path::absolute(lyftr)?)
    }

    /// The folder in which stores are made.
    fn directory<'a>(&'a self, here: &'a Path) -> &'a Path {
        self.directory.as_deref().unwrap_or(here)
    }

    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(default_threads)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    A,
    B,
    C,
}

/// Options of `load`.
#[derive(Debug, Args)]
struct LoadArguments {
    /// The server, as host:port or http://host:port
    #[arg(long, default_value = "127.0.0.1:8000")]
    url: String,
    /// The secret to sign with
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    secret: String,
    /// Connections, each with one request in flight at most
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests per second; without it, as many as the server answers
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Length of the measured window in seconds
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
    /// How the message ids follow one another
    #[arg(long, value_enum, default_value = "random")]
    ids: Ids,
    /// Decides the random ids; the same seed sends the same messages [default: by the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Requests to pass over, so that ordered ids go on where an earlier run ended
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Threads of the load generator [default: half of the cores]
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let Arguments { command, comparison } = Arguments::parse();
    let faults = match command {
        None => compare(&comparison),
        Some(Command::Load(arguments)) => load(&arguments),
        Some(Command::Scale(arguments)) => scale::run(&arguments),
        Some(Command::Postgres(arguments)) => postgres::run(&arguments),
    };
    match faults {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in faults {
                eprintln!("WRONG: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("lyftr-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints the comparison; returns what was wrong.
fn compare(options: &Comparison) -> Result<Vec<String>> {
    let here = std::env::current_exe()?;
    let here = here.parent().context("this program is nowhere")?;
    let scratch = Scratch::new(options.bench.directory(here))?;
    let machine = Machine::look(scratch.path());
    let plan = plan(options, here, scratch.path())?;
    let results = suite::run(&plan)?;
    print_comparison(&plan, &machine, &results);
    Ok(results.faults)
}

fn plan(options: &Comparison, here: &Path, directory: &Path) -> Result<Plan> {
    let quick = options.quick;
    let reference = Path::new(PACKAGE).join("reference");
    let mut programs = Programs {
        lyftr: options.bench.lyftr(here)?,
        noop: here.join("noop"),
        reference: reference.clone(),
        ..Programs::default()
    };
    let mut kinds = Vec::new();
    if options.only.contains(&Group::A) {
        must_exist(&programs.lyftr)?;
        kinds.push(Kind::Lyftr);
    }
    if options.only.contains(&Group::B) {
        must_exist(&programs.noop)?;
        kinds.push(Kind::Noop);
    }
    if options.only.contains(&Group::C) {
        let requirements = reference.join("requirements.txt");
        match venv::prepare(&requirements, &Path::new(PACKAGE).join(".venv")) {
            Ok(python) => {
                programs.python = python;
                kinds.extend([Kind::Plain, Kind::Tuned]);
            }
            Err(error) => eprintln!("going on without (c), it has no Python: {error:#}"),
        }
    }
    let measured = Duration::from_secs_f64(options.seconds.unwrap_or(if quick { 1.0 } else { 5.0 }));
    Ok(Plan {
        kinds,
        programs,
        directory: directory.to_owned(),
        rounds: options.rounds.unwrap_or(if quick { 1 } else { 3 }).into(),
        warm_up: warm_up(measured),
        measured,
        threads: options.bench.threads(),
        seed: options.seed,
        syncs: if quick { SYNCS_QUICK } else { SYNCS },
    })
}

fn must_exist(program: &Path) -> Result<()> {
    let built = "build it first: cargo build --release --workspace";
    ensure!(program.is_file(), "there is no {}; {built}", program.display());
    Ok(())
}

fn print_comparison(plan: &Plan, machine: &Machine, results: &Results) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    println!("Measured {now} on {machine}.");
    println!(
        "{} rounds, {:?} a row after {:?} of warm-up, seed {}, load generator on the same machine in {} threads.\n",
        plan.rounds, plan.measured, plan.warm_up, plan.seed, plan.threads
    );
    if machine.stores_in_memory() {
        println!("**The stores lie in memory: nothing here says what durability costs.**\n");
    }
    let micros = |time: fn(&suite::Round) -> Duration| {
        let times = results.rounds.iter().map(|round| time(round).as_secs_f64() * 1e6);
        median(times).unwrap_or_default()
    };
    println!(
        "One write of 4 KiB and a sync, {} times, p50: fsync {:.0} µs, fdatasync {:.0} µs.\n",
        plan.syncs,
        micros(|round| round.syncs.fsync),
        micros(|round| round.syncs.fdatasync)
    );
    println!("{}", report::rows_table(&results.rows()));
    println!("{}", report::goals_table(&results.goals()));
    for note in &results.notes {
        println!("- {note}");
    }
}

/// Loads a running server and prints what came of it; returns what was wrong.
fn load(arguments: &LoadArguments) -> Result<Vec<String>> {
    let (host, address) = resolve(&arguments.url)?;
    let seed = arguments.seed.unwrap_or_else(seed_of_the_clock);
    let measured = Duration::from_secs_f64(arguments.seconds);
    let load = Load {
        address,
        connections: arguments.connections,
        threads: arguments.threads.unwrap_or_else(default_threads),
        pace: arguments.rate.map_or(Pace::Closed, Pace::Open),
        warm_up: warm_up(measured),
        measured,
    };
    let LoadArguments { secret, ids, first, .. } = arguments;
    let mut requests = Requests::new(Settings { host, secret, ids: *ids, seed, first: *first })?;
    requests.sign_ahead(load::requests_needed(load.warm_up, measured, load.pace));
    eprintln!("loading {address}, ids {ids:?}, seed {seed}, first {first}");
    // There is no server process to look at: it may be on another machine.
    let cpu = || Ok([Duration::ZERO, procfs::cpu_time(std::process::id())?]);
    let outcome = load::run(&load, &requests, cpu)?;
    let figures = suite::figures(&outcome, measured, 0);
    print_load(&figures, outcome.tally.unsent);
    let first_error = outcome.tally.first_error;
    let fault =
        first_error.map(|first| format!("{} wrong or missing answers; the first: {first}", figures.errors));
    Ok(fault.into_iter().collect())
}

fn print_load(figures: &Figures, unsent: u64) {
    let Figures { p50_ms, p99_ms, p999_ms, generator_cpu_us, errors, .. } = figures;
    println!("{} req/s", thousands(figures.per_second));
    println!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, p99.9 {p999_ms:.2} ms");
    println!("{errors} errors, {unsent} requests came due and could not be sent");
    println!("the load generator took {generator_cpu_us:.1} µs of CPU a request");
}

/// The authority of a URL without a path, and the first address it stands for.
fn resolve(url: &str) -> Result<(&str, SocketAddr)> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let mut addresses = host.to_socket_addrs().with_context(|| format!("{url} is not host:port"))?;
    Ok((host, addresses.next().with_context(|| format!("{url} has no address"))?))
}

fn warm_up(measured: Duration) -> Duration {
    measured.mul_f64(WARM_UP_PART).min(WARM_UP_MAX)
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| usize::from(cores) / 2).max(1)
}

fn seed_of_the_clock() -> u64 {
    jiff::Timestamp::now().as_microsecond().unsigned_abs()
}

/// A number of seconds or of requests per second.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.001..=1e6).contains(&number) => Ok(number),
        _ => Err("must be a number from 0.001 to 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_hold_together() {
        Arguments::command().debug_assert();
        let arguments = Arguments::try_parse_from(["lyftr-bench"]).unwrap();
        assert_eq!(arguments.comparison.only, [Group::A, Group::B, Group::C]);
    }

    #[test]
    fn a_url_is_taken_with_or_without_its_scheme() {
        let address = "127.0.0.1:8000".parse().unwrap();
        for url in ["127.0.0.1:8000", "http://127.0.0.1:8000", "http://127.0.0.1:8000/"] {
            assert_eq!(resolve(url).unwrap(), ("127.0.0.1:8000", address));
        }
        assert!(resolve("https://127.0.0.1").is_err());
    }

    #[test]
    fn numbers_that_make_no_run_are_refused() {
        for text in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(positive(text).is_err(), "{text}");
        }
        assert_eq!(positive("2.5"), Ok(2.5));
    }
}
