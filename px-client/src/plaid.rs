//! The client of Plaid's API: a method for every endpoint, and `send` for any request.
//!
//! `exchange` has authentication, retries and the classification of responses; `repeat` lists the calls that
//! may be repeated. A partner's components over this client are [`notifier`](crate::notifier) and
//! [`portal`](crate::portal).

mod repeat;

pub use repeat::is_repeated;

use crate::{
    error::Error,
    exchange::{Authentication, Core, Dialect, Outgoing, Setup, shared_settings},
    read_mode::ReadFailure,
};
use px_core::{Clock, HttpTransport, Random};
use px_types::{
    Auth, ClientId, ClientSecret, Endpoint,
    endpoint::codec::{self, ResponseBody as _},
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

/// A client of Plaid's API, for a partner or an application.
///
/// Cheap to clone. It sends its id and secret in the headers `PLAID-CLIENT-ID` and `PLAID-SECRET` with every
/// call. An error has Plaid's own fields: [`plaid_error_type`](Error::plaid_error_type),
/// [`plaid_error_code`](Error::plaid_error_code) and [`display_message`](Error::display_message). It never
/// contains the secret or a token.
///
/// Not every call is repeated if its response is lost; see [`is_repeated`].
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

/// A builder of a [`PlaidClient`].
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
    /// Sets the client id and secret. Every endpoint requires them.
    pub fn client(mut self, id: ClientId, secret: ClientSecret) -> Self {
        self.client = Some((id, secret));
        self
    }

    shared_settings!();

    /// Builds the client.
    ///
    /// # Errors
    /// If the base URL is not an `http` or `https` URL, or has a query, a fragment or a password; or if no id
    /// and secret are set.
    pub fn build(self) -> Result<PlaidClient, Error> {
        let core = self.setup.build(Dialect::Plaid)?;
        let client = self.client.ok_or_else(|| {
            Error::build("client", "the client has no id and secret")
                .with_advice("set them on the builder")
        })?;
        Ok(PlaidClient { shared: Arc::new(Shared { core, client }) })
    }
}

impl PlaidClient {
    /// Returns a builder of a client for Plaid at an address. The address may have a path prefix.
    pub fn builder(
        base_url: impl Into<String>,
        transport: impl HttpTransport + 'static,
    ) -> PlaidClientBuilder {
        PlaidClientBuilder { setup: Setup::new(base_url.into(), Arc::new(transport)), client: None }
    }

    /// Sends any request and reads its response.
    ///
    /// # Errors
    /// If no attempt gets a good response; see [`Error`]. If the request is not one of Plaid's endpoints,
    /// nothing is sent.
    pub async fn send<E: Endpoint>(&self, request: E) -> Result<E::Response, Error> {
        let id = E::META.id;
        if E::META.auth != Auth::PlaidClient {
            return Err(Error::build(id, "this is an endpoint of a partner, not of Plaid")
                .with_advice("use a `PartnerClient`"));
        }
        let request = codec::to_http(request).map_err(|e| {
            Error::build(id, "the request cannot be encoded as HTTP").with_source(e)
        })?;
        let outgoing = Outgoing::new(id, request, E::Response::KIND, is_repeated(id));
        let (client_id, secret) = &self.shared.client;
        let authentication = Authentication::Plaid(client_id, secret);
        let response = self.shared.core.exchange(outgoing, authentication).await?;
        E::Response::decode(&response.bytes)
            .map_err(|e| response.unreadable(id, ReadFailure::Decode(e)))
    }

    /// Notifies Plaid that accounts have new transactions: `POST /items/transactions/notify`.
    ///
    /// Plaid accepts all entries or none. [`Notifier`](crate::notifier::Notifier) collects, stores and
    /// repeats notifications.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn notify_transactions(
        &self,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// Notifies Plaid that accounts were opened, closed or changed: `POST /items/accounts/notify`.
    ///
    /// Plaid accepts all entries or none.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn notify_accounts(
        &self,
        request: AccountsNotification,
    ) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// Has tokens deleted or refreshed: `POST /items/tokens/notify`.
    ///
    /// Plaid accepts all entries or none.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn notify_tokens(&self, request: TokensNotification) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// Creates an Item from a partner's own token: `POST /item/import`.
    ///
    /// Not repeated, because each import issues another access token.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn import(&self, request: ImportItem) -> Result<ImportItemResponse, Error> {
        self.send(request).await
    }

    /// Returns the applications that a user connected: `POST /item/application/list`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn list_applications(
        &self,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error> {
        self.send(request).await
    }

    /// Ends one application's access immediately: `POST /item/application/unlink`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn unlink_application(
        &self,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// Sets the scopes of one application: `POST /item/application/scopes/update`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn update_scopes(&self, request: UpdateScopes) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// Returns one page of the activity log of a user's consent: `POST /item/activity/list`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn list_activity(
        &self,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error> {
        self.send(request).await
    }

    /// Returns one application, to show it to a user: `POST /application/get`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn application(
        &self,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error> {
        self.send(request).await
    }

    /// Creates a token that opens Plaid's Link page once: `POST /link/token/create`.
    ///
    /// Not repeated, because each call creates another token.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn create_link_token(
        &self,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error> {
        self.send(request).await
    }

    /// Exchanges a public token for an Item's access token: `POST /item/public_token/exchange`.
    ///
    /// Not repeated, because a public token can be exchanged only once.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn exchange_public_token(
        &self,
        request: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error> {
        self.send(request).await
    }

    /// Returns an Item and its state: `POST /item/get`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn item(&self, request: GetItem) -> Result<GetItemResponse, Error> {
        self.send(request).await
    }

    /// Removes an Item; its token ends immediately: `POST /item/remove`.
    ///
    /// Repeated. `INVALID_ACCESS_TOKEN` after more than one [attempt](Error::attempts) means that an earlier
    /// attempt succeeded.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn remove_item(&self, request: RemoveItem) -> Result<Acknowledged, Error> {
        self.send(request).await
    }

    /// Sets the webhook address of an Item: `POST /item/webhook/update`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn update_webhook(
        &self,
        request: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error> {
        self.send(request).await
    }

    /// Replaces the token of an Item: `POST /item/access_token/invalidate`.
    ///
    /// Not repeated: the old token ends with the first call, and the new one is returned only once.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn invalidate_token(
        &self,
        request: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error> {
        self.send(request).await
    }

    /// Returns the key that signed a webhook: `POST /webhook_verification_key/get`.
    ///
    /// Cache it by its `kid`, because it does not change.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn verification_key(
        &self,
        request: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error> {
        self.send(request).await
    }

    /// Returns the clock of the client.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.core.clock()
    }

    pub(crate) fn random(&self) -> &Arc<dyn Random> {
        self.shared.core.random()
    }
}
