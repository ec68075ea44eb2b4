//! The load benchmark of Lyftr: without a subcommand the comparison with the same HTTP stack doing nothing and with
//! the original design; `scale` for small and large stores; `postgres` for PostgreSQL; `load` for a server that is
//! running already. `README.md` explains the figures.

mod cluster;
mod compare;
mod http;
mod load;
mod machine;
mod measure;
mod messages;
mod options;
mod postgres;
mod random;
mod reads;
mod report;
mod rounds;
mod scale;
mod server;
mod stores;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::load::{Ids, Load, Pace, Requests};
use crate::options::{default_threads, positive, warm_up};
use crate::report::Figure;
use crate::report::Figure::{GeneratorCpu, P50, P99, P999, PerSecond};

/// Measures Lyftr under load, next to doing nothing and to the original design.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    comparison: compare::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a server that is running already
    Load(LoadArguments),
    /// Measure reads, writes and restarts on small and large stores
    Scale(scale::Arguments),
    /// Measure Lyftr on PostgreSQL, next to one INSERT a request, and on a large database
    Postgres(postgres::Arguments),
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
        None => compare::run(&comparison),
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

/// Loads a running server and prints the figures; returns what was wrong.
fn load(arguments: &LoadArguments) -> Result<Vec<String>> {
    let (host, address) = resolve(&arguments.url)?;
    let LoadArguments { secret, connections, rate, ids, first, .. } = arguments;
    let seed = arguments.seed.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond().unsigned_abs());
    let measured = Duration::from_secs_f64(arguments.seconds);
    let load = Load {
        address,
        connections: *connections,
        threads: arguments.threads.unwrap_or_else(default_threads),
        pace: rate.map_or(Pace::Closed, Pace::Open),
        warm_up: warm_up(measured),
        measured,
    };
    let requests = Requests::new(host, secret, *ids, seed, *first);
    eprintln!("loading {address}, ids {ids:?}, seed {seed}, first {first}");
    // There is no server process to look at: it may be on another machine.
    let generator = || machine::cpu_time(std::process::id());
    let outcome = load::run(&load, &requests, || Ok([Duration::ZERO, generator()?, Duration::ZERO]))?;
    let figures = measure::figures(&outcome, measured);
    let text = |figure: Figure| figure.text(figures.get(&figure).copied());
    println!("{} req/s", text(PerSecond));
    println!("p50 {} ms, p99 {} ms, p99.9 {} ms", text(P50), text(P99), text(P999));
    let load::Tally { errors, unsent, first_error, .. } = outcome.tally;
    println!("{errors} errors, {unsent} requests came due and could not be sent");
    println!("the load generator took {} µs of CPU a request", text(GeneratorCpu));
    let fault = |first| format!("{errors} wrong or missing responses; the first: {first}");
    Ok(first_error.map(fault).into_iter().collect())
}

/// The authority of a URL without a path, and the first address it stands for.
fn resolve(url: &str) -> Result<(&str, SocketAddr)> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let mut addresses = host.to_socket_addrs().with_context(|| format!("{url} is not host:port"))?;
    Ok((host, addresses.next().with_context(|| format!("{url} has no address"))?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_hold_together_and_urls_are_taken_with_or_without_a_scheme() {
        Arguments::command().debug_assert();
        let address = "127.0.0.1:8000".parse().unwrap();
        for url in ["127.0.0.1:8000", "http://127.0.0.1:8000/"] {
            assert_eq!(resolve(url).unwrap(), ("127.0.0.1:8000", address));
        }
    }
}
