//! Whether Lyftr costs the same at any size: reads, writes and restarts on stores of several sizes.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tempfile::{TempDir, tempdir_in};

use crate::load::Ids;
use crate::machine::peak_memory_mib;
use crate::messages::{DATASET, Messages};
use crate::options::{Options, Plan};
use crate::reads::{self, Store};
use crate::report::Figure::{DatabaseBytes, FillRate, IndexBytes, Memory};
use crate::report::Figures;
use crate::rounds::{Rounds, Row, Stored};
use crate::server::{Server, sqlite_url};
use crate::stores;

mod restart;
mod table;

/// Sizes when nothing is said.
const SIZES: [u64; 3] = [10_000, 1_000_000, 10_000_000];
const SIZES_QUICK: [u64; 2] = [10_000, 100_000];
/// Where stores lie that are kept.
const KEPT: &str = "lyftr-bench-scale";
/// Written last: a store without it is half filled.
const MARKER: &str = "filled.txt";

/// Options of `scale`.
#[derive(Debug, Args)]
#[group(id = "scale")]
pub struct Arguments {
    /// Messages in the stores [default: 10000,1000000,10000000, quick: 10000,100000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    sizes: Option<Vec<u64>>,
    /// Keep the filled stores, and use those that an earlier run with the same seed has kept
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    options: Options,
}

/// Measures and prints everything; returns what was wrong.
pub fn run(arguments: &Arguments) -> Result<Vec<String>> {
    let plan = Plan::new(&arguments.options, 10.0, 2)?;
    let default = if plan.quick { SIZES_QUICK.to_vec() } else { SIZES.to_vec() };
    let mut sizes = arguments.sizes.clone().unwrap_or(default);
    sizes.sort_unstable();
    sizes.dedup();
    let parent = if arguments.keep { plan.parent.join(KEPT) } else { plan.folder.path().to_owned() };
    let mut rounds = Rounds::default();
    let (mut all, mut stores) = (Vec::new(), Vec::new());
    for size in sizes {
        rounds.remarks.about(&format!("{size} messages"));
        match Filled::open(&plan, parent.join(format!("seed-{}-size-{size}", plan.seed)), size) {
            Ok((filled, store)) => {
                all.push(filled);
                stores.push(store);
            }
            Err(error) => rounds.remarks.fault(format_args!("{error:#}")),
        }
    }
    let reads = reads::measure(&stores, |_| true, plan.quick, &mut rounds.remarks)?;
    for (filled, store) in all.iter_mut().zip(stores) {
        filled.close(store)?;
    }
    println!("{plan}\n{}\n", reads::targets());
    println!("{}", reads::table(&reads, all.iter().map(|filled| filled.size), true));

    write(&plan, &all, &mut rounds)?;
    for filled in &mut all {
        let label = format!("{} messages, restarts", filled.size);
        rounds.remarks.about(&label);
        match restart::measure(&plan, filled, &mut rounds.remarks) {
            Ok(times) => filled.restarts_ms = times,
            Err(error) => rounds.remarks.fault(format_args!("{error:#}")),
        }
        eprintln!("{label}: {:.0?} ms", filled.restarts_ms);
    }
    println!("{}\n{}", rounds.syncs(&plan), table::table(&all, &rounds));
    Ok(rounds.remarks.finish())
}

/// A filled store, and the figures that are not of reads and writes.
struct Filled {
    folder: PathBuf,
    size: u64,
    figures: Figures,
    /// Times from the start until ready, after crashes.
    restarts_ms: Vec<f64>,
}

impl Filled {
    /// Fills a store, unless an earlier run has left it there, and lets the service index it.
    fn open(plan: &Plan, folder: PathBuf, size: u64) -> Result<(Self, Store)> {
        let messages = Messages::new(plan.seed, size);
        let marker = folder.join(MARKER);
        let wanted = format!("dataset {DATASET}, seed {}, {size} messages\n", plan.seed);
        let is_there = fs::read_to_string(&marker).is_ok_and(|found| found == wanted);
        let mut figures = Figures::new();
        if !is_there {
            eprintln!("filling {}", folder.display());
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let (store, rate) = stores::fill(&sqlite_url(&folder), &messages)?;
            store.close();
            figures.insert(FillRate, rate);
            // All else was derived from the messages meanwhile; the service is measured making it anew.
            for file in fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()? {
                if file.file_name() != "app.db" {
                    fs::remove_file(file.path())?;
                }
            }
            fs::write(&marker, wanted)?;
        }
        let server = Server::on_sqlite(plan, &folder)?;
        let indexing = stores::wait_for_indexes(&server, size)?;
        if !is_there {
            figures.extend(indexing);
        }
        Ok((Self { folder, size, figures, restarts_ms: Vec::new() }, Store { messages, server }))
    }

    /// Stops the server; then the files are as large as they stay.
    fn close(&mut self, store: Store) -> Result<()> {
        self.figures.insert(Memory, peak_memory_mib(store.server.pid())?);
        store.server.stop()?;
        for (name, figure) in [("app.db", DatabaseBytes), ("app.db-index", IndexBytes)] {
            let path = self.folder.join(name);
            // Some of it may be in the write-ahead log.
            let sqlite = rusqlite::Connection::open(&path)?;
            sqlite.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
            self.figures.insert(figure, fs::metadata(path)?.len() as f64 / self.size as f64);
        }
        Ok(())
    }

    /// A copy that is written into in place of the store, and goes with the result. It is on disk already, so that
    /// writing it out slows nothing down that is measured.
    fn copy(&self, plan: &Plan) -> Result<TempDir> {
        let copy = tempdir_in(&plan.folder)?;
        for file in fs::read_dir(&self.folder)?.collect::<Result<Vec<_>, _>>()? {
            let to = copy.path().join(file.file_name());
            fs::copy(file.path(), &to)?;
            File::open(&to)?.sync_all()?;
        }
        Ok(copy)
    }
}

/// Writes into a copy of each store, round after round, both with ids in order and with random ones.
fn write(plan: &Plan, all: &[Filled], rounds: &mut Rounds) -> Result<()> {
    let requests = [Ids::Ordered, Ids::Random].map(|ids| (ids, plan.requests(ids, 0)));
    for _ in 0..plan.rounds {
        rounds.begin(plan)?;
        for (ids, requests) in &requests {
            for filled in all {
                let copy = filled.copy(plan)?;
                rounds.measure(plan, row(*ids, filled.size), requests, None, || {
                    let server = Server::on_sqlite(plan, copy.path())?;
                    stores::wait_for_indexes(&server, filled.size)?;
                    Ok(server)
                });
            }
        }
    }
    Ok(())
}

fn row(ids: Ids, size: u64) -> Row {
    Row { stored: Stored::Some(size), ..Row::lyftr(64, ids) }
}
