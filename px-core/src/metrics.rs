//! Descriptions of metrics.
//!
//! The crates record metrics through the [`metrics`](https://docs.rs/metrics) facade. Each crate lists
//! its metrics in its own module `metrics`. Programs pass the lists to their exporter, and the
//! documentation is generated from them.

/// The description of a metric that a crate records.
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
    /// The name, such as `px_example_open`.
    pub name: &'static str,
    /// The type. It is the same in all crates that record the metric.
    pub kind: MetricKind,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// The meaning of the values, in one sentence.
    pub description: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MetricKind {
    /// A value that only increases.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// A distribution of values.
    Histogram,
}

impl Metric {
    /// Describes a counter without labels.
    #[must_use]
    pub const fn counter(name: &'static str, description: &'static str) -> Self {
        Self::new(MetricKind::Counter, name, description)
    }

    /// Describes a gauge without labels.
    #[must_use]
    pub const fn gauge(name: &'static str, description: &'static str) -> Self {
        Self::new(MetricKind::Gauge, name, description)
    }

    /// Describes a histogram without labels.
    #[must_use]
    pub const fn histogram(name: &'static str, description: &'static str) -> Self {
        Self::new(MetricKind::Histogram, name, description)
    }

    /// Sets the names of the labels.
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
    /// Returns the name of the type: `counter`, `gauge` or `histogram`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
