//! The loops: claiming what is due, counting, and ending in good order.

use super::{
    Inner,
    gate::{Permit, PutOff},
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

/// The Items that this process holds.
type Held = Arc<Mutex<BTreeMap<ItemId, Fence>>>;

/// How long the store is left alone after a claim of which no Item could be worked on.
const BREATH: Duration = Duration::from_millis(100);
/// Interval at which permits in use are renewed and unused ones given back.
const PERMITS_EVERY: Duration = Duration::from_secs(1);
/// The most refreshes that are repeated at once.
const MAX_REFRESHES: usize = 64;
/// Maximum number of Items that are claimed to get past deferred ones.
const FARTHEST: usize = 1000;

/// Delay before the first purge of a process.
const FIRST_PURGE_DELAY: Duration = Duration::from_secs(60);
/// Time between two purges.
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);
/// Time between two batches of one purge: the daily round goes first.
const PURGE_BATCH_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of rows of a batch.
const MAX_PURGED_ROWS: usize = 2000;

/// What came of a claim.
#[derive(Default)]
struct Claimed {
    /// Whether more may be due.
    more: bool,
    /// How many Items were claimed.
    count: usize,
    /// Those that may be worked on, with leave to.
    admitted: Vec<(ItemRecord, Permit)>,
    /// Time until which Items were deferred because their partners are at their limits.
    crowded_until: Option<DateTime<Utc>>,
}

impl Inner {
    pub(super) async fn run(self: &Arc<Self>, workers: usize, stop: impl Future<Output = ()>) {
        self.stopping.store(false, Ordering::Relaxed);
        let stop = pin!(stop);
        let busy = AtomicBool::new(false);
        let mut revoking = pin!(self.keep_revoking(&busy));
        // Boxed, to end with the work: a call that waits for the store and is not polled any
        // more would keep its place there.
        let counting = Box::pin(self.keep_counting());
        let purging = Box::pin(self.keep_purging());
        let keeping = Box::pin(self.gates.keep_permits(PERMITS_EVERY));
        tokio::select! {
            biased;
            () = self.keep_working(workers, stop) => {}
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

    /// Claims and works until the stop.
    async fn keep_working(
        self: &Arc<Self>,
        workers: usize,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) {
        let (mut at_work, held) = (JoinSet::new(), Held::default());
        // Refreshes that are repeated take no worker's place.
        let mut refreshing = JoinSet::new();
        let mut refreshes_at = self.clock.elapsed();
        let mut signal = self.store.signals().items.listen();
        // Whether more may be due than was claimed.
        let mut hungry = true;
        // The number of Items that are claimed beyond the workers, to get past deferred ones.
        let mut reach = 1;
        let mut crowded_until = None;
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
                        self.take_back(claim).await;
                        break;
                    }
                    claimed = &mut claim => claimed,
                };
                self.spawn(claimed.admitted, Task::RepeatRefresh, &mut refreshing, &held);
            }
            let free = workers.saturating_sub(at_work.len());
            let mut pause = None;
            if is_right && hungry && free > 0 {
                let limit = free.saturating_mul(reach).min(FARTHEST.max(free));
                let mut claim = pin!(self.try_claim(self.clock.now(), free, limit));
                let claimed = tokio::select! {
                    biased;
                    () = &mut stop => {
                        self.take_back(claim).await;
                        break;
                    }
                    claimed = &mut claim => claimed,
                };
                hungry = claimed.more;
                crowded_until = crowded_until.max(claimed.crowded_until);
                if hungry && claimed.admitted.is_empty() {
                    // Every claimed Item was deferred, and others wait behind them.
                    reach = reach.saturating_mul(4);
                    pause = Some(BREATH);
                } else {
                    reach = 1;
                }
                self.spawn(claimed.admitted, Task::Update, &mut at_work, &held);
            }
            let free = workers.saturating_sub(at_work.len());
            if is_right && hungry && free > 0 && pause.is_none() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = at_work.join_next(), if !at_work.is_empty() => {
                    while at_work.try_join_next().is_some() {}
                    // A partner may take one of the deferred Items again.
                    hungry |= crowded_until.is_some_and(|until| self.clock.now() < until);
                }
                _ = refreshing.join_next(), if !refreshing.is_empty() => {}
                () = signal.raised() => hungry = true,
                () = self.clock.sleep(pause.unwrap_or_else(|| self.poll())) => hungry = true,
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        self.finish([at_work, refreshing], &held).await;
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Lets what is under way end, and hands back what does not.
    async fn finish(&self, mut tasks: [JoinSet<()>; 2], held: &Held) {
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
        // The guards are dropped with the tasks, so what is held is noted first.
        let left = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
        for tasks in &mut tasks {
            tasks.shutdown().await;
        }
        let now = self.clock.now();
        let left: Vec<_> = left.into_iter().map(|(item, fence)| (item, fence, now)).collect();
        tracing::info!(items = left.len(), "handing back what did not end in time");
        if let Err(error) = self.store.hand_back(&left).await {
            tracing::warn!(%error, "Items could not be handed back; their leases run out");
        }
    }

