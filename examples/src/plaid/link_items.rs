//! The Item operations of the Link pages: take link tokens, connect applications, list accounts.
//!
//! Link tokens and public tokens are tickets of the store. If two processes take the same ticket at
//! once, one of them gets it.

use super::{config::Application, link::Authorized, link_request::LinkRequest};
use px_core::Clock;
use px_items::{
    connection::Connection,
    items::{Authorization, ItemsError, ItemsErrorKind, SharedItems},
    store::{ApplicationUser, Store},
};
use px_types::{
    AccountId, InstitutionId, ItemId, LinkToken, PublicToken,
    model::{account::Account, product::Product},
};
use std::{collections::BTreeSet, sync::Arc};

/// The Item operations of the Link pages. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LinkItems {
    pub(super) items: SharedItems,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A connection to be created after a user's sign-in.
#[derive(Debug)]
pub(super) struct NewConnection<'c> {
    pub(super) institution: &'c InstitutionId,
    pub(super) app: &'c Application,
    pub(super) products: &'c [String],
    pub(super) webhook: Option<&'c str>,
    pub(super) authorized: Authorized,
    /// The accounts that the user selected here. `None` means all accounts of the authorization.
    pub(super) picked: Option<BTreeSet<AccountId>>,
    /// Data for a webhook that notifies the application of the connection, if it has no page to
    /// return to. The value says which user the Item belongs to.
    pub(super) notify: Option<ApplicationUser>,
}

impl LinkItems {
    /// Takes a link token and returns its content. Returns `None` if the token is unknown or was
    /// taken before.
    pub(super) async fn take_link_token(
        &self,
        token: &LinkToken,
    ) -> Result<Option<LinkRequest>, ItemsError> {
        match self.items.for_any_owner().tickets().take_link(token).await {
            Ok(link_request) => Ok(Some(link_request)),
            Err(error) if error.kind() == ItemsErrorKind::InvalidLinkToken => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Connects an application. Returns the public token, or `None` if a webhook brings it to the
    /// application.
    pub(super) async fn connect(
        &self,
        connecting: NewConnection<'_>,
    ) -> Result<Option<PublicToken>, ItemsError> {
        let NewConnection { institution, app, products, webhook, authorized, picked, notify } =
            connecting;
        let Authorized { tokens, user_id, accounts } = authorized;
        let shown: BTreeSet<_> = accounts.into_iter().map(|account| account.id).collect();
        let authorization = match &picked {
            // Tokens from a sign-in with a password give access to all of the user's accounts.
            Some(_) => Authorization::from(tokens),
            None => Authorization::over(tokens, shown.iter().cloned()),
        };
        let connection = self.connection(app, products, webhook, picked.unwrap_or(shown));
        let notify = notify.filter(|_| webhook.is_some());
        let is_notified = notify.is_some();
        let items = self.items.for_any_owner();
        let joined = items
            .link_for_exchange(institution, &user_id, authorization, connection, notify)
            .await?;
        Ok((!is_notified).then_some(joined.public_token))
    }

    /// Connects an application to an Item without a sign-in. Returns `false` if the Item does not
    /// exist any more.
    pub(super) async fn join(
        &self,
        item: &ItemId,
        app: &Application,
        (products, item_user): (&[String], &ApplicationUser),
        picked: BTreeSet<AccountId>,
    ) -> Result<bool, ItemsError> {
        let connection = self.connection(app, products, app.webhook.as_deref(), picked);
        match self.items.for_any_owner().join(item, connection, item_user.clone()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ItemsErrorKind::ItemNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Builds a connection to these accounts, without accounts that are opened later.
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

    /// Returns the accounts of an Item that its user can share. The list is empty until the
    /// accounts were fetched. Returns `None` if the Item does not exist.
    pub(super) async fn accounts_of(
        &self,
        item: &ItemId,
    ) -> Result<Option<Vec<Account>>, ItemsError> {
        if self.store.item(item).await?.is_none() {
            return Ok(None);
        }
        self.items.for_any_owner().accounts_to_share(item).await.map(Some)
    }
}
