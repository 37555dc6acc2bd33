//! One engine, one store, one bank, and a manual clock.

use super::bank::Bank;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{Window, oauth::TokenSet};
use px_core::{Clock, LocalClock, SeededRandom, SystemClock};
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Observer, Report, Settings},
    merge::{KnownAccount, KnownTransaction},
    partners::{CallLimits, FixedPartners, Partner, PartnerUpdate, PartnerUpdated},
    review::Evidence,
    store::{
        Access, AccessDigest, ChangePage, ChangeQuery, Changed, Commit, ConnectionChange, DataRead,
        Disconnection, Fence, ItemRecord, KeyUsage, Linked, ListedItem, LostTokens, MemoryStore,
        NewHolder, NewLink, NotificationRequest, NotifyBatch, NotifyOutcome, Overview, PermitLease,
        PermitShare, QueuedWebhook, ResealPosition, Resealed, Result, Review, Revocation,
        RevocationDecision, RevocationStart, Ruling, Signals, Store, StoreError, StoreErrorKind,
        Ticket, TicketDigest, TicketKind, TransactionPage, TransactionQuery, Unlinked, UpdateCount,
        WebhookSettlement,
    },
};
use px_types::{
    ActivityId, ApplicationId, Date, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{
        activity::Activity, identity::Identity, product::Product, security::Security,
        transaction::Transaction,
    },
    webhook::Environment,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Decides whether a call to the store fails.
type Fault = Box<dyn FnMut(&'static str) -> Option<StoreErrorKind> + Send>;

/// A store in memory with delays and scripted faults.
pub(crate) struct SlowStore {
    pub(crate) inner: MemoryStore,
    fault: Mutex<Option<Fault>>,
    pub(crate) commits: Mutex<Vec<Commit>>,
    pub(crate) change_queries: Mutex<Vec<ChangeQuery>>,
}

impl SlowStore {
    pub(crate) fn over(inner: MemoryStore) -> Self {
        Self {
            inner,
            fault: Mutex::default(),
            commits: Mutex::default(),
            change_queries: Mutex::default(),
        }
    }

    pub(crate) fn fails(
        &self,
        fault: impl FnMut(&'static str) -> Option<StoreErrorKind> + Send + 'static,
    ) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(fault));
    }

    pub(crate) fn works(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn before(&self, what: &'static str) -> Result<()> {
        tokio::task::yield_now().await;
        // A fault may be a panic.
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = fault.as_mut().and_then(|fault| fault(what));
        fault.map_or(Ok(()), |kind| Err(StoreError::new(kind, "as the test wants it")))
    }
}

impl std::fmt::Debug for SlowStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlowStore")
    }
}

/// Records the events of the engine.
#[derive(Debug, Default)]
pub(crate) struct EventLog(pub(crate) Mutex<Vec<Observed>>);

