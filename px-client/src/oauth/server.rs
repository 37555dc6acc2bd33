//! The authorization server of a partner: its own, or that of its identity provider.

use crate::{
    error::{Error, Kind},
    exchange::{Address, Outgoing},
    partner::PartnerClient,
    read_mode::Unread,
};
use http::Request;
use px_core::text::printable;
use px_types::{
    Auth,
    endpoint::{Endpoint as _, codec::ReplyKind},
    partner::{Authorize, RequestToken, Revoke},
    tolerant::{self, Limits, Tolerant},
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use url::Url;

/// Time for which discovered endpoints are used before they are read again.
const MAX_AGE: Duration = Duration::from_secs(3_600);
/// Time to the next attempt if they cannot be read again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// The server at which users authorize, and which gives tokens.
///
/// Most banks have an identity provider, whose endpoints are on another host than the bank's API.
///
/// # Examples
///
/// ```
/// use px_client::{PartnerClient, oauth::AuthorizationServer};
/// use px_types::ClientSecret;
///
/// # fn example(transport: impl px_core::HttpTransport + 'static) -> Result<(), Box<dyn std::error::Error>> {
/// let bank = PartnerClient::builder("https://px.bank.example", transport)
///     .client("plaid".parse()?, ClientSecret::new("…"))
///     .authorization_server(AuthorizationServer::discovered("https://id.bank.example/realms/customers"))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationServer {
    /// The partner itself, at the paths of the contract below the base URL.
    #[default]
    Partner,
    /// Endpoints that are known.
    Configured(ServerEndpoints),
    /// The endpoints that an issuer publishes (RFC 8414, OpenID Connect Discovery). They are read
    /// when they are needed first, and again every hour.
    Discovered {
        /// The issuer. It is compared letter by letter with the one in the document.
        issuer: String,
    },
}

impl AuthorizationServer {
    /// The endpoints that an issuer publishes.
    pub fn discovered(issuer: impl Into<String>) -> Self {
        Self::Discovered { issuer: issuer.into() }
    }
}

/// The endpoints of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerEndpoints {
    /// Where users are sent.
    pub authorization: String,
    /// Where codes and refresh tokens are exchanged.
    pub token: String,
    /// Where tokens are ended. `None` if the server cannot do that: then
    /// [`revoke_tokens`](PartnerClient::revoke_tokens) is an error, and nothing is sent.
    pub revocation: Option<String>,
    /// How the client shows who it is at the last two.
    pub client_authentication: ClientAuthentication,
    /// The issuer that callbacks name (RFC 9207), if it is known and the request names none.
    pub issuer: Option<String>,
    /// Whether a callback without `iss` is refused.
    pub requires_iss: bool,
}

/// How a client shows its id and secret (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// In the header, `client_secret_basic`.
    #[default]
    Basic,
    /// In the form, `client_secret_post`.
    Body,
}

impl ServerEndpoints {
    /// Endpoints for users and for tokens, with client authentication in the header.
    pub fn new(authorization: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            authorization: authorization.into(),
            token: token.into(),
            revocation: None,
            client_authentication: ClientAuthentication::Basic,
            issuer: None,
            requires_iss: false,
        }
    }

    /// The endpoints in a document.
    fn of(metadata: ServerMetadata) -> Result<Self, Error> {
        let missing = |name: &str| {
            let what = format!("the authorization server publishes no `{name}`");
            Error::new(Kind::Decode, OPERATION, what)
                .advice("this is a fault of its provider; name the endpoints instead")
        };
        let authorization = metadata.authorization_endpoint;
        let authorization = authorization.ok_or_else(|| missing("authorization_endpoint"))?;
        let token = metadata.token_endpoint.ok_or_else(|| missing("token_endpoint"))?;
        let has = |method: &str| {
            metadata.token_endpoint_auth_methods_supported.iter().any(|known| known == method)
        };
        let mut endpoints = Self::new(authorization, token);
        endpoints.revocation = metadata.revocation_endpoint;
        if !has("client_secret_basic") && has("client_secret_post") {
            endpoints.client_authentication = ClientAuthentication::Body;
        }
        endpoints.issuer = Some(metadata.issuer);
        endpoints.requires_iss = metadata.authorization_response_iss_parameter_supported;
        endpoints.check()?;
        Ok(endpoints)
    }

    /// Checks that all of them are addresses.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let urls = [Some(&self.authorization), Some(&self.token), self.revocation.as_ref()];
        for url in urls.into_iter().flatten() {
            Address::parse(url)?;
        }
        Ok(())
    }
}

