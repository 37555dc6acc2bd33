//! The client of one partner: a method for every endpoint, and `send` for any request.
//!
//! `exchange` has authentication, retries and the classification of responses; [`page`](crate::page) reads
//! long histories.

use crate::{
    error::{Error, Source},
    exchange::{ApiResponse, Authentication, Core, Dialect, Outgoing, Setup, shared_settings},
    oauth::{AuthorizationServer, Server},
    read_mode::ReadMode,
    token::{StaticToken, TokenSource, TokenState},
};
use http::Method;
use px_core::{Clock, HttpTransport, Random};
use px_types::{
    AccessToken, Auth, ClientId, ClientSecret, Endpoint,
    endpoint::codec::{self, ResponseBody as _},
    model::sign_in::SignIn,
    partner::{
        AuthTokenRequest, AuthorizationResponse, Authorize, AuthorizeQuery, CurrentUserResponse,
        GetCurrentUser, GetUser, ListTransactions, NewApplicationLinkNotification,
        NotifyApplicationLinked, RequestAuthToken, RequestToken, Revoke, RevokeRequest, SendOtp,
        SendOtpResponse, TokenRequest, TokenResponse, TransactionsResponse,
        UserAccountInfoResponse, ValidateTwoFactor,
    },
};
use px_types::{UserId, endpoint::codec::Empty};
use std::{fmt, sync::Arc};

/// A client of one partner.
///
/// Cheap to clone. A client without a token serves all users of a partner. For one user's data, call
/// [`with_token`](Self::with_token) or [`with_tokens`](Self::with_tokens): the new client shares everything
/// else with this one.
///
/// A 401 to a call with a bearer token ends that token: no later call of this client uses it, and calls in
/// flight are aborted. Contract: `px.md` sections 2 and 2.2.1.
#[derive(Clone)]
pub struct PartnerClient {
    shared: Arc<Shared>,
    tokens: Option<Arc<TokenState>>,
    read_mode: ReadMode,
}

struct Shared {
    core: Core,
    client: Option<(ClientId, ClientSecret)>,
    signer: Option<Arc<dyn SignBody>>,
    server: Server,
}

impl fmt::Debug for PartnerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerClient")
            .field("core", &self.shared.core)
            .field("tokens", &self.tokens.as_ref().map(|tokens| &tokens.source))
            .finish_non_exhaustive()
    }
}

/// A signer of the notifications that Plaid sends to a partner (`px.md` section 9).
pub trait SignBody: Send + Sync + fmt::Debug {
    /// Returns the value of the header `Plaid-Verification` for a body.
    ///
    /// # Errors
    /// If the key cannot be used.
    fn sign(&self, body: &[u8]) -> Result<String, Source>;
}

/// A builder of a [`PartnerClient`].
#[must_use]
pub struct PartnerClientBuilder {
    setup: Setup,
    client: Option<(ClientId, ClientSecret)>,
    signer: Option<Arc<dyn SignBody>>,
    tokens: Option<Arc<dyn TokenSource>>,
    server: AuthorizationServer,
    read_mode: ReadMode,
}

impl fmt::Debug for PartnerClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerClientBuilder").finish_non_exhaustive()
    }
}

impl PartnerClientBuilder {
    /// Sets the client id and secret, for the endpoints that require client authentication.
    pub fn client(mut self, id: ClientId, secret: ClientSecret) -> Self {
        self.client = Some((id, secret));
        self
    }

