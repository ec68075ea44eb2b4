//! Reading from stores over HTTP: one connection that stays open, one request after another.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::http::Client;
use crate::machine::cpu_time;
use crate::messages::Messages;
use crate::random::rng;
use crate::report::{Bound, Figure, Figures, P50, P99, READ_CPU, Table, decimals, thousands};
use crate::results::{Results, Subject};
use crate::server::{Answer, Server};

mod query;

use query::{KINDS, Kind};

/// Fewest requests of a kind.
const REQUESTS_MIN: u32 = 10;
/// A read's median at the largest size may be so many times that at the smallest …
const RATIO: Bound = Bound::AtMost(2.0);
/// … and its 99th percentile at any size so many milliseconds.
const P99_MS: Bound = Bound::AtMost(50.0);
const FIGURES: [Figure; 3] = [P50, P99, READ_CPU];

/// A store that is read from, and the server that has it open.
pub struct Store {
    pub messages: Messages,
    pub server: Server,
}

/// Measures every kind, or those for PostgreSQL, each on one store after the other.
pub fn measure(stores: &[Store], postgres: bool, quick: bool, results: &mut Results) {
    // Long enough that the server's CPU time, which is counted in steps of 10 ms, says something.
    let window = Duration::from_millis(if quick { 250 } else { 3_000 });
    for (index, kind) in (0..).zip(KINDS).filter(|(_, kind)| kind.both || !postgres) {
        for store in stores {
            let (size, name) = (store.messages.size, kind.name);
            results.about(format_args!("{size} messages, {name}"));
            match run(store, kind, index, window) {
                Ok(figures) => {
                    eprintln!("{size} messages, {name}: {:.2} ms", figures[&P50]);
                    results.record(Subject::Reads(name, size), figures);
                }
                Err(error) => results.fault(format_args!("{error:#}")),
            }
        }
    }
}

/// Sends requests of one kind for as long as the window. The total of the first response must be the right one.
fn run(store: &Store, kind: Kind, index: u64, window: Duration) -> Result<Figures> {
    let Store { messages: Messages { seed, size, .. }, server } = store;
    let mut client = Client::connect(server.address)?;
    let mut rng = rng(*seed, index);
    let mut times = Histogram::<u64>::new(3)?;
    // Where the walk goes on, and how many pages are left of it.
    let mut walk: Option<(String, u32)> = None;
    let (mut begin, mut cpu_before, mut sent) = (Instant::now(), None, 0);
    while begin.elapsed() < window || sent < REQUESTS_MIN {
        let goes_on = walk.is_some();
        let (path, left) = match walk.take() {
            Some((cursor, left)) => (format!("/messages?cursor={cursor}"), left - 1),
            None => kind.draw(*size, &mut rng)?,
        };
        let asked = Instant::now();
        let body = client.get(&path)?;
        let time = asked.elapsed();
        // A request that begins a walk is not among the measured ones.
        if goes_on || left == 0 {
            times.record(u64::try_from(time.as_nanos())?)?;
        }
        if left > 0 {
            walk = serde_json::from_str::<Answer>(body)?.next.map(|cursor| (cursor, left));
        }
        sent += 1;
        if cpu_before.is_none() {
            let Answer { total, .. } = serde_json::from_str(body)?;
            let expected = kind.total(*size).unwrap_or(total);
            ensure!(total == expected, "GET {path} told the total {total}, and {expected} match");
            // The first request finds statements that are not prepared and pages that are not cached.
            times.reset();
            (begin, cpu_before, sent) = (Instant::now(), Some(cpu_time(server.pid())?), 0);
        }
    }
    let cpu = cpu_time(server.pid())?.saturating_sub(cpu_before.unwrap_or_default());
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    let cpu_us = cpu.as_secs_f64() * 1e6 / f64::from(sent);
    Ok(Figures::from([(P50, ms(0.5)), (P99, ms(0.99)), (READ_CPU, cpu_us)]))
}

/// The targets of reads in words.
pub fn targets() -> String {
    format!("Targets: p50 largest / smallest {RATIO}, p99 {P99_MS} ms at every size.")
}

/// The table of reads on stores of these sizes, the smallest first; `with_target`: whether there is one.
pub fn table(results: &Results, sizes: &[u64], with_target: bool) -> Table {
    let mut heads = vec![format!("read: {}", FIGURES.map(|figure| figure.0).join(" / "))];
    heads.extend(sizes.iter().map(|size| format!("{} messages:", thousands(*size as f64))));
    heads.push("p50 largest / smallest:".to_owned());
    heads.extend(with_target.then(|| "target".to_owned()));
    let mut table = Table::new(heads);
    for Kind { name, .. } in KINDS {
        let value = |size: &u64, figure: Figure| results.value(Subject::Reads(name, *size), figure);
        if sizes.iter().all(|size| value(size, P50).is_none()) {
            continue;
        }
        let p50 = |size: Option<&u64>| value(size?, P50);
        let ratio = p50(sizes.last()).zip(p50(sizes.first())).map(|(last, first)| last / first);
        let p99s = sizes.iter().map(|size| value(size, P99)).collect();
        let cell = |size| FIGURES.map(|figure| figure.text(value(size, figure))).join(" / ");
        let mut cells = vec![name.to_owned()];
        cells.extend(sizes.iter().map(cell));
        cells.push(decimals(ratio, 2));
        cells.extend(with_target.then(|| verdict(p99s, ratio).to_owned()));
        table.row(cells);
    }
    table
}

fn verdict(p99s: Option<Vec<f64>>, ratio: Option<f64>) -> &'static str {
    let Some((p99s, ratio)) = p99s.zip(ratio) else { return "**not measured**" };
    match (RATIO.is_met(ratio), p99s.into_iter().all(|p99| P99_MS.is_met(p99))) {
        (true, true) => "met",
        (false, true) => "**missed**: ratio",
        (true, false) => "**missed**: p99",
        (false, false) => "**missed**: ratio, p99",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_held_against_the_smallest_size() {
        let mut results = Results::default();
        for (name, size, p50, p99) in [
            ("first page", 10_000, 1.0, 2.0),
            ("first page", 1_000_000, 1.5, 3.0),
            ("`limit=100`", 10_000, 1.0, 2.0),
            ("`limit=100`", 1_000_000, 2.5, 51.0),
            ("`GET /stats`", 1_000_000, 1.0, 2.0),
        ] {
            let figures = Figures::from([(P50, p50), (P99, p99), (READ_CPU, 1_234.0)]);
            results.record(Subject::Reads(name, size), figures);
        }
        let expected = "\
            | read: p50 ms / p99 ms / CPU µs | 10,000 messages | 1,000,000 messages | p50 largest / smallest | target |\n\
            |---|--:|--:|--:|---|\n\
            | first page | 1.00 / 2.00 / 1,234 | 1.50 / 3.00 / 1,234 | 1.50 | met |\n\
            | `limit=100` | 1.00 / 2.00 / 1,234 | 2.50 / 51.00 / 1,234 | 2.50 | **missed**: ratio, p99 |\n\
            | `GET /stats` | – / – / – | 1.00 / 2.00 / 1,234 | – | **not measured** |\n";
        assert_eq!(table(&results, &[10_000, 1_000_000], true).to_string(), expected);
    }
}
