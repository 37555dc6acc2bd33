//! The bank's token for a user's Item at Plaid, and connecting an application with it. The token is imported
//! if there is none, and replaced if Plaid does not know it.

use super::{MintReason, Portal, PortalError, PortalErrorKind, RemainingGrants};
use crate::{
    error::{Error as CallError, Source},
    notifier::{CurrentTokenSource, Entry},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::{
    AtLeastOne, ItemAccessToken, LinkToken, TargetApplicationToken, Timestamp, UserId,
    model::{
        cross_app_item_add::CrossAppItemAdd, link_token_user::LinkTokenUser, product::Product,
    },
    plaid::{CreateLinkToken, ImportItem, ListApplications, RemoveItem, UserAuth},
};
use std::future::Future;

/// A link token for Plaid's page.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConnectLink {
    /// The link token, which opens the page once.
    pub link_token: LinkToken,
    /// Expiry of the link token.
    pub expires_at: Timestamp,
}

impl Portal {
    /// Returns the user's token at Plaid, which [`Notifier`](crate::notifier::Notifier) needs.
    ///
    /// Imports the user's accounts if there is no token. Call it in the background after a user has
    /// consented.
    ///
    /// # Errors
    /// [`NotShared`](PortalErrorKind::NotShared) if there is no token and the bank makes none; or if
    /// the import fails.
    pub async fn import(&self, user: &UserId) -> Result<ItemAccessToken, PortalError> {
        let _guard = self.lock(user).await;
        let token = self.token(user, MintReason::Notify).await?;
        token.ok_or_else(|| PortalError::new(PortalErrorKind::NotShared))
    }

    /// Begins to connect an application that the user selected on the bank's own site.
    ///
    /// Returns a link token for Plaid's page, where the user consents without signing in again. `foreign_id`
    /// is the application's own id of the user, if it has one. Call it only if the user requests it.
    ///
    /// # Errors
    /// [`NotShared`](PortalErrorKind::NotShared) if the bank makes no token for the user; or if
    /// Plaid refuses the application's token or is out of reach.
    pub async fn connect(
        &self,
        user: &UserId,
        target: &TargetApplicationToken,
        foreign_id: Option<&str>,
    ) -> Result<ConnectLink, PortalError> {
        let _guard = self.lock(user).await;
        let settings = &self.0.settings;
        let created = self
            .with_token(user, MintReason::Connect, |token| {
                let mut add = CrossAppItemAdd::new(target.clone());
                add.foreign_id = foreign_id.map(str::to_owned);
                let mut request = CreateLinkToken::new(
                    settings.client_name.clone(),
                    settings.language.clone(),
                    settings.country_codes.clone(),
                    LinkTokenUser::new(user.as_str()),
                );
                request.access_token = Some(token);
                request.redirect_uri = settings.redirect_uri.clone();
                request.cross_app_item_add = Some(add);
                async move { self.client().create_link_token(request).await }
            })
            .await?;
        let created = created.ok_or_else(|| PortalError::new(PortalErrorKind::NotShared))?;
        Ok(ConnectLink { link_token: created.link_token, expires_at: created.expiration })
    }

