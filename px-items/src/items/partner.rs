//! Operations of a partner with its own access token: list the applications of an Item, change what
//! they may see, disconnect them.

use super::{Items, ItemsError, error};
use crate::{
    connection::ScopeError,
    health,
    merge::AccountStanding,
    store::{AuditRecord, ChangeTo, Changed, Unlinked, connected},
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

/// Application that is connected to an Item, as its partner sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ApplicationOfItem {
    /// Description, date of the connection and scopes. An unregistered application has only its id.
    pub application: ConnectedApplication,
    /// Products that it uses, including those that scopes cannot name.
    pub products: Vec<Product>,
    /// Accounts that it may see now, by the partner's ids.
    pub accounts: Vec<AccountId>,
    /// Whether it may see accounts that are opened later.
    pub new_accounts: bool,
}

impl Items {
    /// Returns the id of the Item that a partner's token names. Store the id, and not the token,
    /// for a page that is opened later.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token does not
    ///   belong to a partner;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn item_of(&self, partner_token: &ItemAccessToken) -> Result<ItemId, ItemsError> {
        Ok(self.partner_access(partner_token).await?.item_id)
    }

    /// Returns an Item as its partner sees it: without the applications' products and webhook URLs.
    ///
    /// # Errors
    /// See [`item_of`](Self::item_of).
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
            update.last_successful_update = record.sync_state.fresh.transactions.map(Into::into);
            let failed = record.sync_state.last_failure.as_ref();
            update.last_failed_update = failed.map(|failure| failure.at.into());
            status.transactions = Some(update);
        }
        Ok((item, status))
    }

    /// Returns the applications that a user connected, ordered by id.
    ///
    /// # Errors
    /// See [`item_of`](Self::item_of).
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

    /// Disconnects an application from an Item on behalf of its partner. Its access ends at once,
    /// other applications are not affected. With the last application, the Item and the partner's
    /// token are removed.
    ///
    /// # Errors
    /// See [`item_of`](Self::item_of). Additionally
    /// [`NotConnected`](super::ItemsErrorKind::NotConnected) if the application is not connected,
    /// or was disconnected meanwhile.
    pub async fn unlink_application(
        &self,
        partner_token: &ItemAccessToken,
        application: &ApplicationId,
    ) -> Result<Unlinked, ItemsError> {
        let access = self.partner_access(partner_token).await?;
        // The partner made the request, so it is not notified.
        let audit = AuditRecord::of(self.act(access.institution_id.as_str())?);
        let place = (&access.item_id, Some(application));
        match self.disconnect(place, ActivityType::PortalUnlink, audit).await? {
            Unlinked::NotConnected => Err(ItemsError::not_connected()),
            unlinked => Ok(unlinked),
        }
    }

    /// Changes the scopes of an application, effective at once. Whatever the scopes do not set
    /// stays as it is. Accounts are named by the partner's ids.
    ///
    /// The application loses a product that is switched off at once. A product can only be switched
    /// on if the application requested it earlier. If the application may see other data than
    /// before, its sync cursors are no longer valid.
    ///
    /// # Errors
    /// See [`item_of`](Self::item_of). Additionally, and then nothing is changed:
    ///
    /// - [`NotConnected`](super::ItemsErrorKind::NotConnected) if the application is not connected;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) for an account that the Item does
    ///   not have, or a product that was never requested;
    /// - [`ProductNotReady`](super::ItemsErrorKind::ProductNotReady) if accounts are named before
    ///   the first were fetched.
    pub async fn update_scopes(
        &self,
        partner_token: &ItemAccessToken,
        application: &ApplicationId,
        scopes: &Scopes,
    ) -> Result<(), ItemsError> {
        let access = self.partner_access(partner_token).await?;
        let audit = AuditRecord::of(self.act(access.institution_id.as_str())?);
        let to = ChangeTo::Scopes(scopes.clone(), self.cursor_key());
        match self.change(&access.item_id, application, to, audit).await? {
            Changed::Done => Ok(()),
            Changed::NotConnected => Err(ItemsError::not_connected()),
            Changed::Refused(fault) => Err(match fault {
                ScopeError::UnknownAccount(index) => {
                    let field = format!("scopes.accounts[{index}].unique_id");
                    ItemsError::invalid_field(&field, &fault.to_string()).at(index)
                }
                ScopeError::NotRequested(field) => {
                    ItemsError::invalid_field(&format!("scopes.{field}"), &fault.to_string())
                }
                ScopeError::NotReady => ItemsError::not_ready(),
            }),
        }
    }

    /// Returns the accounts that a user can share, for a page that offers them: by the Item's own
    /// ids, as in [`Connection::accounts`](crate::connection::Connection::accounts).
    ///
    /// # Errors
    /// [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    /// [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn accounts_to_share(&self, item: &ItemId) -> Result<Vec<Account>, ItemsError> {
        let known = self.store.accounts(item).await?;
        let listed = known.into_iter().filter(|known| known.standing == AccountStanding::Listed);
        Ok(listed.map(|known| known.account).collect())
    }

    /// Sets the webhook URL of an application; `None` stops its webhooks. The new URL receives
    /// `WEBHOOK_UPDATE_ACKNOWLEDGED`, queued in the same transaction.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`NotForPartners`](super::ItemsErrorKind::NotForPartners) if the token belongs to a
    ///   partner;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the URL is not accepted;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
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
        let changed =
            self.change(&session.record.id, application, to, AuditRecord::default()).await?;
        if changed != Changed::Done {
            return Err(ItemsError::invalid_access_token());
        }
        self.status(token).await
    }
}
