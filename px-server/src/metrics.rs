//! The metrics that a server records, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`METRICS.md`](https://github.com/px-rs/px/blob/main/METRICS.md) lists those of all crates. No label names a user, a
//! client or an address.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use px_core::metrics::{Metric, MetricKind};

/// The metrics of this crate.
pub const METRICS: &[Metric] = &[
    Metric::histogram(
        "http.server.request.duration",
        "Time from the head of a request to its response, in seconds.",
    )
    .labels(&["http.request.method", "http.route", "http.response.status_code"]),
    Metric::gauge("http.server.active_requests", "Requests that are being answered.")
        .labels(&["http.request.method"]),
    Metric::gauge("px_server_connections", "Open connections."),
    Metric::counter(
        "px_server_connections_refused_total",
        "Connections that were refused at accept: by the `allow_list`, or because their address has its share (`address_full`).",
    )
    .labels(&["reason"]),
    Metric::counter(
        "px_server_connections_closed_total",
        "Idle connections that made way for new ones, because the server (`server_full`) or their address (`address_full`) was at its limit.",
    )
    .labels(&["reason"]),
    Metric::gauge("px_server_request_memory_bytes", "Memory of the heads and bodies of open requests."),
    Metric::counter(
        "px_server_requests_over_memory_total",
        "Requests that were refused because the memory of the `server`, their `address` or their `connection` was used up.",
    )
    .labels(&["limit"]),
    Metric::counter(
        "px_server_calls_refused_total",
        "Requests that were refused because as many were open as may be.",
    ),
    Metric::counter("px_server_authentications_failed_total", "Requests that failed to authenticate."),
    Metric::counter(
        "px_server_authentications_refused_total",
        "Requests that were refused because their address had failed to authenticate too often.",
    ),
    Metric::counter(
        "px_oauth_superseded_total",
        "Refresh tokens that were presented after another response of the same refresh was used, within 60 s.",
    ),
];

/// Describes the metrics of this crate to the recorder that is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.description),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.description),
            _ => describe_histogram!(metric.name, Unit::Seconds, metric.description),
        }
    }
}
