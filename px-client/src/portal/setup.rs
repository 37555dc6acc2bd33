//! The settings of a [`Portal`], and the trait that makes the bank's tokens.

use super::{Portal, PortalInner, PortalStore, watchers::Locks};
use crate::{error::Source, plaid::PlaidClient};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::{AccessToken, UserId, model::product::Product};
use std::{fmt, sync::Arc};

/// The purpose of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MintReason {
    /// A page is viewed, or something is changed or ended there. This is no consent.
    View,
    /// Plaid is to be notified of an event of the user, such as a booking. This is no consent.
    Notify,
    /// The user connects an application on the bank's own site.
    Connect,
}

/// A source of the bank's own tokens for a user, which Plaid uses to read.
///
/// For the OAuth kit of `px-server`, use [`OAuthTokens`](super::OAuthTokens) (feature `bank`). A bank with
/// another OAuth server implements these rules:
///
/// - **Scope.** [`mint`](Self::mint) returns a token with the scopes and accounts of a consent of the user to
///   Plaid. The token **ends with that consent**. A token that is independent of the consent could still be
///   used after the user has disconnected everything.
/// - **Condition.** A token is made only while such a consent is in force. For
///   [`Connect`](MintReason::Connect) also if the user has just selected accounts on a page of the bank:
///   Plaid reads with the token before the user reaches its page. Give that token a short lifetime until
///   [`connected`](Self::connected).
/// - **`None` must be certain**, because an application that is being disconnected then counts as
///   disconnected.
/// - **End.** [`end`](Self::end) revokes every token of Plaid for the user up to a moment.
#[async_trait]
pub trait MintToken: Send + Sync + fmt::Debug {
    /// Returns a token of the bank's OAuth server for a user.
    ///
    /// Returns `None` if the user shares nothing with Plaid. Then no Item is imported, and Plaid receives no
    /// data of the user.
    ///
    /// # Errors
    /// If no token can be made now.
    async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Source>;

    /// Called when an application is connected for the user.
    ///
    /// A token that was made to [connect](MintReason::Connect) it must not end early.
    ///
    /// # Errors
    /// If that cannot be stored now.
    async fn connected(&self, user: &UserId) -> Result<(), Source>;

    /// Ends every token and every consent to Plaid that began up to a moment.
    ///
    /// Called when the user's last application is gone.
    ///
    /// Tokens and consents that began later belong to a new consent and stay. Returns whether any are left.
    /// It is called again until it succeeds, also for a user who has no token.
    ///
    /// # Errors
    /// If they cannot be ended now.
    async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<RemainingGrants, Source>;

    /// Ends what was made to [connect](MintReason::Connect) an application, because the user did not consent.
    ///
    /// A consent in force stays, because an application may be about to read with it. The default does
    /// nothing: such a token ends soon by itself.
    ///
    /// # Errors
    /// If it cannot be ended now.
    async fn connect_cancelled(&self, user: &UserId) -> Result<(), Source> {
        let _ = user;
        Ok(())
    }
}

/// The tokens and consents of a user that are left after [`MintToken::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemainingGrants {
    /// No token or consent that can be used.
    None,
    /// A token or a consent that began after that moment.
    Newer,
}

/// The settings of a [`Portal`].
pub(super) struct Settings {
    pub(super) tokens: Option<Arc<dyn MintToken>>,
    pub(super) client_name: String,
    pub(super) language: String,
    pub(super) country_codes: Vec<String>,
    pub(super) products: Vec<Product>,
    pub(super) redirect_uri: Option<String>,
}

/// A builder of a [`Portal`].
#[must_use]
pub struct PortalBuilder {
    client: PlaidClient,
    store: Arc<dyn PortalStore>,
    settings: Settings,
}

impl fmt::Debug for PortalBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortalBuilder").finish_non_exhaustive()
    }
}

impl PortalBuilder {
    /// Sets the source of the bank's tokens, which are needed to import Items.
    ///
    /// Without it, only users with a token in the store can share. Default: none.
    pub fn tokens(mut self, tokens: Arc<dyn MintToken>) -> Self {
        self.settings.tokens = Some(tokens);
        self
    }

    /// Sets the language of Plaid's page. Default: `en`.
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.settings.language = language.into();
        self
    }

    /// Sets the countries of the bank. Default: `US`.
    pub fn country_codes(mut self, codes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.country_codes = codes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the products for which an Item is imported. Default, also if empty: transactions.
    pub fn products(mut self, products: impl IntoIterator<Item = Product>) -> Self {
        self.settings.products = products.into_iter().collect();
        self
    }

    /// Sets the URI to which Plaid's page returns. Default: none.
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.settings.redirect_uri = Some(uri.into());
        self
    }

    /// Builds the portal.
    #[must_use]
    pub fn build(self) -> Portal {
        Portal(Arc::new(PortalInner {
            client: self.client,
            store: self.store,
            settings: self.settings,
            locks: Locks::default(),
            watchers: Arc::default(),
        }))
    }
}

impl Portal {
    /// Returns a builder of a portal. `client_name` is the bank's name, which Plaid's page shows.
    pub fn builder(
        client: PlaidClient,
        store: Arc<dyn PortalStore>,
        client_name: impl Into<String>,
    ) -> PortalBuilder {
        let settings = Settings {
            tokens: None,
            client_name: client_name.into(),
            language: "en".into(),
            country_codes: vec!["US".into()],
            products: Vec::new(),
            redirect_uri: None,
        };
        PortalBuilder { client, store, settings }
    }
}
