//! The figures that the engine gives out, through the `metrics` facade.
//!
//! | name | kind | labels | what |
//! |---|---|---|---|
//! | `px_items` | gauge | `state` | Items in each state, as the store counts them |
//! | `px_items_due` | gauge | | Items that are due and not taken |
//! | `px_due_lag_seconds` | gauge | | how long the one that waits longest is due |
//! | `px_webhooks_waiting` | gauge | | webhooks in the outbox |
//! | `px_webhook_oldest_seconds` | gauge | | how long the oldest of them waits |
//! | `px_update_duration_seconds` | histogram | `outcome` | work on an Item, from claim to end |
//! | `px_update_failures_total` | counter | `institution`, `kind` | failed work, by kind |
//! | `px_rows_total` | counter | `change` | transactions `added`, `modified`, `removed`; `read` |
//! | `px_suspicions_total` | counter | `institution`, `kind` | answers whose ids changed |
//! | `px_joins_total` | counter | `how` | posted transactions `joined` by likeness, or `ambiguous`; id `collision`s |
//! | `px_partner_circuit` | gauge | `institution` | 1 while the circuit is open |
//! | `px_leases_lost_total` | counter | | Items deferred because their leases ran out again and again |
//! | `px_unreadable_total` | counter | `what` | rows that could not be read: `item`, `connection`, `webhook`, `revocation`, … |
//! | `px_revocations_total` | counter | `outcome` | tokens `revoked` at partners, put off (`again`), `given_up` |
//!
//! The first five are as old as [`Settings::count_every`](crate::engine::Settings::count_every)
//! says, 5 minutes unless told otherwise; the others are of the moment.
//!
//! No label names a user, an Item or an application.

use crate::{
    engine::{Outcome, Report},
    item::State,
    life::Suspicion,
    store::Overview,
};
use chrono::{DateTime, Utc};
use px_types::InstitutionId;

/// Work on an Item ended.
pub(crate) fn ended(report: &Report) {
    metrics::histogram!("px_update_duration_seconds", "outcome" => report.outcome.as_str())
        .record(report.took);
    let counts = report.counts;
    for (change, count) in [
        ("added", counts.added),
        ("modified", counts.modified),
        ("removed", counts.removed),
        ("read", counts.rows_read),
    ] {
        metrics::counter!("px_rows_total", "change" => change).increment(count);
    }
    for (how, count) in [
        ("joined", counts.joined),
        ("ambiguous", counts.ambiguous),
        ("collision", counts.collisions),
    ] {
        metrics::counter!("px_joins_total", "how" => how).increment(count);
    }
    let institution = || report.institution_id.as_str().to_owned();
    if report.outcome == Outcome::Failed
        && let Some(failure) = &report.failure
    {
        let kind = failure.kind.as_str();
        metrics::counter!("px_update_failures_total", "institution" => institution(), "kind" => kind)
            .increment(1);
    }
    if let Some(suspicion) = report.suspicion {
        let kind = match suspicion {
            Suspicion::TransactionIdsChanged => "transaction_ids",
            Suspicion::AccountIdsChanged => "account_ids",
            Suspicion::AnotherCustomer => "another_customer",
        };
        metrics::counter!("px_suspicions_total", "institution" => institution(), "kind" => kind)
            .increment(1);
    }
}

/// A circuit opened or closed.
pub(crate) fn circuit(institution: &InstitutionId, open: bool) {
    metrics::gauge!("px_partner_circuit", "institution" => institution.as_str().to_owned())
        .set(u32::from(open));
}

/// An Item is deferred because its leases ran out again and again.
pub(crate) fn leases_lost() {
    metrics::counter!("px_leases_lost_total").increment(1);
}

/// A stored row that could not be read.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "the store in memory has no rows")
)]
pub(crate) fn unreadable(what: &'static str) {
    metrics::counter!("px_unreadable_total", "what" => what).increment(1);
}

/// What became of tokens that were to be revoked.
pub(crate) fn revocation(outcome: &'static str) {
    metrics::counter!("px_revocations_total", "outcome" => outcome).increment(1);
}

/// The store at a glance.
pub(crate) fn overview(overview: &Overview, now: DateTime<Utc>) {
    for state in State::ALL {
        let count = overview.states.get(&state).copied().unwrap_or(0);
        metrics::gauge!("px_items", "state" => state.as_str()).set(small(count));
    }
    let since = |at: Option<DateTime<Utc>>| {
        small(at.map_or(0, |at| (now - at).num_seconds().max(0).unsigned_abs()))
    };
    metrics::gauge!("px_items_due").set(small(overview.due));
    metrics::gauge!("px_due_lag_seconds").set(since(overview.due_since));
    metrics::gauge!("px_webhooks_waiting").set(small(overview.webhooks));
    metrics::gauge!("px_webhook_oldest_seconds").set(since(overview.webhooks_since));
}

/// A figure as gauges take it.
fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
