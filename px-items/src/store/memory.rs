//! A store in memory, for tests, simulations, and programs that need no persistence.
//!
//! It gives every guarantee except durability, and is deterministic: nothing in it depends on
//! chance or on the machine. A single lock is held only while a call computes.

mod links;
mod log;
mod reads;
mod review;
mod work;

use super::{
    Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataKind,
    DataRead, Disconnection, Fence, ItemRecord, KeyUsage, Linked, ListedItem, LostTokens, NewLink,
    NotifyBatch, NotifyOutcome, Overview, PermitLease, PermitShare, QueuedWebhook, ResealPosition,
    Resealed, Result, Review, Revocation, RevocationDecision, RevocationStart, Ruling, Signal,
    Signals, Store, Ticket, TicketDigest, TicketKind, TransactionPage, TransactionQuery, Unlinked,
    UpdateCount, WebhookSettlement,
    clock::{Cap, StoreTime},
    rules,
};
use crate::{
    connection::Connection,
    item::State,
    merge::{AccountStanding, KnownAccount, KnownTransaction},
    partners::{PartnerState, PartnerUpdate, PartnerUpdated},
    review::Evidence,
    sync_state::SyncState,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::{Window, oauth::TokenSet};
use px_core::{Clock, SeededRandom, SharedClock};
use px_types::{
    AccountId, ActivityId, ApplicationId, Date, IdentityId, InstitutionId, ItemId, SecurityId,
    TransactionId, UserId,
    model::{activity::Activity, identity::Identity, security::Security, transaction::Transaction},
    webhook::Environment,
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A store in memory. See [`Store`].
pub struct MemoryStore {
    environment: Environment,
    inner: Mutex<MemoryState>,
    signals: Signals,
    time: Option<StoreTime>,
}

impl MemoryStore {
    /// Creates an empty store. Every webhook and token names the environment.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self::from_state(MemoryState::new(environment))
    }

    fn from_state(inner: MemoryState) -> Self {
        let environment = inner.environment.clone();
        Self { environment, inner: Mutex::new(inner), signals: Signals::default(), time: None }
    }

    /// Sets the store's own time, which `clock` extrapolates. Without it the store caps no times.
    #[must_use]
    pub fn shared_clock(self, shared: Arc<dyn SharedClock>, clock: Arc<dyn Clock>) -> Self {
        Self { time: Some(StoreTime::shared(shared, clock)), ..self }
    }

    /// Returns the present time and the end of a lease, according to the store's time.
    async fn times(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        match &self.time {
            Some(time) => time.claim(now, lease_until).await,
            None => Ok((now, lease_until)),
        }
    }

    fn cap(&self) -> Cap {
        self.time.as_ref().map_or(Cap::NONE, StoreTime::cap)
    }

    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        // No call panics in the middle of a change, so the data behind a poisoned lock is
        // consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("items", &self.lock().items.len()).finish()
    }
}

/// All stored data.
struct MemoryState {
    environment: Environment,
    /// The seed is the same for every store, so that simulations are repeatable.
    random: SeededRandom,
    last_number: i64,
    items: BTreeMap<ItemId, ItemEntry>,
    keys: BTreeMap<(InstitutionId, UserId), ItemId>,
    access: BTreeMap<AccessDigest, Access>,
    tickets: BTreeMap<TicketDigest, Ticket>,
    outbox: BTreeMap<i64, Queued<QueuedWebhook>>,
    revocations: BTreeMap<i64, Queued<Revocation>>,
    /// Revocations with a request that is being sent: until when, and whether they end the user's grant.
    sent: BTreeMap<i64, (DateTime<Utc>, bool)>,
    /// Number of updates by institution and hour.
    updates: BTreeMap<(InstitutionId, i64), u64>,
    rulings: BTreeMap<InstitutionId, Ruling>,
    /// Permits that each process holds of each partner, and the end of their lease.
    permits: BTreeMap<(InstitutionId, String), (u32, DateTime<Utc>)>,
    partners: BTreeMap<InstitutionId, PartnerState>,
}

/// A message in a queue.
struct Queued<T> {
    due_at: DateTime<Utc>,
    /// Whether the message contains a token.
    secret: bool,
    message: T,
}

