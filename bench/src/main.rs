//! The load benchmark of Lyftr: without a subcommand the comparison with the same HTTP stack doing nothing and with
//! the original design; `scale` for small and large stores; `postgres` for PostgreSQL; `load` for a server that is
//! running already. `README.md` explains the figures.

mod cluster;
mod compare;
mod follow;
mod http;
mod load;
mod machine;
mod messages;
mod options;
mod postgres;
mod random;
mod reads;
mod report;
mod results;
mod scale;
mod server;
mod stores;
mod upkeep;

use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::load::{Ids, Load, Requests};
use crate::options::warm_up;
use crate::report::{ERRORS, GENERATOR_CPU, P50, P99, P999, PER_SECOND, Table};

/// Measures Lyftr under load, next to doing nothing and to the original design.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    comparison: options::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a server that is running already
    Load(LoadArguments),
    /// Measure reads, writes and restarts on small and large stores
    Scale(scale::Arguments),
    /// Measure Lyftr on PostgreSQL, next to one INSERT a request, and on a large database
    Postgres(postgres::Arguments),
    /// Measure what followers cost
    Follow(follow::Arguments),
}

#[derive(Debug, Args)]
struct LoadArguments {
    /// The server, as host:port
    #[arg(long, default_value = "127.0.0.1:8000")]
    url: String,
    /// The secret to sign with
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    secret: String,
    /// Connections, each with one request in flight at most
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests per second; without it, as many as the server answers
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Length of the measured window in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// How the message ids follow one another
    #[arg(long, value_enum, default_value = "random")]
    ids: Ids,
    /// Decides the random ids; the same seed sends the same messages [default: by the clock]
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let Arguments { command, comparison } = Arguments::parse();
    let faults = match command {
        None => compare::run(&comparison),
        Some(Command::Load(arguments)) => load(&arguments),
        Some(Command::Scale(arguments)) => scale::run(&arguments),
        Some(Command::Postgres(arguments)) => postgres::run(&arguments),
        Some(Command::Follow(arguments)) => follow::run(&arguments),
    };
    let faults = faults.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for fault in &faults {
        eprintln!("WRONG: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Loads a running server and prints the figures; returns what was wrong.
fn load(arguments: &LoadArguments) -> Result<Vec<String>> {
    let LoadArguments { url, secret, connections, rate, seconds, ids, seed } = arguments;
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let address = host.to_socket_addrs().with_context(|| format!("{url} is not host:port"))?.next();
    let address = address.with_context(|| format!("{url} has no address"))?;
    let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond().unsigned_abs());
    let measured = Duration::from_secs((*seconds).into());
    let (connections, rate, warm_up) = (*connections, rate.map(f64::from), warm_up(measured));
    let load = Load { address, connections, rate, warm_up, measured };
    eprintln!("loading {address}, ids {ids:?}, seed {seed}");
    // There is no server process to look at: it may be on another machine.
    let generator = || machine::cpu_time(std::process::id());
    let requests = Requests::new(host, secret, *ids, seed);
    let (tally, samples) =
        load::run(&load, &requests, || Ok([Duration::ZERO, generator()?, Duration::ZERO]))?;
    let figures = results::figures(&tally, samples, measured);
    let shown = [PER_SECOND, P50, P99, P999, GENERATOR_CPU, ERRORS];
    let mut table = Table::new(shown.map(|figure| figure.0).into_iter().chain(["not sent"]));
    let unsent = tally.unsent.to_string();
    table.row(shown.map(|figure| figure.text(figures.get(&figure).copied())).into_iter().chain([unsent]));
    println!("{table}");
    let fault = |first| format!("{} wrong or missing responses; the first: {first}", tally.errors);
    Ok(tally.first_error.map(fault).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_hold_together() {
        super::Arguments::command().debug_assert();
    }
}
