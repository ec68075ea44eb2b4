//! The page as Prometheus reads it, in the classic text format 0.0.4.

use std::fmt::Write as _;

use super::Histogram;

/// The page as it is written.
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub(super) fn line(&mut self, name: &str, labels: &str, value: u64) {
        self.write(format_args!("{name}{labels} {value}\n"));
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, "", value);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.line(name, "", value);
    }

    pub(super) fn histogram<const N: usize>(&mut self, name: &str, help: &str, histogram: &Histogram<N>) {
        self.head(name, "histogram", help);
        for (bound, total) in histogram.cumulative() {
            self.write(format_args!("{name}_bucket{{le=\"{bound}\"}} {total}\n"));
        }
        let (total, sum) = (histogram.total(), histogram.sum());
        self.write(format_args!(
            "{name}_bucket{{le=\"+Inf\"}} {total}\n{name}_sum {sum}\n{name}_count {total}\n"
        ));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let _infallible = self.0.write_fmt(text);
    }
}
