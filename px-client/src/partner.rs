//! The client of one partner: every endpoint as a method, and `send` for any.
//!
//! How a call is made, repeated and judged is in `exchange`; long histories are in [`page`](crate::page).

use crate::{
    error::{Error, Source},
    exchange::{Answer, Caller, Core, Dialect, Outgoing, Setup, shared_settings},
    oauth::{AuthorizationServer, Server},
    read_mode::ReadMode,
    token::{StaticToken, TokenSource, TokenState},
};
use http::Method;
use px_core::{Clock, HttpTransport, Random};
use px_types::{
    AccessToken, Auth, ClientId, ClientSecret, Endpoint,
    endpoint::codec::{self, Reply as _},
    model::sign_in::SignIn,
    partner::{
        AuthTokenRequest, AuthorizationAnswer, Authorize, AuthorizeQuery, CurrentUserResponse,
        GetCurrentUser, GetUser, ListTransactions, NewApplicationLinkNotification,
        NotifyApplicationLinked, RequestAuthToken, RequestToken, Revoke, RevokeRequest, SendOtp,
        SendOtpResponse, TokenRequest, TokenResponse, TransactionsResponse,
        UserAccountInfoResponse, ValidateTwoFactor,
    },
};
use px_types::{UserId, endpoint::codec::Empty};
use std::{fmt, sync::Arc};

/// Calls one partner.
///
/// Cheap to clone. A client without a token serves all users of a partner; for one user's
/// data take [`with_token`](Self::with_token) or [`with_tokens`](Self::with_tokens), which
/// share everything else with it.
///
/// A 401 to a call with a bearer token ends that token: no later call of this client uses
/// it, and those in flight are abandoned. Contract: `px.md` sections 2 and 2.2.1.
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

/// Signs the notifications that Plaid sends to a partner (`px.md` section 9).
pub trait SignBody: Send + Sync + fmt::Debug {
    /// The value of `Plaid-Verification` for a body.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn sign(&self, body: &[u8]) -> Result<String, Source>;
}

