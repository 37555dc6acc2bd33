//! Descriptions of metrics.
//!
//! The crates record through the [`metrics`](https://docs.rs/metrics) facade, and each lists what
//! it records in its own module `metrics`. A program passes the lists on to its exporter, and
//! documentation is generated from them.

/// A metric that a crate records.
///
/// ```
/// use px_core::metrics::{Metric, MetricKind};
///
/// const OPEN: Metric = Metric::gauge("px_example_open", "Open things.").labels(&["color"]);
/// assert_eq!(OPEN.kind, MetricKind::Gauge);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The type. A name has one in all crates.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What is measured, in one sentence.
    pub description: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
}

impl Metric {
    /// A counter without labels.
    #[must_use]
    pub const fn counter(name: &'static str, description: &'static str) -> Self {
        Self::new(MetricKind::Counter, name, description)
    }

    /// A gauge without labels.
    #[must_use]
    pub const fn gauge(name: &'static str, description: &'static str) -> Self {
        Self::new(MetricKind::Gauge, name, description)
    }

    /// A histogram without labels.
    #[must_use]
    pub const fn histogram(name: &'static str, description: &'static str) -> Self {
        Self::new(MetricKind::Histogram, name, description)
    }

    /// Sets the names of its labels.
    #[must_use]
    pub const fn labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    const fn new(kind: MetricKind, name: &'static str, description: &'static str) -> Self {
        Self { name, kind, labels: &[], description }
    }
}

impl MetricKind {
    /// The type's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
