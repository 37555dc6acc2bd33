//! The client of Plaid's API: every endpoint as a method, and `send` for any.
//!
//! How a call is made, repeated and judged is in `exchange`; which calls may be repeated is in
//! `repeat`. What a partner builds upon it: [`notifier`](crate::notifier) and [`portal`](crate::portal).

mod repeat;

pub use repeat::is_repeated;

use crate::{
    error::Error,
    exchange::{Caller, Core, Dialect, Outgoing, Setup, shared_settings},
    read_mode::Unread,
};
use px_core::{Clock, HttpTransport, Random};
use px_types::{
    Auth, ClientId, ClientSecret, Endpoint,
    endpoint::codec::{self, Reply as _},
    plaid::{
        AccountsNotification, Acknowledged, CreateLinkToken, CreateLinkTokenResponse,
        ExchangePublicToken, ExchangePublicTokenResponse, GetApplication, GetApplicationResponse,
        GetItem, GetItemResponse, GetVerificationKey, GetVerificationKeyResponse, ImportItem,
        ImportItemResponse, InvalidateToken, InvalidateTokenResponse, ListActivity,
        ListActivityResponse, ListApplications, ListApplicationsResponse,
        NewTransactionsNotification, RemoveItem, TokensNotification, UnlinkApplication,
        UpdateScopes, UpdateWebhook, UpdateWebhookResponse,
    },
};
use std::{fmt, sync::Arc};

/// Calls Plaid, as a partner or as an application.
///
/// Cheap to clone. It shows its id and secret in the headers `PLAID-CLIENT-ID` and
/// `PLAID-SECRET` with every call. An error tells Plaid's own words through
/// [`plaid_error_type`](Error::plaid_error_type), [`plaid_error_code`](Error::plaid_error_code) and
/// [`display_message`](Error::display_message), and never holds the secret or a token.
///
/// Not every call is repeated when its answer is lost: see [`is_repeated`].
///
/// # Examples
///
/// Over the network the transport is `ReqwestTransport::new()?` (feature `reqwest`).
///
/// ```no_run
/// # async fn example(transport: impl px_core::HttpTransport + 'static) -> Result<(), Box<dyn std::error::Error>> {
/// use px_client::PlaidClient;
/// use px_types::{ClientSecret, ItemAccessToken, plaid::ListApplications};
///
/// let plaid = PlaidClient::builder("https://production.plaid.com", transport)
///     .client("the-id".parse()?, ClientSecret::new("the-secret"))
///     .build()?;
/// let token = ItemAccessToken::new("the-token-of-the-user's-Item");
/// for application in plaid.list_applications(ListApplications::new(token)).await?.applications {
///     println!("{} since {}", application.name, application.created_at);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Contract: `px.md` section 6.
#[derive(Clone)]
pub struct PlaidClient {
    shared: Arc<Shared>,
}

struct Shared {
    core: Core,
    client: (ClientId, ClientSecret),
}

impl fmt::Debug for PlaidClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaidClient").field("core", &self.shared.core).finish_non_exhaustive()
    }
}

/// Sets up a [`PlaidClient`].
#[must_use]
pub struct PlaidClientBuilder {
    setup: Setup,
    client: Option<(ClientId, ClientSecret)>,
}

impl fmt::Debug for PlaidClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaidClientBuilder").finish_non_exhaustive()
    }
}

impl PlaidClientBuilder {
    /// Shows who calls; every endpoint asks for it.
    pub fn client(mut self, id: ClientId, secret: ClientSecret) -> Self {
        self.client = Some((id, secret));
        self
    }

    shared_settings!();

    /// Makes the client.
    ///
    /// # Errors
    /// When the base URL is not an `http` or `https` URL, or has a query, a fragment or a
    /// password; when there is no id and secret.
    pub fn build(self) -> Result<PlaidClient, Error> {
        let core = self.setup.build(Dialect::Plaid)?;
        let client = self.client.ok_or_else(|| {
            Error::build("client", "there is no id and secret").advice("give them to the builder")
        })?;
        Ok(PlaidClient { shared: Arc::new(Shared { core, client }) })
    }
}

