//! What happens at a bank: its users' accounts live, it tells of that or not, and consents end.

use crate::{bank::Bank, dice::SharedDice, world::World};
use px_core::Clock as _;
use px_items::items::{ItemsError, ItemsErrorKind};
use px_types::{
    AccountId, ItemAccessToken, UserId,
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
    /// Whether the bank tells of news at all.
    tells: bool,
    /// By which it names the Item.
    token: Option<ItemAccessToken>,
}

impl Customer {
    pub(crate) fn new(world: Arc<World>, bank: Arc<Bank>, user: UserId) -> Self {
        let dice = SharedDice::new(world.seed, &format!("{user} at the bank"));
        let tells = dice.throw(|dice| dice.chance(600));
        Self { world, bank, user, dice, tells, token: None }
    }

    /// Lives until everyone stops.
    pub(crate) async fn live(mut self) {
        while self.world.is_busy() {
            let wait = self.dice.throw(|dice| match dice.below(10) {
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
        if self.tells && self.token.is_none() {
            self.import().await;
        }
        match self.dice.throw(|dice| dice.below(1000)) {
            0..=14 => self.end_consent().await,
            15..=24 => self.tell_of_tokens(TokenAction::Cycle).await,
            _ => {
                let mut happened = false;
                for _ in 0..self.dice.throw(|dice| dice.between(1, 4)) {
                    let what = self.dice.throw(|dice| self.bank.live(&self.user, dice));
                    happened |= what.is_some();
                }
                if happened {
                    self.tell().await;
                }
            }
        }
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace.note(self.bank.id.as_str(), format_args!("{}: {what}", self.user));
    }

    /// The bank gets a token to name the Item by, when there is one.
    async fn import(&mut self) {
        let found = self.world.store.find(&self.bank.id, &self.user).await;
        if !matches!(found, Ok(Some(_))) && self.dice.throw(|dice| dice.chance(900)) {
            return;
        }
        let tokens = self.world.authorize(&self.bank, &self.user, &self.dice).await;
        match self.world.items.import(&self.bank.id, &self.user, tokens).await {
            Ok(linked) => {
                self.say(format_args!("imported as {}", linked.item_id));
                self.token = Some(linked.access_token);
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&mut self, error: &ItemsError) {
        match error.kind() {
            ItemsErrorKind::Unavailable => {}
            // The Item went with its last application, or the bank was linked anew.
            ItemsErrorKind::InvalidAccessToken => self.token = None,
            _ => self.world.trace.wrong(format!("the bank was refused: {error:?}")),
        }
    }

    /// The user takes the consent back; the bank says so at once, late or never.
    async fn end_consent(&mut self) {
        self.say(format_args!("takes every consent back"));
        self.bank.revoke_all(&self.user).await;
        if self.dice.throw(|dice| dice.chance(500)) {
            self.tell_of_tokens(TokenAction::Revoked).await;
        }
    }

    async fn tell_of_tokens(&mut self, action: TokenAction) {
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

    /// The bank tells that there is something new: not always, sometimes twice, sometimes late.
    async fn tell(&mut self) {
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
                    // Who is not known any more by then is no news.
                    let _ = call.send().await;
                });
            } else if let Err(error) = call.send().await {
                self.refused(&error);
            }
        }
    }
}

/// One notification.
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
