//! Setting up a [`Portal`]: what a bank says of itself, and how it makes tokens.

use super::{Inner, Portal, PortalStore, watchers::Locks};
use crate::{error::Source, plaid::PlaidClient};
use async_trait::async_trait;
use px_types::{AccessToken, UserId, model::product::Product};
use std::{fmt, sync::Arc};

/// Makes the bank's own token for a user, which Plaid then reads with.
#[async_trait]
pub trait MintToken: Send + Sync + fmt::Debug {
    /// A token of the bank's OAuth server for a user.
    ///
    /// `None` when the user shares nothing with Plaid: then no Item is made and Plaid learns
    /// nothing of the user. It is asked when a page is looked at, so looking at a page must not
    /// be taken for a consent. Before [`Portal::connect`] the user has asked to share.
    ///
    /// `None` must be certain: an application that is being disconnected counts as ended by it.
    /// As long as any token of Plaid's for the user can still read, make another one.
    ///
    /// # Errors
    /// When no token can be made.
    async fn mint(&self, user: &UserId) -> Result<Option<AccessToken>, Source>;
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