    /// Sets the source of a user's tokens.
    pub fn tokens(mut self, tokens: Arc<dyn TokenSource>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets one token of a user.
    pub fn token(self, token: AccessToken) -> Self {
        self.tokens(Arc::new(StaticToken::new(token)))
    }

    shared_settings!();

    /// Sets how strictly responses are read. Default: [`ReadMode::Tolerant`].
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Sets the server at which users authorize, and which issues and revokes tokens.
    ///
    /// Default: the partner itself.
    pub fn authorization_server(mut self, server: AuthorizationServer) -> Self {
        self.server = server;
        self
    }

    /// Sets the signer of notifications.
    pub fn signer(mut self, signer: Arc<dyn SignBody>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// If the base URL is not an `http` or `https` URL, or has a query, a fragment or a password; or if an
    /// endpoint of the authorization server is not an `http` or `https` URL, or has a fragment or a password.
    pub fn build(self) -> Result<PartnerClient, Error> {
        let core = self.setup.build(Dialect::Partner)?;
        let server = Server::new(self.server)?;
        let shared = Shared { core, client: self.client, signer: self.signer, server };
        let tokens = self.tokens.map(TokenState::new);
        Ok(PartnerClient { shared: Arc::new(shared), tokens, read_mode: self.read_mode })
    }
}

impl PartnerClient {
    /// Returns a builder of a client for the partner at an address. The address may have a path prefix.
    pub fn builder(
        base_url: impl Into<String>,
        transport: impl HttpTransport + 'static,
    ) -> PartnerClientBuilder {
        PartnerClientBuilder {
            setup: Setup::new(base_url.into(), Arc::new(transport)),
            client: None,
            signer: None,
            tokens: None,
            server: AuthorizationServer::Partner,
            read_mode: ReadMode::default(),
        }
    }

    /// Returns a client that calls with a user's tokens and is otherwise the same.
    #[must_use]
    pub fn with_tokens(&self, tokens: Arc<dyn TokenSource>) -> Self {
        Self { tokens: Some(TokenState::new(tokens)), ..self.clone() }
    }

    /// Returns a client that reads responses in another mode and is otherwise the same.
    #[must_use]
    pub fn with_read_mode(&self, read_mode: ReadMode) -> Self {
        Self { read_mode, ..self.clone() }
    }

    /// Returns how strictly responses are read.
    #[must_use]
    pub fn read_mode(&self) -> ReadMode {
        self.read_mode
    }

    /// Returns a client that calls with one token and is otherwise the same.
    #[must_use]
    pub fn with_token(&self, token: AccessToken) -> Self {
        self.with_tokens(Arc::new(StaticToken::new(token)))
    }

    /// Sends any request and reads its response.
    ///
    /// # Errors
    /// If no attempt gets a good response; see [`Error`]. If the client lacks the token, the id and secret,
    /// or the signer that the endpoint requires, or the request is one for Plaid, nothing is sent.
    pub async fn send<E: Endpoint>(&self, request: E) -> Result<E::Response, Error> {
        let id = E::META.id;
        let request = codec::to_http(request).map_err(|e| {
            Error::build(id, "the request cannot be encoded as HTTP").with_source(e)
        })?;
        let safe = matches!(E::META.method, Method::GET | Method::HEAD);
        let mut outgoing = Outgoing::new(id, request, E::Response::KIND, safe);
        let auth = self.route(&mut outgoing, E::META.auth).await?;
        let mut response = self.exchange(outgoing, auth).await?;
        let transfer_faults = std::mem::take(&mut response.faults);
        let clock = &**self.clock();
        let read = self.read_mode.read(id, &response.bytes, transfer_faults, clock);
        read.map_err(|failure| response.unreadable(id, failure))
    }

    /// Requests an authorization as a user's browser does: `GET /oauth2/auth`.
    ///
    /// Programs rarely call this. They send the user there; see
    /// [`begin_authorization`](Self::begin_authorization).
    ///
    /// # Errors
    /// See [`send`](Self::send). A response that is not a redirect is an error.
    pub async fn authorize(&self, query: AuthorizeQuery) -> Result<AuthorizationResponse, Error> {
        self.send(Authorize::new(query)).await
    }

    /// Exchanges a code or a refresh token: `POST /oauth2/token`.
    ///
    /// The request goes to the token endpoint of the [authorization
    /// server](PartnerClientBuilder::authorization_server).
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn token(&self, request: TokenRequest) -> Result<TokenResponse, Error> {
        self.send(RequestToken::new(request)).await
    }

    /// Revokes a token: `POST /oauth2/revoke`.
    ///
    /// The request goes to the revocation endpoint of the [authorization
    /// server](PartnerClientBuilder::authorization_server). If the server has none, the call fails and
    /// nothing is sent.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn revoke(&self, request: RevokeRequest) -> Result<(), Error> {
        let Empty = self.send(Revoke::new(request)).await?;
        Ok(())
    }

    /// Returns the user of the token: `GET /customers/current`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn current_user(&self) -> Result<CurrentUserResponse, Error> {
        self.send(GetCurrentUser::new()).await
    }

