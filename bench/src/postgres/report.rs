//! What was measured on PostgreSQL, as Markdown. Pure arithmetic and text.

use std::fmt::Write as _;

use super::measure::{Measured, Row, RowLoad, RowStore};
use crate::fsync::Times;
use crate::report::{Bound, Figures, Goal, median, thousands};
use crate::scale::reads::Cost;
use crate::target::Kind;

/// Connections at which everything has a target.
pub const MAIN_CONNECTIONS: usize = 64;
/// The row whose throughput is the peak.
pub const PEAK: Row =
    Row { kind: Kind::Lyftr, connections: MAIN_CONNECTIONS, load: RowLoad::Closed, store: RowStore::Empty };
/// The same on the large database, and on an empty one next to it.
pub const LARGE: Row = Row { store: RowStore::Large, ..PEAK };
/// See [`LARGE`].
pub const NEXT_TO_LARGE: Row = Row { store: RowStore::EmptyNextToLarge, ..PEAK };
const NONE: &str = "–";

/// What a round has brought.
#[derive(Debug)]
pub struct Round {
    /// What a bare sync took.
    pub syncs: Times,
    /// What was measured, by row; a row that failed is missing.
    pub measured: Vec<(Row, Measured)>,
}

/// What reading one kind costs on the small and on the large database; what failed is missing.
pub type Read = (&'static str, [Option<Cost>; 2]);

impl Round {
    /// What a row has brought.
    pub fn get(&self, row: Row) -> Option<&Measured> {
        self.measured.iter().find(|(measured, _)| *measured == row).map(|(_, measured)| measured)
    }

    fn ratio(&self, above: Row, below: Row) -> Option<f64> {
        Some(self.get(above)?.figures.per_second / self.get(below)?.figures.per_second)
    }
}

impl Row {
    /// Its first columns; `size` messages are in the large database.
    pub fn label(self, size: u64) -> [String; 4] {
        let load = match self.load {
            RowLoad::Closed => "closed loop",
            RowLoad::HalfOfPeak => "open loop at half of the peak",
        };
        let store = match self.store {
            RowStore::Empty => "0".to_owned(),
            RowStore::EmptyNextToLarge => "0, next to the large one".to_owned(),
            RowStore::Large => thousands(size as f64),
        };
        [self.kind.to_string(), self.connections.to_string(), load.to_owned(), store]
    }
}

/// The table of all rows, in the order in which they were measured.
pub fn rows_table(rounds: &[Round], size: u64) -> String {
    let mut table = String::from(
        "| server | connections | load | messages there | req/s | p50 ms | p99 ms | p99.9 ms | server CPU µs/req \
         | PostgreSQL CPU µs/req | generator CPU µs/req | WAL KiB/req | errors |\n\
         |---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut rows: Vec<Row> = Vec::new();
    for (row, _) in rounds.iter().flat_map(|round| &round.measured) {
        if !rows.contains(row) {
            rows.push(*row);
        }
    }
    for row in rows {
        let all: Vec<Measured> = rounds.iter().filter_map(|round| round.get(row)).copied().collect();
        let figures: Vec<Figures> = all.iter().map(|measured| measured.figures).collect();
        let Some(figures) = Figures::median(&figures) else { continue };
        let of = |figure: fn(&Measured) -> f64| median(all.iter().map(figure)).unwrap_or_default();
        let Figures { p50_ms, p99_ms, p999_ms, server_cpu_us, generator_cpu_us, errors, .. } = figures;
        // Writing into a String cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {p50_ms:.2} | {p99_ms:.2} | {p999_ms:.2} | {server_cpu_us:.1} | {:.1} \
             | {generator_cpu_us:.1} | {:.2} | {errors} |",
            row.label(size).join(" | "),
            thousands(figures.per_second),
            of(|measured| measured.database_cpu_us),
            of(|measured| measured.log_kib),
        );
    }
    table
}

/// What was promised, and what each round has reached.
pub fn goals(rounds: &[Round]) -> Vec<Goal> {
    let goal = |what, bound, unit, value: &dyn Fn(&Round) -> Option<f64>| Goal {
        what,
        bound,
        unit,
        values: rounds.iter().filter_map(value).collect(),
    };
    let pool = Row { kind: Kind::Pool, ..PEAK };
    let half = Row { load: RowLoad::HalfOfPeak, ..PEAK };
    vec![
        goal("(a) / (b), 64 connections", Bound::AtLeast(3.0), "", &|round| round.ratio(PEAK, pool)),
        goal(
            "(a) p99, 64 connections, open loop at half of the peak",
            Bound::AtMost(20.0),
            " ms",
            &|round| Some(round.get(half)?.figures.p99_ms),
        ),
        goal(
            "(a) on the large database / on an empty one, 64 connections",
            Bound::AtLeast(0.7),
            "",
            &|round| round.ratio(LARGE, NEXT_TO_LARGE),
        ),
    ]
}

/// (a) / (b) at other numbers of connections, for which there is no target, in words.
pub fn other_ratios(rounds: &[Round], connections: &[usize]) -> Vec<String> {
    let others = connections.iter().copied().filter(|connections| *connections != MAIN_CONNECTIONS);
    let line = |connections| {
        let lyftr = Row { connections, ..PEAK };
        let pool = Row { kind: Kind::Pool, ..lyftr };
        let values: Vec<f64> = rounds.iter().filter_map(|round| round.ratio(lyftr, pool)).collect();
        let each: Vec<_> = values.iter().map(|value| format!("{value:.2}")).collect();
        let value = median(values)?;
        Some(format!("(a) / (b), {connections} connections: {value:.2} (each round {})", each.join(", ")))
    };
    others.filter_map(line).collect()
}

/// The table of reads on databases of these sizes.
pub fn reads_table(reads: &[Read], sizes: [u64; 2]) -> String {
    let [small, large] = sizes.map(|size| thousands(size as f64));
    let mut table = format!(
        "| read: p50 / p99 ms | {small} messages | {large} messages | p50 large / small |\n|---|--:|--:|--:|\n"
    );
    for (name, costs) in reads {
        let cells = costs.map(|cost| {
            cost.map_or_else(|| NONE.to_owned(), |cost| format!("{:.2} / {:.2}", cost.p50_ms, cost.p99_ms))
        });
        let ratio = match costs {
            [Some(small), Some(large)] => format!("{:.2}", large.p50_ms / small.p50_ms),
            _ => NONE.to_owned(),
        };
        let _ = writeln!(table, "| {name} | {} | {ratio} |", cells.join(" | "));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POOL: Row = Row { kind: Kind::Pool, ..PEAK };

    fn round(rates: &[(Row, f64)]) -> Round {
        let sync = Duration::from_micros(250);
        let measured = rates.iter().map(|(row, per_second)| {
            let figures = Figures { per_second: *per_second, p99_ms: 7.0, ..Figures::default() };
            (*row, Measured { figures, database_cpu_us: 12.5, log_kib: 1.0 })
        });
        Round { syncs: Times { fsync: sync, fdatasync: sync }, measured: measured.collect() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let half = Row { load: RowLoad::HalfOfPeak, ..PEAK };
        let rounds = [
            round(&[(PEAK, 80.0), (POOL, 20.0), (half, 40.0)]),
            round(&[(PEAK, 30.0), (POOL, 15.0)]),
            round(&[(NEXT_TO_LARGE, 40.0), (LARGE, 30.0)]),
        ];
        let values: Vec<_> = goals(&rounds).into_iter().map(|goal| goal.values).collect();
        assert_eq!(values, [vec![4.0, 2.0], vec![7.0], vec![0.75]]);
    }

    #[test]
    fn other_connections_are_told_without_a_target() {
        let at = |row: Row, connections| Row { connections, ..row };
        let rounds = [
            round(&[(at(PEAK, 16), 30.0), (at(POOL, 16), 20.0), (PEAK, 2.0), (POOL, 1.0)]),
            round(&[(at(PEAK, 16), 50.0), (at(POOL, 16), 20.0)]),
        ];
        let expected = ["(a) / (b), 16 connections: 2.00 (each round 1.50, 2.50)"];
        assert_eq!(other_ratios(&rounds, &[16, 64, 256]), expected);
    }

    #[test]
    fn every_row_is_in_the_table_once() {
        let rounds = [round(&[(PEAK, 1_000.0), (POOL, 300.0)]), round(&[(PEAK, 3_000.0), (LARGE, 900.0)])];
        let table = rows_table(&rounds, 1_000_000);
        let rows: Vec<_> = table.lines().skip(2).collect();
        let peak =
            "| (a) lyftr | 64 | closed loop | 0 | 2,000 | 0.00 | 7.00 | 0.00 | 0.0 | 12.5 | 0.0 | 1.00 | 0 |";
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0], peak);
        assert!(rows[2].contains("| 1,000,000 | 900 |"), "{}", rows[2]);
    }

    #[test]
    fn a_read_that_failed_has_no_ratio() {
        let cost = |p50_ms| Some(Cost { p50_ms, p99_ms: 3.0, cpu_us: 0.0 });
        let table =
            reads_table(&[("x", [cost(1.0), cost(1.5)]), ("y", [None, cost(1.0)])], [10_000, 1_000_000]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(rows, ["| x | 1.00 / 3.00 | 1.50 / 3.00 | 1.50 |", "| y | – | 1.00 / 3.00 | – |"]);
    }
}
