//! The encoder of Prometheus' classic text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write as _;

use super::Histogram;

/// A page that is being written.
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

    /// The line of a metric with a fractional value.
    pub(super) fn decimal(&mut self, name: &str, value: f64) {
        self.write(format_args!("{name} {value}\n"));
    }

    pub(super) fn histogram<const N: usize>(&mut self, name: &str, help: &str, histogram: &Histogram<N>) {
        self.head(name, "histogram", help);
        self.series(name, "", histogram);
    }

    /// The series of a histogram with these labels, which have the form `a="b",c="d"`.
    pub(super) fn series<const N: usize>(&mut self, name: &str, labels: &str, histogram: &Histogram<N>) {
        let (comma, braced) =
            if labels.is_empty() { ("", String::new()) } else { (",", format!("{{{labels}}}")) };
        for (bound, total) in histogram.cumulative() {
            self.write(format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}\n"));
        }
        let (total, sum) = (histogram.total(), histogram.sum());
        self.write(format_args!(
            "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}\n{name}_sum{braced} {sum}\n{name}_count{braced} {total}\n"
        ));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let _infallible = self.0.write_fmt(text);
    }
}
