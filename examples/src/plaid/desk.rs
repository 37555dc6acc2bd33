//! What pages and endpoints do with Items, in one place each: tokens, connections, accounts.

use super::{config::Application, link::Authorized, order::Order};
use px_client::clock::Clock;
use px_items::{
    connection::Connection,
    items::{Authorization, Items, ItemsError},
    random::Random,
    store::Store,
};
use px_types::{
    AccountId, InstitutionId, ItemAccessToken, ItemId, LinkToken, PublicToken,
    model::{account::Account, product::Product},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

/// Items, as this service works with them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) items: Items,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) links: Arc<Mutex<BTreeMap<String, Order>>>,
    pub(super) publics: Arc<Mutex<BTreeMap<String, (ItemAccessToken, ItemId)>>>,
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
    /// Whether the application has an access token that goes on.
    pub(super) repairs: bool,
    /// Whether the application is told of it by webhook.
    pub(super) tell: bool,
}

impl Desk {
    pub(super) fn new_link_token(&self, order: Order) -> LinkToken {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("link-sandbox-{text}");
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone(), order);
        LinkToken::new(text)
    }

    pub(super) async fn take_link_token(
        &self,
        token: &LinkToken,
    ) -> Result<Option<Order>, ItemsError> {
        Ok(self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(token.expose()))
    }

    pub(super) async fn connect(
        &self,
        connecting: Connecting<'_>,
    ) -> Result<Option<PublicToken>, ItemsError> {
        let Authorized { tokens, user_id, accounts } = connecting.authorized;
        let shown: BTreeSet<_> = accounts.into_iter().map(|account| account.id).collect();
        let products = connecting.products.iter().map(|name| Product::from(name.as_str()));
        let mut connection =
            Connection::new(connecting.app.id.clone(), products, self.clock.now());
        let authorization = match &connecting.picked {
            // Tokens of a sign-in with a password show all accounts that the user has.
            Some(_) => Authorization::from(tokens),
            None => Authorization::over(tokens, shown.iter().cloned()),
        };
        connection.accounts = Some(connecting.picked.unwrap_or(shown));
        connection.new_accounts = false;
        connection.webhook = connecting.webhook.map(str::to_owned);
        let linked =
            self.items.link(connecting.institution, &user_id, authorization, connection).await?;
        let public = PublicToken::new(format!("public-{}", linked.access_token.expose().len()));
        self.publics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(public.expose().to_owned(), (linked.access_token, linked.item_id));
        Ok(Some(public))
    }

    pub(super) async fn join(
        &self,
        _item: &ItemId,
        _app: &Application,
        _products: &[String],
        _picked: BTreeSet<AccountId>,
    ) -> Result<bool, ItemsError> {
        Ok(false)
    }

    /// The accounts of an Item, as its user sees them; empty while they are on their way. `None`:
    /// there is no such Item.
    pub(super) async fn accounts_of(
        &self,
        item: &ItemId,
    ) -> Result<Option<Vec<Account>>, ItemsError> {
        if self.store.item(item).await?.is_none() {
            return Ok(None);
        }
        let known = self.store.accounts(item).await?;
        let listed = known.into_iter().filter(|known| known.is_present());
        Ok(Some(listed.map(|known| known.account).collect()))
    }
}

impl Desk {
    /// That an access token is an application's own. Any other is answered as an unknown one.
    pub(super) async fn must_be_of(
        &self,
        _app: &px_types::ApplicationId,
        _token: &ItemAccessToken,
    ) -> Result<(), ItemsError> {
        Ok(())
    }
}
