//! The options that all measurements share, and the plan that follows from them.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tempfile::{TempDir, tempdir_in};

use crate::load::threads;
use crate::machine;

/// The folder of this package, where the reference service lies.
pub const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// Options of every measurement.
#[derive(Debug, Args)]
pub struct Options {
    /// One round of short windows and small stores, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Length of each measured window of load in seconds [default: 5, scale: 10, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: Option<u16>,
    /// How often everything is measured; the tables have the medians [default: 3, scale: 2, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Decides random ids, stored messages and queries
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the stores are made; a real disk, or the syncs are none [default: beside this program]
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// What all measurements need.
#[derive(Debug)]
pub struct Plan {
    pub quick: bool,
    /// The folder of this program, of the service and of the yardstick.
    pub here: PathBuf,
    /// Where stores are made; goes with the run.
    pub folder: TempDir,
    machine: String,
    pub rounds: u16,
    /// Length of each measured window.
    pub measured: Duration,
    pub seed: u64,
}

impl Plan {
    /// The plan by these options, with `seconds` and `rounds` where they say nothing.
    pub fn new(options: &Options, seconds: u16, rounds: u16) -> Result<Self> {
        let here = std::env::current_exe()?.parent().context("this program is nowhere")?.to_owned();
        let parent = options.directory.clone().unwrap_or_else(|| here.clone());
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let parent = parent.canonicalize()?;
        let folder = tempdir_in(&parent)?;
        // PostgreSQL goes through it as another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let (seconds, rounds) = if options.quick { (1, 1) } else { (seconds, rounds) };
        Ok(Self {
            quick: options.quick,
            here,
            machine: machine::description(&parent)?,
            folder,
            rounds: options.rounds.unwrap_or(rounds),
            measured: Duration::from_secs(options.seconds.unwrap_or(seconds).into()),
            seed: options.seed,
        })
    }

    /// Syncs per round and kind.
    pub fn syncs(&self) -> u32 {
        if self.quick { 200 } else { 1000 }
    }
}

/// The first lines of every report.
impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, rounds, measured, seed, .. } = self;
        let (now, warm_up) = (jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"), warm_up(*measured));
        writeln!(
            out,
            "Measured {now} on {machine}\n{rounds} rounds, {measured:?} a row after {warm_up:?} of warm-up, \
             seed {seed}, load generator on the same machine in {} threads.",
            threads()
        )
    }
}

/// The time under load before a measured window.
pub fn warm_up(measured: Duration) -> Duration {
    (measured / 5).min(Duration::from_secs(1))
}
