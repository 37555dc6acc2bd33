//! The condition for the end of `px run --until-idle`, and the state of the Items then.

use crate::{
    context::Context,
    failure::{Failure, Result},
    output, view,
};
use chrono::TimeDelta;
use px_items::{
    item::Phase,
    store::{ItemRecord, ListedItem, StoreError},
};
use std::time::Duration;

/// Interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum number of consecutive failures of the database.
const MAX_CONSECUTIVE_FAILURES: u32 = 50;
/// Maximum deferral of an Item because other Items of its institution are being updated.
pub(super) const MAX_DEFERRAL: TimeDelta = TimeDelta::seconds(10);
/// An Item that is due within this time is waited for. Longer than [`MAX_DEFERRAL`].
const DUE_SOON: TimeDelta = TimeDelta::seconds(15);
/// Number of Items per page.
const PAGE_ITEMS: usize = 500;

/// Waits until no Item is due or being updated, by this program or another.
pub(super) async fn wait(context: &Context) -> Result<()> {
    let mut failed = 0;
    loop {
        match busy(context).await {
            Ok(false) => return Ok(()),
            Ok(true) => failed = 0,
            Err(error) if failed >= MAX_CONSECUTIVE_FAILURES => return Err(error.into()),
            Err(_) => failed += 1,
        }
        context.clock.sleep(CHECK_INTERVAL).await;
    }
}

async fn busy(context: &Context) -> Result<bool, StoreError> {
    // A cheap check that usually suffices.
    if context.store.overview(context.now()).await?.due > 0 {
        return Ok(true);
    }
    let soon = context.now() + DUE_SOON;
    let has_work = |record: &ItemRecord| {
        // An expired lease belongs to a program that was killed: that Item is due.
        let is_leased = record.leased_until.is_some();
        let due = record.due_at.is_some_and(|due| due <= soon);
        is_leased || (due && record.sync_state.last_failure.is_none())
    };
    Ok(count_items(context, has_work).await?.0 > 0)
}

/// Returns a failure if Items failed.
pub(super) async fn check_items(context: &Context) -> Result<()> {
    // An Item that was never fetched and has no failure waits for an institution that keeps failing.
    let failed = |record: &ItemRecord| {
        view::worst_issue(record).is_some() || record.state.phase() == Some(Phase::Created)
    };
    match count_items(context, failed).await? {
        (0, _) => Ok(()),
        (failed, all) => Err(Failure::items(format!(
            "{failed} of {} failed; `px items` shows why",
            output::count(u64::try_from(all).unwrap_or_default(), "Item")
        ))),
    }
}

/// Returns the number of Items that meet a condition, and the number of all Items.
async fn count_items(
    context: &Context,
    matches: impl Fn(&ItemRecord) -> bool,
) -> Result<(usize, usize), StoreError> {
    let (mut matching, mut all) = (0, 0);
    let mut after = None;
    loop {
        let page = context.store.list(after.as_ref(), PAGE_ITEMS).await?;
        let Some(last) = page.last() else { return Ok((matching, all)) };
        after = Some(last.id().clone());
        matching +=
            page.iter().filter_map(ListedItem::record).filter(|record| matches(record)).count();
        all += page.len();
    }
}
