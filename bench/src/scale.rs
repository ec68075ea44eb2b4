//! Whether Lyftr costs the same at any size: reads, writes and restarts on stores of several sizes.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tempfile::{TempDir, tempdir_in};

use crate::load::{self, Ids, Load, Requests};
use crate::machine::peak_memory_mib;
use crate::messages::Messages;
use crate::options::{Options, Plan};
use crate::reads::{self, Store};
use crate::report::{
    BEHIND, Bound, CAUGHT_UP, DATABASE_BYTES, ERASED_AFTER, FILL_RATE, Figure, Figures, INDEX_BYTES,
    INDEX_CPU, INDEX_RATE, INDEXES, LONGEST, MEMORY, MEMORY_OF_READS, P50, P99, P999, PER_SECOND,
    READS_WHILE_ERASING, RESTART, RESTART_LONGEST, SERVER_CPU, TEXTS_BYTES, Table, WRITTEN_WHILE_FULL,
    WRITTEN_WHILE_LITTLE, decimals, median, thousands,
};
use crate::results::{Results, Row, Subject};
use crate::server::{HOST, Kind, SECRET, Server, sqlite_url};
use crate::stores;
use crate::upkeep;

/// Sizes when nothing is said.
const SIZES: &[u64] = &[10_000, 1_000_000, 10_000_000];
const SIZES_QUICK: &[u64] = &[10_000, 100_000];
/// Throughput at the largest size, as a part of that at the smallest.
const RATIOS: [(&str, Ids, Bound); 2] =
    [("ids in order", Ids::Ordered, Bound::AtLeast(0.8)), ("random ids", Ids::Random, Bound::AtLeast(0.7))];
/// The longest start after a crash, in milliseconds. Of so few starts the 99th percentile is the longest.
const RESTART_MS: Bound = Bound::AtMost(250.0);
const UPKEEP: [Figure; 8] =
    [FILL_RATE, INDEXES, INDEX_RATE, INDEX_CPU, DATABASE_BYTES, INDEX_BYTES, TEXTS_BYTES, MEMORY_OF_READS];
/// Loads of a minute on a new store.
const FULL: [(Ids, &str); 2] = [(Ids::Ordered, "ids in order"), (Ids::Random, "random ids")];
/// What is measured of a store beside requests, each with its target.
const BESIDE: [(Figure, Bound); 3] = [
    (WRITTEN_WHILE_LITTLE, Bound::AtMost(64.0)),
    (ERASED_AFTER, Bound::AtMost(1.0)),
    (READS_WHILE_ERASING, Bound::AtMost(250.0)),
];
const KEEPING_UP: [(Figure, Option<Bound>); 3] = [
    (BEHIND, Some(Bound::AtMost(100_000.0))),
    (CAUGHT_UP, Some(Bound::AtMost(5.0))),
    (WRITTEN_WHILE_FULL, None),
];
/// Measures a store of so many messages in a folder.
type Upkeep = fn(&Plan, &Path, u64) -> Result<Figures>;
const WRITING: [Figure; 7] = [PER_SECOND, P50, P99, P999, SERVER_CPU, MEMORY, LONGEST];

#[derive(Debug, Args)]
#[group(id = "scale")]
pub struct Arguments {
    /// Messages in the stores [default: 10000,1000000,10000000, quick: 10000,100000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    sizes: Option<Vec<u64>>,
    #[command(flatten)]
    options: Options,
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let plan = Plan::new(&arguments.options, 10, 2)?;
    let default = if plan.quick { SIZES_QUICK } else { SIZES };
    let mut sizes = arguments.sizes.clone().unwrap_or_else(|| default.to_vec());
    sizes.sort_unstable();
    sizes.dedup();
    let folders: Vec<_> = sizes.iter().map(|size| plan.folder.path().join(size.to_string())).collect();
    let mut results = Results::default();
    let mut stores = Vec::new();
    for (size, folder) in sizes.iter().zip(&folders) {
        stores.push(open(&plan, folder, *size, &mut results).with_context(|| format!("{size} messages"))?);
    }
    reads::measure(&stores, false, plan.quick, &mut results);
    for (store, folder) in stores.into_iter().zip(&folders) {
        close(store, folder, &mut results)?;
    }
    println!("{plan}\n{}\n\n{}", reads::targets(), reads::table(&results, &sizes, true));
    for (size, folder) in sizes.iter().zip(&folders) {
        for (what, measure) in [("little", upkeep::little as Upkeep), ("erasing", upkeep::erase)] {
            results.about(format_args!("{size} messages, {what}"));
            match copy(&plan, folder).and_then(|copy| measure(&plan, copy.path(), *size)) {
                Ok(figures) => results.record(Subject::Store(*size), figures),
                Err(error) => results.fault(format_args!("{error:#}")),
            }
        }
    }
    for (ids, label) in FULL {
        results.about(label);
        match tempdir_in(&plan.folder)
            .map_err(Into::into)
            .and_then(|new| upkeep::full(&plan, new.path(), ids))
        {
            Ok(figures) => results.record(Subject::Load(Row::lyftr(64, ids)), figures),
            Err(error) => results.fault(format_args!("{error:#}")),
        }
    }
    for _ in 0..plan.rounds {
        results.begin_round(&plan)?;
        for (_, ids, _) in RATIOS {
            for (size, folder) in sizes.iter().zip(&folders) {
                let copy = copy(&plan, folder)?;
                let start = || start(&plan, copy.path(), *size).map(|(server, _)| server);
                results.measure(&plan, row(ids, *size), plan.measured, None, start);
            }
        }
    }
    for (size, folder) in sizes.iter().zip(&folders) {
        results.about(format_args!("{size} messages, restarts"));
        if let Err(error) = restart(&plan, folder, *size, &mut results) {
            results.fault(format_args!("{error:#}"));
        }
    }
    println!("{}\n{}", results.syncs(&plan), table(&results, &sizes));
    Ok(results.faults)
}

