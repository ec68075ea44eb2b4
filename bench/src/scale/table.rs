//! The table of filling, indexes, files, memory, writes and restarts. Pure text.

use super::{Filled, row};
use crate::load::Ids;
use crate::report::Figure::{
    Commit, DatabaseBytes, FillRate, IndexAll, IndexBytes, IndexCpu, IndexNumbers, IndexRate, Longest,
    Memory, P50, P99, P999, PerSecond, ServerCpu,
};
use crate::report::{Bound, Figure, Table, decimals, median, thousands};
use crate::rounds::Rounds;

/// Throughput at the largest size, as a part of that at the smallest.
const RATIOS: [(&str, Ids, Bound); 2] =
    [("ids in order", Ids::Ordered, Bound::AtLeast(0.8)), ("random ids", Ids::Random, Bound::AtLeast(0.7))];
/// The longest start after a crash, in milliseconds. Of so few starts the 99th percentile is the longest.
const RESTART_MS: Bound = Bound::AtMost(250.0);

const UPKEEP: [(&str, Figure); 8] = [
    ("filling through the store, messages/s", FillRate),
    ("index of numbers built, s", IndexNumbers),
    ("both indexes built, s", IndexAll),
    ("both indexes built, messages/s", IndexRate),
    ("CPU of that, s", IndexCpu),
    ("`app.db`, bytes/message", DatabaseBytes),
    ("`app.db-index`, bytes/message", IndexBytes),
    ("peak memory after indexing and reads, MiB", Memory),
];
const WRITING: [(&str, Figure); 8] = [
    ("req/s", PerSecond),
    ("p50 ms", P50),
    ("p99 ms", P99),
    ("p99.9 ms", P999),
    ("server CPU µs/req", ServerCpu),
    ("peak memory, MiB", Memory),
    ("longest, ms", Longest),
    ("longest commit at most, ms", Commit),
];

/// The table, a column for each store.
pub fn table(filled: &[Filled], rounds: &Rounds) -> Table {
    let heads = filled.iter().map(|filled| format!("{} messages:", thousands(filled.size as f64)));
    let heads = ["what".to_owned()].into_iter().chain(heads);
    let mut table = Table::new(heads.chain(["target:", "reached"].map(str::to_owned)));
    let mut line = |what: String, target: [&str; 2], cell: &dyn Fn(&Filled) -> String| {
        let cells = filled.iter().map(cell);
        table.row([what].into_iter().chain(cells).chain(target.map(str::to_owned)));
    };
    for (what, figure) in UPKEEP {
        line(what.to_owned(), ["", ""], &|filled| figure.text(filled.figures.get(&figure).copied()));
    }
    for (label, ids, bound) in RATIOS {
        for (what, figure) in WRITING {
            let cell = |filled: &Filled| figure.text(rounds.value(row(ids, filled.size), figure));
            line(format!("writing, {label}: {what}"), ["", ""], &cell);
        }
        let smallest = row(ids, filled.first().map_or(0, |filled| filled.size));
        let ratio = |filled: &Filled| median(rounds.ratios(row(ids, filled.size), smallest));
        let target = [&*bound.to_string(), bound.verdict(filled.last().and_then(ratio))];
        let what = format!("writing, {label}: req/s to the smallest's");
        line(what, target, &|filled| decimals(ratio(filled), 2));
    }
    let middle = |filled: &Filled| median(filled.restarts_ms.iter().copied());
    line("restart after a crash, median ms".to_owned(), ["", ""], &|filled| decimals(middle(filled), 0));
    let longest = |filled: &Filled| filled.restarts_ms.iter().copied().reduce(f64::max);
    let worst = filled.iter().map(longest).collect::<Option<Vec<f64>>>();
    let reached = RESTART_MS.verdict(worst.and_then(|worst| worst.into_iter().reduce(f64::max)));
    let target = [&*RESTART_MS.to_string(), reached];
    line("restart after a crash, longest ms".to_owned(), target, &|filled| decimals(longest(filled), 0));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figures;
    use crate::rounds::tests::rounds;

    #[test]
    fn writing_is_compared_within_a_round_and_restarts_at_all_sizes() {
        let [small, large] = [10_000, 1_000_000].map(|size| row(Ids::Ordered, size));
        let rounds =
            rounds(&[&[(small, 100.0), (large, 90.0)], &[(small, 50.0), (large, 30.0)], &[(small, 10.0)]]);
        let (figures, restarts_ms) = (Figures::new(), vec![10.0, 300.0]);
        let filled = [10_000, 1_000_000].map(|size| Filled {
            folder: "/".into(),
            size,
            figures: figures.clone(),
            restarts_ms: restarts_ms.clone(),
        });
        let table = table(&filled, &rounds).to_string();
        for line in [
            "| writing, ids in order: req/s to the smallest's | 1.00 | 0.75 | ≥ 0.8 | **missed** |\n",
            "| writing, random ids: req/s to the smallest's | – | – | ≥ 0.7 | **not measured** |\n",
            "| restart after a crash, longest ms | 300 | 300 | ≤ 250 | **missed** |\n",
        ] {
            assert!(table.contains(line), "{table}");
        }
    }
}
