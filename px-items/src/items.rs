//! How a Plaid service serves applications and partners: link, read, notify, unlink.
//!
//! Everything that is read goes through the connection of the application that asks: the
//! accounts and products that its user allowed it, under the Item's own ids, and no sign that
//! there is more. Fetching is not here; see [`crate::item`] for what an Item goes through.

mod cursor;
mod error;
mod notify;
mod read;
mod remap;
mod status;
mod sync;
mod token;
mod transactions;
mod view;

pub use self::{
    error::{ItemsError, ItemsErrorKind},
    read::{Answer, Balance, Holdings, Identities},
    status::{HistoryStatus, Status},
    sync::{RemovedTransaction, SyncPage},
    transactions::{Transactions, TransactionsRequest},
};

use crate::{
    connection::{Connection, CursorKey},
    random::{Random, SystemRandom},
    store::{NewHolder, NewLink, Store, Unlinked},
    webhook::{Allow, check_url},
};
use px_client::{
    clock::{Clock, TokioClock},
    oauth::TokenSet,
};
use px_types::{
    AccountId, ApplicationId, InstitutionId, ItemAccessToken, ItemId, UserId, webhook::Environment,
};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// Items, as a Plaid service offers them to applications and partners.
///
/// Cheap to clone. Many processes can serve the same store.
#[derive(Clone)]
pub struct Items {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    environment: Environment,
    webhooks: Allow,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Sets [`Items`] up.
pub struct ItemsBuilder(Items);

/// What an application or a partner gets when it is linked to an Item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkedApplication {
    /// The Item.
    pub item_id: ItemId,
    /// By which the application reads it. It is kept nowhere: only its digest is.
    pub access_token: ItemAccessToken,
    /// Whether the Item was made: the initial fetch begins. Else the user came back, or connects
    /// a further application.
    pub created: bool,
    /// Whether the Item had lost its authorization and has it again.
    pub repaired: bool,
}

/// What a user's authorization gave: tokens, and the accounts that they show.
///
/// Tokens alone become one over all accounts of the user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Authorization {
    /// The tokens.
    pub tokens: TokenSet,
    /// The accounts that the user shared, by the partner's ids; `None` is all of them.
    pub accounts: Option<BTreeSet<AccountId>>,
}

impl Authorization {
    /// Tokens that show some accounts.
    #[must_use]
    pub fn over(tokens: TokenSet, accounts: impl IntoIterator<Item = AccountId>) -> Self {
        Self { tokens, accounts: Some(accounts.into_iter().collect()) }
    }
}

impl From<TokenSet> for Authorization {
    fn from(tokens: TokenSet) -> Self {
        Self { tokens, accounts: None }
    }
}

impl Items {
    /// Sets it up over a store, with the machine's clock and randomness, for the sandbox.
    #[must_use]
    pub fn builder(store: Arc<dyn Store>) -> ItemsBuilder {
        ItemsBuilder(Self {
            store,
            clock: Arc::new(TokioClock::new()),
            random: Arc::new(SystemRandom),
            environment: Environment::Sandbox,
            webhooks: Allow::Public,
            wake: Arc::new(|| ()),
        })
    }

    /// Connects an application to a user's Item, which is made if there is none.
    ///
    /// A user who authorizes again, for this or another application, repairs an Item that had
    /// lost its authorization. While it has one, it keeps the one that shows more: say which
    /// accounts the new one shows ([`Authorization::over`]), or a user who shares less with one
    /// application takes accounts from another. An earlier access token of the same application
    /// ends.
    ///
    /// # Errors
    /// When the address for webhooks is not accepted, or the store fails.
    pub async fn link(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        authorization: impl Into<Authorization> + Send,
        mut connection: Connection,
    ) -> Result<LinkedApplication, ItemsError> {
        self.check_webhook(&connection)?;
        connection.cursor_key = self.cursor_key();
        let holder = NewHolder::Application(connection);
        self.link_holder(institution, user, authorization.into(), holder).await
    }

