//! A store in memory with one Item, filled by hand like by a worker.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use px_client::oauth::TokenSet;
use px_core::{Clock, SeededRandom};
use px_items::{
    connection::Connection,
    item::{Event, State, step},
    items::{Items, LinkedApplication},
    merge::{AccountStanding, AccountWrite, Change, KnownAccount, TransactionWrite},
    store::{AccountsWrite, Commit, LeaseOutcome, Listener, MemoryStore, Store},
    sync_state::History,
};
use px_types::{
    AccessToken, AccountId, Amount, ApplicationId, Date, InstitutionId, ItemAccessToken, ItemId,
    TransactionId, UserId,
    model::{
        account::{Account, AccountType},
        product::Product,
        transaction::Transaction,
    },
    partner::UserAccountInfoResponse,
    primitive::date::Iso8601,
    webhook::Environment,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Products that this API supports.
pub(crate) const ALL: [Product; 5] = [
    Product::Auth,
    Product::Identity,
    Product::Investments,
    Product::Liabilities,
    Product::Transactions,
];

/// A clock that only moves when it is set.
#[derive(Debug)]
pub(crate) struct HandClock(Mutex<DateTime<Utc>>);

impl HandClock {
    pub(crate) fn at(start: &str) -> Self {
        Self(Mutex::new(start.parse().unwrap()))
    }

    pub(crate) fn advance(&self, time: TimeDelta) {
        *self.0.lock().unwrap() += time;
    }
}

#[async_trait::async_trait]
impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }

    fn elapsed(&self) -> Duration {
        (self.now() - DateTime::UNIX_EPOCH).to_std().unwrap()
    }

    async fn sleep(&self, time: Duration) {
        self.advance(TimeDelta::from_std(time).unwrap());
    }
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) items: Items,
    woken: Arc<Mutex<Listener>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(Environment::Sandbox)))
    }

    pub(crate) fn over(store: Arc<dyn Store>) -> Self {
        let clock = Arc::new(HandClock::at("2026-03-01T12:00:00Z"));
        let items = Items::builder(Arc::clone(&store))
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .random(Arc::new(SeededRandom::new(1)))
            .build();
        let woken = Arc::new(Mutex::new(store.signals().items.listen()));
        Self { store, clock, items, woken }
    }

    /// Creates a world with a complete Item that has the accounts of the fixture, and one
    /// application that sees and uses all of it.
    pub(crate) async fn complete() -> (Self, LinkedApplication) {
        Self::new().completed().await
    }

    pub(crate) async fn completed(self) -> (Self, LinkedApplication) {
        let world = self;
        let linked = world.link("first", ALL).await;
        world.fill(&linked.item_id, user()).await;
        (world, linked)
    }

    pub(crate) async fn link(
        &self,
        application: &str,
        products: impl IntoIterator<Item = Product>,
    ) -> LinkedApplication {
        self.connect(self.connection(application, products)).await
    }

    pub(crate) async fn connect(&self, connection: Connection) -> LinkedApplication {
        self.connect_user("user-1", connection).await
    }

    pub(crate) async fn connect_user(
        &self,
        user: &str,
        connection: Connection,
    ) -> LinkedApplication {
        let user = UserId::new(user).unwrap();
        self.items.link(&bank(), &user, self.tokens("a"), connection).await.unwrap()
    }

    pub(crate) fn tokens(&self, text: &str) -> TokenSet {
        TokenSet::new(AccessToken::new(format!("bank-token-{text}")), self.clock.now())
    }

    pub(crate) fn connection(
        &self,
        application: &str,
        products: impl IntoIterator<Item = Product>,
    ) -> Connection {
        Connection::new(ApplicationId::new(application).unwrap(), products, self.clock.now())
    }

    /// Returns the connection of an application that sees some accounts, and no later ones.
    pub(crate) fn connection_to(&self, application: &str, accounts: &[&str]) -> Connection {
        let mut connection = self.connection(application, ALL);
        connection.accounts = Some(accounts.iter().copied().map(account_id).collect());
        connection.new_accounts = false;
        connection
    }

    /// Returns whether the store raised the signal of due Items since the last call.
    pub(crate) fn woken(&self) -> bool {
        self.woken.lock().unwrap().raised().now_or_never().is_some()
    }

    /// Works on an Item like a worker: stores the changes of `work`, and finishes.
    pub(crate) async fn work(&self, item: &ItemId, work: impl FnOnce(&mut Commit)) {
        self.work_until(item, Event::Finished, work).await;
    }

    pub(crate) async fn work_until(
        &self,
        item: &ItemId,
        end: Event,
        work: impl FnOnce(&mut Commit),
    ) {
        let now = self.clock.now();
        let lease = now + TimeDelta::minutes(1);
        let record = self.store.claim_one(item, now, lease).await.unwrap().unwrap();
        let (state, _) = step(record.state, end).unwrap();
        let due_at = (!state.login_required()).then_some(now + TimeDelta::days(1));
        let then = LeaseOutcome::Release { due_at, not_before: None, seen: record.notified };
        let mut commit = Commit::new(&record, state, now, then);
        work(&mut commit);
        self.store.commit(commit).await.unwrap();
    }

    /// Stores a complete first response and marks the history as complete.
    pub(crate) async fn fill(&self, item: &ItemId, user: UserAccountInfoResponse) {
        let now = self.clock.now();
        self.work(item, |commit| {
            commit.accounts = Some(accounts(user));
            commit.sync_state.history = History::Complete;
            let fresh = &mut commit.sync_state.fresh;
            (fresh.accounts, fresh.identities) = (Some(now), Some(now));
            (fresh.holdings, fresh.transactions) = (Some(now), Some(now));
        })
        .await;
    }

    /// Stores transactions.
    pub(crate) async fn add(&self, item: &ItemId, rows: impl IntoIterator<Item = Transaction>) {
        self.work(item, |commit| {
            commit.transactions.writes = rows.into_iter().map(added).collect();
        })
        .await;
    }

    /// Ends the Item's authorization.
    pub(crate) async fn refuse(&self, item: &ItemId) {
        let version = self.store.tokens(item).await.unwrap().unwrap().1;
        self.work_until(item, Event::Refused, |commit| commit.refused_tokens = Some(version)).await;
    }

    pub(crate) async fn state(&self, item: &ItemId) -> State {
        self.store.item(item).await.unwrap().unwrap().state
    }
}

