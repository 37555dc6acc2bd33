//! Sees every change that took effect in the store, in order, and holds it against the promises:
//! fences, permissions, webhooks, authorizations.
//!
//! It knows nothing of how a store or a worker is made. What it says of permissions it works out
//! itself, from what users chose.

use crate::{bank::Bank, life::Life, time::SimClock, trace::Trace};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::oauth::TokenSet;
use px_core::Clock as _;
use px_items::{
    connection::Connection,
    item::State,
    merge::{AccountStanding, Change},
    news::News,
    store::{
        Commit, Fence, ItemRecord, Linked, NewHolder, NewLink, QueuedWebhook, Store, Then, Unlinked,
    },
};
use px_types::{
    AccountId, ApplicationId, InstitutionId, ItemId, TransactionId, UserId,
    webhook::{Environment, Webhook, WebhookEvent},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The shortest lease of a worker.
const LEASE: TimeDelta = TimeDelta::seconds(10);
/// How long a webhook is tried before it may be given up.
const TRIED_FOR: TimeDelta = TimeDelta::hours(24);

/// Sees everything.
pub(crate) struct Witness {
    banks: BTreeMap<InstitutionId, Arc<Bank>>,
    clock: SimClock,
    trace: Arc<Trace>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    items: BTreeMap<ItemId, ItemFacts>,
    webhooks: BTreeMap<Told, Delivery>,
    /// The numbers of those that left the outbox.
    settled: BTreeSet<i64>,
    /// Refreshes that a bank answered and no store has, or had late: the grant, who asked, and
    /// when.
    unsaved: BTreeMap<String, Vec<Refresh>>,
    /// Who used a refresh token too late, so that the bank ended the grant.
    reused: BTreeMap<String, Arc<Life>>,
    stats: Stats,
}

/// Who asked for a pair of tokens, and when.
type Refresh = (Arc<Life>, DateTime<Utc>);

/// What a run did; to see that seeds do something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) commits: u64,
    pub(crate) takeovers: u64,
    pub(crate) excused: u64,
    pub(crate) lost: u64,
    pub(crate) webhooks: u64,
    pub(crate) given_up: u64,
    pub(crate) passes: u64,
    pub(crate) refreshes: u64,
    pub(crate) crashes: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.commits += other.commits;
        self.takeovers += other.takeovers;
        self.excused += other.excused;
        self.lost += other.lost;
        self.webhooks += other.webhooks;
        self.given_up += other.given_up;
        self.passes += other.passes;
        self.refreshes += other.refreshes;
        self.crashes += other.crashes;
    }
}

/// What is known of an Item.
struct ItemFacts {
    institution: InstitutionId,
    user: UserId,
    fence: Fence,
    held: Option<Held>,
    accounts: BTreeSet<AccountId>,
    /// Whether the bank's first answer is stored, be there accounts in it or not.
    answered: bool,
    choices: BTreeMap<ApplicationId, Choice>,
    /// The account of each transaction that was ever stored.
    rows: BTreeMap<TransactionId, AccountId>,
    /// Those that were gone and came back.
    returned: BTreeSet<TransactionId>,
    /// What each application may be told is gone: it could see it when it went.
    gone_rows: BTreeMap<ApplicationId, BTreeSet<TransactionId>>,
    /// The grants that it was given.
    grants: BTreeSet<String>,
    gone: bool,
}

struct Held {
    by: String,
    until: DateTime<Utc>,
}

/// What a user chose for an application.
#[derive(Clone, Debug)]
struct Choice {
    accounts: Option<BTreeSet<AccountId>>,
    later_ones: bool,
    transactions: bool,
}

impl Choice {
    fn of(connection: &Connection, item: &ItemFacts) -> Self {
        let accounts = match &connection.accounts {
            // "All, but not later ones" are those there are, or those of the first answer.
            None if !connection.new_accounts && item.answered => Some(item.accounts.clone()),
            other => other.clone(),
        };
        Self {
            accounts,
            later_ones: connection.new_accounts,
            transactions: connection.needs_transactions(),
        }
    }

