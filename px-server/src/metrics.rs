//! The metrics that a server records, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`METRICS.md`](https://github.com/px-rs/px/blob/main/METRICS.md) lists the metrics of all
//! crates. No label contains a user, a client or an address.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use px_core::metrics::{Metric, MetricKind};

/// The metrics of this crate.
pub const METRICS: &[Metric] = &[
    Metric::histogram(
        "http.server.request.duration",
        "Time from the head of a request to its response, in seconds.",
    )
    .labels(&["http.request.method", "http.route", "http.response.status_code"]),
    Metric::gauge("http.server.active_requests", "Requests in progress.")
        .labels(&["http.request.method"]),
    Metric::gauge("px_server_connections", "Open connections."),
    Metric::counter(
        "px_server_connections_refused_total",
        "Connections refused at accept: by the `allow_list`, or because their address was at its limit (`address_full`).",
    )
    .labels(&["reason"]),
    Metric::counter(
        "px_server_connections_closed_total",
        "Idle connections closed in favor of new ones, because the server (`server_full`) or their address (`address_full`) was at its limit.",
    )
    .labels(&["reason"]),
    Metric::gauge("px_server_request_memory_bytes", "Memory of the heads and bodies of open requests."),
    Metric::counter(
        "px_server_requests_over_memory_total",
        "Requests refused because the request memory of the `server`, their `address` or their `connection` was used up.",
    )
    .labels(&["limit"]),
    Metric::counter(
        "px_server_calls_refused_total",
        "Requests refused because the maximum number of concurrent calls was reached.",
    ),
    Metric::counter("px_server_authentications_failed_total", "Requests that failed to authenticate."),
    Metric::counter(
        "px_server_authentications_refused_total",
        "Requests refused because too many requests of their address had failed to authenticate.",
    ),
    Metric::counter(
        "px_oauth_superseded_total",
        "Tokens presented within 60 s after another response of the same refresh was used.",
    ),
];

/// Registers the descriptions of this crate's metrics with the installed recorder.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.description),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.description),
            _ => describe_histogram!(metric.name, Unit::Seconds, metric.description),
        }
    }
}