/// Sets up a [`PartnerClient`].
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
    /// Shows who the client is, on the endpoints that ask for it.
    pub fn client(mut self, id: ClientId, secret: ClientSecret) -> Self {
        self.client = Some((id, secret));
        self
    }

    /// Calls with a user's tokens.
    pub fn tokens(mut self, tokens: Arc<dyn TokenSource>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Calls with one token.
    pub fn token(self, token: AccessToken) -> Self {
        self.tokens(Arc::new(StaticToken::new(token)))
    }

    shared_settings!();

    /// Sets how strictly responses are read; [`ReadMode::Tolerant`] by default.
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Sets the server at which users authorize, and which gives and revokes tokens; the partner
    /// itself by default.
    pub fn authorization_server(mut self, server: AuthorizationServer) -> Self {
        self.server = server;
        self
    }

    /// Signs notifications.
    pub fn signer(mut self, signer: Arc<dyn SignBody>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// When the base URL is not an `http` or `https` URL, or has a query, a fragment or a password,
    /// or an endpoint of the authorization server is not such a URL.
    pub fn build(self) -> Result<PartnerClient, Error> {
        let core = self.setup.build(Dialect::Partner)?;
        let server = Server::new(self.server)?;
        let shared = Shared { core, client: self.client, signer: self.signer, server };
        let tokens = self.tokens.map(TokenState::new);
        Ok(PartnerClient { shared: Arc::new(shared), tokens, read_mode: self.read_mode })
    }
}

impl PartnerClient {
    /// Sets up a client of the partner at an address, which may have a path prefix.
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

    /// The same client, calling with a user's tokens.
    #[must_use]
    pub fn with_tokens(&self, tokens: Arc<dyn TokenSource>) -> Self {
        Self { tokens: Some(TokenState::new(tokens)), ..self.clone() }
    }

    /// Returns the same client, which reads responses in another mode.
    #[must_use]
    pub fn with_read_mode(&self, read_mode: ReadMode) -> Self {
        Self { read_mode, ..self.clone() }
    }

    /// Returns how strictly responses are read.
    #[must_use]
    pub fn read_mode(&self) -> ReadMode {
        self.read_mode
    }

    /// The same client, calling with one token.
    #[must_use]
    pub fn with_token(&self, token: AccessToken) -> Self {
        self.with_tokens(Arc::new(StaticToken::new(token)))
    }

    /// Sends any request and reads its answer.
    ///
    /// # Errors
    /// When there is no good answer after all attempts; see [`Error`].
    pub async fn send<E: Endpoint>(&self, request: E) -> Result<E::Response, Error> {
        let id = E::META.id;
        let request = codec::to_http(request)
            .map_err(|e| Error::build(id, "the request cannot be written as HTTP").caused_by(e))?;
        let safe = matches!(E::META.method, Method::GET | Method::HEAD);
        let mut outgoing = Outgoing::new(id, request, E::Response::KIND, safe);
        let auth = self.route(&mut outgoing, E::META.auth).await?;
        let mut answer = self.exchange(outgoing, auth).await?;
        let noted = std::mem::take(&mut answer.faults);
        let clock = &**self.clock();
        let read = self.read_mode.read(id, &answer.bytes, noted, clock);
        read.map_err(|unread| answer.not_understood(id, unread))
    }

    /// `GET /oauth2/auth`, as a user's browser would.
    ///
    /// Programs seldom call it: they send the user there, see [`begin_authorization`](Self::begin_authorization).
    ///
    /// # Errors
    /// As [`send`](Self::send); an answer that is no redirect is one.
    pub async fn authorize(&self, query: AuthorizeQuery) -> Result<AuthorizationAnswer, Error> {
        self.send(Authorize::new(query)).await
    }

    /// `POST /oauth2/token`: exchanges a code or a refresh token.
    ///
    /// It goes to the token endpoint of the [authorization server](PartnerClientBuilder::authorization_server).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn token(&self, request: TokenRequest) -> Result<TokenResponse, Error> {
        self.send(RequestToken::new(request)).await
    }

    /// `POST /oauth2/revoke`: ends a token.
    ///
    /// It goes to the revocation endpoint of the [authorization server](PartnerClientBuilder::authorization_server);
    /// if that has none, it is an error and nothing is sent.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn revoke(&self, request: RevokeRequest) -> Result<(), Error> {
        let Empty = self.send(Revoke::new(request)).await?;
        Ok(())
    }

    /// `GET /customers/current`: whose token it is.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn current_user(&self) -> Result<CurrentUserResponse, Error> {
        self.send(GetCurrentUser::new()).await
    }

    /// `GET /users/{user_id}`: accounts, holders and securities.
    ///
    /// The response's [`faults`](UserAccountInfoResponse::faults) list what breaks the contract.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn user(&self, user_id: &UserId) -> Result<UserAccountInfoResponse, Error> {
        self.send(GetUser::new(user_id.clone())).await
    }

    /// `GET /users/{user_id}/transactions`: one page.
    ///
    /// For whole histories take [`transactions`](Self::transactions).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn transactions_page(
        &self,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        self.send(request).await
    }

    /// `POST /users/auth_token`: name and password.
    ///
    /// [`sign_in`](Self::sign_in) does it with the challenges that may follow.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn auth_token(&self, request: AuthTokenRequest) -> Result<SignIn, Error> {
        self.send(RequestAuthToken::new(request)).await
    }

    /// `POST /users/{user_id}/sendOtp`: has a one-time code sent.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_otp(&self, request: SendOtp) -> Result<SendOtpResponse, Error> {
        self.send(request).await
    }

    /// `POST /users/{user_id}/2fa`: answers a challenge.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn two_factor(&self, request: ValidateTwoFactor) -> Result<SignIn, Error> {
        self.send(request).await
    }

    /// `POST /applications/notify`: tells that a user linked a further application.
    ///
    /// Needs a [signer](PartnerClientBuilder::signer).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        let Empty = self.send(NotifyApplicationLinked::new(notification)).await?;
        Ok(())
    }

    /// The clock that the client was given.
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

    /// Puts the client's id and secret into the form that a request has as its body.
    pub(crate) fn authenticate_in_body(&self, outgoing: &mut Outgoing) -> Result<(), Error> {
        let Some((id, secret)) = &self.shared.client else {
            return Err(Error::build(outgoing.operation, "the client has no id and secret")
                .advice("give them to the builder"));
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

    /// Makes a call as the one that the endpoint asks for.
    pub(crate) async fn exchange(
        &self,
        mut outgoing: Outgoing,
        auth: Auth,
    ) -> Result<Answer, Error> {
        let operation = outgoing.operation;
        outgoing.read_mode = self.read_mode;
        let lacks = |what: &str, advice| Error::build(operation, what).advice(advice);
        let caller = match (auth, &self.tokens, &self.shared.client, &self.shared.signer) {
            (Auth::Bearer(_), Some(tokens), ..) => Caller::Bearer(tokens),
            (Auth::Bearer(_), None, ..) => {
                let advice = "take `with_token` or `with_tokens` first";
                return Err(lacks("the client has no token", advice));
            }
            (Auth::Client, _, Some((id, secret)), _) => Caller::Basic(id, secret),
            (Auth::Client, _, None, _) => {
                return Err(lacks("the client has no id and secret", "give them to the builder"));
            }
            (Auth::Signature, .., Some(signer)) => Caller::Signer(&**signer),
            (Auth::Signature, .., None) => {
                return Err(lacks("the client has no signer", "give one to the builder"));
            }
            (Auth::PlaidClient, ..) => {
                let what = "this is an endpoint of Plaid, not of a partner";
                return Err(lacks(what, "take a `PlaidClient`"));
            }
            _ => Caller::Nobody,
        };
        self.shared.core.exchange(outgoing, caller).await
    }
}