    /// Hands back what a claim takes that was under way at the stop: dropped, it would leave Items
    /// to nobody until their leases run out.
    async fn take_back(&self, claim: impl Future<Output = Claimed>) {
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
            tracing::warn!(%error, "Items could not be handed back; their leases run out");
        }
    }

    /// Begins to work on Items.
    fn spawn(
        self: &Arc<Self>,
        items: Vec<(ItemRecord, Permit)>,
        task: Task,
        tasks: &mut JoinSet<()>,
        held: &Held,
    ) {
        for (record, permit) in items {
            let guard = Guard::new(held, &record);
            let inner = Arc::clone(self);
            tasks.spawn(async move {
                let _guard = guard;
                inner.work(record, permit, task).await;
            });
        }
    }

    /// Claims Items whose refresh was cut off. Their partners must not be failing; a crowd there
    /// does not matter.
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
            match self.gates.enter_to_refresh(&record.institution_id) {
                Ok(permit) => claimed.admitted.push((record, permit)),
                // It is tried again while the partner still gives the tokens.
                Err(_) => back.push((record.id, record.fence, due_at)),
            }
        }
        self.put_back(&back).await;
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

    async fn put_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) {
        if !items.is_empty()
            && let Err(error) = self.store.hand_back(items).await
        {
            tracing::warn!(%error, "Items could not be handed back; their leases run out");
        }
    }

    async fn try_claim(&self, due_by: DateTime<Utc>, wanted: usize, limit: usize) -> Claimed {
        self.claim(due_by, wanted, limit).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "no Item could be claimed; trying again");
            Claimed::default()
        })
    }

    /// Claims Items that are due, finds as many to work on as are wanted, and puts those off that
    /// their partners have no room for.
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
                // It stays as long due as it is.
                claimed.more = true;
                back.push((record.id, record.fence, record.due_at.unwrap_or(due_by)));
                continue;
            }
            match self.admit(&record) {
                Ok(permit) => claimed.admitted.push((record, permit)),
                Err(put_off) => {
                    let until = put_off.until();
                    if matches!(put_off, PutOff::Crowded(_)) {
                        claimed.crowded_until = claimed.crowded_until.max(Some(until));
                    }
                    self.observe(Observed::PutOff { item_id: record.id.clone(), until });
                    back.push((record.id, record.fence, until));
                }
            }
        }
        self.put_back(&back).await;
        Ok(claimed)
    }

    pub(super) async fn work_off(self: &Arc<Self>) -> usize {
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

    /// The time to the next look, give or take a quarter.
    fn poll(&self) -> Duration {
        let poll = self.settings.poll;
        let half = u64::try_from((poll / 2).as_micros()).unwrap_or(u64::MAX);
        poll * 3 / 4 + Duration::from_micros(self.random.below(half.saturating_add(1)))
    }

    /// Deletes what no reader can need any more, batch by batch.
    async fn keep_purging(&self) {
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

    /// Counts Items for the metrics, now and then.
    async fn keep_counting(&self) {
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

/// Notes that an Item is held, until it is dropped.
struct Guard {
    held: Held,
    item: ItemId,
}

impl Guard {
    fn new(held: &Held, record: &ItemRecord) -> Self {
        let mut all = held.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(record.id.clone(), record.fence);
        Self { held: Arc::clone(held), item: record.id.clone() }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.item);
    }
}