    /// Returns a user's accounts, holders and securities: `GET /users/{user_id}`.
    ///
    /// The response's [`faults`](UserAccountInfoResponse::faults) list what breaks the contract.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn user(&self, user_id: &UserId) -> Result<UserAccountInfoResponse, Error> {
        self.send(GetUser::new(user_id.clone())).await
    }

    /// Returns one page of a user's transactions: `GET /users/{user_id}/transactions`.
    ///
    /// For whole histories, use [`transactions`](Self::transactions).
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn transactions_page(
        &self,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        self.send(request).await
    }

    /// Sends a user's name and password: `POST /users/auth_token`.
    ///
    /// [`sign_in`](Self::sign_in) also handles the challenges that may follow.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn auth_token(&self, request: AuthTokenRequest) -> Result<SignIn, Error> {
        self.send(RequestAuthToken::new(request)).await
    }

    /// Has a one-time code sent to the user: `POST /users/{user_id}/sendOtp`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn send_otp(&self, request: SendOtp) -> Result<SendOtpResponse, Error> {
        self.send(request).await
    }

    /// Sends the response to a challenge: `POST /users/{user_id}/2fa`.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn two_factor(&self, request: ValidateTwoFactor) -> Result<SignIn, Error> {
        self.send(request).await
    }

    /// Notifies the partner that a user linked or unlinked an application: `POST /applications/notify`.
    ///
    /// Requires a [signer](PartnerClientBuilder::signer).
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        let Empty = self.send(NotifyApplicationLinked::new(notification)).await?;
        Ok(())
    }

    /// Returns the clock of the client.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.core.clock()
    }

    pub(crate) fn random(&self) -> &Arc<dyn Random> {
        self.shared.core.random()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.shared.server
    }

    /// Adds the client's id and secret to the form in the request's body.
    pub(crate) fn authenticate_in_body(&self, outgoing: &mut Outgoing) -> Result<(), Error> {
        let Some((id, secret)) = &self.shared.client else {
            return Err(Error::build(outgoing.operation, "the client has no id and secret")
                .with_advice("set them on the builder"));
        };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", id.as_str()).append_pair("client_secret", secret.expose());
        let body = outgoing.request.body_mut();
        let own = String::from_utf8_lossy(body);
        *body = match own.is_empty() {
            true => form.finish().into(),
            false => format!("{own}&{}", form.finish()).into(),
        };
        Ok(())
    }

    pub(crate) fn base(&self) -> &str {
        self.shared.core.base()
    }

    pub(crate) fn client_id(&self) -> Option<&ClientId> {
        self.shared.client.as_ref().map(|(id, _)| id)
    }

    /// Makes a call with the authentication that the endpoint requires.
    pub(crate) async fn exchange(
        &self,
        mut outgoing: Outgoing,
        auth: Auth,
    ) -> Result<ApiResponse, Error> {
        let operation = outgoing.operation;
        outgoing.read_mode = self.read_mode;
        let lacks = |what: &str, advice| Error::build(operation, what).with_advice(advice);
        let authentication = match (auth, &self.tokens, &self.shared.client, &self.shared.signer) {
            (Auth::Bearer(_), Some(tokens), ..) => Authentication::Bearer(tokens),
            (Auth::Bearer(_), None, ..) => {
                let advice = "use `with_token` or `with_tokens`";
                return Err(lacks("the client has no token", advice));
            }
            (Auth::Client, _, Some((id, secret)), _) => Authentication::Basic(id, secret),
            (Auth::Client, _, None, _) => {
                return Err(lacks("the client has no id and secret", "set them on the builder"));
            }
            (Auth::Signature, .., Some(signer)) => Authentication::Signer(&**signer),
            (Auth::Signature, .., None) => {
                return Err(lacks("the client has no signer", "set one on the builder"));
            }
            (Auth::PlaidClient, ..) => {
                let what = "this is an endpoint of Plaid, not of a partner";
                return Err(lacks(what, "use a `PlaidClient`"));
            }
            _ => Authentication::None,
        };
        self.shared.core.exchange(outgoing, authentication).await
    }
}
