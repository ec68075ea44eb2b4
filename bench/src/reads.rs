//! Reading from stores over HTTP: one connection that stays open, one request after another.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::http::{self, Client};
use crate::machine::cpu_time;
use crate::measure::Remarks;
use crate::messages::Messages;
use crate::random::rng;
use crate::report::Figure::{P50, P99, ServerCpu};
use crate::report::{Bound, Figures, Table, decimals, thousands};
use crate::server::Server;

mod query;

use query::Query;

pub use query::KINDS;

/// Fewest requests of a kind.
const REQUESTS_MIN: u32 = 10;
/// A read's median at the largest size may be so many times that at the smallest …
const RATIO: Bound = Bound::AtMost(2.0);
/// … and its 99th percentile at any size so many milliseconds.
const P99_MS: Bound = Bound::AtMost(50.0);

/// A store that is read from, and the server that has it open.
pub struct Store {
    pub messages: Messages,
    pub server: Server,
}

/// One read at all sizes: its name, and its figures on each store; none where it failed.
pub type Read = (&'static str, Vec<Option<Figures>>);

/// Measures the kinds that are wanted by their names, each on one store after the other.
pub fn measure(
    stores: &[Store],
    is_wanted: impl Fn(&str) -> bool,
    quick: bool,
    remarks: &mut Remarks,
) -> Result<Vec<Read>> {
    // Long enough that the server's CPU time, which is counted in steps of 10 ms, says something.
    let window = Duration::from_millis(if quick { 250 } else { 3_000 });
    let kinds: Vec<_> = KINDS.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    let firsts: Vec<_> =
        stores.iter().map(|store| First::of_all(&kinds, &store.messages)).collect::<Result<_>>()?;
    let mut reads = Vec::new();
    for (index, (name, kind)) in kinds.into_iter().enumerate() {
        let mut costs = Vec::new();
        for (store, firsts) in stores.iter().zip(&firsts) {
            let label = format!("{} messages, {name}", store.messages.size);
            remarks.about(&label);
            let cost =
                firsts[index].check(&store.server).and_then(|()| run(store, kind, index as u64, window));
            match &cost {
                Ok(cost) => eprintln!("{label}: {:.2} ms", cost[&P50]),
                Err(error) => remarks.fault(format_args!("{error:#}")),
            }
            costs.push(cost.ok());
        }
        reads.push((name, costs));
    }
    Ok(reads)
}

/// Sends requests of one kind for as long as the window.
fn run(store: &Store, kind: &'static str, index: u64, window: Duration) -> Result<Figures> {
    let Store { messages: Messages { seed, size, .. }, server } = store;
    let mut client = Client::connect(server.address())?;
    let mut rng = rng(*seed, index);
    let mut times = Histogram::<u64>::new(3)?;
    // Where the walk goes on, and how many pages are left of it.
    let mut walk: Option<(String, u32)> = None;
    let (mut begin, mut cpu_before, mut sent) = (Instant::now(), None, 0);
    while begin.elapsed() < window || sent < REQUESTS_MIN {
        let goes_on = walk.is_some();
        let (path, left) = if let Some((cursor, left)) = walk.take() {
            (format!("/messages?cursor={cursor}"), left - 1)
        } else {
            let query = Query::draw(kind, *size, &mut rng);
            (query.target, query.pages)
        };
        let asked = Instant::now();
        let body = client.get(&path)?;
        let time = asked.elapsed();
        // A request that begins a walk is not among the measured ones.
        if goes_on || left == 0 {
            times.record(u64::try_from(time.as_nanos())?)?;
        }
        if left > 0 {
            walk = next_cursor(body).map(|cursor| (cursor.to_owned(), left));
        }
        sent += 1;
        if cpu_before.is_none() {
            // The first request finds statements that are not prepared and pages that are not cached.
            times.reset();
            (begin, cpu_before, sent) = (Instant::now(), Some(cpu_time(server.pid())?), 0);
        }
    }
    let cpu = cpu_time(server.pid())?.saturating_sub(cpu_before.unwrap_or_default());
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    let cpu_us = cpu.as_secs_f64() * 1e6 / f64::from(sent);
    Ok(Figures::from([(P50, ms(0.5)), (P99, ms(0.99)), (ServerCpu, cpu_us)]))
}

/// The `next` of a response, which stands behind all texts; none on the last page.
fn next_cursor(body: &str) -> Option<&str> {
    body.rsplit_once(r#""next":""#)?.1.split('"').next()
}

/// The first query of a kind, and the total that its response must have.
struct First {
    query: Query,
    total: u64,
}

impl First {
    /// Counts over all messages, which are made once more for it.
    fn of_all(kinds: &[(&str, &'static str)], messages: &Messages) -> Result<Vec<Self>> {
        let Messages { seed, size, .. } = *messages;
        let draw = |(index, (_, kind)): (u64, &(&str, &'static str))| Self {
            query: Query::draw(kind, size, &mut rng(seed, index)),
            total: 0,
        };
        let mut firsts: Vec<_> = (0..).zip(kinds).map(draw).collect();
        for index in 0..size {
            let message = messages.message(index)?;
            let lower = message.text.as_deref().unwrap_or_default().to_lowercase();
            for first in &mut firsts {
                first.total += u64::from(first.query.finds(&message, &lower));
            }
        }
        Ok(firsts)
    }

    /// Compares a response with the count.
    fn check(&self, server: &Server) -> Result<()> {
        let Self { query, total } = self;
        let path = &query.target;
        let body = http::get(server.address(), path)?;
        let told = ["total", "total_messages"].iter().find_map(|name| http::json_number(&body, name));
        ensure!(told == Some(*total), "GET {path} told the total {told:?}, and {total} match");
        let (rows, expected) = (body.matches(r#"{"message_id":"#).count() as u64, query.rows(*total));
        ensure!(rows == expected, "GET {path} gave {rows} messages, and should have given {expected}");
        Ok(())
    }
}

/// The targets of reads in words.
pub fn targets() -> String {
    format!("Targets: p50 largest / smallest {RATIO}, p99 {P99_MS} ms at every size.")
}

/// The table of reads on stores of these sizes, the smallest first; `full` also has CPU times and targets.
pub fn table(reads: &[Read], sizes: impl IntoIterator<Item = u64>, full: bool) -> Table {
    let (what, ratio) = if full { (" / CPU µs", "largest / smallest") } else { ("", "large / small") };
    let mut heads = vec![format!("read: p50 / p99 ms{what}")];
    heads.extend(sizes.into_iter().map(|size| format!("{} messages:", thousands(size as f64))));
    heads.push(format!("p50 {ratio}:"));
    heads.extend(full.then(|| "target".to_owned()));
    let mut table = Table::new(heads);
    for (name, costs) in reads {
        let cell = |cost: &Option<Figures>| {
            let Some(cost) = cost else { return decimals(None, 0) };
            let cpu = if full { format!(" / {}", thousands(cost[&ServerCpu])) } else { String::new() };
            format!("{:.2} / {:.2}{cpu}", cost[&P50], cost[&P99])
        };
        let mut cells = vec![(*name).to_owned()];
        cells.extend(costs.iter().map(cell));
        let p50 = |cost: Option<&Option<Figures>>| Some(cost?.as_ref()?[&P50]);
        let ratio = p50(costs.last()).zip(p50(costs.first())).map(|(last, first)| last / first);
        cells.push(decimals(ratio, 2));
        cells.extend(full.then(|| verdict(costs, ratio)));
        table.row(cells);
    }
    table
}

fn verdict(costs: &[Option<Figures>], ratio: Option<f64>) -> String {
    if costs.iter().any(Option::is_none) {
        return "**not measured**".to_owned();
    }
    let p99 = costs.iter().flatten().all(|cost| P99_MS.is_met(cost[&P99]));
    let missed = [("ratio", ratio.is_none_or(|ratio| RATIO.is_met(ratio))), ("p99", p99)];
    let missed: Vec<_> = missed.into_iter().filter(|(_, met)| !met).map(|(what, _)| what).collect();
    if missed.is_empty() { "met".to_owned() } else { format!("**missed**: {}", missed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_totals_are_counted_over_all_messages() {
        let firsts = First::of_all(&KINDS, &Messages::new(1, 10_000)).unwrap();
        let total = |name| firsts[KINDS.iter().position(|(kind, _)| *kind == name).unwrap()].total;
        assert_eq!(total("first page"), 10_000);
        assert_eq!(total("`q` in 20 messages"), 20);
        assert_eq!(total("`q` in no message"), 0);
        assert_eq!(total("`GET /stats`"), 10_000);
        assert!((3_900..5_500).contains(&total("`since` the middle")));
        assert!((8_800..9_200).contains(&total("`to` the main recipient, deep `offset`")));
        assert_eq!(next_cursor(r#"{"text":"\"next\":\"7","next":"01ab","prev":null}"#), Some("01ab"));
    }

    #[test]
    fn reads_are_held_against_the_smallest_size() {
        let cost = |p50, p99| Some(Figures::from([(P50, p50), (P99, p99), (ServerCpu, 1_234.0)]));
        let reads = [
            ("x", vec![cost(1.0, 2.0), cost(1.5, 3.0)]),
            ("y", vec![cost(1.0, 2.0), cost(2.5, 51.0)]),
            ("z", vec![None, cost(1.0, 2.0)]),
        ];
        let expected = "\
            | read: p50 / p99 ms / CPU µs | 10,000 messages | 1,000,000 messages | p50 largest / smallest | target |\n\
            |---|--:|--:|--:|---|\n\
            | x | 1.00 / 2.00 / 1,234 | 1.50 / 3.00 / 1,234 | 1.50 | met |\n\
            | y | 1.00 / 2.00 / 1,234 | 2.50 / 51.00 / 1,234 | 2.50 | **missed**: ratio, p99 |\n\
            | z | – | 1.00 / 2.00 / 1,234 | – | **not measured** |\n";
        assert_eq!(table(&reads, [10_000, 1_000_000], true).to_string(), expected);
        let short = table(&reads, [10_000, 1_000_000], false).to_string();
        assert!(short.ends_with("| z | – | 1.00 / 2.00 | – |\n"), "{short}");
    }
}
