//! Store as a machine reaches it: slow at times, unreachable at times, before or after a call took
//! effect.
//!
//! A call and its record by the witness are one step: no other such call comes between, and
//! dropping the caller does not divide it. Otherwise the witness would see the effects of calls in
//! another order than a database, or miss one.

use crate::{
    dice::{Dice, SharedDice},
    life::Life,
    time::{MachineClock, SimClock},
    trace::Trace,
    witness::Witness,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::{Window, oauth::TokenSet};
use px_core::Clock as _;
use px_items::{
    connection::Connection,
    merge::{KnownAccount, KnownTransaction},
    partners::{PartnerUpdate, PartnerUpdated},
    review::Evidence,
    store::{
        Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
        Disconnection, Fence, ItemRecord, KeyUsage, Linked, ListedItem, LostTokens, NewLink,
        NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, QueuedWebhook,
        ResealPosition, Resealed, Result, Review, Revocation, RevocationDecision, RevocationStart,
        Ruling, Signals, Store, StoreError, StoreErrorKind, Ticket, TicketDigest, TicketKind,
        TransactionPage, TransactionQuery, Unlinked, UpdateCount, WebhookSettlement,
    },
};
use px_types::{
    ActivityId, ApplicationId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security},
    webhook::Environment,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Fault rates of the way to the store, per thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreRates {
    pub(crate) slow: u64,
    pub(crate) fails_before: u64,
    pub(crate) fails_after: u64,
}

impl StoreRates {
    /// Returns random rates; in one of three runs a store without faults.
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let worst = dice.pick(&[0, 4, 20]).copied().unwrap_or_default();
        Self {
            slow: dice.below(worst + 1),
            fails_before: dice.below(worst + 1),
            fails_after: dice.below(worst + 1),
        }
    }
}

impl StoreRates {
    /// Returns whether calls never fail.
    pub(crate) fn is_good(&self) -> bool {
        self.fails_before == 0 && self.fails_after == 0
    }
}

/// Store as one machine reaches it.
pub(crate) struct WatchedStore {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) life: Arc<Life>,
    pub(crate) rates: StoreRates,
    pub(crate) bad: Arc<AtomicBool>,
    pub(crate) dice: SharedDice,
    pub(crate) clock: SimClock,
    pub(crate) trace: Arc<Trace>,
    /// Whether the last save of tokens failed. The next one must not fail: tokens that are never
    /// saved end the user's authorization, and no program can prevent that.
    pub(crate) spare_next_save: AtomicBool,
    /// Clock of the machine, if it has its own.
    pub(crate) machine: Option<MachineClock>,
    /// Whether a sabotage returns the machine's own time as the store's.
    pub(crate) compares_with_itself: bool,
}

/// Time for which a machine may continue to work after its clock was set, because it may not have
/// noticed.
const UNNOTICED: Duration = Duration::from_secs(900);

impl std::fmt::Debug for WatchedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WatchedStore").field(&self.life.name).finish()
    }
}

impl WatchedStore {
    fn is_bad(&self) -> bool {
        self.bad.load(Ordering::Relaxed)
    }

    /// Simulates the way there. On an error the call took no effect.
    async fn before(&self, what: &str) -> Result<()> {
        self.life.gate(is_work(what)).await;
        let (fails, slow, wait) = self.dice.throw(|dice| {
            let slow = dice.chance(self.rates.slow);
            let wait = if slow { dice.between(500, 5000) } else { dice.below(8) };
            (dice.chance(self.rates.fails_before), slow, wait)
        });
        if wait > 0 && (!slow || self.is_bad()) {
            self.clock.sleep(Duration::from_millis(wait)).await;
        }
        self.life.gate(is_work(what)).await;
        if fails && self.is_bad() && self.may_fail(what) {
            self.trace.note(&self.life.name, format_args!("store: {what} did not get there"));
            return Err(StoreError::new(StoreErrorKind::Unavailable, "the store is out of reach"));
        }
        Ok(())
    }

