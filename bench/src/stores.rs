//! Stores of a given size: filled through the store of the service, indexed by the service.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lyftr::store::{self, Behind, Outcome, Settings, Store, Url};

use crate::machine;
use crate::messages::Messages;
use crate::report::Figure::{IndexAll, IndexCpu, IndexNumbers, IndexRate};
use crate::report::Figures;
use crate::server::Server;

/// Messages in one transaction.
const BATCH: usize = 50_000;
/// Longest time that a transaction may take, on PostgreSQL.
const BATCH_WITHIN: Duration = Duration::from_mins(10);
const METRICS_EVERY: Duration = Duration::from_millis(50);
/// Messages, and time, between two signs of life.
const PROGRESS_EVERY: u64 = 1_000_000;
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Opens the database at this URL, made if need be, and stores all messages; returns how many that were a second.
pub fn fill(url: &str, messages: &Messages) -> Result<(Arc<dyn Store>, f64)> {
    let url: Url = url.parse()?;
    let store = store::open(&url, Settings { timeout: BATCH_WITHIN, ..Settings::default() })?;
    let begin = Instant::now();
    for first in (0..messages.size).step_by(BATCH) {
        let indexes = (first..messages.size).take(BATCH);
        let batch = indexes.map(|index| messages.message(index)).collect::<Result<Vec<_>>>()?;
        let mut outcomes = store.insert(&batch)?.into_iter();
        let old = outcomes.any(|outcome| matches!(outcome, Outcome::Duplicate | Outcome::Conflict));
        ensure!(!old, "a message was there already");
        if first > 0 && first % PROGRESS_EVERY == 0 {
            eprintln!("{first} of {} messages stored", messages.size);
        }
    }
    let rate = messages.size as f64 / begin.elapsed().as_secs_f64();
    eprintln!("{} messages stored, {rate:.0} a second", messages.size);
    Ok((store, rate))
}

/// Waits until a store has derived all it has to from its messages, and closes it.
pub fn settle(store: &dyn Store) {
    let begin = Instant::now();
    let mut told = begin;
    while store.backlog().behind != Behind::default() {
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            eprintln!("{:?}", store.backlog().behind);
        }
        thread::sleep(METRICS_EVERY);
    }
    store.close();
    eprintln!("indexed {:.0} s later", begin.elapsed().as_secs_f64());
}

/// Waits until a server that was just started holds every message in its indexes.
pub fn wait_for_indexes(server: &Server, size: u64) -> Result<Figures> {
    let begin = Instant::now();
    let mut told = begin;
    let mut numbers = None;
    loop {
        let page = server.metrics()?;
        let behind = |name| gauge(&page, name).with_context(|| format!("no {name} in /metrics"));
        let left = [behind("store_index_behind_messages")?, behind("store_search_behind_messages")?];
        let passed = begin.elapsed().as_secs_f64();
        if left[0] == 0 {
            numbers.get_or_insert(passed);
        }
        if left == [0, 0] {
            return Ok(Figures::from([
                (IndexNumbers, numbers.unwrap_or(passed)),
                (IndexAll, passed),
                (IndexRate, size as f64 / passed),
                (IndexCpu, machine::cpu_time(server.pid())?.as_secs_f64()),
            ]));
        }
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            eprintln!("{passed:.0} s: the indexes are {left:?} messages behind");
        }
        thread::sleep(METRICS_EVERY);
    }
}

/// The value of a metric without labels.
fn gauge(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The bucket of the longest commit: its upper bound in seconds. None if there was no commit.
pub fn longest_commit_s(page: &str) -> Option<f64> {
    let bucket = |line: &str| -> Option<(f64, u64)> {
        let (bound, count) = line.strip_prefix("store_commit_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((bound.parse().ok()?, count.parse().ok()?))
    };
    let buckets: Vec<_> = page.lines().filter_map(bucket).collect();
    let (_, all) = *buckets.last()?;
    buckets.iter().find(|(_, count)| all > 0 && *count == all).map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_commit_is_in_the_first_bucket_that_holds_all() {
        let page = |counts: [u64; 3]| {
            let line = |(bound, count)| format!("store_commit_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            ["0.001", "0.5", "+Inf"].into_iter().zip(counts).map(line).collect::<String>()
        };
        assert_eq!(longest_commit_s(&page([7, 9, 9])), Some(0.5));
        assert_eq!(longest_commit_s(&page([7, 8, 9])), Some(f64::INFINITY));
        assert_eq!(longest_commit_s(&page([0, 0, 0])), None);
        assert_eq!(gauge("behind_more 3\nbehind{le=\"1\"} 4\nbehind 12\n", "behind"), Some(12));
    }
}