impl PlaidClient {
    /// Sets up a client of Plaid at an address, which may have a path prefix.
    pub fn builder(
        base_url: impl Into<String>,
        transport: impl HttpTransport + 'static,
    ) -> PlaidClientBuilder {
        PlaidClientBuilder { setup: Setup::new(base_url.into(), Arc::new(transport)), client: None }
    }

    /// Sends any request and reads its answer.
    ///
    /// # Errors
    /// When there is no good answer after all attempts; see [`Error`]. A request that is not one
    /// of Plaid's endpoints is refused before it is sent.
    pub async fn send<E: Endpoint>(&self, request: E) -> Result<E::Response, Error> {
        let id = E::META.id;
        if E::META.auth != Auth::PlaidClient {
            return Err(Error::build(id, "this is an endpoint of a partner, not of Plaid")
                .advice("take a `PartnerClient`"));
        }
        let request = codec::to_http(request)
            .map_err(|e| Error::build(id, "the request cannot be written as HTTP").caused_by(e))?;
        let outgoing = Outgoing::new(id, request, E::Response::KIND, is_repeated(id));
        let (client_id, secret) = &self.shared.client;
        let caller = Caller::Plaid(client_id, secret);
        let answer = self.shared.core.exchange(outgoing, caller).await?;
        E::Response::decode(&answer.bytes).map_err(|e| answer.not_understood(id, Unread::Decode(e)))
    }

    /// `POST /items/transactions/notify`: accounts have new transactions.
    ///
    /// All entries are taken or none. [`Notifier`](crate::notifier::Notifier) collects, repeats and keeps them.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn notify_transactions(
        &self,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// `POST /items/accounts/notify`: accounts were opened, closed or changed.
    ///
    /// All entries are taken or none.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn notify_accounts(
        &self,
        request: AccountsNotification,
    ) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// `POST /items/tokens/notify`: has tokens deleted or cycled.
    ///
    /// All entries are taken or none.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn notify_tokens(&self, request: TokensNotification) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// `POST /item/import`: makes an Item from a partner's own token.
    ///
    /// Not repeated: each import gives out another access token.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn import(&self, request: ImportItem) -> Result<ImportItemResponse, Error> {
        self.send(request).await
    }

    /// `POST /item/application/list`: the applications that a user connected.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn list_applications(
        &self,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error> {
        self.send(request).await
    }

    /// `POST /item/application/unlink`: ends one application's access at once.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn unlink_application(
        &self,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// `POST /item/application/scopes/update`: sets what one application may see.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn update_scopes(&self, request: UpdateScopes) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// `POST /item/activity/list`: what was done with a user's consent, one page.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn list_activity(
        &self,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error> {
        self.send(request).await
    }

    /// `POST /application/get`: one application, to be shown to a user.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn application(
        &self,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error> {
        self.send(request).await
    }

    /// `POST /link/token/create`: a token that opens Plaid's page, once.
    ///
    /// Not repeated: each call makes another token.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn create_link_token(
        &self,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error> {
        self.send(request).await
    }

    /// `POST /item/public_token/exchange`: the Item behind a public token.
    ///
    /// Not repeated: a public token serves once.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn exchange_public_token(
        &self,
        request: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error> {
        self.send(request).await
    }

    /// `POST /item/get`: an Item and how it is.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn item(&self, request: GetItem) -> Result<GetItemResponse, Error> {
        self.send(request).await
    }

    /// `POST /item/remove`: gives an Item up; its token is dead at once.
    ///
    /// Repeated. `INVALID_ACCESS_TOKEN` after more than one [attempt](Error::attempts) tells that an
    /// earlier one did it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn remove_item(&self, request: RemoveItem) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// `POST /item/webhook/update`: sets where webhooks for an Item go.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn update_webhook(
        &self,
        request: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error> {
        self.send(request).await
    }

    /// `POST /item/access_token/invalidate`: replaces the token of an Item.
    ///
    /// Not repeated: the old token is dead after the first time, and the new one is told once.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn invalidate_token(
        &self,
        request: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error> {
        self.send(request).await
    }

    /// `POST /webhook_verification_key/get`: the key that signed a webhook.
    ///
    /// Keep it by its `kid`: it does not change.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn verification_key(
        &self,
        request: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error> {
        self.send(request).await
    }

    /// The clock that the client was given.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.core.clock()
    }

    pub(crate) fn random(&self) -> &Arc<dyn Random> {
        self.shared.core.random()
    }
}
