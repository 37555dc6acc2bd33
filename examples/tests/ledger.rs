//! Test with the ledger of a real bank: every user is linked, and every Item ends idle and equal to
//! the bank.
//!
//! The ledger is beside the checkout and not part of it. Without it the test prints a message and
//! passes. Because all users take a while in a debug build, it uses every tenth one; `just ledger`
//! uses all of them, and `PX_LEDGER_EVERY=1` does in any build. `PX_LEDGER` names another file.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use demo_bank::{
    Bank, BankConfig,
    ledger::read::{PageStart, User, Window as BankWindow},
};
use px_client::{PartnerClient, Window, oauth::AuthorizationRequest};
use px_core::{Clock, InProcessTransport, LocalClock, ManualClock, SystemClock, SystemRandom};
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Observer, Outcome},
    item::State,
    items::{Items, TransactionsRequest},
    partners::{FixedPartners, Partner},
    store::{SqliteStore, Store, StoreOptions},
    vault::FileKeys,
};
use px_server::{
    PermittedAccounts,
    oauth::{Authorization, OAuth},
};
use px_types::{
    ApplicationId, ClientId, ClientSecret, Date, InstitutionId, ItemAccessToken, UserId,
    model::{account::Account, product::Product, transaction::Transaction},
    plaid::{Batch, NewTransactionsNotification, TransactionsNotificationEntry},
    webhook::Environment,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// The redirect URI. No server listens there.
const BACK: &str = "https://plaid.example/back";
/// The time at which all users link. The ledger's last transactions are three weeks later.
const START: &str = "2026-03-11T09:00:00Z";
const WORKERS: usize = 4;

fn ledger() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PX_LEDGER") {
        return Some(named.into());
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(LEDGER.0);
    beside.exists().then_some(beside)
}

/// The file beside the checkout, and its number of users.
const LEDGER: (&str, usize) = ("czech-bank.ndjson.gz", 1489);

