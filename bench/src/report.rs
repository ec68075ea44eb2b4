//! Figures, and the Markdown that shows them. Pure arithmetic and text.

use std::collections::BTreeMap;
use std::fmt;

/// A quantity that is measured: the head of its column or line, and the decimals that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Figure(pub &'static str, usize);

/// Right responses.
pub const PER_SECOND: Figure = Figure("req/s", 0);
/// Percentiles of the latency.
pub const P50: Figure = Figure("p50 ms", 2);
pub const P99: Figure = Figure("p99 ms", 2);
pub const P999: Figure = Figure("p99.9 ms", 2);
pub const LONGEST: Figure = Figure("longest, ms", 0);
pub const SERVER_CPU: Figure = Figure("server CPU µs/req", 1);
/// Of the server, for one request.
pub const READ_CPU: Figure = Figure("CPU µs", 0);
/// Of all its processes.
pub const POSTGRES_CPU: Figure = Figure("PostgreSQL CPU µs/req", 1);
pub const GENERATOR_CPU: Figure = Figure("generator CPU µs/req", 1);
pub const WAL: Figure = Figure("WAL KiB/req", 2);
/// For each message, where the store has so many.
pub const WRITTEN_WHILE_LITTLE: Figure = Figure("2 messages/s: KiB written/message", 1);
pub const WRITTEN_WHILE_FULL: Figure = Figure("full load for a minute: KiB written/message", 1);
pub const BEHIND: Figure = Figure("full load for a minute: behind at its end, messages", 0);
pub const CAUGHT_UP: Figure = Figure("full load for a minute: nothing behind after, s", 2);
pub const ERASED_AFTER: Figure = Figure("erasing a thousand of one person: nothing behind after, s", 2);
pub const READS_WHILE_ERASING: Figure = Figure("first page meanwhile: longest, ms", 0);
pub const MEMORY: Figure = Figure("peak MiB", 1);
pub const MEMORY_OF_READS: Figure = Figure("peak MiB after indexing and reads", 1);
/// Wrong and missing responses.
pub const ERRORS: Figure = Figure("errors", 0);
pub const FILL_RATE: Figure = Figure("filling through the store, messages/s", 0);
/// Until every message was in both.
pub const INDEXES: Figure = Figure("both indexes built, s", 1);
pub const INDEX_RATE: Figure = Figure("both indexes built, messages/s", 0);
pub const INDEX_CPU: Figure = Figure("CPU of that, s", 1);
pub const DATABASE_BYTES: Figure = Figure("`app.db`, bytes/message", 0);
pub const INDEX_BYTES: Figure = Figure("`app.db-index`, bytes/message", 0);
pub const TEXTS_BYTES: Figure = Figure("`app.db-texts`, bytes/message", 0);
pub const RESTART: Figure = Figure("restart after a crash, median ms", 0);
pub const RESTART_LONGEST: Figure = Figure("restart after a crash, longest ms", 0);

/// The result of a measurement.
pub type Figures = BTreeMap<Figure, f64>;

impl Figure {
    /// One value for several measurements: the worst, the sum or the median.
    pub fn combine(self, values: impl IntoIterator<Item = f64>) -> Option<f64> {
        match self {
            LONGEST | RESTART_LONGEST => values.into_iter().reduce(f64::max),
            ERRORS => values.into_iter().reduce(|one, other| one + other),
            _ => median(values),
        }
    }

    pub fn text(self, value: Option<f64>) -> String {
        match value {
            Some(value) if self.1 == 0 => thousands(value),
            value => decimals(value, self.1),
        }
    }
}

/// A bound that a figure is held against.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

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
        let each: Vec<_> = values.iter().map(|value| plain(*value)).collect();
        let reached = value.map_or_else(|| "–".to_owned(), |value| format!("{}{unit}", plain(value)));
        table.row([what, &*format!("{bound}{unit}"), &reached, bound.verdict(value), &each.join(", ")]);
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
    fn values_are_combined_and_shown_by_what_they_measure() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(P99.combine([1.0, 9.0, 2.0]), Some(2.0));
        assert_eq!(LONGEST.combine([1.0, 9.0, 2.0]), Some(9.0));
        assert_eq!(ERRORS.combine([0.0, 5.0, 0.0]), Some(5.0));
        assert_eq!(P50.combine([]), None);
        assert_eq!(PER_SECOND.text(Some(1_043_210.4)), "1,043,210");
        assert_eq!(P50.text(Some(1.234)), "1.23");
        assert_eq!(WAL.text(None), "–");
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
