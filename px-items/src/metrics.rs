//! Metrics of the engine, the stores and the webhook sender, recorded through the
//! [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`METRICS.md`](https://github.com/px-rs/px/blob/main/METRICS.md) lists the metrics of all
//! crates. The gauges of the store (`px_items`, `px_items_due`, `px_due_lag_seconds`,
//! `px_webhooks_waiting`, `px_webhook_oldest_seconds`) are refreshed every
//! [`Settings::count_every`](crate::engine::Settings::count_every), 5 minutes by default.
//!
//! No label names a user, an Item or an application.

use crate::{
    engine::{Outcome, Report},
    item::State,
    store::Overview,
    sync_state::Suspicion,
};
use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::metrics::{Metric, MetricKind};
use px_types::{Fault, FaultSeverity, InstitutionId};

/// All metrics of this crate.
pub const METRICS: &[Metric] = &[
    Metric::gauge("px_items", "Items in each state, as the store counts them.").labels(&["state"]),
    Metric::gauge("px_items_due", "Items that are due and not claimed."),
    Metric::gauge("px_due_lag_seconds", "Time since when the Item that waits longest is due."),
    Metric::histogram("px_update_duration_seconds", "Work on an Item, from its claim to its end.")
        .labels(&["outcome"]),
    Metric::counter("px_update_failures_total", "Failed work on Items, by the kind of the failure.")
        .labels(&["institution", "kind"]),
    Metric::counter("px_rows_total", "Transactions that were `read`, and `added`, `modified` or `removed` by it.")
        .labels(&["change"]),
    Metric::counter("px_faults_total", "Deviations of partners' responses from the contract: `repaired`, `ignored` or `set_aside`.")
        .labels(&["institution", "rule", "severity"]),
    Metric::counter("px_suspicions_total", "Responses with changed ids, or that may belong to another customer.")
        .labels(&["institution", "kind"]),
    Metric::counter(
        "px_joins_total",
        "Posted transactions that were `joined` with a pending one by likeness or were `ambiguous`, and `collision`s of ids.",
    )
    .labels(&["how"]),
    Metric::counter("px_tokens_apart_total", "Pairs of tokens that name another user or are no bearer tokens; they are kept and not used.")
        .labels(&["institution"]),
    Metric::gauge("px_partner_circuit", "1 while the circuit of an institution is open, else 0.")
        .labels(&["institution"]),
    Metric::gauge("px_clock_skew_seconds", "How far the clock of this machine is ahead of the store's."),
    Metric::counter("px_leases_lost_total", "Items that were deferred because their leases ran out again and again."),
    Metric::counter("px_unreadable_total", "Stored rows that could not be read, by what they hold.").labels(&["what"]),
    Metric::counter(
        "px_revocations_total",
        "Revocations of tokens at partners: `revoked`, deferred (`again`, or `in_use` by an Item), or `given_up`.",
    )
    .labels(&["outcome"]),
    Metric::gauge("px_webhooks_waiting", "Webhooks in the outbox."),
    Metric::gauge("px_webhook_oldest_seconds", "Time that the oldest webhook in the outbox has waited."),
    Metric::gauge("px_webhook_pending", "Webhooks that this sender has claimed and not settled."),
    Metric::counter(
        "px_webhook_deliveries_total",
        "Attempts to deliver a webhook: `delivered`, `failed`, `given_up`, or `not_offered` by the partner.",
    )
    .labels(&["outcome"]),
    Metric::histogram("px_webhook_lag_seconds", "Time from a webhook's commit to its delivery."),
];

/// Describes the metrics of this crate to the installed recorder.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.description),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.description),
            _ => describe_histogram!(metric.name, Unit::Seconds, metric.description),
        }
    }
}

