//! The Item's store under many Items.
//!
//! Rows are made by SQL and not through the store: a million links would take longer than
//! everything that is measured. [`database`] has where they are made; each other file a measurement.

mod claim;
mod database;

use crate::report::Report;

/// Everything about Items. The cores are not pinned: a database and its client take turns anyway.
pub(crate) async fn measure(report: &mut Report, items: usize) {
    claim::measure(report, items).await;
}