    /// Makes a call that the witness sees: the way there, the call with its record, the way back.
    async fn step<T: Send + 'static>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.before(what).await?;
        let turn = self.witness.turn.clone();
        let step = tokio::spawn(async move {
            let _turn = turn.lock().await;
            call.await
        });
        let result = step.await.unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()));
        self.after(what, result).await
    }

    /// Returns owned handles for a step, which may outlive its caller.
    fn watch(&self) -> (Arc<dyn Store>, Arc<Witness>, Arc<Life>) {
        (self.inner.clone(), self.witness.clone(), self.life.clone())
    }

    /// Simulates the way back. On an error the call took effect, and the machine does not know it.
    async fn after<T>(&self, what: &str, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            let kind = error.kind();
            self.trace.note(&self.life.name, format_args!("store: {what}: {kind:?}"));
        }
        let (fails, wait) =
            self.dice.throw(|dice| (dice.chance(self.rates.fails_after), dice.below(8)));
        if wait > 0 {
            self.clock.sleep(Duration::from_millis(wait)).await;
        }
        self.life.gate(is_work(what)).await;
        if fails && self.is_bad() && self.may_fail(what) {
            self.trace.note(&self.life.name, format_args!("store: {what}: answer lost"));
            return Err(StoreError::new(StoreErrorKind::Unavailable, "the store went away"));
        }
        result
    }

    /// Reports a machine that works by a clock that has been wrong for long.
    fn check_clock(&self, what: &str) {
        let Some(machine) = &self.machine else { return };
        if machine.is_far_off_for(UNNOTICED) {
            let (name, ahead) = (&self.life.name, machine.ahead());
            self.trace.wrong(format!("{name} works by a clock that is {ahead} ahead: {what}"));
        }
    }

    fn may_fail(&self, what: &str) -> bool {
        what != "save_tokens" || !self.spare_next_save.swap(true, Ordering::Relaxed)
    }
}

/// Returns whether a call is more than a poll.
fn is_work(what: &str) -> bool {
    !what.starts_with("claim")
}

#[async_trait]
impl Store for WatchedStore {
    fn signals(&self) -> &Signals {
        self.inner.signals()
    }

    fn environment(&self) -> &Environment {
        self.inner.environment()
    }

    async fn time(&self) -> Result<Option<DateTime<Utc>>> {
        match &self.machine {
            Some(machine) if self.compares_with_itself => Ok(Some(machine.now())),
            _ => self.inner.time().await,
        }
    }

    async fn link(&self, new: NewLink) -> Result<Linked> {
        let (store, witness, life) = self.watch();
        self.step("link", async move {
            let old = witness.before_link(&*store, &new).await;
            let linked = store.link(new.clone()).await?;
            witness.linked(&*store, &life, &new, &linked, old).await;
            Ok(linked)
        })
        .await
    }

    async fn leave(&self, leave: &Disconnection) -> Result<Unlinked> {
        let ((store, witness, life), leave) = (self.watch(), leave.clone());
        self.step("leave", async move {
            let unlinked = store.leave(&leave).await?;
            let (item, application) = (&leave.item_id, leave.application_id.as_ref());
            witness.unlinked(&life, item, application, unlinked);
            Ok(unlinked)
        })
        .await
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let ((store, witness, life), change) = (self.watch(), change.clone());
        self.step("change", async move {
            let changed = store.change(&change).await?;
            if changed == Changed::Done {
                witness.connection_changed(&*store, &life, &change).await;
            }
            Ok(changed)
        })
        .await
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        self.before("connections").await?;
        let result = self.inner.connections(item).await;
        self.after("connections", result).await
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        self.before("access").await?;
        let result = self.inner.access(token).await;
        self.after("access", result).await
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        self.before("replace_access").await?;
        let result = self.inner.replace_access(old, new).await;
        self.after("replace_access", result).await
    }

