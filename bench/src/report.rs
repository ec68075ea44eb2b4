//! Figures, and the Markdown that shows them. Pure arithmetic and text.

use std::collections::BTreeMap;
use std::fmt;

/// A quantity that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Right responses per second.
    PerSecond,
    /// Percentiles of the latency in milliseconds, and the longest.
    P50,
    P99,
    P999,
    Longest,
    /// Milliseconds that no commit took longer than, a bound of the service's own histogram.
    Commit,
    /// CPU time per request in microseconds, of the server, of all processes of PostgreSQL, and of the generator.
    ServerCpu,
    DatabaseCpu,
    GeneratorCpu,
    /// KiB of PostgreSQL's write-ahead log per right response.
    Wal,
    /// The most memory that the server held, in MiB.
    Memory,
    /// Wrong and missing responses.
    Errors,
    /// Messages per second that a store was filled with.
    FillRate,
    /// Seconds until all messages were in the index of numbers, and until all texts could be found.
    IndexNumbers,
    IndexAll,
    /// Messages per second that were indexed, and the seconds of CPU that took.
    IndexRate,
    IndexCpu,
    /// Bytes per message of the database and of its index.
    DatabaseBytes,
    IndexBytes,
}

use Figure::{
    Commit, DatabaseCpu, Errors, GeneratorCpu, IndexAll, IndexCpu, IndexNumbers, Longest, Memory, P50, P99,
    P999, PerSecond, ServerCpu, Wal,
};

/// The result of a measurement: the figures that it has.
pub type Figures = BTreeMap<Figure, f64>;

impl Figure {
    /// The head of its column, where it has one.
    pub fn head(self) -> &'static str {
        match self {
            PerSecond => "req/s",
            P50 => "p50 ms",
            P99 => "p99 ms",
            P999 => "p99.9 ms",
            ServerCpu => "server CPU µs/req",
            DatabaseCpu => "PostgreSQL CPU µs/req",
            GeneratorCpu => "generator CPU µs/req",
            Wal => "WAL KiB/req",
            Memory => "peak MiB",
            Errors => "errors",
            _ => "",
        }
    }

    /// One value for several rounds: the worst, the sum or the median.
    pub fn combine(self, values: impl IntoIterator<Item = f64>) -> Option<f64> {
        match self {
            Longest | Commit => values.into_iter().reduce(f64::max),
            Errors => values.into_iter().reduce(|one, other| one + other),
            _ => median(values),
        }
    }

    /// A value with the digits that mean something.
    pub fn text(self, value: Option<f64>) -> String {
        match self {
            P50 | P99 | P999 | Wal => decimals(value, 2),
            ServerCpu | DatabaseCpu | GeneratorCpu | Memory | IndexNumbers | IndexAll | IndexCpu => {
                decimals(value, 1)
            }
            Commit if value.is_some_and(f64::is_infinite) => "more than counted".to_owned(),
            _ => value.map_or_else(|| decimals(None, 0), thousands),
        }
    }
}

/// A bound that a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    /// Whether a figure is within the bound.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    /// The same in a word.
    pub fn verdict(self, value: Option<f64>) -> &'static str {
        match value {
            Some(value) if self.is_met(value) => "met",
            Some(_) => "**missed**",
            None => "**not measured**",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(out, "≥ {bound}"),
            Self::AtMost(bound) => write!(out, "≤ {bound}"),
        }
    }
}

/// A target: a quantity in words, its bound, its unit with the blank before it, and its value in each round.
pub type Goal = (&'static str, Bound, &'static str, Vec<f64>);

/// The table of targets.
pub fn goals_table(goals: &[Goal]) -> Table {
    let mut table = Table::new(["what", "target:", "reached:", "met?", "each round"]);
    for (what, bound, unit, values) in goals {
        let value = median(values.iter().copied());
        let reached = value.map_or_else(|| "–".to_owned(), |value| format!("{}{unit}", plain(value)));
        table.row([what, &*format!("{bound}{unit}"), &reached, bound.verdict(value), &list(values)]);
    }
    table
}

/// A table in Markdown.
pub struct Table(String);

impl Table {
    /// A table with these heads; a colon at the end of a head aligns its column to the right.
    pub fn new<S: AsRef<str>>(heads: impl IntoIterator<Item = S>) -> Self {
        let heads: Vec<_> = heads.into_iter().collect();
        let mut table = Self(String::new());
        table.row(heads.iter().map(|head| head.as_ref().trim_end_matches(':')));
        let rules = heads.iter().map(|head| if head.as_ref().ends_with(':') { "--:|" } else { "---|" });
        table.0.extend(["|"].into_iter().chain(rules).chain(["\n"]));
        table
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.0.push('|');
        for cell in cells {
            self.0.extend([" ", cell.as_ref(), " |"]);
        }
        self.0.push('\n');
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The middle value, or the mean of the two in the middle; none of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// All values, with commas between them.
pub fn list(values: &[f64]) -> String {
    values.iter().map(|value| plain(*value)).collect::<Vec<_>>().join(", ")
}

fn plain(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A value with so many decimals; a dash for none.
pub fn decimals(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// A whole number with a comma every three digits.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_combined_by_what_they_measure() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(P99.combine([1.0, 9.0, 2.0]), Some(2.0));
        assert_eq!(Longest.combine([1.0, 9.0, 2.0]), Some(9.0));
        assert_eq!(Errors.combine([0.0, 5.0, 0.0]), Some(5.0));
        assert_eq!(P50.combine([]), None);
    }

    #[test]
    fn values_have_the_digits_that_mean_something() {
        assert_eq!(PerSecond.text(Some(1_043_210.4)), "1,043,210");
        assert_eq!(PerSecond.text(Some(999.4)), "999");
        assert_eq!(P50.text(Some(1.234)), "1.23");
        assert_eq!(Commit.text(Some(f64::INFINITY)), "more than counted");
        assert_eq!(Wal.text(None), "–");
    }

    #[test]
    fn goals_say_whether_they_are_met() {
        let table = goals_table(&[
            ("x", Bound::AtLeast(0.5), "", vec![0.4, 0.6, 0.5]),
            ("y", Bound::AtLeast(100.0), " ms", vec![99.0]),
            ("z", Bound::AtMost(1.0), "", vec![]),
        ]);
        let expected = "\
            | what | target | reached | met? | each round |\n\
            |---|--:|--:|---|---|\n\
            | x | ≥ 0.5 | 0.50 | met | 0.40, 0.60, 0.50 |\n\
            | y | ≥ 100 ms | 99.00 ms | **missed** | 99.00 |\n\
            | z | ≤ 1 | – | **not measured** |  |\n";
        assert_eq!(table.to_string(), expected);
    }
}
