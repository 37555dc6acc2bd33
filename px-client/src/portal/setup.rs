//! Setting up a [`Portal`]: what a bank says of itself, and how it makes tokens.

use super::{Inner, Portal, PortalStore, watchers::Locks};
use crate::{error::Source, plaid::PlaidClient};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::{AccessToken, UserId, model::product::Product};
use std::{fmt, sync::Arc};

/// Why a token is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MintReason {
    /// A page is looked at, or something is changed or ended there. That is no consent.
    View,
    /// Plaid is to be notified of something of the user's, such as a booking. That is no consent.
    Notify,
    /// The user connects an application on the bank's own site.
    Connect,
}

/// Makes the bank's own tokens for a user, which Plaid reads with, and ends them.
///
/// With the OAuth kit of `px-server` take [`OAuthTokens`](super::OAuthTokens) (feature `bank`). A
/// bank with another OAuth server implements it so:
///
/// - **Which token.** [`mint`](Self::mint) returns a token that shows what a consent of the user's
///   to Plaid shows, the same scopes and accounts, and that **ends with that consent**. A token
///   that lives on its own would read on when the user has disconnected everything.
/// - **When.** Only while such a consent holds. For [`Connect`](MintReason::Connect) also if the user
///   has just picked accounts on a page of the bank's own: Plaid reads what the token shows before
///   the user reaches its page. Give that token a short life until [`connected`](Self::connected).
/// - **`None` must be certain.** An application that is being disconnected counts as ended by it.
/// - **The end.** [`end`](Self::end) revokes every token of Plaid's for the user up to a moment.
#[async_trait]
pub trait MintToken: Send + Sync + fmt::Debug {
    /// Returns a token of the bank's OAuth server for a user, or `None` if the user shares nothing
    /// with Plaid: then no Item is made, and Plaid learns nothing of the user.
    ///
    /// # Errors
    /// If no token can be made now.
    async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Source>;

    /// An application is connected for the user: what was made to
    /// [connect](MintReason::Connect) it stays.
    ///
    /// # Errors
    /// If that cannot be stored now.
    async fn connected(&self, user: &UserId) -> Result<(), Source>;

    /// The user's last application is gone: ends every token, and every consent to Plaid, that
    /// began up to a moment. What began later is of a new consent and stays.
    ///
    /// Returns whether anything is left. It is called again until it succeeds, also for a user who
    /// has no token.
    ///
    /// # Errors
    /// If they cannot be ended now.
    async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<Left, Source>;

    /// The user did not consent to what was to be [connected](MintReason::Connect): ends what was
    /// made for it. A consent that holds stays, because an application may be about to read by it.
    ///
    /// The default does nothing: such a token ends by itself soon.
    ///
    /// # Errors
    /// If it cannot be ended now.
    async fn given_up(&self, user: &UserId) -> Result<(), Source> {
        let _ = user;
        Ok(())
    }
}

/// The remainder of a user's tokens and consents after [`MintToken::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Left {
    /// Nothing that can be used.
    Nothing,
    /// A token or a consent that began after that moment.
    Later,
}

/// What a bank says once.
pub(super) struct Settings {
    pub(super) tokens: Option<Arc<dyn MintToken>>,
    pub(super) client_name: String,
    pub(super) language: String,
    pub(super) country_codes: Vec<String>,
    pub(super) products: Vec<Product>,
    pub(super) redirect_uri: Option<String>,
}

/// Sets up a [`Portal`].
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
    /// Makes tokens for users whose Item has to be imported. Without it, only users whose token
    /// the store has can share.
    pub fn tokens(mut self, tokens: Arc<dyn MintToken>) -> Self {
        self.settings.tokens = Some(tokens);
        self
    }

    /// The language of Plaid's page, `en` by default.
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.settings.language = language.into();
        self
    }

    /// The countries of the bank, `US` by default.
    pub fn country_codes(mut self, codes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.country_codes = codes.into_iter().map(Into::into).collect();
        self
    }

    /// The products that an Item is imported for, transactions by default. None is the default.
    pub fn products(mut self, products: impl IntoIterator<Item = Product>) -> Self {
        self.settings.products = products.into_iter().collect();
        self
    }

    /// Where Plaid's page returns to.
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.settings.redirect_uri = Some(uri.into());
        self
    }

    /// Makes the portal.
    #[must_use]
    pub fn build(self) -> Portal {
        Portal(Arc::new(Inner {
            client: self.client,
            store: self.store,
            settings: self.settings,
            locks: Locks::default(),
            watchers: Arc::default(),
        }))
    }
}

impl Portal {
    /// Sets up a portal of a bank with that name, which Plaid's page shows.
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