/// Fills a store, and lets the service index it.
fn open(plan: &Plan, folder: &Path, size: u64, results: &mut Results) -> Result<Store> {
    fs::create_dir(folder)?;
    let messages = Messages::new(plan.seed, size);
    let rate = stores::fill(&sqlite_url(folder), &messages)?;
    // All else was derived from the messages meanwhile; the service is measured making it anew.
    for file in fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()? {
        if file.file_name() != "app.db" {
            fs::remove_file(file.path())?;
        }
    }
    let (server, mut figures) = start(plan, folder, size)?;
    figures.insert(FILL_RATE, rate);
    results.record(Subject::Store(size), figures);
    Ok(Store { messages, server })
}

/// Stops the server; then the files are as large as they stay.
fn close(Store { messages, server }: Store, folder: &Path, results: &mut Results) -> Result<()> {
    let mut figures = Figures::from([(MEMORY_OF_READS, peak_memory_mib(server.pid())?)]);
    server.stop()?;
    for (name, figure) in [("app.db", DATABASE_BYTES), ("app.db-index", INDEX_BYTES)] {
        let path = folder.join(name);
        // Some of it may be in the write-ahead log.
        rusqlite::Connection::open(&path)?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        figures.insert(figure, fs::metadata(path)?.len() as f64 / messages.size as f64);
    }
    let texts = fs::metadata(folder.join("app.db-texts"))?.len();
    figures.insert(TEXTS_BYTES, texts as f64 / messages.size as f64);
    results.record(Subject::Store(messages.size), figures);
    Ok(())
}

/// A copy that is written into in place of the store, and goes with the result. It is on disk already, so that writing
/// it out slows nothing down that is measured.
fn copy(plan: &Plan, folder: &Path) -> Result<TempDir> {
    let copy = tempdir_in(&plan.folder)?;
    for file in fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()? {
        let to = copy.path().join(file.file_name());
        fs::copy(file.path(), &to)?;
        File::open(&to)?.sync_all()?;
    }
    Ok(copy)
}

/// Starts the service on a store, and waits until its indexes hold every message.
fn start(plan: &Plan, folder: &Path, size: u64) -> Result<(Server, Figures)> {
    let server = Server::start(Kind::Lyftr, plan, &sqlite_url(folder))?;
    let indexing = stores::wait_for_indexes(&server, size)?;
    Ok((server, indexing))
}

/// Kills the server under load and starts it again, over and over on one copy: the time until it is ready.
fn restart(plan: &Plan, folder: &Path, size: u64, results: &mut Results) -> Result<()> {
    let copy = copy(plan, folder)?;
    let (mut server, _) = start(plan, copy.path(), size)?;
    let mut stored = size;
    for number in 1..=if plan.quick { 3 } else { 10 } {
        let requests = Requests::new(HOST, SECRET, Ids::Random, plan.seed.wrapping_add(number));
        let load = Load {
            address: server.address,
            connections: 64,
            rate: None,
            // The server is killed at the end of the warm-up.
            warm_up: Duration::from_millis(if plan.quick { 500 } else { 2_000 }),
            measured: Duration::from_millis(100),
        };
        let acknowledged = load::run(&load, &requests, || server.kill())?.0.right;
        ensure!(acknowledged > 0, "not one right response before the kill");
        let begin = Instant::now();
        server = Server::start(Kind::Lyftr, plan, &sqlite_url(copy.path()))?;
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        eprintln!("{size} messages, restart: {ms:.0} ms");
        results.record(Subject::Store(size), Figures::from([(RESTART, ms), (RESTART_LONGEST, ms)]));
        let new = server.total_messages()?.saturating_sub(stored);
        stored += new;
        if new < acknowledged {
            results.fault(format_args!(
                "{acknowledged} messages were acknowledged before a crash, {new} are stored"
            ));
        }
    }
    server.stop().map(drop)
}

