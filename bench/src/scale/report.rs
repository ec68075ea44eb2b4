//! What was measured on stores of several sizes, as Markdown: one table of reads, one of everything else. Pure
//! arithmetic and text.

use std::fmt::Write;
use std::time::Duration;

use super::ingest::Ingest;
use super::questions::KINDS;
use super::reads::Cost;
use super::store::Indexing;
use crate::report::{Bound, Figures, median, thousands};

/// A read's median at the largest size may be so many times that at the smallest …
const READ_RATIO: Bound = Bound::AtMost(2.0);
/// … and its 99th percentile at any size so many milliseconds.
const READ_P99_MS: Bound = Bound::AtMost(50.0);
/// Throughput at the largest size, as a part of that at the smallest.
const ORDERED_RATIO: Bound = Bound::AtLeast(0.8);
const RANDOM_RATIO: Bound = Bound::AtLeast(0.7);
/// The longest start after a crash, in milliseconds. Of so few starts the 99th percentile is the longest.
const RESTART_MS: Bound = Bound::AtMost(250.0);
const NONE: &str = "–";

/// What was measured on the store of one size; what is missing failed or was not measured.
#[derive(Debug, Default)]
pub struct Results {
    /// Messages in the store.
    pub size: u64,
    /// How long filling took.
    pub filled: Option<Duration>,
    /// How long the indexes took.
    pub indexing: Option<Indexing>,
    /// One for each of [`KINDS`].
    pub reads: Vec<Option<Cost>>,
    /// The most memory the server held until the reads were done, in KiB.
    pub memory_kib: u64,
    /// Bytes of the database and of its index.
    pub files: [u64; 2],
    /// Writing with ids in order, each round.
    pub ordered: Vec<Option<Ingest>>,
    /// Writing with random ids, each round.
    pub random: Vec<Option<Ingest>>,
    /// Times from the start until ready, after crashes.
    pub restarts: Vec<Duration>,
}

/// Writes one figure.
type Cell = fn(&Figures) -> String;
/// Picks one of the two kinds of ids.
type Rounds = fn(&Results) -> &[Option<Ingest>];

/// The table of reads; the smallest store comes first.
pub fn reads_table(stores: &[Results]) -> String {
    let heads = stores.iter().map(|store| format!("{} messages", thousands(store.size as f64)));
    let mut table = Table::new("read: p50 / p99 ms / CPU µs", heads, &["p50 largest / smallest", "target"]);
    for (index, (name, _)) in KINDS.iter().enumerate() {
        let costs: Vec<_> = stores.iter().map(|store| *store.reads.get(index)?).collect();
        let cells = costs.iter().map(|cost| {
            or_none(cost.map(|Cost { p50_ms, p99_ms, cpu_us }| {
                format!("{p50_ms:.2} / {p99_ms:.2} / {}", thousands(cpu_us))
            }))
        });
        let ratio = read_ratio(&costs);
        let verdict = read_verdict(&costs, ratio);
        table.line(name, cells, &[or_none(ratio.map(|ratio| format!("{ratio:.2}"))), verdict]);
    }
    table.0
}

/// What the reads are held against, in words.
pub fn reads_targets() -> String {
    format!("Targets: p50 largest / smallest {READ_RATIO}, p99 {READ_P99_MS} ms at every size.")
}

fn read_ratio(costs: &[Option<Cost>]) -> Option<f64> {
    let [first, last] = [costs.first(), costs.last()].map(|cost| cost.copied().flatten());
    Some(last?.p50_ms / first?.p50_ms)
}

fn read_verdict(costs: &[Option<Cost>], ratio: Option<f64>) -> String {
    let mut missed = Vec::new();
    if costs.iter().any(Option::is_none) {
        return "**not measured**".to_owned();
    }
    if ratio.is_some_and(|ratio| !READ_RATIO.is_met(ratio)) {
        missed.push("ratio");
    }
    if costs.iter().flatten().any(|cost| !READ_P99_MS.is_met(cost.p99_ms)) {
        missed.push("p99");
    }
    if missed.is_empty() { "met".to_owned() } else { format!("**missed**: {}", missed.join(", ")) }
}