    fn sees(&self, account: &AccountId) -> bool {
        self.accounts.as_ref().is_none_or(|accounts| accounts.contains(account))
    }

    fn take_in(&mut self, new: &BTreeSet<AccountId>, first: bool) {
        match &mut self.accounts {
            None if self.later_ones => {}
            None if first => self.accounts = Some(new.clone()),
            Some(accounts) if self.later_ones && !first => accounts.extend(new.iter().cloned()),
            _ => {}
        }
    }
}

/// Who is told what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    item: ItemId,
    application: ApplicationId,
    body: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
struct Delivery {
    promised: u64,
    /// How often it arrived, doubles included.
    arrived: u64,
    /// How many left the outbox because they arrived, and because they were given up.
    settled: u64,
    given_up: u64,
}

impl Witness {
    pub(crate) fn new(banks: &[Arc<Bank>], clock: SimClock, trace: Arc<Trace>) -> Self {
        let banks = banks.iter().map(|bank| (bank.id.clone(), bank.clone())).collect();
        Self { banks, clock, trace, facts: Mutex::default() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bank(&self, id: &InstitutionId) -> Option<Arc<Bank>> {
        self.banks.get(id).cloned()
    }

    /// What the run did.
    pub(crate) fn stats(&self) -> Stats {
        self.facts().stats
    }

    /// Counts something.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.facts().stats);
    }

    // ---- connections -------------------------------------------------------------------------

    /// Who was connected, and whether the Item could not be updated, before a link.
    pub(crate) async fn before_link(&self, store: &dyn Store, new: &NewLink) -> Option<ItemRecord> {
        let id = store.find(&new.institution_id, &new.user_id).await.ok()??;
        store.item(&id).await.ok()?
    }

    pub(crate) async fn linked(
        &self,
        store: &dyn Store,
        life: &Life,
        new: &NewLink,
        linked: &Linked,
        old: Option<ItemRecord>,
    ) {
        let grant = match (self.banks.get(&new.institution_id), &new.tokens) {
            (Some(bank), Some(tokens)) => bank.grant_of(&tokens.access_token).await,
            _ => None,
        };
        let connections = store.connections(&linked.item_id).await.unwrap_or_default();
        let who = match &new.holder {
            NewHolder::Application(connection) => connection.application_id.as_str(),
            NewHolder::Partner => "the partner",
        };
        self.trace.note(
            &life.name,
            format_args!(
                "linked {who} to {} (created {}, repaired {})",
                linked.item_id, linked.created, linked.repaired
            ),
        );
        let expected = old.as_ref().is_some_and(|old| old.state.login_required());
        if linked.repaired != expected || linked.created == old.is_some() {
            self.trace.wrong(format!("link says {linked:?} of an Item that was {old:?}"));
        }
        let mut facts = self.facts();
        let item = facts.items.entry(linked.item_id.clone()).or_insert_with(|| ItemFacts {
            institution: new.institution_id.clone(),
            user: new.user_id.clone(),
            fence: Fence(0),
            held: None,
            accounts: BTreeSet::new(),
            answered: false,
            choices: BTreeMap::new(),
            rows: BTreeMap::new(),
            returned: BTreeSet::new(),
            gone_rows: BTreeMap::new(),
            grants: BTreeSet::new(),
            gone: false,
        });
        // What a partner shows of an Item that has an authorization stays the partner's own.
        if linked.created || linked.repaired || new.holder != NewHolder::Partner {
            item.grants.extend(grant);
        }
        if let NewHolder::Application(connection) = &new.holder {
            let choice = Choice::of(connection, item);
            item.choices.insert(connection.application_id.clone(), choice);
        }
        if linked.repaired {
            // Whoever worked on it lost it with the authorization.
            item.held = None;
            let mut news = News::default();
            news.repaired = true;
            facts.promise(&linked.item_id, &news, &connections);
        }
    }

    pub(crate) fn unlinked(
        &self,
        life: &Life,
        item_id: &ItemId,
        application: Option<&ApplicationId>,
        unlinked: Unlinked,
    ) {
        let who = application.map_or("the partner", ApplicationId::as_str);
        self.trace.note(&life.name, format_args!("unlinked {who} from {item_id}: {unlinked:?}"));
        let mut facts = self.facts();
        // What was promised to who has left is void.
        let void = facts.webhooks.iter_mut().filter(|(told, _)| {
            let left = Some(&told.application) == application;
            told.item == *item_id && (left || unlinked == Unlinked::ItemRemoved)
        });
        void.for_each(|(_, delivery)| {
            delivery.promised = delivery.settled + delivery.given_up;
        });
        let Some(item) = facts.items.get_mut(item_id) else { return };
        if let Some(application) = application {
            item.choices.remove(application);
        }
        item.gone |= unlinked == Unlinked::ItemRemoved;
        let left = item.choices.len();
        if application.is_some() && (left == 0) != (unlinked == Unlinked::ItemRemoved) {
            drop(facts);
            self.trace.wrong(format!("unlinking {who} with {left} others left is {unlinked:?}"));
        }
    }

    pub(crate) async fn connection_set(
        &self,
        store: &dyn Store,
        life: &Life,
        item_id: &ItemId,
        connection: &Connection,
    ) {
        self.trace.note(
            &life.name,
            format_args!(
                "{item_id}: {} may see {:?}, later ones {}",
                connection.application_id, connection.accounts, connection.new_accounts
            ),
        );
        let _ = store;
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(item_id) else { return };
        let choice = Choice::of(connection, item);
        item.choices.insert(connection.application_id.clone(), choice);
    }

    /// The accounts that an application may see now, of those that the Item has; `None` when it
    /// is not connected.
    pub(crate) fn visible(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Option<BTreeSet<AccountId>> {
        let facts = self.facts();
        let item = facts.items.get(item)?;
        let choice = item.choices.get(application)?;
        Some(item.accounts.iter().filter(|account| choice.sees(account)).cloned().collect())
    }

    /// Whether an application asked for transactions.
    pub(crate) fn wants_transactions(&self, item: &ItemId, application: &ApplicationId) -> bool {
        let facts = self.facts();
        let choice = facts.items.get(item).and_then(|item| item.choices.get(application));
        choice.is_some_and(|choice| choice.transactions)
    }

    /// Whether a transaction was gone and came back.
    pub(crate) fn returned(&self, item: &ItemId, id: &TransactionId) -> bool {
        self.facts().items.get(item).is_some_and(|item| item.returned.contains(id))
    }

    /// The Items that there are, with their users.
    pub(crate) fn items(&self) -> Vec<(ItemId, InstitutionId, UserId)> {
        let facts = self.facts();
        let live = facts.items.iter().filter(|(_, item)| !item.gone);
        live.map(|(id, item)| (id.clone(), item.institution.clone(), item.user.clone())).collect()
    }

    /// Every grant that an Item of a user was ever given.
    pub(crate) fn grants_of(&self, institution: &InstitutionId, user: &UserId) -> BTreeSet<String> {
        let facts = self.facts();
        let own = |item: &&ItemFacts| item.institution == *institution && item.user == *user;
        facts.items.values().filter(own).flat_map(|item| item.grants.iter().cloned()).collect()
    }

    // ---- work --------------------------------------------------------------------------------

    pub(crate) fn claimed(&self, life: &Life, record: &ItemRecord, until: DateTime<Utc>) {
        let (id, fence) = (&record.id, record.fence);
        self.trace
            .note(&life.name, format_args!("claimed {id}, {}, fence {}", record.state, fence.0));
        let now = self.clock.now();
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(id) else {
            drop(facts);
            return self.trace.wrong(format!("{} claimed {id}, which is not there", life.name));
        };
        let mut wrong = Vec::new();
        if item.gone {
            wrong.push(format!("{} claimed {id}, which is gone", life.name));
        }
        if fence <= item.fence {
            wrong.push(format!("fence {} of {id} came after {}", fence.0, item.fence.0));
        }
        let held = item.held.replace(Held { by: life.name.clone(), until });
        item.fence = item.fence.max(fence);
        if let Some(held) = held {
            if held.until > now {
                let name = &life.name;
                wrong.push(format!("{name} claimed {id}, which {} holds", held.by));
            }
            facts.stats.takeovers += 1;
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
    }

    pub(crate) fn renewed(&self, item: &ItemId, fence: Fence, until: DateTime<Utc>) {
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(item) else { return };
        if item.fence == fence
            && let Some(held) = &mut item.held
        {
            held.until = until;
        }
    }

    pub(crate) fn released(&self, life: &Life, item_id: &ItemId, fence: Fence) {
        self.trace.note(&life.name, format_args!("handed {item_id} back"));
        let mut facts = self.facts();
        let Some(item) = facts.items.get_mut(item_id) else { return };
        if item.fence == fence {
            item.held = None;
        }
    }

    /// Whether a machine holds an Item; one that stopped in good order must not.
    pub(crate) fn holds(&self, life: &Life) -> Option<ItemId> {
        let facts = self.facts();
        let holds = |item: &&ItemFacts| {
            !item.gone && item.held.as_ref().is_some_and(|held| held.by == life.name)
        };
        facts.items.iter().find(|(_, item)| holds(item)).map(|(id, _)| id.clone())
    }

    /// The tokens that a commit is about to delete.
    pub(crate) async fn before_commit(
        &self,
        store: &dyn Store,
        commit: &Commit,
    ) -> Option<TokenSet> {
        commit.refused_tokens?;
        Some(store.tokens(&commit.item_id).await.ok()??.0)
    }

    pub(crate) async fn committed(
        &self,
        store: &dyn Store,
        life: &Life,
        commit: &Commit,
        tokens: Option<TokenSet>,
    ) {
        self.note_commit(life, commit);
        let connections = store.connections(&commit.item_id).await.unwrap_or_default();
        let wrong = self.facts().take_commit(life, commit, &connections);
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
        if let Some(tokens) = tokens {
            self.lost(life, commit, &tokens).await;
        }
    }

    fn note_commit(&self, life: &Life, commit: &Commit) {
        let merged = &commit.transactions;
        let accounts = commit.accounts.as_ref().map_or(0, |accounts| accounts.accounts.len());
        self.trace.note(
            &life.name,
            format_args!(
                "stored {} with fence {}: {}, {} accounts, {} rows, {} gone, {} joined, {:?}",
                commit.item_id,
                commit.fence.0,
                commit.state,
                accounts,
                merged.writes.len(),
                merged.removed.len(),
                merged.joined,
                commit.then
            ),
        );
        for write in commit.accounts.iter().flat_map(|accounts| &accounts.accounts) {
            let (known, new) = (&write.known, if write.new { ", new" } else { "" });
            let (own, partner) = (&known.account.id, &known.partner_id);
            self.trace.note(
                &life.name,
                format_args!("  account {own} = {partner}, {:?}{new}", known.standing),
            );
        }
        for write in &merged.writes {
            let (own, partner) = (&write.known.id, &write.known.partner_id);
            self.trace.note(&life.name, format_args!("  {:?} {own} = {partner}", write.change));
        }
        for (_, id) in &merged.removed {
            self.trace.note(&life.name, format_args!("  gone {id}"));
        }
        if let Some(failure) = &commit.life.last_failure
            && commit.state != State::Created
        {
            self.trace.note(&life.name, format_args!("  failed: {:?}", failure.kind));
        }
    }

    /// An Item says that its authorization is lost: it must be.
    async fn lost(&self, life: &Life, commit: &Commit, tokens: &TokenSet) {
        let id = &commit.item_id;
        let institution = self.facts().items.get(id).map(|item| item.institution.clone());
        let Some(bank) = institution.and_then(|id| self.bank(&id)) else { return };
        let token = tokens.refresh_token.as_ref().map_or("", |token| token.expose());
        let Some(grant) = bank.grant_of_any(token).await else { return };
        if let Some(who) = bank.ended_by(&grant) {
            self.count(|stats| stats.lost += 1);
            return self.trace.note(&life.name, format_args!("{id} lost what {who} ended"));
        }
        let excuse = {
            let facts = self.facts();
            let unsaved = facts.unsaved.get(&grant).into_iter().flatten().map(|(life, _)| life);
            let mut late = facts.reused.get(&grant).into_iter().chain(unsaved);
            late.any(|life| life.is_dead() || life.stood())
        };
        if excuse {
            self.count(|stats| stats.excused += 1);
            let what = "a machine stopped between a refresh and its storing";
            return self.trace.note(&life.name, format_args!("{id} is lost, excused: {what}"));
        }
        self.trace.wrong(format!("{id} gave up an authorization that nobody ended ({grant})"));
    }

    // ---- tokens ------------------------------------------------------------------------------

    /// A bank answered a refresh.
    pub(crate) fn refreshed(&self, life: &Arc<Life>, grant: String) {
        let mut facts = self.facts();
        facts.stats.refreshes += 1;
        let refresh = (life.clone(), self.clock.now());
        facts.unsaved.entry(grant).or_default().push(refresh);
    }

    /// A bank ended a grant because a refresh token came again too late.
    pub(crate) fn reused(&self, life: &Arc<Life>, grant: String) {
        self.trace.note(&life.name, format_args!("used a refresh token of {grant} again"));
        self.facts().reused.insert(grant, life.clone());
    }

    pub(crate) async fn saved_tokens(&self, life: &Life, item: &ItemId, tokens: &TokenSet) {
        self.trace.note(&life.name, format_args!("saved tokens of {item}"));
        let institution = self.facts().items.get(item).map(|item| item.institution.clone());
        let Some(bank) = institution.and_then(|id| self.bank(&id)) else { return };
        if let Some(grant) = bank.grant_of(&tokens.access_token).await {
            // What a machine keeps to itself longer than a lease, another one asks for again; that
            // one may be too late, though the first comes in the end.
            let late = self.clock.now() - LEASE;
            if let Some(unsaved) = self.facts().unsaved.get_mut(&grant) {
                unsaved.retain(|(_, at)| *at < late);
            }
        }
    }

    // ---- webhooks ----------------------------------------------------------------------------

    /// A webhook was settled for good: it arrived, or may be given up.
    pub(crate) fn settled(&self, life: &Life, webhook: &QueuedWebhook) {
        let told = Told {
            item: webhook.item_id.clone(),
            application: webhook.application_id.clone(),
            body: webhook.body.clone(),
        };
        let now = self.clock.now();
        let mut facts = self.facts();
        if !facts.settled.insert(webhook.id) {
            return;
        }
        let delivery = facts.webhooks.entry(told).or_default();
        if delivery.settled < delivery.arrived {
            delivery.settled += 1;
            return;
        }
        delivery.given_up += 1;
        facts.stats.given_up += 1;
        drop(facts);
        let id = webhook.id;
        self.trace.note(&life.name, format_args!("gave webhook {id} up"));
        // The last try is the one whose successor would come too late.
        if now - webhook.created_at < TRIED_FOR / 5 {
            let what = format!("webhook {id} was given up {} after", now - webhook.created_at);
            self.trace.wrong(what);
        }
    }

    /// A webhook arrived at an application, which said 200.
    pub(crate) fn arrived(&self, application: &ApplicationId, body: &str) {
        let Ok(webhook) = px_types::decode::<Webhook>(body.as_bytes()) else {
            return self.trace.wrong(format!("{application} got no webhook: {body}"));
        };
        let told = Told {
            item: webhook.item_id.clone(),
            application: application.clone(),
            body: body.to_owned(),
        };
        let mut facts = self.facts();
        facts.webhooks.entry(told).or_default().arrived += 1;
        facts.stats.webhooks += 1;
        let Some(item) = facts.items.get(&webhook.item_id) else {
            drop(facts);
            return self.trace.wrong(format!("{application} is told of an Item that is not"));
        };
        let mut wrong = Vec::new();
        if let WebhookEvent::TransactionsRemoved(removed) = &webhook.event {
            let may_know = item.gone_rows.get(application);
            for id in &removed.removed_transactions {
                if !may_know.is_some_and(|ids| ids.contains(id)) {
                    wrong.push(format!("{application} is told of {id}, which it may not see"));
                }
            }
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
    }

    /// What was promised and did not arrive.
    pub(crate) fn undelivered(&self) -> Vec<String> {
        let facts = self.facts();
        let missing = facts
            .webhooks
            .iter()
            .filter(|(_, delivery)| delivery.settled + delivery.given_up < delivery.promised);
        missing
            .map(|(told, delivery)| {
                format!("{} was not told {} ({delivery:?})", told.application, told.body)
            })
            .collect()
    }
}

impl Facts {
    fn promise(&mut self, item: &ItemId, news: &News, connections: &[Connection]) {
        for outgoing in news.webhooks(item, &Environment::Sandbox, connections) {
            let Ok(body) = serde_json::to_string(&outgoing.webhook) else { continue };
            let told = Told { item: item.clone(), application: outgoing.application_id, body };
            self.webhooks.entry(told).or_default().promised += 1;
        }
    }

    /// A commit took effect. Answers what was wrong with that.
    fn take_commit(
        &mut self,
        life: &Life,
        commit: &Commit,
        connections: &[Connection],
    ) -> Vec<String> {
        let id = &commit.item_id;
        self.stats.commits += 1;
        let Some(item) = self.items.get_mut(id) else {
            return vec![format!("{} stored {id}, which is not there", life.name)];
        };
        let mut wrong = Vec::new();
        if item.gone {
            wrong.push(format!("{} stored {id}, which is gone", life.name));
        }
        if commit.fence != item.fence {
            wrong.push(format!(
                "{} stored {id} with fence {} while {} is the present one",
                life.name, commit.fence.0, item.fence.0
            ));
        }
        match (&mut item.held, commit.then) {
            (Some(held), Then::Keep { lease_until }) => held.until = lease_until,
            (Some(_), Then::Release { .. }) => item.held = None,
            (None, _) => {
                wrong.push(format!("{} stored {id} that nobody holds", life.name));
            }
            #[allow(unreachable_patterns, reason = "later versions may have more")]
            _ => {}
        }
        if let Some(accounts) = &commit.accounts {
            let new: BTreeSet<_> = accounts
                .accounts
                .iter()
                .filter(|write| write.new && write.known.standing != AccountStanding::Held)
                .map(|write| write.known.account.id.clone())
                .collect();
            let first = !std::mem::replace(&mut item.answered, true);
            for choice in item.choices.values_mut() {
                choice.take_in(&new, first);
            }
            item.accounts.extend(new);
        }
        for (application, choice) in &item.choices {
            let told = commit.transactions.removed.iter();
            let told = told.filter(|(account, _)| choice.sees(account));
            let ids = item.gone_rows.entry(application.clone()).or_default();
            ids.extend(told.map(|(_, id)| id.clone()));
        }
        for write in &commit.transactions.writes {
            if !item.accounts.contains(&write.known.account_id) {
                let (row, account) = (&write.known.id, &write.known.account_id);
                wrong.push(format!("{row} is stored, and its account {account} is not"));
            }
            let before = item.rows.insert(write.known.id.clone(), write.known.account_id.clone());
            if before.is_some() && write.change == Change::Added {
                item.returned.insert(write.known.id.clone());
            }
        }
        self.promise(id, &commit.news, connections);
        wrong
    }
}