fn row(ids: Ids, size: u64) -> Row {
    Row::lyftr(64, ids).on(size, "")
}

/// The table of filling, indexes, files, memory, writes and restarts, a column for each size.
fn table(results: &Results, sizes: &[u64]) -> Table {
    let heads = sizes.iter().map(|size| format!("{} messages:", thousands(*size as f64)));
    let heads = ["what".to_owned()].into_iter().chain(heads);
    let mut table = Table::new(heads.chain(["target:", "reached"].map(str::to_owned)));
    let mut line = |what: String, target: [&str; 2], cell: &dyn Fn(u64) -> String| {
        let cells = sizes.iter().map(|size| cell(*size));
        table.row([what].into_iter().chain(cells).chain(target.map(str::to_owned)));
    };
    let of_store = |figure: Figure| move |size| figure.text(results.value(Subject::Store(size), figure));
    for figure in UPKEEP {
        line(figure.0.to_owned(), ["", ""], &of_store(figure));
    }
    for (figure, bound) in BESIDE {
        let worst = sizes.iter().filter_map(|size| results.value(Subject::Store(*size), figure));
        let reached = bound.verdict(worst.reduce(f64::max));
        line(figure.0.to_owned(), [&bound.to_string(), reached], &of_store(figure));
    }
    for (ids, label) in FULL {
        for (figure, bound) in KEEPING_UP {
            let value = results.value(Subject::Load(Row::lyftr(64, ids)), figure);
            // It begins with a store of none.
            let cell = |size| if size == sizes[0] { figure.text(value) } else { String::new() };
            let target = bound.map(|bound| (bound.to_string(), bound.verdict(value)));
            let (target, reached) = target.unwrap_or_default();
            line(format!("{label}, {}", figure.0), [&target, reached], &cell);
        }
    }
    for (label, ids, bound) in RATIOS {
        for figure in WRITING {
            let cell = |size| figure.text(results.value(Subject::Load(row(ids, size)), figure));
            line(format!("writing, {label}: {}", figure.0), ["", ""], &cell);
        }
        let smallest = row(ids, sizes[0]);
        let ratio = |size| median(results.ratios(row(ids, size), smallest));
        let target = [&*bound.to_string(), bound.verdict(sizes.last().and_then(|size| ratio(*size)))];
        line(format!("writing, {label}: req/s to the smallest's"), target, &|size| decimals(ratio(size), 2));
    }
    line(RESTART.0.to_owned(), ["", ""], &of_store(RESTART));
    let longest = |size: &u64| results.value(Subject::Store(*size), RESTART_LONGEST);
    let worst = sizes.iter().map(longest).collect::<Option<Vec<f64>>>();
    let reached = RESTART_MS.verdict(worst.and_then(|worst| worst.into_iter().reduce(f64::max)));
    line(RESTART_LONGEST.0.to_owned(), [&RESTART_MS.to_string(), reached], &of_store(RESTART_LONGEST));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::rounds;

    #[test]
    fn writing_is_compared_within_a_round_and_restarts_at_all_sizes() {
        let sizes = [10_000, 1_000_000];
        let [small, large] = sizes.map(|size| row(Ids::Ordered, size));
        let mut results =
            rounds(&[&[(small, 100.0), (large, 90.0)], &[(small, 50.0), (large, 30.0)], &[(small, 10.0)]]);
        for (size, ms) in [(sizes[0], 10.0), (sizes[0], 300.0), (sizes[1], 20.0)] {
            results.record(Subject::Store(size), Figures::from([(RESTART, ms), (RESTART_LONGEST, ms)]));
        }
        let table = table(&results, &sizes).to_string();
        for line in [
            "| writing, ids in order: req/s to the smallest's | 1.00 | 0.75 | ≥ 0.8 | **missed** |\n",
            "| writing, random ids: req/s to the smallest's | – | – | ≥ 0.7 | **not measured** |\n",
            "| restart after a crash, longest ms | 300 | 20 | ≤ 250 | **missed** |\n",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }
}