impl Observer for EventLog {
    fn observe(&self, event: &Observed) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl EventLog {
    /// Returns the reports of work, in order.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let notes = self.0.lock().unwrap();
        notes
            .iter()
            .filter_map(|event| match event {
                Observed::Ended(report) => Some(report.clone()),
                _ => None,
            })
            .collect()
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<SlowStore>,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) bank: Arc<Bank>,
    pub(crate) engine: Engine,
    pub(crate) notes: Arc<EventLog>,
    links: Mutex<u32>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default(), CallLimits::default())
    }

    pub(crate) fn with(settings: Settings, budget: CallLimits) -> Self {
        let clock = Arc::new(SystemClock::starting_at("2026-11-23T12:00:00Z".parse().unwrap()));
        let bank = Bank::new(Arc::clone(&clock) as _);
        let shared = Arc::new(LocalClock::new(clock.clone()));
        let store = MemoryStore::new(Environment::Sandbox).shared_clock(shared, clock.clone());
        let store = Arc::new(SlowStore::over(store));
        let notes = Arc::new(EventLog::default());
        let engine = engine(&store, &clock, &[("bank", &bank, budget)], settings, &notes);
        Self { store, clock, bank, engine, notes, links: Mutex::new(0) }
    }

    /// Creates the engine of another process on the same store.
    pub(crate) fn another_engine(&self) -> Engine {
        let partners = [("bank", &self.bank, CallLimits::default())];
        engine(&self.store, &self.clock, &partners, Settings::default(), &self.notes)
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns today's date at the bank.
    pub(crate) fn today(&self) -> Date {
        Date::from(self.now().date_naive())
    }

    pub(crate) fn days_ago(&self, days: u64) -> Date {
        self.today().minus_days(days)
    }

    pub(crate) async fn pass(&self, time: TimeDelta) {
        self.clock.sleep(time.to_std().unwrap()).await;
    }

    /// Connects an application that uses products.
    pub(crate) async fn link_as(
        &self,
        user: (&str, &str),
        application: &str,
        products: &[Product],
        tokens: TokenSet,
    ) -> ItemId {
        self.link_at(self.now(), user, application, products, tokens).await
    }

    /// Connects an application at a given time. The Item is due from then on.
    pub(crate) async fn link_at(
        &self,
        at: DateTime<Utc>,
        (institution, user): (&str, &str),
        application: &str,
        products: &[Product],
        tokens: TokenSet,
    ) -> ItemId {
        let number = {
            let mut links = self.links.lock().unwrap();
            *links += 1;
            *links
        };
        let mut connection =
            Connection::new(application.parse().unwrap(), products.iter().cloned(), at);
        connection.webhook = Some(format!("https://{application}.example/hook"));
        let new = NewLink::new(
            (institution.parse().unwrap(), user.parse().unwrap()),
            format!("item-{user}").parse().unwrap(),
            tokens,
            NewHolder::Application(connection),
            digest(number),
            at,
        );
        self.store.inner.link(new).await.unwrap().item_id
    }

    /// Connects an application that needs transactions, with tokens that do not expire.
    pub(crate) async fn link(&self) -> ItemId {
        let tokens = self.bank.tokens(false);
        self.link_as(("bank", "u-1"), "app-1", &[Product::Transactions], tokens).await
    }

    /// The same with tokens that are refreshed.
    pub(crate) async fn link_with_refresh(&self) -> ItemId {
        let tokens = self.bank.tokens(true);
        self.link_as(("bank", "u-1"), "app-1", &[Product::Transactions], tokens).await
    }

    pub(crate) async fn record(&self, item: &ItemId) -> ItemRecord {
        self.store.inner.item(item).await.unwrap().unwrap()
    }

    /// Sends a notification for the Item of the first link.
    pub(crate) async fn notify(&self, request: NotificationRequest) {
        let entries = vec![(digest(1), request)];
        let batch = NotifyBatch::new("bank".parse().unwrap(), entries, self.now());
        assert_eq!(self.store.inner.notify(&batch).await.unwrap(), NotifyOutcome::Applied);
    }

    /// Returns all stored rows, by id.
    pub(crate) async fn stored(&self, item: &ItemId) -> BTreeMap<TransactionId, Transaction> {
        let window = Window::new(self.days_ago(5000), self.today().plus_days(100)).unwrap();
        let query = TransactionQuery::new(window, 1_000_000);
        let page = self.store.inner.transactions(item, &query).await.unwrap();
        assert_eq!(page.total, Some(page.rows.len() as u64));
        page.rows.into_iter().map(|row| (row.id.clone(), row)).collect()
    }

    /// Asserts that the store has the rows of the bank: nothing lost, nothing twice.
    pub(crate) async fn assert_equal(&self, item: &ItemId) {
        let stored = self.stored(item).await;
        let bank = self.bank.data().rows.clone();
        let less = |one: &BTreeMap<_, _>, other: &BTreeMap<TransactionId, Transaction>| {
            let differs = |(id, row): &(&TransactionId, &Transaction)| other.get(*id) != Some(row);
            one.iter().filter(differs).map(|(id, _)| id.to_string()).collect::<Vec<_>>()
        };
        let (lost, wrong) = (less(&bank, &stored), less(&stored, &bank));
        assert!(lost.is_empty() && wrong.is_empty(), "lost {lost:?}, wrong {wrong:?}");
    }

    /// Returns the codes of all queued webhooks, in order.
    pub(crate) async fn queued_webhooks(&self) -> Vec<String> {
        let until = self.now() + TimeDelta::hours(1);
        let webhooks = self.store.inner.claim_webhooks(self.now(), until, 1000).await.unwrap();
        let mut codes = Vec::new();
        for webhook in webhooks {
            let body: serde_json::Value = serde_json::from_str(&webhook.body).unwrap();
            codes.push(format!(
                "{} {}",
                webhook.application_id,
                body["webhook_code"].as_str().unwrap()
            ));
            self.store.inner.settle_webhook(&webhook, None).await.unwrap();
        }
        codes
    }
}

