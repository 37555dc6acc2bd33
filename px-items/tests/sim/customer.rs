//! Events at a bank: accounts of its users change, it notifies of changes or does not, and consents
//! end.

use crate::{
    bank::{Bank, Habit},
    dice::SharedDice,
    world::World,
};
use px_core::Clock as _;
use px_items::items::{ItemsError, ItemsErrorKind};
use px_types::{
    AccountId, ItemAccessToken, UserId,
    model::scopes::{AccountAccess, Scopes},
    plaid::{
        AccountEvent, AccountsNotification, AccountsNotificationEntry, Batch,
        NewTransactionsNotification, TokenAction, TokensNotification, TokensNotificationEntry,
        TransactionsNotificationEntry,
    },
};
use std::{sync::Arc, time::Duration};

/// One user at one bank.
pub(crate) struct Customer {
    world: Arc<World>,
    bank: Arc<Bank>,
    user: UserId,
    dice: SharedDice,
    /// Whether the bank sends notifications at all.
    notifies: bool,
    /// Token that identifies the Item in notifications.
    token: Option<ItemAccessToken>,
}

impl Customer {
    pub(crate) fn new(world: Arc<World>, bank: Arc<Bank>, user: UserId) -> Self {
        let dice = SharedDice::new(world.seed, &format!("{user} at the bank"));
        let notifies = bank.style.crowded || dice.throw(|dice| dice.chance(600));
        Self { world, bank, user, dice, notifies, token: None }
    }

    /// Acts until the run stops.
    pub(crate) async fn live(mut self) {
        while self.world.is_busy() {
            let crowded = self.bank.style.crowded;
            let wait = self.dice.throw(|dice| match dice.below(10) {
                _ if crowded && self.token.is_none() => dice.between(1, 3600),
                _ if crowded => dice.between(10_000, 100_000),
                0..=3 => dice.between(1, 120),
                4..=6 => dice.between(120, 3600),
                _ => dice.between(3600, 40_000),
            });
            tokio::select! {
                biased;
                () = self.world.until_calm() => return,
                () = self.world.clock.sleep(Duration::from_secs(wait)) => {}
            }
            self.act().await;
        }
    }

