//! When there is nothing left to do, and how the Items are then.

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

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How often in a row the database may fail to answer.
const PATIENCE: u32 = 50;
/// An Item is put off no longer than that because others of its institution are being worked on.
pub(super) const PUT_OFF: TimeDelta = TimeDelta::seconds(10);
/// So soon it comes again, then.
const CROWDED: TimeDelta = TimeDelta::seconds(15);
/// How many Items are read at a time.
const PAGE: usize = 500;

/// Waits until no Item is due and none is being worked on, by this program or another.
pub(super) async fn wait(context: &Context) -> Result<()> {
    let mut failed = 0;
    loop {
        match busy(context).await {
            Ok(false) => return Ok(()),
            Ok(true) => failed = 0,
            Err(error) if failed >= PATIENCE => return Err(error.into()),
            Err(_) => failed += 1,
        }
        context.clock.sleep(LOOK).await;
    }
}

async fn busy(context: &Context) -> Result<bool, StoreError> {
    // Cheap, and most often enough.
    if context.store.overview(context.now()).await?.due > 0 {
        return Ok(true);
    }
    let soon = context.now() + CROWDED;
    let has_work = |record: &ItemRecord| {
        // A lease that ran out belongs to a program that was killed: that Item is due.
        let held = record.leased_until.is_some();
        let due = record.due_at.is_some_and(|due| due <= soon);
        held || (due && record.life.last_failure.is_none())
    };
    Ok(count(context, has_work).await?.0 > 0)
}

/// Says so when Items failed.
pub(super) async fn verdict(context: &Context) -> Result<()> {
    // One that was never fetched and did not fail waits for its institution, which keeps failing.
    let unwell = |record: &ItemRecord| {
        view::trouble(record).is_some() || record.state.phase() == Some(Phase::Created)
    };
    match count(context, unwell).await? {
        (0, _) => Ok(()),
        (unwell, all) => Err(Failure::items(format!(
            "{unwell} of {} failed; `px items` says why",
            output::count(u64::try_from(all).unwrap_or_default(), "Item")
        ))),
    }
}

/// How many Items are so, of how many.
async fn count(
    context: &Context,
    is_so: impl Fn(&ItemRecord) -> bool,
) -> Result<(usize, usize), StoreError> {
    let (mut so, mut all) = (0, 0);
    let mut after = None;
    loop {
        let page = context.store.list(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok((so, all)) };
        after = Some(last.id().clone());
        so += page.iter().filter_map(ListedItem::record).filter(|record| is_so(record)).count();
        all += page.len();
    }
}