    async fn set_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        self.before("give_access").await?;
        let result = self.inner.set_access(item, application, new).await;
        self.after("give_access", result).await
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        self.before("activities").await?;
        let result = self.inner.activities(item, after, limit).await;
        self.after("activities", result).await
    }

    async fn record_reads(&self, reads: &[DataRead]) -> Result<()> {
        self.before("note_reads").await?;
        let result = self.inner.record_reads(reads).await;
        self.after("note_reads", result).await
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        self.before("last_reads").await?;
        let result = self.inner.last_reads(item).await;
        self.after("last_reads", result).await
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        self.before("put_ticket").await?;
        let result = self.inner.put_ticket(ticket).await;
        self.after("put_ticket", result).await
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        self.before("ticket").await?;
        let result = self.inner.ticket(digest, kind, now).await;
        self.after("ticket", result).await
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        self.before("take_ticket").await?;
        let result = self.inner.take_ticket(digest, kind, now).await;
        self.after("take_ticket", result).await
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        self.before("exchange").await?;
        let result = self.inner.exchange(digest, application, new, now).await;
        self.after("exchange", result).await
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        self.before("purge_tickets").await?;
        let result = self.inner.purge_tickets(now, limit).await;
        self.after("purge_tickets", result).await
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        self.before("item").await?;
        let result = self.inner.item(item).await;
        self.after("item", result).await
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        self.before("find").await?;
        let result = self.inner.find(institution, user).await;
        self.after("find", result).await
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        self.before("accounts").await?;
        let result = self.inner.accounts(item).await;
        self.after("accounts", result).await
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        self.before("identities").await?;
        let result = self.inner.identities(item).await;
        self.after("identities", result).await
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        self.before("securities").await?;
        let result = self.inner.securities(item).await;
        self.after("securities", result).await
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        self.before("transactions").await?;
        let result = self.inner.transactions(item, query).await;
        self.after("transactions", result).await
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        self.before("changes").await?;
        let result = self.inner.changes(item, query).await;
        self.after("changes", result).await
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let (store, witness, life) = self.watch();
        self.check_clock("claim");
        self.step("claim", async move {
            let records = store.claim(now, lease_until, limit).await?;
            witness.claim_made(&life, &records);
            for record in &records {
                witness.claimed(&life, record, lease_until);
            }
            Ok(records)
        })
        .await
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let (store, witness, life) = self.watch();
        self.check_clock("claim_refreshes");
        self.step("claim_refreshes", async move {
            let records = store.claim_refreshes(now, lease_until, limit).await?;
            for record in &records {
                witness.claimed(&life, record, lease_until);
            }
            Ok(records)
        })
        .await
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let ((store, witness, life), item) = (self.watch(), item.clone());
        self.step("claim_one", async move {
            let record = store.claim_one(&item, now, lease_until).await?;
            if let Some(record) = &record {
                witness.claimed(&life, record, lease_until);
            }
            Ok(record)
        })
        .await
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        self.before("lease_permits").await?;
        let result = self.inner.lease_permits(lease).await;
        self.after("lease_permits", result).await
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        self.before("update_partner").await?;
        let result = self.inner.update_partner(update).await;
        self.after("update_partner", result).await
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        let ((store, witness, _), item) = (self.watch(), item.clone());
        self.step("renew", async move {
            let renewed = store.renew(&item, fence, lease_until).await?;
            if renewed {
                witness.renewed(&item, fence, lease_until);
            }
            Ok(renewed)
        })
        .await
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        let ((store, witness, life), items) = (self.watch(), items.to_vec());
        self.step("hand_back", async move {
            store.hand_back(&items).await?;
            for (item, fence, _) in &items {
                witness.released(&life, item, *fence);
            }
            Ok(())
        })
        .await
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        self.before("known").await?;
        let result = self.inner.known(item, window, ids).await;
        self.after("known", result).await
    }

    async fn commit(&self, commit: Commit) -> Result<()> {
        let (store, witness, life) = self.watch();
        self.check_clock("commit");
        self.step("commit", async move {
            let before = witness.before_commit(&*store, &commit).await;
            match store.commit(commit.clone()).await {
                Ok(()) => witness.committed(&*store, &life, &commit, before).await,
                Err(error) => {
                    if error.kind() == StoreErrorKind::Fenced {
                        witness.fenced(&commit.item_id, commit.fence);
                    }
                    return Err(error);
                }
            }
            Ok(())
        })
        .await
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        self.before("tokens").await?;
        let result = self.inner.tokens(item).await;
        self.after("tokens", result).await
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        let ((store, witness, life), item) = (self.watch(), item.clone());
        let tokens = tokens.clone();
        let result = self.step("save_tokens", async move {
            let saved = store.save_tokens(&item, version, &tokens).await?;
            if saved {
                witness.saved_tokens(&life, &item, &tokens).await;
            }
            Ok(saved)
        });
        let result = result.await;
        if result.is_ok() {
            self.spare_next_save.store(false, Ordering::Relaxed);
        }
        result
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        self.before("begin_refresh").await?;
        let result = self.inner.begin_refresh(item, version, now).await;
        self.after("begin_refresh", result).await
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        self.before("end_refresh").await?;
        let result = self.inner.end_refresh(item, version).await;
        self.after("end_refresh", result).await
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        self.check_clock("claim_revocations");
        self.before("claim_revocations").await?;
        let result = self.inner.claim_revocations(now, lease_until, limit).await;
        self.after("claim_revocations", result).await
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision> {
        self.before("begin_revocation").await?;
        let result = self.inner.begin_revocation(start).await;
        self.after("begin_revocation", result).await
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        self.before("revoke_lost").await?;
        let result = self.inner.revoke_lost(lost).await;
        self.after("revoke_lost", result).await
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        self.before("settle_revocation").await?;
        let result = self.inner.settle_revocation(revocation, again_at).await;
        self.after("settle_revocation", result).await
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        self.before("notify").await?;
        let result = self.inner.notify(batch).await;
        self.after("notify", result).await
    }

    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        self.check_clock("claim_webhooks");
        self.before("claim_webhooks").await?;
        let result = self.inner.claim_webhooks(now, lease_until, limit).await;
        self.after("claim_webhooks", result).await
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        let ((store, witness, life), settlements) = (self.watch(), settlements.to_vec());
        self.step("settle_webhooks", async move {
            store.settle_webhooks(&settlements).await?;
            for ended in settlements.iter().filter(|settled| settled.again_at.is_none()) {
                witness.settled(&life, &ended.webhook);
            }
            Ok(())
        })
        .await
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        self.before("hand_back_webhooks").await?;
        let result = self.inner.hand_back_webhooks(webhooks).await;
        self.after("hand_back_webhooks", result).await
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        self.before("reviews").await?;
        let result = self.inner.reviews(institution, after, limit).await;
        self.after("reviews", result).await
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        self.before("evidence").await?;
        let result = self.inner.evidence(institution, since).await;
        self.after("evidence", result).await
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        self.before("count_updates").await?;
        let result = self.inner.count_updates(counts).await;
        self.after("count_updates", result).await
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        self.before("put_ruling").await?;
        let result = self.inner.put_ruling(ruling).await;
        self.after("put_ruling", result).await
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        self.before("ruling").await?;
        let result = self.inner.ruling(institution).await;
        self.after("ruling", result).await
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        self.before("end_ruling").await?;
        let result = self.inner.end_ruling(institution).await;
        self.after("end_ruling", result).await
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        self.inner.overview(now).await
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        self.inner.list(after, limit).await
    }

    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        self.inner.key_usage().await
    }

    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed> {
        self.inner.reseal(position, limit).await
    }

    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        self.before("purge").await?;
        let result = self.inner.purge(removed_before, limit).await;
        self.after("purge", result).await
    }
}
