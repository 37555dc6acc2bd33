//! What a partner may do with its own access token: see the applications of an Item, change what
//! they see, take them off.

use super::{Items, ItemsError, error};
use crate::{
    connection::ScopeFault,
    health,
    merge::AccountStanding,
    store::{ChangeTo, Changed, Trail, Unlinked, connected},
};
use px_types::{
    AccountId, ApplicationId, ItemAccessToken, ItemId,
    model::{
        account::Account,
        activity::ActivityType,
        application::ConnectedApplication,
        application_details::Application,
        item::{Item, ItemUpdateType},
        item_status::{ItemStatus, UpdateStatus},
        product::Product,
        scopes::Scopes,
    },
};

/// An application that is connected to an Item, as its partner sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ApplicationOfItem {
    /// Who it is, since when, and what it may see; by its id alone where it is not registered.
    pub application: ConnectedApplication,
    /// What it uses, also what no scope names.
    pub products: Vec<Product>,
    /// The accounts that it sees now, by the partner's ids.
    pub accounts: Vec<AccountId>,
    /// Whether it sees accounts that are opened later.
    pub new_accounts: bool,
}

impl Items {
    /// The Item that a partner's token names. Keep it, and not the token, for a page that is
    /// opened later.
    ///
    /// # Errors
    /// When the token is none of a partner.
    pub async fn item_of(&self, partner_token: &ItemAccessToken) -> Result<ItemId, ItemsError> {
        Ok(self.partner_access(partner_token).await?.item_id)
    }

    /// An Item as its partner sees it: without products and webhooks, which are the applications'.
    ///
    /// # Errors
    /// When the token is none of a partner.
    pub async fn item_for_partner(
        &self,
        partner_token: &ItemAccessToken,
    ) -> Result<(Item, ItemStatus), ItemsError> {
        let access = self.partner_access(partner_token).await?;
        let record = self.store.item(&access.item_id).await?;
        let record = record.ok_or_else(ItemsError::invalid_access_token)?;
        let health = health::for_partner(&record);
        let error = error::of(&record);
        let mut item = Item::new(record.id);
        item.institution_id = Some(record.institution_id);
        item.created_at = Some(record.created_at.into());
        item.error = error;
        item.update_type = Some(ItemUpdateType::Background);
        let mut status = ItemStatus::new();
        status.health = Some(health);
        if record.needs_transactions {
            let mut update = UpdateStatus::new();
            update.last_successful_update = record.life.fresh.transactions.map(Into::into);
            let failed = record.life.last_failure.as_ref();
            update.last_failed_update = failed.map(|failure| failure.at.into());
            status.transactions = Some(update);
        }
        Ok((item, status))
    }

    /// The applications that a user connected, by id.
    ///
    /// # Errors
    /// When the token is none of a partner.
    pub async fn applications(
        &self,
        partner_token: &ItemAccessToken,
    ) -> Result<Vec<ApplicationOfItem>, ItemsError> {
        let access = self.partner_access(partner_token).await?;
        let connections = self.store.connections(&access.item_id).await?;
        let known = self.store.accounts(&access.item_id).await?;
        let mut all = Vec::with_capacity(connections.len());
        for connection in connections {
            let id = &connection.application_id;
            let registered = match &self.applications {
                Some(applications) => applications.application(id).await,
                None => None,
            };
            let registered =
                registered.unwrap_or_else(|| Application::new(id.clone(), id.as_str()));
            let names = connection.products.iter();
            all.push(ApplicationOfItem {
                application: connected(&registered, &connection, &known),
                products: names.map(|name| Product::from(name.as_str())).collect(),
                accounts: connection.partner_accounts(&known),
                new_accounts: connection.new_accounts,
            });
        }
        Ok(all)
    }