/// The table of everything else.
pub fn rest_table(stores: &[Results]) -> String {
    let heads = stores.iter().map(|store| format!("{} messages", thousands(store.size as f64)));
    let mut table = Table::new("what", heads, &["target", "reached"]);
    upkeep(&mut table, stores);
    ingest(&mut table, stores, "ids in order", |store| &store.ordered, ORDERED_RATIO);
    ingest(&mut table, stores, "random ids", |store| &store.random, RANDOM_RATIO);
    table.measured("restart after a crash, median ms", stores, |store| {
        median(store.restarts.iter().map(milliseconds)).map(|ms| format!("{ms:.0}"))
    });
    let longest = |store: &Results| store.restarts.iter().map(milliseconds).reduce(f64::max);
    let cells = stores.iter().map(|store| or_none(longest(store).map(|ms| format!("{ms:.0}"))));
    let worst = stores.iter().map(longest).collect::<Option<Vec<_>>>();
    let worst = worst.and_then(|all| all.into_iter().reduce(f64::max));
    let verdict = verdict(RESTART_MS, worst);
    table.line("restart after a crash, longest ms", cells, &[RESTART_MS.to_string(), verdict]);
    table.0
}

/// Filling, indexes, files and memory, for which there is no target.
fn upkeep(table: &mut Table, stores: &[Results]) {
    let rate = |store: &Results, time: Duration| thousands(store.size as f64 / time.as_secs_f64());
    table.measured("filling past the service, messages/s", stores, |store| Some(rate(store, store.filled?)));
    table.measured("index of numbers built, s", stores, |store| {
        Some(format!("{:.1}", store.indexing?.numbers.as_secs_f64()))
    });
    table.measured("both indexes built, s", stores, |store| {
        Some(format!("{:.1}", store.indexing?.all.as_secs_f64()))
    });
    table.measured("both indexes built, messages/s", stores, |store| Some(rate(store, store.indexing?.all)));
    table.measured("CPU of that, s", stores, |store| {
        Some(format!("{:.1}", store.indexing?.cpu.as_secs_f64()))
    });
    for (index, name) in ["app.db", "app.db-index"].into_iter().enumerate() {
        table.measured(&format!("`{name}`, bytes/message"), stores, |store| {
            Some(thousands(store.files[index] as f64 / store.size as f64))
        });
    }
    table.measured("peak memory after indexing and reads, MiB", stores, |store| {
        Some(format!("{:.1}", store.memory_kib as f64 / 1024.0))
    });
}

fn ingest(table: &mut Table, stores: &[Results], ids: &str, rounds: Rounds, bound: Bound) {
    let figure = |of: Cell| {
        move |store: &Results| {
            let figures: Vec<_> = rounds(store).iter().flatten().map(|ingest| ingest.figures).collect();
            Figures::median(&figures).as_ref().map(of)
        }
    };
    let lines: [(&str, Cell); 6] = [
        ("req/s", |figures| thousands(figures.per_second)),
        ("p50 ms", |figures| format!("{:.2}", figures.p50_ms)),
        ("p99 ms", |figures| format!("{:.2}", figures.p99_ms)),
        ("p99.9 ms", |figures| format!("{:.2}", figures.p999_ms)),
        ("server CPU µs/req", |figures| format!("{:.1}", figures.server_cpu_us)),
        ("peak memory, MiB", |figures| format!("{:.1}", figures.memory_mib)),
    ];
    for (name, of) in lines {
        table.measured(&format!("writing, {ids}: {name}"), stores, figure(of));
    }
    table.measured(&format!("writing, {ids}: longest, ms"), stores, |store| {
        let longest = rounds(store).iter().flatten().map(|ingest| ingest.longest_ms).reduce(f64::max)?;
        Some(format!("{longest:.0}"))
    });
    table.measured(&format!("writing, {ids}: longest commit at most, ms"), stores, |store| {
        let longest = rounds(store).iter().flatten().map(|ingest| ingest.commit_s * 1e3).reduce(f64::max)?;
        Some(if longest.is_finite() { thousands(longest) } else { "more than counted".to_owned() })
    });
    let Some(smallest) = stores.first() else { return };
    let ratio = |store: &Results| median(ratios(rounds(store), rounds(smallest)));
    let cells = stores.iter().map(|store| or_none(ratio(store).map(|ratio| format!("{ratio:.2}"))));
    let verdict = verdict(bound, stores.last().and_then(ratio));
    table.line(&format!("writing, {ids}: req/s to the smallest's"), cells, &[bound.to_string(), verdict]);
}

