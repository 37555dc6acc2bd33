//! The store with many Items, and the work on them.
//!
//! Large numbers of rows are created by SQL and not through the store: a million links would take
//! longer than all measurements. [`database`] creates them, [`partner`] is the simulated partner,
//! and each other file is a measurement.

mod claim;
mod database;
mod fetch;
pub(crate) mod partner;
mod update;

pub(crate) use fetch::fetch;

use crate::report::Report;

/// Runs all measurements of Items. The cores are not pinned, because a database and its client
/// alternate anyway.
pub(crate) async fn measure(
    report: &mut Report,
    items: usize,
    updates: usize,
    transactions: usize,
) {
    update::growth(report);
    update::rate(report, updates);
    claim::measure(report, items).await;
    fetch::measure(report, transactions).await;
}