    /// Makes an Item from a token that the partner gives out itself, or finds the user's.
    ///
    /// The partner's access token names the Item in notifications. It reads no data and does not
    /// keep the Item. While no application is connected, accounts are fetched and transactions
    /// are not, whatever products the partner has in mind: no user has allowed them to anyone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn import(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        tokens: TokenSet,
    ) -> Result<LinkedApplication, ItemsError> {
        self.link_holder(institution, user, tokens.into(), NewHolder::Partner).await
    }

    async fn link_holder(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        authorization: Authorization,
        holder: NewHolder,
    ) -> Result<LinkedApplication, ItemsError> {
        let access_token = token::mint(&*self.random, &self.environment);
        let item_id = token::item_id(&*self.random).ok_or_else(|| {
            ItemsError::new(ItemsErrorKind::Internal, "no id for an Item could be made")
        })?;
        let mut new = NewLink::new(
            (institution.clone(), user.clone()),
            item_id,
            authorization.tokens,
            holder,
            token::digest(&access_token),
            self.clock.now(),
        );
        new.covers = authorization.accounts;
        let linked = self.store.link(new).await?;
        tracing::info!(item = %linked.item_id, created = linked.created, "linked");
        (self.wake)();
        let (item_id, created, repaired) = (linked.item_id, linked.created, linked.repaired);
        Ok(LinkedApplication { item_id, access_token, created, repaired })
    }

    /// The holder of a token gives up its access. With the last application the Item goes.
    ///
    /// A partner takes with it an Item that no application is connected to.
    ///
    /// # Errors
    /// When there is no such token, or the store fails.
    pub async fn unlink(&self, token: &ItemAccessToken) -> Result<Unlinked, ItemsError> {
        let access = self.access(token).await?;
        match self.take_off(&access.item_id, access.application_id.as_ref()).await? {
            Unlinked::NotConnected => Err(ItemsError::invalid_access_token()),
            unlinked => Ok(unlinked),
        }
    }

    /// Takes an application off an Item; its access ends at once, the others keep theirs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unlink_application(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Unlinked, ItemsError> {
        self.take_off(item, Some(application)).await
    }

    async fn take_off(
        &self,
        item: &ItemId,
        application: Option<&ApplicationId>,
    ) -> Result<Unlinked, ItemsError> {
        let unlinked = self.store.unlink(item, application, self.clock.now()).await?;
        tracing::info!(%item, ?unlinked, "unlinked");
        // Its tokens wait to be revoked.
        (self.wake)();
        Ok(unlinked)
    }

    /// Sets what an application uses and sees, and where its webhooks go. `false`: it is not
    /// connected to that Item.
    ///
    /// When it sees something else from then on, its sync begins anew.
    ///
    /// # Errors
    /// When the address for webhooks is not accepted, or the store fails.
    pub async fn update_connection(
        &self,
        item: &ItemId,
        mut connection: Connection,
    ) -> Result<bool, ItemsError> {
        self.check_webhook(&connection)?;
        connection.cursor_key = self.cursor_key();
        let known = self.store.set_connection(item, connection, self.clock.now()).await?;
        (self.wake)();
        Ok(known)
    }

    /// Gives out another token in the place of one, which ends at once.
    ///
    /// # Errors
    /// When there is no such token, or the store fails.
    pub async fn rotate_access(
        &self,
        token: &ItemAccessToken,
    ) -> Result<ItemAccessToken, ItemsError> {
        let new = token::mint(&*self.random, &self.environment);
        let replaced =
            self.store.replace_access(&token::digest(token), &token::digest(&new)).await?;
        replaced.then_some(new).ok_or_else(ItemsError::invalid_access_token)
    }

    /// What can be told from the address alone. Where its name leads is looked at on sending.
    fn check_webhook(&self, connection: &Connection) -> Result<(), ItemsError> {
        let Some(webhook) = &connection.webhook else { return Ok(()) };
        check_url(webhook, self.webhooks)
            .map_err(|error| ItemsError::invalid_field("webhook", &error.to_string()))
    }

    fn cursor_key(&self) -> CursorKey {
        let mut key = [0; 32];
        self.random.fill(&mut key);
        CursorKey::new(key)
    }
}

impl ItemsBuilder {
    /// Takes the time from another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Takes randomness from elsewhere.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.0.random = random;
        self
    }

    /// The environment that access tokens name; the store's.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.0.environment = environment;
        self
    }

    /// Which addresses of webhooks are accepted; public ones, unless told otherwise.
    #[must_use]
    pub fn webhooks(mut self, allow: Allow) -> Self {
        self.0.webhooks = allow;
        self
    }

    /// What is called when there is work, so that a worker of the same process acts at once. It
    /// must not block.
    #[must_use]
    pub fn wake(mut self, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.0.wake = Arc::new(wake);
        self
    }

    /// Makes it.
    #[must_use]
    pub fn build(self) -> Items {
        self.0
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("store", &self.store)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ItemsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ItemsBuilder").field(&self.0).finish()
    }
}