pub(crate) fn engine(
    store: &Arc<SlowStore>,
    clock: &Arc<SystemClock>,
    banks: &[(&str, &Arc<Bank>, CallLimits)],
    settings: Settings,
    notes: &Arc<EventLog>,
) -> Engine {
    static NEXT: AtomicU64 = AtomicU64::new(7);
    let mut partners = FixedPartners::new();
    for (id, bank, budget) in banks {
        let mut partner = Partner::new(bank.client(Arc::clone(clock) as _));
        partner.budget = *budget;
        partners = partners.with(id.parse().unwrap(), partner);
    }
    Engine::builder(Arc::clone(store) as _, Arc::new(partners))
        .clock(Arc::clone(clock) as _)
        // Each process draws other numbers: its permits are leased under one of them.
        .random(Arc::new(SeededRandom::new(NEXT.fetch_add(1, Ordering::Relaxed))))
        .settings(settings)
        .observer(Arc::clone(notes) as _)
        .build()
}

/// Runs a future and returns whether it completed within a number of polls. Then it is dropped, as
/// by a kill.
pub(crate) async fn polls(future: impl Future, most: usize) -> bool {
    let mut future = std::pin::pin!(future);
    for _ in 0..most {
        if futures_util::poll!(future.as_mut()).is_ready() {
            return true;
        }
        // Other tasks make progress; time does not.
        tokio::task::yield_now().await;
    }
    false
}