    /// Takes an application off an Item for its partner: its access ends at once, the others keep
    /// theirs. With the last one the Item goes, and the partner's token with it.
    ///
    /// # Errors
    /// When the token is none of a partner;
    /// [`NotConnected`](super::ItemsErrorKind::NotConnected) when the application is not
    /// connected, or was taken off meanwhile.
    pub async fn unlink_application(
        &self,
        partner_token: &ItemAccessToken,
        application: &ApplicationId,
    ) -> Result<Unlinked, ItemsError> {
        let access = self.partner_access(partner_token).await?;
        // The partner asked, so it is not told.
        let trail = Trail::of(self.act(access.institution_id.as_str())?);
        let place = (&access.item_id, Some(application));
        match self.take_off(place, ActivityType::PortalUnlink, trail).await? {
            Unlinked::NotConnected => Err(ItemsError::not_connected()),
            unlinked => Ok(unlinked),
        }
    }

    /// Changes what an application may see, from now on. What the scopes leave open stays;
    /// accounts are named by the partner's ids.
    ///
    /// A product that is switched off is gone for the application at once. Only one that the
    /// application asked for can be switched on again. When it sees something else from then on,
    /// its sync begins anew.
    ///
    /// # Errors
    /// When the token is none of a partner or the application is not connected;
    /// [`InvalidField`](super::ItemsErrorKind::InvalidField) for an account that the Item does not
    /// have, or a product that was never asked for;
    /// [`ProductNotReady`](super::ItemsErrorKind::ProductNotReady) when accounts are named before
    /// the first were fetched. Nothing is changed then.
    pub async fn update_scopes(
        &self,
        partner_token: &ItemAccessToken,
        application: &ApplicationId,
        scopes: &Scopes,
    ) -> Result<(), ItemsError> {
        let access = self.partner_access(partner_token).await?;
        let trail = Trail::of(self.act(access.institution_id.as_str())?);
        let to = ChangeTo::Scopes(scopes.clone(), self.cursor_key());
        match self.change(&access.item_id, application, to, trail).await? {
            Changed::Done => Ok(()),
            Changed::NotConnected => Err(ItemsError::not_connected()),
            Changed::Refused(fault) => Err(match fault {
                ScopeFault::UnknownAccount(index) => {
                    let field = format!("scopes.accounts[{index}].unique_id");
                    ItemsError::invalid_field(&field, &fault.to_string()).at(index)
                }
                ScopeFault::NotAsked(field) => {
                    ItemsError::invalid_field(&format!("scopes.{field}"), &fault.to_string())
                }
                ScopeFault::NotReady => ItemsError::not_ready(),
            }),
        }
    }

    /// The accounts that a user can share, for a page that asks which: by the Item's own ids, as
    /// [`Connection::accounts`](crate::connection::Connection::accounts) takes them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accounts_to_share(&self, item: &ItemId) -> Result<Vec<Account>, ItemsError> {
        let known = self.store.accounts(item).await?;
        let listed = known.into_iter().filter(|known| known.standing == AccountStanding::Listed);
        Ok(listed.map(|known| known.account).collect())
    }

    /// Sets where an application's webhooks go; `None` stops them. The new address is told so
    /// (`WEBHOOK_UPDATE_ACKNOWLEDGED`), in the same transaction.
    ///
    /// # Errors
    /// When the token is none of an application, or the address is not accepted.
    pub async fn update_webhook(
        &self,
        token: &ItemAccessToken,
        webhook: Option<&str>,
    ) -> Result<super::Status, ItemsError> {
        let webhook = webhook.filter(|webhook| !webhook.is_empty());
        let session = self.session(token).await?;
        if let Some(webhook) = webhook {
            self.check_address(webhook)?;
        }
        let to = ChangeTo::Webhook(webhook.map(str::to_owned));
        let application = &session.connection.application_id;
        let changed = self.change(&session.record.id, application, to, Trail::default()).await?;
        if changed != Changed::Done {
            return Err(ItemsError::invalid_access_token());
        }
        self.status(token).await
    }
}