/// Returns the step between linked users.
fn every() -> usize {
    let default = if cfg!(debug_assertions) { 10 } else { 1 };
    std::env::var("PX_LEDGER_EVERY").map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_user_of_the_real_ledger_ends_idle_and_equal_to_the_bank() {
    let Some(file) = ledger() else {
        eprintln!("skipped: the real ledger is not beside the checkout");
        return;
    };
    let mut world = World::open(&file).await;
    let linked = world.link_all().await;
    // The number of users in another ledger is unknown.
    if file.ends_with(LEDGER.0) {
        assert_eq!(linked, LEDGER.1.div_ceil(every()), "every user is linked");
    }
    assert!(linked > 0);
    world.until_ended(linked).await;
    world.assert_all_equal().await;

    // Two weeks pass, and the bank sends notifications.
    world.advance(14).await;
    world.notify_all().await;
    world.until_ended(linked).await;
    world.assert_all_equal().await;
}

/// The bank, and Plaid's side of it.
struct World {
    bank: Bank,
    bank_clock: ManualClock,
    clock: Arc<OffsetClock>,
    client: PartnerClient,
    store: Arc<dyn Store>,
    items: Items,
    engine: Engine,
    ended: watch::Receiver<usize>,
    institution: InstitutionId,
    users: Vec<LinkedUser>,
}

/// A linked user.
struct LinkedUser {
    user: User,
    item: px_types::ItemId,
    /// The application's token.
    token: ItemAccessToken,
    /// The bank's token, with which it names the Item.
    partner_token: ItemAccessToken,
}

impl World {
    async fn open(file: &Path) -> Self {
        let start: DateTime<Utc> = START.parse().unwrap();
        let bank_clock = ManualClock::new(start);
        let (client_id, secret) =
            (ClientId::new("plaid").unwrap(), ClientSecret::new("s3cret-of-plaid-at-the-bank"));
        let mut config = BankConfig::new(
            "https://bank.example",
            client_id.clone(),
            secret.clone(),
            [BACK.to_owned()],
        );
        config.clock = Arc::new(bank_clock.clone());
        config.fill_options = None;
        let bank = Bank::open(config).await.unwrap();
        bank.ledger().import(file, |_| {}).await.unwrap();

        let clock = Arc::new(OffsetClock::of(start));
        let client =
            PartnerClient::builder("https://bank.example", InProcessTransport::new(bank.service()))
                .client(client_id, secret)
                .clock(clock.clone())
                .build()
                .unwrap();
        let keys = FileKeys::generate("test", Arc::new(SystemRandom)).unwrap();
        let mut options = StoreOptions::new(Environment::Sandbox, Arc::new(keys));
        options.shared_clock = Some(Arc::new(LocalClock::new(clock.clone())));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(options).await.unwrap());
        let institution = InstitutionId::new("czech").unwrap();
        let mut partner = Partner::new(client.clone());
        // Rate limits are not part of this test.
        (partner.budget.per_second, partner.budget.at_once) = (1_000_000, 2 * WORKERS);
        let (sender, ended) = watch::channel(0);
        let engine = Engine::builder(
            store.clone(),
            Arc::new(FixedPartners::new().with(institution.clone(), partner)),
        )
        .clock(clock.clone())
        .observer(Arc::new(Ended(sender)))
        .build();
        let items = Items::builder(store.clone()).clock(clock.clone()).build();
        Self {
            bank,
            bank_clock,
            clock,
            client,
            store,
            items,
            engine,
            ended,
            institution,
            users: Vec::new(),
        }
    }

    async fn link_all(&mut self) -> usize {
        let names = self.bank.ledger().usernames().await.unwrap();
        let application = ApplicationId::new("budget-app").unwrap();
        let products = [
            Product::Transactions,
            Product::Auth,
            Product::Identity,
            Product::Liabilities,
            Product::Investments,
        ];
        for name in names.iter().step_by(every()) {
            let user = self.bank.ledger().user_by_name(name).await.unwrap().unwrap();
            let request = AuthorizationRequest::new(BACK);
            let (url, pending) = self.client.begin_authorization(request).unwrap();
            let query = url.query().unwrap_or_default();
            let back = consent(self.bank.oauth(), query, &user.user_id).await;
            let code = pending.check_callback(&back).unwrap();
            let tokens = self.client.exchange_code(code).await.unwrap();
            let connection =
                Connection::new(application.clone(), products.clone(), self.clock.now());
            let (bank, id) = (&self.institution, &user.user_id);
            let linked = self.items.link(bank, id, tokens.clone(), connection).await.unwrap();
            let imported = self.items.import(bank, id, tokens).await.unwrap();
            assert_eq!(imported.item_id, linked.item_id);
            self.users.push(LinkedUser {
                user,
                item: linked.item_id,
                token: linked.access_token,
                partner_token: imported.access_token,
            });
        }
        self.users.len()
    }

    /// Runs workers until a number of updates has ended, all of them successfully.
    async fn until_ended(&mut self, updates: usize) {
        let before = *self.ended.borrow();
        let mut ended = self.ended.clone();
        let stop = async {
            ended.wait_for(|ended| *ended >= before + updates).await.unwrap();
        };
        // The limit is far above the time on a working machine.
        let run = self.engine.run(WORKERS, stop);
        tokio::time::timeout(Duration::from_secs(1200), run).await.expect("all Items are updated");
    }

    async fn advance(&self, days: i64) {
        self.bank.advance(days).await.unwrap();
        self.bank_clock.advance(TimeDelta::days(days));
        self.clock.0.fetch_add(days * 86_400, Ordering::Relaxed);
    }

    /// Sends one notification that names every Item.
    async fn notify_all(&self) {
        let since: Date = START[..10].parse().unwrap();
        let account = px_types::AccountId::new("any").unwrap();
        let entries: Vec<_> = self
            .users
            .iter()
            .map(|one| {
                TransactionsNotificationEntry::new(one.partner_token.clone(), account.clone())
            })
            .collect();
        let notification = NewTransactionsNotification::new(Batch::new(entries).unwrap(), since);
        let notified =
            self.items.handle_transactions_notification(&self.institution, &notification).await;
        notified.unwrap();
    }

    async fn assert_all_equal(&self) {
        for one in &self.users {
            let name = &one.user.username;
            let record = self.store.item(&one.item).await.unwrap().unwrap();
            assert_eq!(record.state, State::Idle, "{name}");
            assert_eq!(record.sync_state.suspicion, None, "{name}");
            let bank = self.bank.ledger().holdings(&one.user, |_| true).await.unwrap();
            let mut accounts = self.items.accounts(&one.token).await.unwrap().data;
            let mut expected = bank.accounts;
            let by_id = |account: &Account| account.id.clone();
            accounts.sort_by_key(by_id);
            expected.sort_by_key(by_id);
            assert_eq!(accounts, expected, "{name}");
            let identities = self.items.identities(&one.token).await.unwrap().data;
            assert_eq!(identities.identities, bank.identities, "{name}");
            assert_eq!(identities.user_identity_id.as_ref(), Some(&one.user.identity_id), "{name}");
            let rows = self.rows(one).await;
            assert!(rows == self.rows_at_the_bank(one).await, "{name}: other transactions");
            assert_eq!(self.rows_by_cursor(one).await, rows.len(), "{name}");
        }
    }

    /// Returns the dates of an Item's history.
    async fn window(&self) -> (Date, Date) {
        let today = self.bank.today().await.unwrap();
        (today.minus_days(728), today)
    }

    async fn rows(&self, one: &LinkedUser) -> Vec<Transaction> {
        let (start, end) = self.window().await;
        let mut request = TransactionsRequest::new(Window::new(start, end).unwrap());
        request.limit = 500;
        let mut rows = Vec::new();
        loop {
            let page = self.items.transactions(&one.token, &request).await.unwrap().data;
            rows.extend(page.transactions);
            request.cursor = page.next_cursor;
            if request.cursor.is_none() {
                assert_eq!(page.total, rows.len() as u64);
                return rows;
            }
        }
    }

    async fn rows_at_the_bank(&self, one: &LinkedUser) -> Vec<Transaction> {
        let (start, end) = self.window().await;
        let window = BankWindow { start, end };
        let (mut rows, mut begin) = (Vec::new(), PageStart::Offset(0));
        loop {
            let page = self.bank.ledger().page(&one.user, |_| true, window, begin, 500).await;
            let page = page.unwrap().unwrap();
            rows.extend(page.transactions);
            match page.next {
                Some(place) => begin = PageStart::After { position: place, change: page.change },
                None => return rows,
            }
        }
    }

    /// Returns the number of transactions for a reader that follows the cursor from the start.
    async fn rows_by_cursor(&self, one: &LinkedUser) -> usize {
        let (mut count, mut cursor) = (0, None::<String>);
        loop {
            let page = self.items.transactions_sync(&one.token, cursor.as_deref(), Some(500)).await;
            let page = page.unwrap().data;
            count += page.added.len();
            assert!(page.modified.is_empty() && page.removed.is_empty());
            cursor = Some(page.next_cursor);
            if !page.has_more {
                return count;
            }
        }
    }
}

