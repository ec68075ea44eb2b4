//! The options that all measurements share, and the plan that follows from them.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tempfile::{TempDir, tempdir_in};

use crate::load::{Ids, Requests};
use crate::machine;
use crate::server::{HOST, SECRET};

/// The folder of this package, where the reference service lies.
pub const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
/// Part of the measured time that is spent warming up before it, up to [`WARM_UP_MAX`].
const WARM_UP_PART: f64 = 0.2;
const WARM_UP_MAX: Duration = Duration::from_secs(1);

/// Options of every measurement.
#[derive(Debug, Args)]
pub struct Options {
    /// One round of short windows and small stores, to see that everything works
    #[arg(long)]
    pub quick: bool,
    /// Length of each measured window of load in seconds [default: 5, scale: 10, quick: 1]
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// How often everything is measured; the tables have the medians [default: 3, scale: 2, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Decides random ids, stored messages and queries
    #[arg(long, default_value_t = 1)]
    seed: u64,
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

/// What all measurements need.
#[derive(Debug)]
pub struct Plan {
    pub quick: bool,
    pub lyftr: PathBuf,
    /// The folder of this program and of the yardstick.
    pub here: PathBuf,
    /// Where stores are made that are kept.
    pub parent: PathBuf,
    /// Where all others are made, which goes with the run.
    pub folder: TempDir,
    machine: String,
    pub rounds: usize,
    /// Length of each measured window.
    pub measured: Duration,
    /// Threads of the load generator.
    pub threads: usize,
    pub seed: u64,
}

impl Plan {
    /// The plan by these options, with `seconds` and `rounds` where they say nothing.
    pub fn new(options: &Options, seconds: f64, rounds: u16) -> Result<Self> {
        let program = std::env::current_exe()?;
        let here = program.parent().context("this program is nowhere")?.to_owned();
        let lyftr = options.lyftr.clone().unwrap_or_else(|| here.join("lyftr"));
        let parent = options.directory.clone().unwrap_or_else(|| here.clone());
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let parent = parent.canonicalize()?;
        let folder = tempdir_in(&parent)?;
        // PostgreSQL goes through it as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let (seconds, rounds) = if options.quick { (1.0, 1) } else { (seconds, rounds) };
        Ok(Self {
            quick: options.quick,
            lyftr: std::path::absolute(lyftr)?,
            here,
            machine: machine::description(&parent),
            parent,
            folder,
            rounds: options.rounds.unwrap_or(rounds).into(),
            measured: Duration::from_secs_f64(options.seconds.unwrap_or(seconds)),
            threads: options.threads.unwrap_or_else(default_threads),
            seed: options.seed,
        })
    }

    /// Syncs per round and kind.
    pub fn syncs(&self) -> u32 {
        if self.quick { 200 } else { 1000 }
    }

    /// Requests for a run, which differ from those of another `first`.
    pub fn requests(&self, ids: Ids, first: u64) -> Requests {
        Requests::new(HOST, SECRET, ids, self.seed, first)
    }
}

/// The first lines of every report.
impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, rounds, measured, seed, threads, .. } = self;
        let (now, warm_up) = (jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"), warm_up(*measured));
        writeln!(
            out,
            "Measured {now} on {machine}\n{rounds} rounds, {measured:?} a row after {warm_up:?} of warm-up, \
             seed {seed}, load generator on the same machine in {threads} threads."
        )
    }
}

/// The time under load before a measured window.
pub fn warm_up(measured: Duration) -> Duration {
    measured.mul_f64(WARM_UP_PART).min(WARM_UP_MAX)
}

/// Threads of the load generator when nothing is said.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| usize::from(cores) / 2).max(1)
}

/// A number of seconds or of requests per second.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.001..=1e6).contains(number));
    number.ok_or_else(|| "must be a number from 0.001 to 1000000".to_owned())
}