/// Returns the digest of the token that the link of that number returned.
fn digest(number: u32) -> AccessDigest {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    AccessDigest(bytes)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[async_trait]
impl Store for SlowStore {
    fn signals(&self) -> &Signals {
        self.inner.signals()
    }

    fn environment(&self) -> &Environment {
        self.inner.environment()
    }

    async fn time(&self) -> Result<Option<DateTime<Utc>>> {
        self.inner.time().await
    }

    async fn link(&self, new: NewLink) -> Result<Linked> {
        self.before("link").await?;
        let done = self.inner.link(new).await;
        tokio::task::yield_now().await;
        done
    }

    async fn leave(&self, leave: &Disconnection) -> Result<Unlinked> {
        self.before("leave").await?;
        let done = self.inner.leave(leave).await;
        tokio::task::yield_now().await;
        done
    }

    async fn change(&self, change: &ConnectionChange) -> Result<Changed> {
        self.before("change").await?;
        let done = self.inner.change(change).await;
        tokio::task::yield_now().await;
        done
    }

    async fn connections(&self, item: &ItemId) -> Result<Vec<Connection>> {
        self.before("connections").await?;
        let done = self.inner.connections(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        self.before("access").await?;
        let done = self.inner.access(token).await;
        tokio::task::yield_now().await;
        done
    }

    async fn replace_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        self.before("replace_access").await?;
        let done = self.inner.replace_access(old, new).await;
        tokio::task::yield_now().await;
        done
    }

    async fn set_access(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        self.before("give_access").await?;
        let done = self.inner.set_access(item, application, new).await;
        tokio::task::yield_now().await;
        done
    }

    async fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        self.before("activities").await?;
        let done = self.inner.activities(item, after, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn record_reads(&self, reads: &[DataRead]) -> Result<()> {
        self.before("note_reads").await?;
        let done = self.inner.record_reads(reads).await;
        tokio::task::yield_now().await;
        done
    }

    async fn last_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        self.before("last_reads").await?;
        let done = self.inner.last_reads(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn put_ticket(&self, ticket: &Ticket) -> Result<()> {
        self.before("put_ticket").await?;
        let done = self.inner.put_ticket(ticket).await;
        tokio::task::yield_now().await;
        done
    }

    async fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        self.before("ticket").await?;
        let done = self.inner.ticket(digest, kind, now).await;
        tokio::task::yield_now().await;
        done
    }

    async fn take_ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Result<Option<Ticket>> {
        self.before("take_ticket").await?;
        let done = self.inner.take_ticket(digest, kind, now).await;
        tokio::task::yield_now().await;
        done
    }

    async fn exchange(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        self.before("exchange").await?;
        let done = self.inner.exchange(digest, application, new, now).await;
        tokio::task::yield_now().await;
        done
    }

    async fn purge_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        self.before("purge_tickets").await?;
        let done = self.inner.purge_tickets(now, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        self.before("item").await?;
        let done = self.inner.item(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn find(&self, institution: &InstitutionId, user: &UserId) -> Result<Option<ItemId>> {
        self.before("find").await?;
        let done = self.inner.find(institution, user).await;
        tokio::task::yield_now().await;
        done
    }

    async fn accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        self.before("accounts").await?;
        let done = self.inner.accounts(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn identities(&self, item: &ItemId) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        self.before("identities").await?;
        let done = self.inner.identities(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        self.before("securities").await?;
        let done = self.inner.securities(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        self.before("transactions").await?;
        let done = self.inner.transactions(item, query).await;
        tokio::task::yield_now().await;
        done
    }

    async fn changes(&self, item: &ItemId, query: &ChangeQuery) -> Result<ChangePage> {
        self.before("changes").await?;
        self.change_queries.lock().unwrap().push(query.clone());
        let done = self.inner.changes(item, query).await;
        tokio::task::yield_now().await;
        done
    }

    async fn claim(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        self.before("claim").await?;
        let done = self.inner.claim(now, lease_until, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn claim_refreshes(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        self.before("claim_refreshes").await?;
        let done = self.inner.claim_refreshes(now, lease_until, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn claim_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        self.before("claim_one").await?;
        let done = self.inner.claim_one(item, now, lease_until).await;
        tokio::task::yield_now().await;
        done
    }

    async fn lease_permits(&self, lease: &PermitLease) -> Result<PermitShare> {
        self.before("lease_permits").await?;
        let done = self.inner.lease_permits(lease).await;
        tokio::task::yield_now().await;
        done
    }

    async fn update_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        self.before("update_partner").await?;
        let done = self.inner.update_partner(update).await;
        tokio::task::yield_now().await;
        done
    }

    async fn renew(&self, item: &ItemId, fence: Fence, lease_until: DateTime<Utc>) -> Result<bool> {
        self.before("renew").await?;
        let done = self.inner.renew(item, fence, lease_until).await;
        tokio::task::yield_now().await;
        done
    }

    async fn hand_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        self.before("hand_back").await?;
        let done = self.inner.hand_back(items).await;
        tokio::task::yield_now().await;
        done
    }

    async fn known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        self.before("known").await?;
        let done = self.inner.known(item, window, ids).await;
        tokio::task::yield_now().await;
        done
    }

    async fn commit(&self, commit: Commit) -> Result<()> {
        self.before("commit").await?;
        self.commits.lock().unwrap().push(commit.clone());
        let done = self.inner.commit(commit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        self.before("tokens").await?;
        let done = self.inner.tokens(item).await;
        tokio::task::yield_now().await;
        done
    }

    async fn save_tokens(&self, item: &ItemId, version: u64, tokens: &TokenSet) -> Result<bool> {
        self.before("save_tokens").await?;
        let done = self.inner.save_tokens(item, version, tokens).await;
        tokio::task::yield_now().await;
        done
    }

    async fn begin_refresh(&self, item: &ItemId, version: u64, now: DateTime<Utc>) -> Result<bool> {
        self.before("begin_refresh").await?;
        let done = self.inner.begin_refresh(item, version, now).await;
        tokio::task::yield_now().await;
        done
    }

    async fn end_refresh(&self, item: &ItemId, version: u64) -> Result<()> {
        self.before("end_refresh").await?;
        let done = self.inner.end_refresh(item, version).await;
        tokio::task::yield_now().await;
        done
    }

    async fn claim_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        self.before("claim_revocations").await?;
        let done = self.inner.claim_revocations(now, lease_until, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn begin_revocation(&self, start: RevocationStart<'_>) -> Result<RevocationDecision> {
        self.before("begin_revocation").await?;
        let done = self.inner.begin_revocation(start).await;
        tokio::task::yield_now().await;
        done
    }

    async fn revoke_lost(&self, lost: &LostTokens) -> Result<bool> {
        self.before("revoke_lost").await?;
        let done = self.inner.revoke_lost(lost).await;
        tokio::task::yield_now().await;
        done
    }

    async fn settle_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        self.before("settle_revocation").await?;
        let done = self.inner.settle_revocation(revocation, again_at).await;
        tokio::task::yield_now().await;
        done
    }

    async fn notify(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        self.before("notify").await?;
        let done = self.inner.notify(batch).await;
        tokio::task::yield_now().await;
        done
    }

    async fn claim_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        self.before("claim_webhooks").await?;
        let done = self.inner.claim_webhooks(now, lease_until, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn settle_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        self.before("settle_webhooks").await?;
        let done = self.inner.settle_webhooks(settlements).await;
        tokio::task::yield_now().await;
        done
    }

    async fn hand_back_webhooks(&self, webhooks: &[(QueuedWebhook, DateTime<Utc>)]) -> Result<()> {
        self.before("hand_back_webhooks").await?;
        let done = self.inner.hand_back_webhooks(webhooks).await;
        tokio::task::yield_now().await;
        done
    }

    async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        self.before("reviews").await?;
        let done = self.inner.reviews(institution, after, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        self.before("evidence").await?;
        let done = self.inner.evidence(institution, since).await;
        tokio::task::yield_now().await;
        done
    }

    async fn count_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        self.before("count_updates").await?;
        let done = self.inner.count_updates(counts).await;
        tokio::task::yield_now().await;
        done
    }

    async fn put_ruling(&self, ruling: &Ruling) -> Result<()> {
        self.before("put_ruling").await?;
        let done = self.inner.put_ruling(ruling).await;
        tokio::task::yield_now().await;
        done
    }

    async fn ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        self.before("ruling").await?;
        let done = self.inner.ruling(institution).await;
        tokio::task::yield_now().await;
        done
    }

    async fn end_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        self.before("end_ruling").await?;
        let done = self.inner.end_ruling(institution).await;
        tokio::task::yield_now().await;
        done
    }

    async fn overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        self.before("overview").await?;
        let done = self.inner.overview(now).await;
        tokio::task::yield_now().await;
        done
    }

    async fn key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        self.inner.key_usage().await
    }

    async fn reseal(&self, position: &ResealPosition, limit: usize) -> Result<Resealed> {
        self.inner.reseal(position, limit).await
    }

    async fn purge(&self, removed_before: DateTime<Utc>, limit: usize) -> Result<u64> {
        self.before("purge").await?;
        let done = self.inner.purge(removed_before, limit).await;
        tokio::task::yield_now().await;
        done
    }

    async fn list(&self, after: Option<&ItemId>, limit: usize) -> Result<Vec<ListedItem>> {
        self.before("list").await?;
        let done = self.inner.list(after, limit).await;
        tokio::task::yield_now().await;
        done
    }
}
