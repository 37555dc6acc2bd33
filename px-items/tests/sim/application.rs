//! Applications and their users: they connect, read, follow their cursors, change what is shared,
//! and leave.

use crate::{
    bank::Bank,
    dice::{Dice, SharedDice},
    world::World,
};
use px_client::{Window, oauth::TokenSet};
use px_core::Clock as _;
use px_items::{
    connection::Connection,
    items::{ItemsError, ItemsErrorKind, LinkedApplication, TransactionsRequest},
    store::{ApplicationUser, Unlinked},
    tickets::LINK_TOKEN_LIFETIME,
};
use px_types::{
    AccountId, ApplicationId, ItemAccessToken, ItemId, TransactionId, UserId,
    model::{product::Product, transaction::Transaction},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Time after which the engine reports that an Item cannot finish.
const STALL_NOTICE_AFTER: Duration = Duration::from_hours(72);

/// Notification of an application that there is something to read.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    changes: Notify,
}

impl Mailbox {
    pub(crate) fn notify(&self) {
        self.changes.notify_waiters();
    }
}

/// One user of one application.
pub(crate) struct User {
    world: Arc<World>,
    bank: Arc<Bank>,
    user: UserId,
    application: ApplicationId,
    mailbox: Arc<Mailbox>,
    products: Vec<Product>,
    dice: SharedDice,
    link: Option<Link>,
}

/// Connection, as the application knows it.
struct Link {
    item: ItemId,
    token: ItemAccessToken,
    replica: Replica,
}

/// Replica of an application that follows its cursor.
#[derive(Default)]
struct Replica {
    cursor: Option<String>,
    rows: BTreeMap<TransactionId, Transaction>,
    /// All transactions since it last started over.
    ever: BTreeSet<TransactionId>,
}

impl User {
    pub(crate) fn new(
        world: Arc<World>,
        bank: Arc<Bank>,
        user: UserId,
        (application, mailbox): (ApplicationId, Arc<Mailbox>),
    ) -> Self {
        let dice = SharedDice::new(world.seed, &format!("{user} {application}"));
        let mut products = vec![Product::Auth, Product::Identity];
        if dice.throw(|dice| dice.chance(750)) {
            products.push(Product::Transactions);
        }
        Self { world, bank, user, application, mailbox, products, dice, link: None }
    }

    /// Uses the application until the run stops. The first action is to connect.
    pub(crate) async fn live(mut self) -> Self {
        self.wait(1, if self.bank.style.crowded { 3600 } else { 36_000 }).await;
        while self.world.is_busy() {
            self.act().await;
            let notified = self.mailbox.changes.notified();
            let crowded = self.bank.style.crowded;
            let until = self.dice.throw(|dice| match dice.below(4) {
                _ if crowded => dice.between(20_000, 90_000),
                0 => dice.between(1, 60),
                1 => dice.between(60, 3600),
                _ => dice.between(3600, 60_000),
            });
            tokio::select! {
                biased;
                () = self.world.until_calm() => {}
                () = notified, if !crowded => self.wait(1, 30).await,
                () = self.world.clock.sleep(Duration::from_secs(until)) => {}
            }
        }
        self
    }

    async fn wait(&self, shortest: u64, longest: u64) {
        let millis = self.dice.throw(|dice| dice.between(shortest * 1000, longest * 1000));
        self.world.clock.sleep(Duration::from_millis(millis)).await;
    }

    async fn act(&mut self) {
        if self.link.is_none() {
            if self.dice.throw(|dice| dice.chance(700)) {
                self.connect().await;
            }
            return;
        }
        let result = match self.dice.throw(|dice| dice.below(100)) {
            0..=54 => self.follow().await,
            55..=64 => self.read_accounts().await,
            65..=76 => self.read_by_date().await,
            77..=82 => self.choose_otherwise().await,
            83..=85 => self.rotate().await,
            86..=88 => self.leave().await,
            89..=90 => {
                self.connect().await;
                Ok(())
            }
            _ => self.look_after().await,
        };
        if let Err(error) = result {
            self.refused(&error);
        }
    }

    /// Checks whether a refusal is allowed.
    fn refused(&mut self, error: &ItemsError) {
        let kind = error.kind();
        self.say(format_args!("{kind:?}"));
        match kind {
            // The response to a link, a rotation or an unlink was lost.
            ItemsErrorKind::InvalidAccessToken
            | ItemsErrorKind::InvalidPublicToken
            | ItemsErrorKind::ItemNotFound => self.link = None,
            ItemsErrorKind::Unavailable
            | ItemsErrorKind::ProductNotReady
            | ItemsErrorKind::LoginRequired
            | ItemsErrorKind::SyncMutated => {}
            // The user withdrew the product, possibly in a call with a lost response.
            ItemsErrorKind::ConsentRequired if !self.may_use_transactions() => {}
            // The error has existed for 72 hours already, because the bank has no transactions or
            // the network was so bad. In the end everything must be readable.
            ItemsErrorKind::CannotFinish
                if !self.bank.has_transactions()
                    || self.world.clock.elapsed() >= STALL_NOTICE_AFTER => {}
            _ => self
                .world
                .trace
                .wrong(format!("{} of {} was refused: {error:?}", self.application, self.user)),
        }
    }