/// Records the end of work on an Item.
pub(crate) fn ended(report: &Report) {
    ::metrics::histogram!("px_update_duration_seconds", "outcome" => report.outcome.as_str())
        .record(report.took);
    let counts = report.counts;
    for (change, count) in [
        ("added", counts.added),
        ("modified", counts.modified),
        ("removed", counts.removed),
        ("read", counts.rows_read),
    ] {
        ::metrics::counter!("px_rows_total", "change" => change).increment(count);
    }
    for (how, count) in [
        ("joined", counts.joined),
        ("ambiguous", counts.ambiguous),
        ("collision", counts.collisions),
    ] {
        ::metrics::counter!("px_joins_total", "how" => how).increment(count);
    }
    let institution = || report.institution_id.as_str().to_owned();
    if report.outcome == Outcome::Failed
        && let Some(failure) = &report.failure
    {
        let kind = failure.kind.as_str();
        ::metrics::counter!("px_update_failures_total", "institution" => institution(), "kind" => kind)
            .increment(1);
    }
    if let Some(suspicion) = report.suspicion {
        let kind = match suspicion {
            Suspicion::TransactionIdsChanged => "transaction_ids",
            Suspicion::AccountIdsChanged => "account_ids",
            Suspicion::AnotherCustomer => "another_customer",
        };
        ::metrics::counter!("px_suspicions_total", "institution" => institution(), "kind" => kind)
            .increment(1);
    }
}

/// Records the deviations of a response from the contract.
pub(crate) fn faults(institution: &InstitutionId, faults: &[Fault]) {
    for fault in faults {
        let severity = match fault.severity() {
            FaultSeverity::SetAside => "set_aside",
            FaultSeverity::Ignored => "ignored",
            _ => "repaired",
        };
        let institution = institution.as_str().to_owned();
        ::metrics::counter!("px_faults_total", "institution" => institution,
            "rule" => fault.rule().id(), "severity" => severity)
        .increment(1);
    }
}

/// Counts tokens that are kept apart because they must not be used.
pub(crate) fn tokens_apart(institution: &InstitutionId) {
    ::metrics::counter!("px_tokens_apart_total", "institution" => institution.as_str().to_owned())
        .increment(1);
}

/// Records that a circuit opened or closed.
pub(crate) fn circuit(institution: &InstitutionId, open: bool) {
    ::metrics::gauge!("px_partner_circuit", "institution" => institution.as_str().to_owned())
        .set(u32::from(open));
}

/// Records how far this machine's clock is ahead of the store's.
pub(crate) fn clock_skew(ahead: TimeDelta) {
    ::metrics::gauge!("px_clock_skew_seconds").set(ahead.as_seconds_f64());
}

/// Counts an Item that is deferred because its leases ran out repeatedly.
pub(crate) fn leases_lost() {
    ::metrics::counter!("px_leases_lost_total").increment(1);
}

/// Counts a stored row that could not be read.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "the store in memory has no rows")
)]
pub(crate) fn unreadable(what: &'static str) {
    ::metrics::counter!("px_unreadable_total", "what" => what).increment(1);
}

/// Counts the outcome of a token revocation.
pub(crate) fn revocation(outcome: &'static str) {
    ::metrics::counter!("px_revocations_total", "outcome" => outcome).increment(1);
}

/// Records the overview of the store.
pub(crate) fn overview(overview: &Overview, now: DateTime<Utc>) {
    for state in State::ALL {
        let count = overview.states.get(&state).copied().unwrap_or(0);
        ::metrics::gauge!("px_items", "state" => state.as_str()).set(small(count));
    }
    let since = |at: Option<DateTime<Utc>>| {
        small(at.map_or(0, |at| (now - at).num_seconds().max(0).unsigned_abs()))
    };
    ::metrics::gauge!("px_items_due").set(small(overview.due));
    ::metrics::gauge!("px_due_lag_seconds").set(since(overview.due_since));
    ::metrics::gauge!("px_webhooks_waiting").set(small(overview.webhooks));
    ::metrics::gauge!("px_webhook_oldest_seconds").set(since(overview.webhooks_since));
}

/// Converts a count to the type of gauges.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
