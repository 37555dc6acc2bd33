//! What the pages do with Items: open link tokens, connect applications, list accounts.
//!
//! Link tokens and public tokens are tickets of the store: of two who take one at once, one gets
//! it, in whichever process.

use super::{config::Application, link::Authorized, order::Order};
use px_core::Clock;
use px_items::{
    connection::Connection,
    items::{Authorization, ItemsError, ItemsErrorKind, SharedItems},
    store::{Store, Whose},
};
use px_types::{
    AccountId, InstitutionId, ItemId, LinkToken, PublicToken,
    model::{account::Account, product::Product},
};
use std::{collections::BTreeSet, sync::Arc};

/// Items, as the pages work with them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) items: SharedItems,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
}

/// An application that is connected after a user's sign-in.
#[derive(Debug)]
pub(super) struct Connecting<'c> {
    pub(super) institution: &'c InstitutionId,
    pub(super) app: &'c Application,
    pub(super) products: &'c [String],
    pub(super) webhook: Option<&'c str>,
    pub(super) authorized: Authorized,
    /// The accounts that were picked here; all that the authorization shows when `None`.
    pub(super) picked: Option<BTreeSet<AccountId>>,
    /// Whether the application is told of it by webhook, for lack of a page to return to, and
    /// whose Item it is told that it is.
    pub(super) tell: Option<Whose>,
}

impl Desk {
    /// What a link token stands for, once. `None`: there is no such token, or no more.
    pub(super) async fn take_link_token(
        &self,
        token: &LinkToken,
    ) -> Result<Option<Order>, ItemsError> {
        match self.items.by_anyone().tickets().take_link(token).await {
            Ok(order) => Ok(Some(order)),
            Err(error) if error.kind() == ItemsErrorKind::InvalidLinkToken => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Connects an application: for a public token, or for a webhook that brings it one.
    pub(super) async fn connect(
        &self,
        connecting: Connecting<'_>,
    ) -> Result<Option<PublicToken>, ItemsError> {
        let Connecting { institution, app, products, webhook, authorized, picked, tell } =
            connecting;
        let Authorized { tokens, user_id, accounts } = authorized;
        let shown: BTreeSet<_> = accounts.into_iter().map(|account| account.id).collect();
        let authorization = match &picked {
            // Tokens of a sign-in with a password show all accounts that the user has.
            Some(_) => Authorization::from(tokens),
            None => Authorization::over(tokens, shown.iter().cloned()),
        };
        let connection = self.connection(app, products, webhook, picked.unwrap_or(shown));
        let tell = tell.filter(|_| webhook.is_some());
        let is_told = tell.is_some();
        let items = self.items.by_anyone();
        let joined =
            items.link_for_exchange(institution, &user_id, authorization, connection, tell).await?;
        Ok((!is_told).then_some(joined.public_token))
    }

    /// Connects an application to an Item without a sign-in. `false`: the Item is gone.
    pub(super) async fn join(
        &self,
        item: &ItemId,
        app: &Application,
        (products, whose): (&[String], &Whose),
        picked: BTreeSet<AccountId>,
    ) -> Result<bool, ItemsError> {
        let connection = self.connection(app, products, app.webhook.as_deref(), picked);
        match self.items.by_anyone().join(item, connection, whose.clone()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ItemsErrorKind::ItemNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// These accounts, and none that are opened later.
    fn connection(
        &self,
        app: &Application,
        products: &[String],
        webhook: Option<&str>,
        accounts: BTreeSet<AccountId>,
    ) -> Connection {
        let products = products.iter().map(|name| Product::from(name.as_str()));
        let mut connection = Connection::new(app.id.clone(), products, self.clock.now());
        connection.accounts = Some(accounts);
        connection.new_accounts = false;
        connection.webhook = webhook.map(str::to_owned);
        connection
    }

    /// The accounts of an Item that its user can share; empty while they are on their way.
    /// `None`: there is no such Item.
    pub(super) async fn accounts_of(
        &self,
        item: &ItemId,
    ) -> Result<Option<Vec<Account>>, ItemsError> {
        if self.store.item(item).await?.is_none() {
            return Ok(None);
        }
        self.items.by_anyone().accounts_to_share(item).await.map(Some)
    }
}