    async fn act(&mut self) {
        if self.notifies && self.token.is_none() {
            self.import().await;
        }
        match self.dice.throw(|dice| dice.below(1000)) {
            0..=14 => self.end_consent().await,
            15..=24 => self.notify_tokens(TokenAction::Cycle).await,
            25..=44 => self.manage_applications().await,
            45..=49 => self.link_again().await,
            50..=64 if self.bank.style.has(Habit::ReusesTokens) => self.link_again().await,
            _ => {
                let mut happened = false;
                for _ in 0..self.dice.throw(|dice| dice.between(1, 4)) {
                    let what = self.dice.throw(|dice| self.bank.live(&self.user, dice));
                    happened |= what.is_some();
                }
                if happened {
                    self.notify().await;
                }
            }
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.note(self.bank.id.as_str(), format_args!("{}: {what}", self.user));
    }

    /// The bank gets a token that identifies the Item, if the Item exists.
    async fn import(&mut self) {
        let found = self.world.store.find(&self.bank.id, &self.user).await;
        let waits = !self.bank.style.crowded && self.dice.throw(|dice| dice.chance(900));
        if matches!(found, Ok(Some(_))) || !waits {
            self.import_now().await;
        }
    }

    async fn import_now(&mut self) {
        let tokens = self.world.authorize(&self.bank, &self.user, &self.dice).await;
        match self.world.items.import(&self.bank.id, &self.user, tokens).await {
            Ok(linked) => {
                self.say(format_args!("imported as {}", linked.item_id));
                let name = (self.bank.id.clone(), self.user.clone());
                self.world.names().insert(name, linked.access_token.clone());
                self.token = Some(linked.access_token);
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&mut self, error: &ItemsError) {
        match error.kind() {
            ItemsErrorKind::Unavailable => {}
            // The Item was removed with its last application, or the bank was linked again.
            ItemsErrorKind::InvalidAccessToken => self.token = None,
            // The application left meanwhile, or an account is not known here yet.
            ItemsErrorKind::NotConnected
            | ItemsErrorKind::InvalidField
            | ItemsErrorKind::ProductNotReady => {}
            _ => self.world.trace.wrong(format!("the bank was refused: {error:?}")),
        }
    }

    /// On the bank's own site, the user changes what an application may see, or ends its access.
    async fn manage_applications(&mut self) {
        let Some(token) = self.token.clone() else { return };
        let result = self.manage_with(&token).await;
        if let Err(error) = result {
            self.refused(&error);
        }
    }

    async fn manage_with(&self, token: &ItemAccessToken) -> Result<(), ItemsError> {
        let applications = self.world.items.applications(token).await?;
        let Some(one) = self.dice.throw(|dice| dice.pick(&applications).cloned()) else {
            return Ok(());
        };
        let id = &one.application.application_id;
        if self.dice.throw(|dice| dice.chance(200)) {
            let unlinked = self.world.items.unlink_application(token, id).await?;
            self.say(format_args!("takes {id} off: {unlinked:?}"));
            return Ok(());
        }
        let mut scopes = Scopes::new();
        let known: Vec<_> = {
            let ledgers = self.bank.ledgers();
            ledgers
                .get(&self.user)
                .into_iter()
                .flat_map(|ledger| ledger.accounts.keys().cloned())
                .collect()
        };
        self.dice.throw(|dice| {
            scopes.new_accounts = dice.chance(300).then(|| dice.chance(500));
            for account in known {
                if dice.chance(500) {
                    let mut access = AccountAccess::new(account);
                    access.authorized = Some(dice.chance(600));
                    scopes.accounts.push(access);
                }
            }
        });
        self.world.items.update_scopes(token, id, &scopes).await?;
        self.say(format_args!("shares otherwise with {id}"));
        Ok(())
    }

    /// The bank ends its own link and creates another one soon after, at some banks with the same
    /// token.
    async fn link_again(&mut self) {
        let Some(token) = self.token.take() else { return };
        match self.world.items.unlink(&token).await {
            Ok(unlinked) => self.say(format_args!("unlinks: {unlinked:?}")),
            Err(error) => return self.refused(&error),
        }
        // Often while the revocation of the old token is under way.
        let at_once = self.dice.throw(|dice| dice.chance(500));
        if !at_once {
            let wait = self.dice.throw(|dice| dice.between(0, 600));
            self.world.clock.sleep(Duration::from_secs(wait)).await;
        }
        self.import_now().await;
    }

    /// The user revokes the consent. The bank notifies of it at once, late or never.
    async fn end_consent(&mut self) {
        self.say(format_args!("takes every consent back"));
        self.bank.revoke_all(&self.user).await;
        if self.dice.throw(|dice| dice.chance(500)) {
            self.notify_tokens(TokenAction::Revoked).await;
        }
    }

    async fn notify_tokens(&mut self, action: TokenAction) {
        let Some(token) = self.token.clone() else { return };
        self.say(format_args!("tells of tokens: {action:?}"));
        let entry = TokensNotificationEntry::new(token, action);
        let Ok(batch) = Batch::new(vec![entry]) else { return };
        let notification = TokensNotification::new(batch);
        let result =
            self.world.items.handle_tokens_notification(&self.bank.id, &notification).await;
        if let Err(error) = result {
            self.refused(&error);
        }
    }

    /// The bank notifies of changes: not always, sometimes twice, sometimes late.
    async fn notify(&mut self) {
        let Some(token) = self.token.clone() else { return };
        let (times, late) = self.dice.throw(|dice| {
            let times = match dice.below(10) {
                0..=2 => 0,
                3..=7 => 1,
                _ => dice.between(2, 4),
            };
            (times, dice.chance(200))
        });
        for _ in 0..times {
            let call = Call {
                world: self.world.clone(),
                bank: self.bank.clone(),
                token: token.clone(),
                accounts: self.dice.throw(|dice| dice.chance(200)),
                back: self.dice.throw(|dice| dice.below(10)),
            };
            if late {
                let wait = self.dice.throw(|dice| dice.between(60, 20_000));
                tokio::spawn(async move {
                    call.world.clock.sleep(Duration::from_secs(wait)).await;
                    // Refusals of a removed Item are expected.
                    let _ = call.send().await;
                });
            } else if let Err(error) = call.send().await {
                self.refused(&error);
            }
        }
    }
}

/// A bank with many users notifies of all of them at once, a few times a day.
pub(crate) async fn notify_crowd(world: Arc<World>, bank: Arc<Bank>) {
    let dice = SharedDice::new(world.seed, &format!("{} notifies", bank.id));
    loop {
        let wait = dice.throw(|dice| dice.between(3600, 30_000));
        tokio::select! {
            biased;
            () = world.until_calm() => return,
            () = world.clock.sleep(Duration::from_secs(wait)) => {}
        }
        let mut names: Vec<_> = world.names().values().cloned().collect();
        while !names.is_empty() {
            let account = AccountId::new("any").unwrap();
            let entries = names
                .iter()
                .map(|name| TransactionsNotificationEntry::new(name.clone(), account.clone()));
            let batch = Batch::new(entries.collect()).unwrap();
            let notification = NewTransactionsNotification::new(batch, bank.today());
            let result = world.items.handle_transactions_notification(&bank.id, &notification);
            match result.await {
                Ok(()) => {
                    world.trace.note(bank.id.as_str(), format_args!("notifies of {}", names.len()));
                    break;
                }
                // One entry is of a removed Item: the others are sent without it.
                Err(error) => match error.index() {
                    Some(index) if index < names.len() => drop(names.remove(index)),
                    _ => break,
                },
            }
        }
    }
}

/// A notification.
struct Call {
    world: Arc<World>,
    bank: Arc<Bank>,
    token: ItemAccessToken,
    accounts: bool,
    back: u64,
}

impl Call {
    async fn send(&self) -> Result<(), ItemsError> {
        let account = AccountId::new("any").unwrap();
        let items = &self.world.items;
        if self.accounts {
            let entry =
                AccountsNotificationEntry::new(self.token.clone(), account, AccountEvent::Changed);
            let batch = Batch::new(vec![entry]).unwrap();
            let notification = AccountsNotification::new(batch);
            return items.handle_accounts_notification(&self.bank.id, &notification).await;
        }
        let entry = TransactionsNotificationEntry::new(self.token.clone(), account);
        let since = self.bank.today().minus_days(self.back);
        let batch = Batch::new(vec![entry]).unwrap();
        let notification = NewTransactionsNotification::new(batch, since);
        items.handle_transactions_notification(&self.bank.id, &notification).await
    }
}