/// An Item and its data.
struct ItemEntry {
    institution_id: InstitutionId,
    user_id: UserId,
    created_at: DateTime<Utc>,
    state: State,
    sync_state: SyncState,
    fence: i64,
    due_at: Option<DateTime<Utc>>,
    leased_until: Option<DateTime<Utc>>,
    not_before: Option<DateTime<Utc>>,
    notified: i64,
    notified_since: Option<Date>,
    change_seq: i64,
    /// Number of epochs that its connections have used.
    epochs: u64,
    cycle_tokens: bool,
    refresh_begun_at: Option<DateTime<Utc>>,
    lost_leases: u32,
    token_version: u64,
    /// Token version of the last authorization.
    linked_version: u64,
    tokens: Option<TokenSet>,
    connections: BTreeMap<ApplicationId, Connection>,
    accounts: BTreeMap<AccountId, KnownAccount>,
    identities: Option<(IdentityId, Vec<Identity>)>,
    securities: BTreeMap<SecurityId, Security>,
    transactions: BTreeMap<TransactionId, TransactionRow>,
    /// Activity log, oldest first.
    activities: Vec<Activity>,
    reads: BTreeMap<(ApplicationId, DataKind), DateTime<Utc>>,
    reviews: Vec<Review>,
    /// The partner's ids that decisions replaced, by the Item's own ids.
    moved: BTreeMap<TransactionId, TransactionId>,
}

/// A stored transaction.
struct TransactionRow {
    known: KnownTransaction,
    /// The transaction; `None` once it was removed.
    transaction: Option<Transaction>,
    first_seq: i64,
    added_seq: i64,
    changed_seq: i64,
}

impl MemoryState {
    fn new(environment: Environment) -> Self {
        Self {
            environment,
            random: SeededRandom::new(0),
            last_number: 0,
            items: BTreeMap::new(),
            keys: BTreeMap::new(),
            access: BTreeMap::new(),
            tickets: BTreeMap::new(),
            outbox: BTreeMap::new(),
            revocations: BTreeMap::new(),
            sent: BTreeMap::new(),
            updates: BTreeMap::new(),
            rulings: BTreeMap::new(),
            permits: BTreeMap::new(),
            partners: BTreeMap::new(),
        }
    }

    fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    fn queue(
        &mut self,
        item: &ItemId,
        entries: Vec<rules::OutboxEntry>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let entries = entries.into_iter().map(|webhook| (item, webhook));
        let rules::CoalescedWebhooks { rewritten, added } =
            rules::coalesce(self.unsent(item), entries)?;
        for webhook in rewritten {
            if let Some(queued) = self.outbox.get_mut(&webhook.id) {
                queued.message.body = webhook.body;
            }
        }
        for (item, webhook) in added {
            let id = self.next_number();
            let ids = (item.clone(), webhook.application_id);
            let secret = webhook.secret;
            let message = QueuedWebhook::new(id, ids, (webhook.to, webhook.body), now, 0);
            self.outbox.insert(id, Queued { due_at: now, secret, message });
        }
        Ok(())
    }

    /// Returns the webhooks about an Item that later ones can be merged into.
    fn unsent(&self, item: &ItemId) -> Vec<rules::UnsentWebhook> {
        let unsent = self.outbox.iter().filter(|(_, queued)| {
            queued.message.item_id == *item && queued.message.attempt == 0 && !queued.secret
        });
        let unsent = unsent.filter_map(|(id, queued)| {
            Some(rules::UnsentWebhook {
                id: *id,
                item_id: item.clone(),
                application_id: queued.message.application_id.clone(),
                url: queued.message.to.url()?.to_owned(),
                body: queued.message.body.clone(),
            })
        });
        unsent.collect()
    }

    fn revoke(
        &mut self,
        (item, institution, user): (&ItemId, &InstitutionId, &UserId),
        tokens: TokenSet,
        now: DateTime<Utc>,
    ) {
        let id = self.next_number();
        let ids = (item.clone(), institution.clone(), user.clone());
        let message = Revocation::new(id, ids, tokens, 0, now);
        self.revocations.insert(id, Queued { due_at: now, secret: true, message });
    }
}

impl ItemEntry {
    /// Returns the time from which a worker may claim it: its due time, or the end of its lease.
    fn wake_at(&self) -> Option<DateTime<Utc>> {
        self.leased_until.or(self.due_at)
    }

    /// Makes the Item due at once. If a worker has it, it is due once more after that.
    fn request_update(&mut self, now: DateTime<Utc>) {
        self.notified += 1;
        if self.leased_until.is_none() && !self.state.login_required() {
            self.due_at = Some(rules::due_at_once(self.due_at, self.not_before, now));
        }
    }

    fn all_connections(&self) -> Vec<Connection> {
        self.connections.values().cloned().collect()
    }

    fn needs_transactions(&self) -> bool {
        self.connections.values().any(Connection::needs_transactions)
    }

