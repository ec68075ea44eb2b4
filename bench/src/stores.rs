//! Stores of a given size: filled through the store of the service, indexed by the service.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lyftr::event::Event;
use lyftr::store::{self, Outcome, Settings, Url};

use crate::machine;
use crate::messages::Messages;
use crate::report::{Figures, INDEX_CPU, INDEX_RATE, INDEXES};
use crate::server::Server;

/// Messages in one transaction.
const BATCH: usize = 50_000;
/// Longest time that a transaction may take, on PostgreSQL.
const BATCH_WITHIN: Duration = Duration::from_mins(10);
const METRICS_EVERY: Duration = Duration::from_millis(50);

/// Stores all messages in the database at this URL, made if need be; returns how many that were a second.
pub fn fill(url: &str, messages: &Messages) -> Result<f64> {
    let url: Url = url.parse()?;
    let store = store::open(&url, Settings { timeout: BATCH_WITHIN, ..Settings::default() })?;
    let begin = Instant::now();
    for first in (0..messages.size).step_by(BATCH) {
        let indexes = (first..messages.size).take(BATCH);
        let batch = indexes.map(|index| Ok(Event::of_message(messages.message(index)?, None, None)));
        let batch = batch.collect::<Result<Vec<_>>>()?;
        let mut outcomes = store.insert(&batch)?.into_iter();
        let new = outcomes.all(|outcome| matches!(outcome, Outcome::Created { .. }));
        ensure!(new, "a message was there already");
        eprint!("\r{first} of {} messages stored", messages.size);
    }
    let rate = messages.size as f64 / begin.elapsed().as_secs_f64();
    eprintln!("\r{} messages stored, {rate:.0} a second", messages.size);
    store.close();
    Ok(rate)
}

/// How many messages derived data does not hold yet.
pub fn behind(server: &Server) -> Result<u64> {
    let page = server.metrics()?;
    let of = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let both = of("store_index_behind_messages ").zip(of("store_search_behind_messages "));
    both.map(|(index, search)| index.max(search)).context("the page of metrics has no such gauge")
}

/// Waits until a server that was just started holds every message in its indexes.
pub fn wait_for_indexes(server: &Server, size: u64) -> Result<Figures> {
    let begin = Instant::now();
    while behind(server)? > 0 {
        thread::sleep(METRICS_EVERY);
    }
    let passed = begin.elapsed().as_secs_f64();
    eprintln!("{size} messages indexed in {passed:.0} s");
    let cpu = machine::cpu_time(server.pid())?.as_secs_f64();
    Ok(Figures::from([(INDEXES, passed), (INDEX_RATE, size as f64 / passed), (INDEX_CPU, cpu)]))
}