    /// Undoes [`connect`](Self::connect) for a user who did not consent on Plaid's page.
    ///
    /// If no application is connected, the Item is removed, Plaid revokes the bank's token for it, and the
    /// bank ends the token that it made
    /// ([`MintToken::connect_cancelled`](super::MintToken::connect_cancelled)). Returns whether there was
    /// such an Item. If an application was connected meanwhile, the Item stays and the result is `false`.
    ///
    /// # Errors
    /// If Plaid or the records are out of reach, or the bank cannot end its token. Then the Item may stay,
    /// but no application can read it.
    pub async fn cancel_connect(&self, user: &UserId) -> Result<bool, PortalError> {
        let _guard = self.lock(user).await;
        let token = self.store().token(user).await.map_err(PortalError::store)?;
        if let Some(token) = token.clone() {
            let request = ListApplications::new(token.clone());
            match self.client().list_applications(request).await {
                Ok(listed) if !listed.applications.is_empty() => return Ok(false),
                Ok(_) => self.remove_item(user, token).await?,
                Err(error) if is_dead(&error) => {
                    self.store().delete_token(user, &token).await.map_err(PortalError::store)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Called without an Item too: its import may have failed after the token was made.
        if let Some(tokens) = &self.0.settings.tokens {
            tokens.connect_cancelled(user).await.map_err(PortalError::mint)?;
        }
        Ok(token.is_some())
    }

    /// Removes the Item of a token, and deletes the token. The user's lock is held.
    pub(super) async fn remove_item(
        &self,
        user: &UserId,
        token: ItemAccessToken,
    ) -> Result<(), PortalError> {
        match self.client().remove_item(RemoveItem::new(token.clone())).await {
            Ok(_) => {}
            Err(error) if is_dead(&error) => {}
            Err(error) => return Err(error.into()),
        }
        self.store().delete_token(user, &token).await.map_err(PortalError::store)
    }

    /// Ends the bank's tokens if no application is left, so that the user is not imported again. The user's
    /// lock is held.
    ///
    /// Plaid is called with the stored token, because a new one would require an import. The records alone do
    /// not decide: the notification of a connected application may not have arrived yet.
    pub(super) async fn end_if_last(
        &self,
        user: &UserId,
        up_to: DateTime<Utc>,
    ) -> Result<(), PortalError> {
        while let Some(token) = self.store().token(user).await.map_err(PortalError::store)? {
            let request = ListApplications::new(token.clone());
            match self.client().list_applications(request).await {
                Ok(listed) if !listed.applications.is_empty() => return Ok(()),
                // The grants that are left began later, for example to connect an application, which needs
                // the Item. The tokens of its Item may have ended, so the stored token is deleted: the
                // next import repairs the Item.
                Ok(_) if self.end_tokens(user, up_to).await? == RemainingGrants::Newer => {
                    self.store().delete_token(user, &token).await.map_err(PortalError::store)?;
                    return Ok(());
                }
                Ok(_) => self.remove_item(user, token).await?,
                // The Item was removed with its last application.
                Err(error) if is_dead(&error) => {
                    self.store().delete_token(user, &token).await.map_err(PortalError::store)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.end_tokens(user, up_to).await.map(drop)
    }

    /// Ends the bank's tokens that began up to a moment.
    pub(super) async fn end_tokens(
        &self,
        user: &UserId,
        up_to: DateTime<Utc>,
    ) -> Result<RemainingGrants, PortalError> {
        let Some(tokens) = &self.0.settings.tokens else { return Ok(RemainingGrants::None) };
        tokens.end(user, up_to).await.map_err(PortalError::mint)
    }

    /// Confirms the bank's tokens, because an application is connected.
    pub(super) async fn confirm_tokens(&self, user: &UserId) -> Result<(), PortalError> {
        let Some(tokens) = &self.0.settings.tokens else { return Ok(()) };
        tokens.connected(user).await.map_err(PortalError::mint)
    }

    /// Returns whether the bank makes tokens. If so, a missing token means that the user shares nothing.
    pub(super) fn makes_tokens(&self) -> bool {
        self.0.settings.tokens.is_some()
    }

    /// Returns the user's token; imports the user if there is none. The user's lock is held.
    pub(super) async fn token(
        &self,
        user: &UserId,
        reason: MintReason,
    ) -> Result<Option<ItemAccessToken>, PortalError> {
        if let Some(token) = self.store().token(user).await.map_err(PortalError::store)? {
            return Ok(Some(token));
        }
        let settings = &self.0.settings;
        let Some(tokens) = &settings.tokens else { return Ok(None) };
        let Some(token) = tokens.mint(user, reason).await.map_err(PortalError::mint)? else {
            return Ok(None);
        };
        let products = AtLeastOne::new(settings.products.clone());
        let products = products.or_else(|_| AtLeastOne::new(vec![Product::Transactions]));
        let products = products.map_err(|error| PortalError::mint(error.into()))?;
        let request = ImportItem::new(products, UserAuth::new(user.clone(), token));
        let imported = self.client().import(request).await?;
        let stored = self.store().save_token(user, &imported.access_token).await;
        Ok(Some(stored.map_err(PortalError::store)?))
    }

    /// Calls Plaid with the user's token, and a second time with a new one if Plaid does not know the first.
    /// Returns `None` if the user shares nothing.
    pub(super) async fn with_token<T, F>(
        &self,
        user: &UserId,
        reason: MintReason,
        call: impl Fn(ItemAccessToken) -> F + Send + Sync,
    ) -> Result<Option<T>, PortalError>
    where
        F: Future<Output = Result<T, CallError>> + Send,
    {
        let Some(token) = self.token(user, reason).await? else { return Ok(None) };
        match call(token.clone()).await {
            Ok(response) => return Ok(Some(response)),
            Err(error) if is_dead(&error) => {
                self.store().delete_token(user, &token).await.map_err(PortalError::store)?;
            }
            Err(error) => return Err(error.into()),
        }
        let Some(token) = self.token(user, reason).await? else { return Ok(None) };
        Ok(Some(call(token).await?))
    }
}

/// For [`Notifier`](crate::notifier::Notifier): deletes the token of the entry, if it is still the stored
/// one, and imports the Item again if its user shares something.
#[async_trait]
impl CurrentTokenSource for Portal {
    async fn current_token(&self, entry: &Entry) -> Result<Option<ItemAccessToken>, Source> {
        let Some(user) = entry.user_id() else { return Ok(None) };
        let _guard = self.lock(user).await;
        self.store().delete_token(user, entry.access_token()).await?;
        Ok(self.token(user, MintReason::Notify).await?)
    }
}

/// Returns whether Plaid says that a token belongs to no Item.
pub(super) fn is_dead(error: &CallError) -> bool {
    matches!(error.plaid_error_code(), Some("INVALID_ACCESS_TOKEN" | "ITEM_NOT_FOUND"))
}
