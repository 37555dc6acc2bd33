//! Loops of the engine: claims, periodic tasks and shutdown.

use super::{
    Inner,
    gate::{Deferral, Permit},
    observe::Observed,
    work::Task,
};
use crate::{
    items::REMOVED_RETENTION,
    metrics,
    store::{Fence, ItemRecord, StoreError},
};
use chrono::{DateTime, Utc};
use futures_util::future::join4;
use px_types::ItemId;
use std::{
    collections::BTreeMap,
    future::{Future, pending, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::task::JoinSet;

/// Items with a lease of this process.
type LeasedItems = Arc<Mutex<BTreeMap<ItemId, Fence>>>;

/// Delay before the next claim when every claimed Item had to be deferred.
const EMPTY_CLAIM_BACKOFF: Duration = Duration::from_millis(100);
/// Interval at which permits in use are renewed and unused ones given back.
const PERMIT_RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of concurrent repetitions of refreshes.
const MAX_REFRESHES: usize = 64;
/// Maximum number of Items per claim when deferred Items are skipped.
const MAX_CLAIMED_ITEMS: usize = 1000;

/// Delay before the first purge of a process.
const FIRST_PURGE_DELAY: Duration = Duration::from_secs(60);
/// Interval between two purges.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// Delay between two batches of one purge, because regular work has priority.
const PURGE_BATCH_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of rows of a batch.
const MAX_PURGED_ROWS: usize = 2000;

/// Result of a claim.
#[derive(Default)]
struct Claimed {
    /// Whether more Items may be due.
    more: bool,
    /// Number of claimed Items.
    count: usize,
    /// Items that may be worked on, with their permits.
    admitted: Vec<(ItemRecord, Permit)>,
    /// Time until which Items were deferred because their partners are at their limits.
    deferred_until: Option<DateTime<Utc>>,
}

impl Inner {
    pub(super) async fn run(self: &Arc<Self>, workers: usize, stop: impl Future<Output = ()>) {
        self.stopping.store(false, Ordering::Relaxed);
        let stop = pin!(stop);
        let busy = AtomicBool::new(false);
        let mut revoking = pin!(self.revoke_periodically(&busy));
        // Boxed, to be dropped when the workers end: a pending store call that is no longer polled
        // would keep its slot there.
        let counting = Box::pin(self.count_periodically());
        let purging = Box::pin(self.purge_periodically());
        let keeping = Box::pin(self.gates.renew_permits(PERMIT_RENEWAL_INTERVAL));
        tokio::select! {
            biased;
            () = self.run_workers(workers, stop) => {}
            _ = join4(&mut revoking, counting, purging, keeping) => {}
        }
        // A revocation that is cut off waits until its lease has run out.
        self.stopping.store(true, Ordering::Relaxed);
        let revoked = poll_fn(|cx| {
            if busy.load(Ordering::Relaxed) {
                let _ = revoking.as_mut().poll(cx);
            }
            if busy.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
        });
        tokio::select! {
            biased;
            () = revoked => {}
            () = self.clock.sleep(self.settings.grace) => {}
        }
        self.gates.release_permits().await;
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Claims Items and works on them until the stop.
    async fn run_workers(
        self: &Arc<Self>,
        workers: usize,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) {
        let (mut at_work, leased) = (JoinSet::new(), LeasedItems::default());
        // Repetitions of refreshes do not count as workers.
        let mut refreshing = JoinSet::new();
        let mut refreshes_at = self.clock.elapsed();
        let mut signal = self.store.signals().items.listen();
        // Whether more Items may be due than were claimed.
        let mut may_have_more = true;
        // Multiplier of the claim size, to get past deferred Items.
        let mut claim_factor = 1;
        let mut deferred_until = None;
        loop {
            let is_right = tokio::select! {
                biased;
                () = &mut stop => break,
                is_right = self.clock_is_right() => is_right,
            };
            if is_right && self.clock.elapsed() >= refreshes_at {
                refreshes_at = self.clock.elapsed() + self.settings.poll;
                let room = MAX_REFRESHES.saturating_sub(refreshing.len());
                let mut claim = pin!(self.claim_refreshes(self.clock.now(), room));
                let claimed = tokio::select! {
                    biased;
                    () = &mut stop => {
                        self.hand_back_claim(claim).await;
                        break;
                    }
                    claimed = &mut claim => claimed,
                };
                self.spawn(claimed.admitted, Task::RepeatRefresh, &mut refreshing, &leased);
            }
            let free = workers.saturating_sub(at_work.len());
            let mut backoff = None;
            if is_right && may_have_more && free > 0 {
                let limit = free.saturating_mul(claim_factor).min(MAX_CLAIMED_ITEMS.max(free));
                let mut claim = pin!(self.try_claim(self.clock.now(), free, limit));
                let claimed = tokio::select! {
                    biased;
                    () = &mut stop => {
                        self.hand_back_claim(claim).await;
                        break;
                    }
                    claimed = &mut claim => claimed,
                };
                may_have_more = claimed.more;
                deferred_until = deferred_until.max(claimed.deferred_until);
                if may_have_more && claimed.admitted.is_empty() {
                    // Every claimed Item was deferred, and others wait behind them.
                    claim_factor = claim_factor.saturating_mul(4);
                    backoff = Some(EMPTY_CLAIM_BACKOFF);
                } else {
                    claim_factor = 1;
                }
                self.spawn(claimed.admitted, Task::Update, &mut at_work, &leased);
            }
            let free = workers.saturating_sub(at_work.len());
            if is_right && may_have_more && free > 0 && backoff.is_none() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = at_work.join_next(), if !at_work.is_empty() => {
                    while at_work.try_join_next().is_some() {}
                    // The partner may admit one of the deferred Items now.
                    may_have_more |= deferred_until.is_some_and(|until| self.clock.now() < until);
                }
                _ = refreshing.join_next(), if !refreshing.is_empty() => {}
                () = signal.raised() => may_have_more = true,
                () = self.clock.sleep(backoff.unwrap_or_else(|| self.poll())) => may_have_more = true,
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        self.finish([at_work, refreshing], &leased).await;
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Waits for the tasks under way, and hands back the Items of tasks that exceed the grace
    /// period.
    async fn finish(&self, mut tasks: [JoinSet<()>; 2], leased: &LeasedItems) {
        let ended = async {
            for tasks in &mut tasks {
                while tasks.join_next().await.is_some() {}
            }
        };
        tokio::select! {
            biased;
            () = ended => return,
            () = self.clock.sleep(self.settings.grace) => {}
        }
        // Dropping the tasks drops their guards, so the leased Items are collected first.
        let left = std::mem::take(&mut *leased.lock().unwrap_or_else(PoisonError::into_inner));
        for tasks in &mut tasks {
            tasks.shutdown().await;
        }
        let now = self.clock.now();
        let left: Vec<_> = left.into_iter().map(|(item, fence)| (item, fence, now)).collect();
        tracing::info!(items = left.len(), "handing back Items that were not finished in time");
        if let Err(error) = self.store.hand_back(&left).await {
            tracing::warn!(%error, "Items could not be handed back; they wait until their leases run out");
        }
    }

    /// Hands back the Items of a claim that was under way at the stop. If the claim were dropped,
    /// these Items would wait until their leases run out.
    async fn hand_back_claim(&self, claim: impl Future<Output = Claimed>) {
        let claimed = tokio::select! {
            biased;
            claimed = claim => claimed,
            () = self.clock.sleep(self.settings.grace) => return,
        };
        let now = self.clock.now();
        let items = claimed.admitted.into_iter().map(|(record, _)| record);
        let items: Vec<_> =
            items.map(|one| (one.id, one.fence, one.due_at.unwrap_or(now))).collect();
        if let Err(error) = self.store.hand_back(&items).await {
            tracing::warn!(%error, "Items could not be handed back; they wait until their leases run out");
        }
    }

    /// Starts the work on Items.
    fn spawn(
        self: &Arc<Self>,
        items: Vec<(ItemRecord, Permit)>,
        task: Task,
        tasks: &mut JoinSet<()>,
        leased: &LeasedItems,
    ) {
        for (record, permit) in items {
            let guard = LeaseGuard::new(leased, &record);
            let inner = Arc::clone(self);
            tasks.spawn(async move {
                let _guard = guard;
                inner.work(record, permit, task).await;
            });
        }
    }

    /// Claims Items with an interrupted refresh. A partner at its concurrency limit admits them,
    /// a failing one does not.
    async fn claim_refreshes(&self, now: DateTime<Utc>, limit: usize) -> Claimed {
        let mut claimed = Claimed::default();
        if limit == 0 {
            return claimed;
        }
        let records = match self.store.claim_refreshes(now, self.lease_end(now), limit).await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, "no refresh could be claimed; trying again");
                return claimed;
            }
        };
        claimed.count = records.len();
        let mut back = Vec::new();
        for record in records {
            let due_at = record.due_at.unwrap_or(now);
            if let Some(deferral) = self.deferral(&record) {
                let until = now + deferral;
                self.report_lost_leases(&record, until);
                back.push((record.id, record.fence, until));
                continue;
            }
            self.gates.prepare_refresh(&record.institution_id).await;
            match self.gates.admit_refresh_call(&record.institution_id) {
                Ok(permit) => claimed.admitted.push((record, permit)),
                // It is tried again while the partner still returns the tokens.
                Err(_) => back.push((record.id, record.fence, due_at)),
            }
        }
        self.hand_back_all(&back).await;
        claimed
    }

    /// Leases permits for claimed Items, with one call for each partner.
    pub(super) async fn prepare(&self, records: &[ItemRecord], at_most: usize) {
        let mut by_partner: BTreeMap<_, usize> = BTreeMap::new();
        for record in records {
            *by_partner.entry(&record.institution_id).or_default() += 1;
        }
        for (institution, count) in by_partner {
            if let Some(partner) = self.partners.partner(institution) {
                self.gates.prepare(institution, &partner.budget, count.min(at_most)).await;
            }
        }
    }

    async fn hand_back_all(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) {
        if !items.is_empty()
            && let Err(error) = self.store.hand_back(items).await
        {
            tracing::warn!(%error, "Items could not be handed back; they wait until their leases run out");
        }
    }

    async fn try_claim(&self, due_by: DateTime<Utc>, wanted: usize, limit: usize) -> Claimed {
        self.claim(due_by, wanted, limit).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "no Item could be claimed; trying again");
            Claimed::default()
        })
    }

    /// Claims due Items until as many as wanted may be worked on. Defers those if their partners are
    /// at their limits or keep failing.
    async fn claim(
        &self,
        due_by: DateTime<Utc>,
        wanted: usize,
        limit: usize,
    ) -> Result<Claimed, StoreError> {
        let until = self.lease_end(self.clock.now());
        let records = self.store.claim(due_by, until, limit).await?;
        let count = records.len();
        let mut claimed = Claimed { more: count == limit, count, ..Claimed::default() };
        self.prepare(&records, wanted).await;
        let mut back = Vec::new();
        for record in records {
            if let Some(deferral) = self.deferral(&record) {
                let until = due_by + deferral;
                self.report_lost_leases(&record, until);
                back.push((record.id, record.fence, until));
                continue;
            }
            if claimed.admitted.len() == wanted {
                // It keeps its due time.
                claimed.more = true;
                back.push((record.id, record.fence, record.due_at.unwrap_or(due_by)));
                continue;
            }
            match self.admit(&record) {
                Ok(permit) => claimed.admitted.push((record, permit)),
                Err(deferral) => {
                    let until = deferral.until();
                    if matches!(deferral, Deferral::AtLimit(_)) {
                        claimed.deferred_until = claimed.deferred_until.max(Some(until));
                    }
                    self.observe(Observed::Deferred { item_id: record.id.clone(), until });
                    back.push((record.id, record.fence, until));
                }
            }
        }
        self.hand_back_all(&back).await;
        Ok(claimed)
    }

    pub(super) async fn run_due(self: &Arc<Self>) -> usize {
        let worked = self.work_off_all().await;
        self.gates.release_permits().await;
        worked
    }

    async fn work_off_all(self: &Arc<Self>) -> usize {
        if !self.clock_is_right().await {
            return 0;
        }
        let now = self.clock.now();
        let mut worked = 0;
        for (record, permit) in self.claim_refreshes(now, MAX_REFRESHES).await.admitted {
            self.work(record, permit, Task::RepeatRefresh).await;
        }
        while self.clock_is_right().await {
            match self.claim(now, 1, 1).await {
                Ok(claimed) if claimed.count == 0 => break,
                Ok(claimed) => {
                    for (record, permit) in claimed.admitted {
                        self.work(record, permit, Task::Update).await;
                        worked += 1;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "no Item could be claimed");
                    break;
                }
            }
        }
        self.revoke_due(now).await;
        worked
    }

    /// Returns the time to the next poll, plus or minus a quarter.
    fn poll(&self) -> Duration {
        let poll = self.settings.poll;
        let half = u64::try_from((poll / 2).as_micros()).unwrap_or(u64::MAX);
        poll * 3 / 4 + Duration::from_micros(self.random.below(half.saturating_add(1)))
    }

    /// Deletes removed transactions that no reader needs any more, batch by batch.
    async fn purge_periodically(&self) {
        let mut delay = FIRST_PURGE_DELAY;
        loop {
            self.clock.sleep(delay).await;
            let removed_before = self.clock.now() - REMOVED_RETENTION;
            delay = match self.store.purge(removed_before, MAX_PURGED_ROWS).await {
                Ok(0) => PURGE_INTERVAL,
                Ok(_) => PURGE_BATCH_DELAY,
                Err(error) => {
                    tracing::warn!(%error, "removed transactions could not be purged");
                    PURGE_INTERVAL
                }
            };
        }
    }

    /// Counts Items for the metrics periodically.
    async fn count_periodically(&self) {
        let Some(every) = self.settings.count_every else {
            return pending().await;
        };
        loop {
            let now = self.clock.now();
            match self.store.overview(now).await {
                Ok(overview) => metrics::overview(&overview, now),
                Err(error) => tracing::warn!(%error, "Items could not be counted"),
            }
            self.clock.sleep(every).await;
        }
    }
}

/// Guard that records the lease of an Item until it is dropped.
struct LeaseGuard {
    leased: LeasedItems,
    item: ItemId,
}

impl LeaseGuard {
    fn new(leased: &LeasedItems, record: &ItemRecord) -> Self {
        let mut all = leased.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(record.id.clone(), record.fence);
        Self { leased: Arc::clone(leased), item: record.id.clone() }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.item);
    }
}