    fn record(&self, id: &ItemId) -> ItemRecord {
        let pending = self.transactions.values().filter(|row| row.transaction.is_some());
        let pending = pending.filter(|row| row.known.settled.is_none());
        let closed = |row: &&TransactionRow| {
            let account = self.accounts.get(&row.known.account_id);
            account.is_some_and(|known| known.standing == AccountStanding::Closed)
        };
        let pending = pending.filter(|row| !closed(row));
        ItemRecord {
            id: id.clone(),
            institution_id: self.institution_id.clone(),
            user_id: self.user_id.clone(),
            created_at: self.created_at,
            state: self.state,
            sync_state: self.sync_state.clone(),
            fence: Fence(self.fence),
            due_at: self.due_at,
            leased_until: self.leased_until,
            not_before: self.not_before,
            notified: self.notified,
            notified_since: self.notified_since,
            change_seq: self.change_seq,
            oldest_pending: pending.map(|row| row.known.transacted).min(),
            needs_transactions: self.needs_transactions(),
            cycle_tokens: self.cycle_tokens,
            refresh_begun_at: self.refresh_begun_at,
            lost_leases: self.lost_leases,
            took_over: false,
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn environment(&self) -> &Environment {
        &self.environment
    }

    async fn time(&self) -> Result<Option<DateTime<Utc>>> {
        match &self.time {
            Some(time) => time.now().await.map(Some),
            None => Ok(None),
        }
    }

    async fn link(&self, new: NewLink) -> Result<Linked> {
        let linked = self.lock().link(&new)?;
        self.signals.raise_all();
        Ok(linked)
    }

    async fn leave(&self, leave: &Disconnection) -> Result<Unlinked> {
        let unlinked = self.lock().leave(leave)?;
        self.signals.raise_all();
        Ok(unlinked)
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        let changed = self.lock().change(change)?;
        self.signals.raise_all();
        Ok(changed)
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        Ok(self.lock().items.get(item).map(ItemEntry::all_connections).unwrap_or_default())
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        Ok(self.lock().access.get(token).cloned())
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        let mut inner = self.lock();
        let Some(access) = inner.access.remove(old) else { return Ok(false) };
        inner.access.insert(*new, access);
        Ok(true)
    }

    async fn set_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        Ok(self.lock().set_access(item, application, *new))
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        Ok(self.lock().activities(item, after, limit))
    }

    async fn record_reads(&self, reads: &[DataRead]) -> Result<()> {
        self.lock().record_reads(reads);
        Ok(())
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        Ok(self.lock().last_reads(item))
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        self.lock().tickets.insert(ticket.digest, ticket.clone());
        Ok(())
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        Ok(self.lock().ticket(digest, kind, now))
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        Ok(self.lock().take_ticket(digest, kind, now))
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        Ok(self.lock().exchange(digest, application, *new, now))
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        Ok(self.lock().purge_tickets(now, limit))
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        let record = self.lock().items.get(item).map(|entry| entry.record(item));
        Ok(record.map(|record| self.cap().record(record)))
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        Ok(self.lock().keys.get(&(institution.clone(), user.clone())).cloned())
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        Ok(self.lock().read(item, |entry| entry.accounts.values().cloned().collect()))
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        Ok(self.lock().read(item, |entry| entry.identities.clone()))
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        Ok(self.lock().read(item, |entry| entry.securities.values().cloned().collect()))
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        Ok(self.lock().transactions(item, query))
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        Ok(self.lock().changes(item, query))
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let (now, lease_until) = self.times(now, lease_until).await?;
        let claimed = self.lock().claim(now, lease_until, limit)?;
        Ok(claimed.into_iter().map(|record| self.cap().record(record)).collect())
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let (now, lease_until) = self.times(now, lease_until).await?;
        let claimed = self.lock().claim_refreshes(now, lease_until, limit)?;
        Ok(claimed.into_iter().map(|record| self.cap().record(record)).collect())
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (now, lease_until) = self.times(now, lease_until).await?;
        let claimed = self.lock().claim_one(item, now, lease_until)?;
        Ok(claimed.map(|record| self.cap().record(record)))
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        Ok(self.lock().lease_permits(&self.cap().permits(lease)))
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        let mut update = update.clone();
        update.now = self.cap().now(update.now);
        Ok(self.lock().update_partner(&update))
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        Ok(self.lock().renew(item, fence, self.cap().renewed(lease_until)))
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        self.lock().hand_back(items)
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let mut known = self.lock().known(item, window, ids);
        self.cap().known(&mut known);
        Ok(known)
    }

    async fn commit(&self, mut commit: Commit) -> Result<()> {
        self.cap().commit(&mut commit);
        let signals = self.signals.of_commit(&commit);
        self.lock().commit(commit)?;
        signals.into_iter().flatten().for_each(Signal::raise);
        Ok(())
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        Ok(self
            .lock()
            .items
            .get(item)
            .and_then(|entry| Some((entry.tokens.clone()?, entry.token_version))))
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        Ok(self.lock().save_tokens(item, version, tokens))
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        Ok(self.lock().begin_refresh(item, version, self.cap().now(now)))
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        self.lock().end_refresh(item, version);
        Ok(())
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let (now, lease_until) = self.times(now, lease_until).await?;
        let mut inner = self.lock();
        let claimed = take(&mut inner.revocations, (now, lease_until), limit, |revocation| {
            revocation.attempt += 1;
        });
        Ok(claimed)
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision> {
        Ok(self.lock().begin_revocation(start))
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        let queued = self.lock().revoke_lost(lost);
        self.signals.revocations.raise();
        Ok(queued)
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let mut inner = self.lock();
        let mut settled = false;
        settle(&mut inner.revocations, revocation.id, again_at, |stored| {
            settled = stored.attempt == revocation.attempt;
            settled
        });
        if settled {
            inner.sent.remove(&revocation.id);
        }
        Ok(())
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let outcome = self.lock().notify(batch)?;
        if outcome == NotifyOutcome::Applied {
            self.signals.items.raise();
            self.signals.outbox.raise();
        }
        Ok(outcome)
    }

    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        let (now, lease_until) = self.times(now, lease_until).await?;
        let mut inner = self.lock();
        let claimed = take(&mut inner.outbox, (now, lease_until), limit, |webhook| {
            webhook.attempt += 1;
        });
        Ok(claimed)
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        let mut inner = self.lock();
        for settled in settlements {
            settle(&mut inner.outbox, settled.webhook.id, settled.again_at, |stored| {
                stored.attempt == settled.webhook.attempt
            });
        }
        Ok(())
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        let mut inner = self.lock();
        for (webhook, due_at) in webhooks {
            let queued = inner.outbox.get_mut(&webhook.id);
            if let Some(queued) = queued.filter(|queued| queued.message.attempt == webhook.attempt)
            {
                queued.due_at = *due_at;
                queued.message.attempt -= 1;
            }
        }
        Ok(())
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        Ok(self.lock().reviews(institution, after, limit))
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        Ok(self.lock().evidence(institution, since))
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        self.lock().count_updates(counts);
        Ok(())
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        self.lock().rulings.insert(ruling.institution_id.clone(), ruling.clone());
        Ok(())
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        Ok(self.lock().rulings.get(institution).cloned())
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        Ok(self.lock().rulings.remove(institution).is_some())
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        Ok(self.lock().overview(now))
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        let records = self.lock().list(after, limit).into_iter();
        Ok(records.map(|record| ListedItem::Readable(Box::new(record))).collect())
    }

    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        Ok(self.lock().purge(removed_before, limit))
    }

    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        Ok(BTreeMap::new())
    }

    async fn reseal(&self, _: &ResealPosition, _: usize) -> Result<Resealed> {
        Ok(Resealed::default())
    }
}