/// Approves the request for every account of the user. Returns the redirect.
async fn consent(oauth: &OAuth, query: &str, user: &UserId) -> String {
    let Authorization::Prompt(request) = oauth.authorize(query).await else {
        panic!("the bank refuses the request");
    };
    oauth.approve(&request, user.clone(), PermittedAccounts::All).await.unwrap()
}

/// Counts ended updates. An unsuccessful one fails the test.
#[derive(Debug)]
struct Ended(watch::Sender<usize>);

impl Observer for Ended {
    fn observe(&self, event: &Observed) {
        if let Observed::Ended(report) = event {
            assert_eq!(report.outcome, Outcome::Finished, "{report:?}");
            self.0.send_modify(|ended| *ended += 1);
        }
    }
}

/// The machine's clock with an offset in seconds.
#[derive(Debug)]
struct OffsetClock(AtomicI64, SystemClock);

impl OffsetClock {
    fn of(start: DateTime<Utc>) -> Self {
        let clock = SystemClock::new();
        Self(AtomicI64::new((start - clock.now()).num_seconds()), clock)
    }
}

#[async_trait]
impl Clock for OffsetClock {
    fn now(&self) -> DateTime<Utc> {
        self.1.now() + TimeDelta::seconds(self.0.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.1.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        self.1.sleep(time).await;
    }
}