/// Throughput of one size to that of another, round by round.
fn ratios(rounds: &[Option<Ingest>], others: &[Option<Ingest>]) -> Vec<f64> {
    let pairs = rounds.iter().zip(others);
    pairs.filter_map(|(one, other)| Some((*one)?.figures.per_second / (*other)?.figures.per_second)).collect()
}

fn verdict(bound: Bound, reached: Option<f64>) -> String {
    match reached {
        Some(value) if bound.is_met(value) => "met".to_owned(),
        Some(_) => "**missed**".to_owned(),
        None => "**not measured**".to_owned(),
    }
}

fn milliseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn or_none(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| NONE.to_owned())
}

/// A Markdown table: what, a column for each store, and two more.
struct Table(String);

impl Table {
    fn new(what: &str, stores: impl Iterator<Item = String>, more: &[&str; 2]) -> Self {
        let stores: Vec<_> = stores.collect();
        let [one, other] = more;
        let rule = "--:|".repeat(stores.len());
        Self(format!("| {what} | {} | {one} | {other} |\n|---|{rule}--:|---|\n", stores.join(" | ")))
    }

    fn line(&mut self, what: &str, cells: impl Iterator<Item = String>, more: &[String; 2]) {
        let cells: Vec<_> = cells.collect();
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "| {what} | {} | {} |", cells.join(" | "), more.join(" | "));
    }

    /// A line without a target.
    fn measured(&mut self, what: &str, stores: &[Results], cell: impl Fn(&Results) -> Option<String>) {
        let cells = stores.iter().map(|store| or_none(cell(store)));
        self.line(what, cells, &[String::new(), String::new()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(p50_ms: f64, p99_ms: f64) -> Cost {
        Cost { p50_ms, p99_ms, cpu_us: 1_234.0 }
    }

    fn ingest(per_second: f64) -> Ingest {
        Ingest { figures: Figures { per_second, ..Figures::default() }, longest_ms: 60.0, commit_s: 0.05 }
    }

    fn stores() -> [Results; 2] {
        let restarts = [10, 300].map(Duration::from_millis).to_vec();
        let small = Results {
            size: 10_000,
            reads: vec![Some(cost(1.0, 2.0)), Some(cost(1.0, 2.0)), Some(cost(1.0, 2.0))],
            ordered: vec![Some(ingest(100.0)), Some(ingest(50.0)), Some(ingest(10.0))],
            restarts: restarts.clone(),
            ..Results::default()
        };
        let large = Results {
            size: 1_000_000,
            reads: vec![Some(cost(1.5, 3.0)), Some(cost(2.5, 51.0)), None],
            ordered: vec![Some(ingest(90.0)), Some(ingest(30.0)), None],
            restarts,
            ..Results::default()
        };
        [small, large]
    }

    #[test]
    fn reads_are_held_against_the_smallest_size() {
        let table = reads_table(&stores());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "| read: p50 / p99 ms / CPU µs | 10,000 messages | 1,000,000 messages | p50 largest / smallest | target |",
                "|---|--:|--:|--:|---|",
            ]
        );
        let first = "| first page | 1.00 / 2.00 / 1,234 | 1.50 / 3.00 / 1,234 | 1.50 | met |";
        assert_eq!(lines[2], first);
        assert!(lines[3].ends_with("| 2.50 | **missed**: ratio, p99 |"), "{}", lines[3]);
        assert!(lines[4].ends_with("| – | – | **not measured** |"), "{}", lines[4]);
        assert_eq!(lines.len(), 2 + KINDS.len());
    }

    #[test]
    fn writing_is_compared_within_a_round() {
        let table = rest_table(&stores());
        let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
        let ratio = line("| writing, ids in order: req/s to the smallest's");
        assert!(ratio.ends_with("| 1.00 | 0.75 | ≥ 0.8 | **missed** |"), "{ratio}");
        let random = line("| writing, random ids: req/s to the smallest's");
        assert!(random.ends_with("| – | – | ≥ 0.7 | **not measured** |"), "{random}");
        let restart = line("| restart after a crash, longest ms");
        assert!(restart.ends_with("| 300 | 300 | ≤ 250 | **missed** |"), "{restart}");
    }

    #[test]
    fn every_line_has_every_column() {
        for table in [reads_table(&stores()), rest_table(&stores())] {
            assert!(table.lines().all(|line| line.matches('|').count() == 6), "{table}");
        }
    }
}