/// Claims due messages, the longest due first.
fn take<T: Clone>(
    queue: &mut BTreeMap<i64, Queued<T>>,
    (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
    limit: usize,
    count: impl Fn(&mut T),
) -> Vec<T> {
    let due = queue.iter().filter(|(_, queued)| queued.due_at <= now);
    let mut due: Vec<_> = due.map(|(id, queued)| (queued.due_at, *id)).collect();
    due.sort_unstable();
    due.truncate(limit);
    let mut taken = Vec::with_capacity(due.len());
    for (_, id) in due {
        if let Some(queued) = queue.get_mut(&id) {
            queued.due_at = lease_until;
            count(&mut queued.message);
            taken.push(queued.message.clone());
        }
    }
    taken
}

/// Removes a claimed message, or defers it. Does nothing if it was claimed again meanwhile.
fn settle<T>(
    queue: &mut BTreeMap<i64, Queued<T>>,
    id: i64,
    again_at: Option<DateTime<Utc>>,
    is_present: impl FnOnce(&T) -> bool,
) {
    let Some(queued) = queue.get_mut(&id).filter(|queued| is_present(&queued.message)) else {
        return;
    };
    match again_at {
        Some(again_at) => queued.due_at = again_at,
        None => drop(queue.remove(&id)),
    }
}