    fn may_use_transactions(&self) -> bool {
        let Some(link) = &self.link else { return false };
        self.world.witness.wants_transactions(&link.item, &self.application)
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.note(self.application.as_str(), format_args!("{}: {what}", self.user));
    }

    // ---- connecting --------------------------------------------------------------------------

    /// The user authorizes at the bank and shares some or all accounts.
    pub(crate) async fn connect(&mut self) {
        if self.dice.throw(|dice| dice.chance(200)) && !self.may_open_page().await {
            return;
        }
        let tokens = self.world.authorize(&self.bank, &self.user, &self.dice).await;
        self.wait(0, 20).await;
        let connection = self.connection();
        let result = match self.dice.throw(|dice| dice.chance(250)) {
            true => self.link_by_public_token(tokens, connection).await,
            false => self.world.items.link(&self.bank.id, &self.user, tokens, connection).await,
        };
        self.connected(result);
    }

    /// The application creates a link token, and the user opens the page with it, sometimes twice.
    /// Returns whether the page opened: only one of two attempts gets the token.
    async fn may_open_page(&self) -> bool {
        let tickets = self.world.items.tickets();
        let text = format!("{} {}", self.application, self.user);
        let Ok(minted) = tickets.mint_link(&text, LINK_TOKEN_LIFETIME).await else { return false };
        self.wait(0, 300).await;
        let twice = self.dice.throw(|dice| dice.chance(400));
        let first = tickets.take_link::<String>(&minted.token);
        let second = async {
            match twice {
                true => Some(tickets.take_link::<String>(&minted.token).await),
                false => None,
            }
        };
        let (first, second) = tokio::join!(biased; first, second);
        let opened = [Some(first), second].into_iter().flatten().filter_map(Result::ok);
        let opened: Vec<_> = opened.collect();
        if opened.len() > 1 || opened.iter().any(|opened| *opened != text) {
            self.world.trace.wrong(format!("a link token of {text} opened {opened:?}"));
        }
        !opened.is_empty()
    }

    /// The user signs in at the bank again. Unlike a join, this always brings the new tokens.
    pub(crate) async fn authorize_again(&mut self) {
        let tokens = self.world.authorize(&self.bank, &self.user, &self.dice).await;
        self.wait(0, 20).await;
        let connection = self.connection();
        let result = self.world.items.link(&self.bank.id, &self.user, tokens, connection).await;
        self.connected(result);
    }

    fn connected(&mut self, result: Result<LinkedApplication, ItemsError>) {
        match result {
            Ok(linked) => {
                self.say(format_args!("connected to {}", linked.item_id));
                let replica = match self.link.take() {
                    Some(link) if link.item == linked.item_id => link.replica,
                    _ => Replica::default(),
                };
                let (item, token) = (linked.item_id, linked.access_token);
                self.link = Some(Link { item, token, replica });
            }
            Err(error) => self.refused(&error),
        }
    }

    /// The page hands the application a public token, which is exchanged soon, late or never.
    async fn link_by_public_token(
        &self,
        tokens: TokenSet,
        connection: Connection,
    ) -> Result<LinkedApplication, ItemsError> {
        let (items, bank) = (&self.world.items, &self.bank.id);
        let joined = match self.link.as_ref().filter(|_| self.dice.throw(|dice| dice.chance(500))) {
            Some(link) => items.join(&link.item, connection, ApplicationUser::default()).await?,
            None => items.link_for_exchange(bank, &self.user, tokens, connection, None).await?,
        };
        self.wait(0, 600).await;
        items.exchange_public_token(&self.application, &joined.public_token).await
    }

    fn connection(&self) -> Connection {
        let now = self.world.clock.now();
        let mut connection = Connection::new(self.application.clone(), self.products.clone(), now);
        connection.webhook = Some(format!("https://apps.example/{}", self.application));
        let accounts: Vec<_> = {
            let ledgers = self.bank.ledgers();
            let listed = ledgers.get(&self.user).into_iter().flat_map(|ledger| &ledger.accounts);
            listed.filter(|(_, listing)| listing.listed).map(|(id, _)| id.clone()).collect()
        };
        self.dice.throw(|dice| {
            connection.new_accounts = dice.chance(600);
            connection.accounts = dice.chance(500).then(|| some_of(&accounts, dice));
        });
        connection
    }

