//! The loops: claiming what is due, counting, and ending in good order.

use super::{Inner, gate::Permit, observe::Observed};
use crate::{
    metrics,
    store::{Fence, ItemRecord, StoreError},
};
use chrono::{DateTime, Utc};
use futures_util::future::join;
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

/// The Items of one claim that may be worked on, with leave to.
type Admitted = Vec<(ItemRecord, Permit)>;

impl Inner {
    pub(super) async fn run(self: &Arc<Self>, workers: usize, stop: impl Future<Output = ()>) {
        self.stopping.store(false, Ordering::Relaxed);
        let stop = pin!(stop);
        let busy = AtomicBool::new(false);
        let mut revoking = pin!(self.keep_revoking(&busy));
        // Boxed, to end with the work: a call that waits for the store and is not polled any
        // more would keep its place there.
        let counting = Box::pin(self.keep_counting());
        tokio::select! {
            biased;
            () = self.keep_working(workers, stop) => {}
            _ = join(&mut revoking, counting) => {}
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
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Claims and works until the stop.
    async fn keep_working(
        self: &Arc<Self>,
        workers: usize,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) {
        let (mut at_work, held) = (JoinSet::new(), Held::default());
        // Whether more may be due than was claimed.
        let mut hungry = true;
        loop {
            let free = workers.saturating_sub(at_work.len());
            let mut taken = 0;
            if hungry && free > 0 {
                let claimed = tokio::select! {
                    biased;
                    () = &mut stop => break,
                    claimed = self.claim(self.clock.now(), free) => claimed,
                };
                let (count, admitted) = claimed.unwrap_or_else(|error| {
                    tracing::warn!(%error, "no Item could be claimed; trying again");
                    (0, Vec::new())
                });
                hungry = count == free;
                taken = admitted.len();
                for (record, permit) in admitted {
                    let guard = Guard::new(&held, &record);
                    let inner = Arc::clone(self);
                    at_work.spawn(async move {
                        let _guard = guard;
                        inner.work(record, permit).await;
                    });
                }
            }
            if hungry && taken < free {
                // All that was claimed was put off: others wait behind it.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = at_work.join_next(), if !at_work.is_empty() => {
                    while at_work.try_join_next().is_some() {}
                }
                () = self.wake.notified() => hungry = true,
                () = self.clock.sleep(self.poll()) => hungry = true,
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        self.finish(at_work, &held).await;
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Lets what is under way end, and hands back what does not.
    async fn finish(&self, mut at_work: JoinSet<()>, held: &Held) {
        let ended = async { while at_work.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = ended => return,
            () = self.clock.sleep(self.settings.grace) => {}
        }
        // The guards are dropped with the tasks, so what is held is noted first.
        let left = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
        at_work.shutdown().await;
        let now = self.clock.now();
        let left: Vec<_> = left.into_iter().map(|(item, fence)| (item, fence, now)).collect();
        tracing::info!(items = left.len(), "handing back what did not end in time");
        if let Err(error) = self.store.hand_back(&left).await {
            tracing::warn!(%error, "Items could not be handed back; their leases run out");
        }
    }

    /// Claims Items that are due, and puts those off that their partners have no room for. How
    /// many were claimed, and those to work on.
    async fn claim(
        &self,
        due_by: DateTime<Utc>,
        limit: usize,
    ) -> Result<(usize, Admitted), StoreError> {
        let until = self.lease_end(self.clock.now());
        let claimed = self.store.claim(due_by, until, limit).await?;
        let count = claimed.len();
        let (mut admitted, mut put_off) = (Vec::new(), Vec::new());
        for record in claimed {
            match self.admit(&record) {
                Ok(permit) => admitted.push((record, permit)),
                Err(until) => {
                    self.observe(Observed::PutOff { item_id: record.id.clone(), until });
                    put_off.push((record.id, record.fence, until));
                }
            }
        }
        if !put_off.is_empty()
            && let Err(error) = self.store.hand_back(&put_off).await
        {
            tracing::warn!(%error, "Items could not be put off; their leases run out");
        }
        Ok((count, admitted))
    }

    pub(super) async fn work_off(self: &Arc<Self>) -> usize {
        let now = self.clock.now();
        let mut worked = 0;
        loop {
            match self.claim(now, 1).await {
                Ok((0, _)) => break,
                Ok((_, admitted)) => {
                    for (record, permit) in admitted {
                        self.work(record, permit).await;
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