/// The metadata of an authorization server (RFC 8414).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerMetadata {
    /// The issuer; the same that was asked for.
    pub issuer: String,
    /// Where users are sent.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where codes are exchanged.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// Where tokens are ended.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// The scopes that can be asked for.
    #[serde(default)]
    pub scopes_supported: Vec<String>,
    /// The PKCE methods; `S256` for one.
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    /// How clients authenticate at the token endpoint; `client_secret_basic` if it is empty.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether callbacks carry `iss` (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Tolerant for ServerMetadata {}

/// The operation in errors.
const OPERATION: &str = "discovery";

/// The authorization server of a client, and what was read of it.
#[derive(Debug)]
pub(crate) struct Server {
    server: AuthorizationServer,
    known: RwLock<Option<Known>>,
    /// Held while the endpoints are read, so that many calls cause one reading.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Known {
    endpoints: Arc<ServerEndpoints>,
    /// By the clock's elapsed time.
    until: Duration,
}

impl Server {
    pub(crate) fn new(server: AuthorizationServer) -> Result<Self, Error> {
        match &server {
            AuthorizationServer::Partner => {}
            AuthorizationServer::Configured(endpoints) => endpoints.check()?,
            AuthorizationServer::Discovered { issuer } => drop(Address::parse(issuer)?),
        }
        let reading = tokio::sync::Mutex::default();
        Ok(Self { server, known: RwLock::default(), reading })
    }

    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_known(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

impl PartnerClient {
    /// Returns the endpoints at which users authorize and tokens are given, and reads them first if
    /// they are [discovered](AuthorizationServer::Discovered).
    ///
    /// # Errors
    /// As [`discover`](Self::discover).
    pub async fn endpoints(&self) -> Result<ServerEndpoints, Error> {
        match &self.server().server {
            AuthorizationServer::Partner => Ok(self.own_endpoints()),
            _ => Ok(ServerEndpoints::clone(&*self.other_endpoints().await?)),
        }
    }

    /// The endpoints, if nothing has to be read for that.
    pub(super) fn known_endpoints(&self) -> Result<ServerEndpoints, Error> {
        let server = self.server();
        match &server.server {
            AuthorizationServer::Partner => Ok(self.own_endpoints()),
            AuthorizationServer::Configured(endpoints) => Ok(endpoints.clone()),
            AuthorizationServer::Discovered { .. } => match server.known() {
                Some(known) => Ok(ServerEndpoints::clone(&known.endpoints)),
                None => Err(Error::build("authorize", "the endpoints are not discovered yet")
                    .advice("call `endpoints` first")),
            },
        }
    }

    fn own_endpoints(&self) -> ServerEndpoints {
        let at = |path: &str| format!("{}{path}", self.base());
        let mut endpoints =
            ServerEndpoints::new(at(Authorize::META.path), at(RequestToken::META.path));
        endpoints.revocation = Some(at(Revoke::META.path));
        endpoints
    }

    async fn other_endpoints(&self) -> Result<Arc<ServerEndpoints>, Error> {
        let server = self.server();
        let issuer = match &server.server {
            AuthorizationServer::Partner => return Ok(Arc::new(self.own_endpoints())),
            AuthorizationServer::Configured(endpoints) => return Ok(Arc::new(endpoints.clone())),
            AuthorizationServer::Discovered { issuer } => issuer,
        };
        let now = || self.clock().elapsed();
        let fresh = |known: &Known| now() < known.until;
        if let Some(known) = server.known().filter(fresh) {
            return Ok(known.endpoints);
        }
        let _reading = server.reading.lock().await;
        if let Some(known) = server.known().filter(fresh) {
            return Ok(known.endpoints);
        }
        let (endpoints, age) = match self.discover(issuer).await.and_then(ServerEndpoints::of) {
            Ok(endpoints) => (Arc::new(endpoints), MAX_AGE),
            // The old ones are good as far as anybody knows.
            Err(error) => match server.known() {
                Some(known) => (known.endpoints, RETRY_AFTER),
                None => return Err(error),
            },
        };
        let until = now().saturating_add(age);
        server.set_known(Known { endpoints: Arc::clone(&endpoints), until });
        Ok(endpoints)
    }

    /// Sends a request for tokens to where it belongs. Returns how the client authenticates.
    pub(crate) async fn route(&self, outgoing: &mut Outgoing, auth: Auth) -> Result<Auth, Error> {
        let id = outgoing.operation;
        let oauth = [Authorize::META.id, RequestToken::META.id, Revoke::META.id];
        if self.server().server == AuthorizationServer::Partner || !oauth.contains(&id) {
            return Ok(auth);
        }
        // Nothing was sent, whatever it was that failed: no token is at fault.
        let endpoints = self.other_endpoints().await.map_err(|error| {
            let what = "the endpoints of the partner's authorization server are not known";
            Error::new(Kind::Connect, id, what)
                .advice("see that its issuer can be reached")
                .caused_by(error)
        })?;
        let address = match id {
            _ if id == Authorize::META.id => Some(&endpoints.authorization),
            _ if id == RequestToken::META.id => Some(&endpoints.token),
            _ => endpoints.revocation.as_ref(),
        };
        let Some(address) = address else {
            let what = "the partner's authorization server has no revocation endpoint";
            return Err(Error::build(id, what).advice("its tokens end when they expire"));
        };
        outgoing.address = Some(Address::parse(address)?);
        match (endpoints.client_authentication, auth) {
            (ClientAuthentication::Body, Auth::Client) => {
                self.authenticate_in_body(outgoing)?;
                Ok(Auth::None)
            }
            _ => Ok(auth),
        }
    }

    /// Reads what the partner publishes of its authorization server: at the partner's own address
    /// or, if there is nothing, at the issuer's.
    ///
    /// # Errors
    /// As [`send`](Self::send); an issuer other than the one asked for is an error.
    pub async fn discover(&self, issuer: &str) -> Result<ServerMetadata, Error> {
        const OWN: &str = "/.well-known/oauth-authorization-server";
        let mut last = match self.metadata_at(None, OWN, issuer).await {
            // The base URL may be no place for documents, but what is there must be right.
            Err(error) if !is_of_another_issuer(&error) => error,
            other => return other,
        };
        for url in document_urls(issuer)? {
            match self.metadata_at(Some(Address::parse(&url)?), "/", issuer).await {
                Err(error) if is_not_there(&error) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    async fn metadata_at(
        &self,
        address: Option<Address>,
        path: &str,
        issuer: &str,
    ) -> Result<ServerMetadata, Error> {
        let request = Request::get(path)
            .body(Vec::new())
            .map_err(|e| Error::build(OPERATION, "no request").caused_by(e))?;
        let mut outgoing = Outgoing::new(OPERATION, request, ReplyKind::Json, true);
        outgoing.address = address;
        let response = self.exchange(outgoing, Auth::None).await?;
        // Not a message of the contract: lists that are `null` and the like are read in any mode.
        let metadata = tolerant::decode::<ServerMetadata>(&response.bytes, &Limits::default())
            .map_err(|e| response.not_understood(OPERATION, Unread::Decode(e)))?
            .message;
        if metadata.issuer != issuer {
            let found = printable(&metadata.issuer, 200);
            let what = format!("the metadata are those of another issuer, {found}");
            return Err(Error::new(Kind::Decode, OPERATION, what)
                .advice("do not send users there; check the issuer in the settings"));
        }
        Ok(metadata)
    }
}

fn is_of_another_issuer(error: &Error) -> bool {
    error.kind() == Kind::Decode && error.status().is_none()
}

/// Whether a response says that the document is somewhere else: any status but those that a retry
/// may change, or something that is no JSON.
fn is_not_there(error: &Error) -> bool {
    match error.status() {
        Some(status) => status < 500 && status != 429 && status != 408,
        None => false,
    }
}

/// Where an issuer publishes its document: RFC 8414 section 3, then OpenID Connect Discovery.
fn document_urls(issuer: &str) -> Result<[String; 2], Error> {
    let url = Url::parse(issuer)
        .map_err(|e| Error::build(OPERATION, "the issuer is not a URL").caused_by(e))?;
    let path = url.path().trim_end_matches('/');
    let mut inserted = url.clone();
    inserted.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    let mut appended = url.clone();
    appended.set_path(&format!("{path}/.well-known/openid-configuration"));
    Ok([inserted.into(), appended.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_where_both_specifications_say() {
        for (issuer, inserted, appended) in [
            (
                "https://id.example",
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration",
            ),
            (
                "https://id.example/realms/bank/",
                "https://id.example/.well-known/oauth-authorization-server/realms/bank",
                "https://id.example/realms/bank/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(document_urls(issuer).unwrap(), [inserted, appended]);
        }
        assert!(document_urls("id.example").is_err());
    }
}