    async fn choose_otherwise(&mut self) -> Result<(), ItemsError> {
        let Some(link) = &self.link else { return Ok(()) };
        let mut connection = self.connection();
        if self.dice.throw(|dice| dice.chance(200)) {
            match self.products.iter().position(|product| *product == Product::Transactions) {
                Some(place) => drop(self.products.remove(place)),
                None => self.products.push(Product::Transactions),
            }
            let now = self.world.clock.now();
            let products = Connection::new(self.application.clone(), self.products.clone(), now);
            connection.products = products.products;
        }
        let item = link.item.clone();
        let known = self.world.items.update_connection(&item, connection).await;
        self.say(format_args!("shares otherwise: {:?}", known.as_ref().ok()));
        known.map(drop)
    }

    async fn rotate(&mut self) -> Result<(), ItemsError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.token = self.world.items.rotate_access(&link.token).await?;
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), ItemsError> {
        let Some(link) = &self.link else { return Ok(()) };
        let by_token = self.dice.throw(|dice| dice.chance(500));
        let unlinked = if by_token {
            self.world.items.unlink(&link.token).await?
        } else {
            self.world.items.remove_application(&link.item, &self.application).await?
        };
        self.say(format_args!("leaves: {unlinked:?}"));
        let _: Unlinked = unlinked;
        self.link = None;
        Ok(())
    }

    /// Checks whether the bank requires a sign-in. The user signs in or does not.
    async fn look_after(&mut self) -> Result<(), ItemsError> {
        let Some(link) = &self.link else { return Ok(()) };
        let status = self.world.items.status(&link.token).await?;
        if status.item.error.is_some() && self.dice.throw(|dice| dice.chance(600)) {
            self.say(format_args!("authorizes again"));
            self.authorize_again().await;
        }
        Ok(())
    }

    // ---- reading -----------------------------------------------------------------------------

    /// Returns the accounts among those given that it may see. A choice that grows meanwhile may
    /// count already.
    fn check_seen<'a>(
        &self,
        link: &Link,
        how: &str,
        accounts: impl Iterator<Item = &'a AccountId>,
        before: Option<&BTreeSet<AccountId>>,
    ) {
        let now = self.world.witness.visible(&link.item, &self.application);
        for account in accounts {
            let visible = before.is_some_and(|before| before.contains(account))
                || now.as_ref().is_some_and(|now| now.contains(account));
            if !visible {
                self.world.trace.wrong(format!(
                    "{} of {} sees account {account} {how}, and may not",
                    self.application, self.user
                ));
            }
        }
    }

    async fn read_accounts(&mut self) -> Result<(), ItemsError> {
        let Some(link) = &self.link else { return Ok(()) };
        let before = self.world.witness.visible(&link.item, &self.application);
        let response = self.world.items.accounts(&link.token).await?;
        self.say(format_args!("reads {} accounts", response.data.len()));
        let ids = response.data.iter().map(|account| &account.id);
        self.check_seen(link, "in the list", ids, before.as_ref());
        Ok(())
    }

    async fn read_by_date(&mut self) -> Result<(), ItemsError> {
        let Some(link) = &self.link else { return Ok(()) };
        let before = self.world.witness.visible(&link.item, &self.application);
        let today = self.bank.today();
        let days = self.dice.throw(|dice| dice.between(1, 60));
        let window = Window::new(today.minus_days(days), today.plus_days(1)).unwrap();
        let mut request = TransactionsRequest::new(window);
        request.limit = usize::try_from(self.dice.throw(|dice| dice.between(1, 30))).unwrap_or(1);
        let mut ids = BTreeSet::new();
        loop {
            let response = self.world.items.transactions(&link.token, &request).await?;
            let rows = &response.data.transactions;
            self.check_seen(
                link,
                "by date",
                rows.iter().map(|row| &row.account_id),
                before.as_ref(),
            );
            for row in rows {
                if !ids.insert(row.id.clone()) {
                    self.world.trace.wrong(format!("{} came on two pages by date", row.id));
                }
            }
            request.cursor = response.data.next_cursor;
            if request.cursor.is_none() {
                self.say(format_args!("reads {} rows by date", ids.len()));
                return Ok(());
            }
        }
    }

    /// Makes one pass of the reader, and restarts it when the Item changes meanwhile.
    async fn follow(&mut self) -> Result<(), ItemsError> {
        for _ in 0..6 {
            match self.pass(false).await {
                Err(error) if error.kind() == ItemsErrorKind::SyncMutated => {
                    self.say(format_args!("begins the pass again"));
                }
                Err(error) if error.kind() == ItemsErrorKind::InvalidCursor => {
                    self.say(format_args!("begins from nothing"));
                    if let Some(link) = &mut self.link {
                        if link.replica.cursor.is_none() {
                            return Err(error);
                        }
                        link.replica = Replica::default();
                    }
                }
                other => return other,
            }
        }
        Ok(())
    }

    async fn pass(&mut self, good: bool) -> Result<(), ItemsError> {
        let items = if good { &self.world.good_items } else { &self.world.items };
        let Some(link) = &self.link else { return Ok(()) };
        let before = self.world.witness.visible(&link.item, &self.application);
        let mut cursor = link.replica.cursor.clone();
        let mut rows = link.replica.rows.clone();
        let mut ever = link.replica.ever.clone();
        let mut pages = 0;
        loop {
            let count = usize::try_from(self.dice.throw(|dice| dice.between(1, 40))).unwrap_or(1);
            let response =
                items.transactions_sync(&link.token, cursor.as_deref(), Some(count)).await?;
            let page = response.data;
            pages += 1;
            let shown = page.added.iter().chain(&page.modified).map(|row| &row.account_id);
            let shown = shown.chain(page.removed.iter().map(|gone| &gone.account_id));
            self.check_seen(link, "in a pass", shown, before.as_ref());
            for row in page.added {
                ever.insert(row.id.clone());
                rows.insert(row.id.clone(), row);
            }
            for row in page.modified {
                if rows.insert(row.id.clone(), row.clone()).is_none() {
                    let id = &row.id;
                    self.world.trace.wrong(format!("{id} is modified, and the reader has it not"));
                }
            }
            for gone in page.removed {
                // A row that came back and was removed again may be reported to a reader that
                // joined in between.
                let returned = self.world.witness.returned(&link.item, &gone.transaction_id);
                if !ever.contains(&gone.transaction_id) && !returned {
                    let id = &gone.transaction_id;
                    self.world.trace.wrong(format!("{id} is gone, and the reader never had it"));
                }
                rows.remove(&gone.transaction_id);
            }
            cursor = Some(page.next_cursor);
            if !page.has_more {
                break;
            }
            if !good {
                let millis = self.dice.throw(|dice| dice.below(3000));
                self.world.clock.sleep(Duration::from_millis(millis)).await;
            }
        }
        self.world.witness.count(|stats| stats.passes += 1);
        self.say(format_args!("has {} rows after {pages} pages", rows.len()));
        if let Some(link) = &mut self.link {
            link.replica = Replica { cursor, rows, ever };
        }
        Ok(())
    }

    // ---- the end -----------------------------------------------------------------------------

    /// Returns the Item that it is connected to, as far as the application knows.
    pub(crate) fn item(&self) -> Option<&ItemId> {
        self.link.as_ref().map(|link| &link.item)
    }

    /// Finds the connection again if the response to the link was lost.
    pub(crate) async fn find_again(&mut self) {
        let found = self.world.store.find(&self.bank.id, &self.user).await.ok().flatten();
        let connected = match &found {
            Some(item) => self.world.witness.visible(item, &self.application).is_some(),
            None => false,
        };
        let known = match &self.link {
            Some(link) => {
                found.as_ref() == Some(&link.item)
                    && self.world.good_items.status(&link.token).await.is_ok()
            }
            None => false,
        };
        if connected && !known {
            self.say(format_args!("connects again to know its token"));
            self.connect().await;
        } else if !connected {
            self.link = None;
        }
    }

    /// Reads to the end and returns the transactions, or `None` if it reads none.
    pub(crate) async fn finish(&mut self) -> Option<BTreeMap<TransactionId, Transaction>> {
        let link = self.link.as_ref()?;
        if !self.world.witness.wants_transactions(&link.item, &self.application) {
            return None;
        }
        for _ in 0..3 {
            match self.pass(true).await {
                Ok(()) => break,
                Err(error) if error.kind() == ItemsErrorKind::InvalidCursor => {
                    if let Some(link) = &mut self.link {
                        link.replica = Replica::default();
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ItemsErrorKind::ProductNotReady | ItemsErrorKind::CannotFinish
                    ) && !self.bank.has_transactions() =>
                {
                    return None;
                }
                Err(error) => {
                    let (application, user) = (&self.application, &self.user);
                    self.world.trace.wrong(format!(
                        "{application} of {user} cannot read in the end: {error:?}"
                    ));
                    return None;
                }
            }
        }
        self.link.as_ref().map(|link| link.replica.rows.clone())
    }

    pub(crate) fn application(&self) -> &ApplicationId {
        &self.application
    }
}

/// Returns some of several accounts, at least one if there are any.
fn some_of(accounts: &[AccountId], dice: &mut Dice) -> BTreeSet<AccountId> {
    let mut some: BTreeSet<_> = accounts.iter().filter(|_| dice.chance(500)).cloned().collect();
    if some.is_empty() {
        some.extend(dice.pick(accounts).cloned());
    }
    some
}
