//! The Item's store under many Items, and the work on them.
//!
//! Rows of which there are many are made by SQL and not through the store: a million links would
//! take longer than everything that is measured. [`database`] has where they are made, [`partner`]
//! whom they are read from; each other file a measurement.

mod claim;
mod database;
mod fetch;
pub(crate) mod partner;
mod update;

pub(crate) use fetch::fetch;

use crate::report::Report;

/// Everything about Items. The cores are not pinned: a database and its client take turns anyway.
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
