//! The figures as Markdown: one table of rows, one of targets. Pure arithmetic and text.

use std::fmt::{self, Write};

/// What one measurement of one row brought.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Right answers per second.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the latency in milliseconds.
    pub p99_ms: f64,
    /// 99.9th percentile of the latency in milliseconds.
    pub p999_ms: f64,
    /// CPU time of the server per request in microseconds.
    pub server_cpu_us: f64,
    /// CPU time of the load generator per request in microseconds.
    pub generator_cpu_us: f64,
    /// The most memory the server held, in MiB.
    pub memory_mib: f64,
    /// Wrong or missing answers.
    pub errors: u64,
}

impl Figures {
    /// How many cores the load generator kept busy.
    pub fn generator_cores(&self) -> f64 {
        self.per_second * self.generator_cpu_us / 1e6
    }

    /// The median of each figure by itself; the errors of all rounds together.
    pub fn median(rounds: &[Self]) -> Option<Self> {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure));
        Some(Self {
            per_second: of(|round| round.per_second)?,
            p50_ms: of(|round| round.p50_ms)?,
            p99_ms: of(|round| round.p99_ms)?,
            p999_ms: of(|round| round.p999_ms)?,
            server_cpu_us: of(|round| round.server_cpu_us)?,
            generator_cpu_us: of(|round| round.generator_cpu_us)?,
            memory_mib: of(|round| round.memory_mib)?,
            errors: rounds.iter().map(|round| round.errors).sum(),
        })
    }
}

/// What a goal asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The figure should be this or more.
    AtLeast(f64),
    /// The figure should be this or less.
    AtMost(f64),
}

/// A figure that was promised.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is measured, in words.
    pub what: &'static str,
    /// What it should be.
    pub bound: Bound,
    /// Unit of bound and values, with the blank before it.
    pub unit: &'static str,
    /// One value per round; none where a row it needs was not measured.
    pub values: Vec<f64>,
}

impl Bound {
    /// Whether a figure is what was asked for.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
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

/// The middle value, or the mean of the two in the middle; none of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// The table of rows. A row's label is its first four columns; a row without figures was not
/// measured and is left out.
pub fn rows_table(rows: &[([String; 4], Vec<Figures>)]) -> String {
    let mut table = String::from(
        "| server | connections | ids | load | req/s | p50 ms | p99 ms | p99.9 ms | server CPU µs/req | generator CPU µs/req | peak MiB | errors |\n\
         |---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (label, rounds) in rows {
        let Some(figures) = Figures::median(rounds) else {
            continue;
        };
        let Figures { p50_ms, p99_ms, p999_ms, memory_mib, errors, .. } = figures;
        let per_second = thousands(figures.per_second);
        let line = format!(
            "| {} | {per_second} | {p50_ms:.2} | {p99_ms:.2} | {p999_ms:.2} | {:.1} | {:.1} | {memory_mib:.1} | {errors} |\n",
            label.join(" | "),
            figures.server_cpu_us,
            figures.generator_cpu_us,
        );
        table.push_str(&line);
    }
    table
}

/// The table of targets.
pub fn goals_table(goals: &[Goal]) -> String {
    let mut table = String::from("| what | target | reached | met? | each round |\n|---|--:|--:|---|---|\n");
    for Goal { what, bound, unit, values } in goals {
        let (reached, met) = match median(values.iter().copied()) {
            Some(value) if bound.is_met(value) => (format!("{}{unit}", plain(value)), "yes"),
            Some(value) => (format!("{}{unit}", plain(value)), "**no**"),
            None => ("–".to_owned(), "not measured"),
        };
        let each: Vec<_> = values.iter().map(|value| plain(*value)).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(table, "| {what} | {bound}{unit} | {reached} | {met} | {} |", each.join(", "));
    }
    table
}

/// A value with the digits that mean something.
fn plain(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A whole number with a comma every three digits.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(server: &str) -> [String; 4] {
        [server, "64", "ordered", "closed"].map(str::to_owned)
    }

    #[test]
    fn median_is_the_middle_in_whatever_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn errors_are_summed_and_not_averaged_away() {
        let rounds = [0, 5, 0].map(|errors| Figures { errors, ..Figures::default() });
        assert_eq!(Figures::median(&rounds).unwrap().errors, 5);
    }

    #[test]
    fn a_row_that_was_not_measured_is_left_out() {
        let figures = Figures {
            per_second: 43_210.4,
            p50_ms: 1.234,
            p99_ms: 3.0,
            p999_ms: 10.0,
            server_cpu_us: 24.56,
            generator_cpu_us: 7.0,
            memory_mib: 12.34,
            errors: 0,
        };
        let table = rows_table(&[(label("a"), vec![figures]), (label("b"), vec![])]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        let expected = "| a | 64 | ordered | closed | 43,210 | 1.23 | 3.00 | 10.00 | 24.6 | 7.0 | 12.3 | 0 |";
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn goals_say_whether_they_are_met() {
        let goal = |bound, values| Goal { what: "x", bound, unit: " ms", values };
        let table = goals_table(&[
            goal(Bound::AtLeast(0.5), vec![0.4, 0.6, 0.5]),
            goal(Bound::AtLeast(100.0), vec![99.0]),
            goal(Bound::AtMost(1.5), vec![1.0, 2.0]),
            goal(Bound::AtMost(1.0), vec![]),
        ]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        let expected = [
            "| x | ≥ 0.5 ms | 0.50 ms | yes | 0.40, 0.60, 0.50 |",
            "| x | ≥ 100 ms | 99.00 ms | **no** | 99.00 |",
            "| x | ≤ 1.5 ms | 1.50 ms | yes | 1.00, 2.00 |",
            "| x | ≤ 1 ms | – | not measured |  |",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_000.0), "1,000");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}