pub(crate) fn bank() -> InstitutionId {
    InstitutionId::new("bank").unwrap()
}

pub(crate) fn account_id(id: &str) -> AccountId {
    AccountId::new(id).unwrap()
}

pub(crate) fn transaction_id(id: &str) -> TransactionId {
    TransactionId::new(id).unwrap()
}

pub(crate) fn date(text: &str) -> Date {
    text.parse().unwrap()
}

/// Returns a token that was never issued.
pub(crate) fn foreign() -> ItemAccessToken {
    ItemAccessToken::new("access-sandbox-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
}

/// Returns a response with every type of account and every field. The student loan alone has
/// another owner; all other accounts are owned by the signed-in user.
pub(crate) fn user() -> UserAccountInfoResponse {
    let mut user: UserAccountInfoResponse =
        px_types::decode(px_types::testing::USER.as_bytes()).unwrap();
    for account in &mut user.accounts {
        if account.id.as_str() != "account-student" {
            account.non_owner_identity_ids.clear();
        }
    }
    user
}

/// Returns a first response in its stored form.
pub(crate) fn accounts(user: UserAccountInfoResponse) -> AccountsWrite {
    let mut write = AccountsWrite::default();
    write.first = true;
    write.accounts = user.accounts.into_iter().map(|account| listed(account, true)).collect();
    write.identities = Some((user.user_identity_id, user.identities));
    write.securities = user.securities;
    write
}

pub(crate) fn listed(account: Account, new: bool) -> AccountWrite {
    with_standing(account, AccountStanding::Listed, new)
}

pub(crate) fn with_standing(
    account: Account,
    standing: AccountStanding,
    new: bool,
) -> AccountWrite {
    let id = account.id.clone();
    AccountWrite::new(KnownAccount::new(account, id, standing), new)
}

/// Returns one of the fixture's accounts under another id.
pub(crate) fn account_like(like: &str, id: &str) -> Account {
    let all = user().accounts;
    let mut account = all.into_iter().find(|account| account.id.as_str() == like).unwrap();
    account.id = account_id(id);
    account
}

/// Returns a posted transaction.
pub(crate) fn row(id: &str, account: &str, day: &str, amount: &str) -> Transaction {
    let day = Iso8601::Date(date(day));
    let amount: Amount = amount.parse().unwrap();
    let unit = user().accounts[0].unit.clone();
    let (id, account) = (transaction_id(id), account_id(account));
    let mut row = Transaction::new(id, account, amount, day, AccountType::Depository, unit);
    row.settled_at = Some(day);
    row.description = Some(format!("description of {}", row.id));
    row
}

pub(crate) fn added(row: Transaction) -> TransactionWrite {
    TransactionWrite::new(row.id.clone(), row, Change::Added, DateTime::UNIX_EPOCH)
}

pub(crate) fn modified(row: Transaction) -> TransactionWrite {
    TransactionWrite::new(row.id.clone(), row, Change::Modified, DateTime::UNIX_EPOCH)
}

pub(crate) fn ids<'a>(rows: impl IntoIterator<Item = &'a Transaction>) -> Vec<&'a str> {
    rows.into_iter().map(|row| row.id.as_str()).collect()
}
