//! The authorization server of a partner: the partner itself, or its identity provider.

use crate::{
    error::{Error, ErrorKind},
    exchange::{Address, Outgoing},
    partner::PartnerClient,
    read_mode::ReadFailure,
};
use http::Request;
use px_core::text::printable;
use px_types::{
    Auth,
    endpoint::{Endpoint as _, codec::ResponseKind},
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
const MAX_ENDPOINTS_AGE: Duration = Duration::from_secs(3_600);
/// Delay before the next attempt if they cannot be read again.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// The server at which users authorize, and which issues tokens.
///
/// Many banks use an identity provider. Its endpoints are on another host than the bank's API.
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
    /// Configured endpoints.
    Configured(ServerEndpoints),
    /// The endpoints that an issuer publishes (RFC 8414, OpenID Connect Discovery). They are read when first
    /// needed, and again every hour.
    Discovered {
        /// The issuer. It must equal the issuer in the document exactly.
        issuer: String,
    },
}

impl AuthorizationServer {
    /// Returns a server with the endpoints that an issuer publishes.
    pub fn discovered(issuer: impl Into<String>) -> Self {
        Self::Discovered { issuer: issuer.into() }
    }
}

/// The endpoints of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerEndpoints {
    /// The authorization endpoint, to which users are sent.
    pub authorization: String,
    /// The token endpoint, at which codes and refresh tokens are exchanged.
    pub token: String,
    /// The revocation endpoint.
    ///
    /// `None` if the server has none: then [`revoke_tokens`](PartnerClient::revoke_tokens) fails and nothing
    /// is sent.
    pub revocation: Option<String>,
    /// The client authentication at the token and revocation endpoints.
    pub client_authentication: ClientAuthentication,
    /// The expected issuer of callbacks (RFC 9207) if the request names none. `None` if it is not known.
    pub issuer: Option<String>,
    /// Whether a callback without `iss` is refused.
    pub requires_iss: bool,
}

/// The method of client authentication (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// In the `Authorization` header: `client_secret_basic`.
    #[default]
    Basic,
    /// In the form: `client_secret_post`.
    Body,
}

impl ServerEndpoints {
    /// Returns an authorization and a token endpoint, with client authentication in the header.
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

    /// Returns the endpoints in a metadata document.
    fn of(metadata: ServerMetadata) -> Result<Self, Error> {
        let missing = |name: &str| {
            let what = format!("the authorization server publishes no `{name}`");
            Error::new(ErrorKind::Decode, OPERATION, what)
                .with_advice("this is a fault of its provider; configure the endpoints instead")
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

    /// Checks that all endpoints are valid addresses.
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
    /// The issuer. It equals the requested one.
    pub issuer: String,
    /// The authorization endpoint, to which users are sent.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// The token endpoint, at which codes are exchanged.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// The revocation endpoint, at which tokens are revoked.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// The supported scopes.
    #[serde(default)]
    pub scopes_supported: Vec<String>,
    /// The supported PKCE methods, such as `S256`.
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    /// The client authentication methods of the token endpoint. An empty list means `client_secret_basic`.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Whether callbacks have the parameter `iss` (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Tolerant for ServerMetadata {}

/// Name of the operation in errors.
const OPERATION: &str = "discovery";

/// The authorization server of a client, and its discovered endpoints.
#[derive(Debug)]
pub(crate) struct Server {
    server: AuthorizationServer,
    known: RwLock<Option<DiscoveredEndpoints>>,
    /// Locked while the endpoints are read, so that concurrent calls share one read.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct DiscoveredEndpoints {
    endpoints: Arc<ServerEndpoints>,
    /// In elapsed time of the clock.
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

    fn known(&self) -> Option<DiscoveredEndpoints> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_known(&self, known: DiscoveredEndpoints) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }
}

impl PartnerClient {
    /// Returns the endpoints at which users authorize and tokens are issued.
    ///
    /// Reads them first if they are [discovered](AuthorizationServer::Discovered).
    ///
    /// # Errors
    /// See [`discover`](Self::discover). Also if a required endpoint is missing in the document or is not a
    /// valid URL.
    pub async fn endpoints(&self) -> Result<ServerEndpoints, Error> {
        match &self.server().server {
            AuthorizationServer::Partner => Ok(self.own_endpoints()),
            _ => Ok(ServerEndpoints::clone(&*self.other_endpoints().await?)),
        }
    }

    /// Returns the endpoints if they need not be read first.
    pub(super) fn known_endpoints(&self) -> Result<ServerEndpoints, Error> {
        let server = self.server();
        match &server.server {
            AuthorizationServer::Partner => Ok(self.own_endpoints()),
            AuthorizationServer::Configured(endpoints) => Ok(endpoints.clone()),
            AuthorizationServer::Discovered { .. } => match server.known() {
                Some(known) => Ok(ServerEndpoints::clone(&known.endpoints)),
                None => Err(Error::build("authorize", "the endpoints are not discovered yet")
                    .with_advice("call `endpoints` first")),
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
        let fresh = |known: &DiscoveredEndpoints| now() < known.until;
        if let Some(known) = server.known().filter(fresh) {
            return Ok(known.endpoints);
        }
        let _reading = server.reading.lock().await;
        if let Some(known) = server.known().filter(fresh) {
            return Ok(known.endpoints);
        }
        let (endpoints, age) = match self.discover(issuer).await.and_then(ServerEndpoints::of) {
            Ok(endpoints) => (Arc::new(endpoints), MAX_ENDPOINTS_AGE),
            // The old endpoints are presumably still valid.
            Err(error) => match server.known() {
                Some(known) => (known.endpoints, RETRY_DELAY),
                None => return Err(error),
            },
        };
        let until = now().saturating_add(age);
        server.set_known(DiscoveredEndpoints { endpoints: Arc::clone(&endpoints), until });
        Ok(endpoints)
    }

    /// Sets the address of a request to the authorization server. Returns the client authentication to use.
    pub(crate) async fn route(&self, outgoing: &mut Outgoing, auth: Auth) -> Result<Auth, Error> {
        let id = outgoing.operation;
        let oauth = [Authorize::META.id, RequestToken::META.id, Revoke::META.id];
        if self.server().server == AuthorizationServer::Partner || !oauth.contains(&id) {
            return Ok(auth);
        }
        // Whatever failed, the request itself was not sent, so no token is at fault.
        let endpoints = self.other_endpoints().await.map_err(|error| {
            let what = "the endpoints of the partner's authorization server are not known";
            Error::new(ErrorKind::Connect, id, what)
                .with_advice("check that its issuer can be reached")
                .with_source(error)
        })?;
        let address = match id {
            _ if id == Authorize::META.id => Some(&endpoints.authorization),
            _ if id == RequestToken::META.id => Some(&endpoints.token),
            _ => endpoints.revocation.as_ref(),
        };
        let Some(address) = address else {
            let what = "the partner's authorization server has no revocation endpoint";
            return Err(Error::build(id, what).with_advice("its tokens end when they expire"));
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

    /// Reads the metadata of the partner's authorization server.
    ///
    /// They are read at the partner's own address or, if it has no document, at the issuer's.
    ///
    /// # Errors
    /// See [`send`](Self::send). Also if the document names another issuer than the requested one.
    pub async fn discover(&self, issuer: &str) -> Result<ServerMetadata, Error> {
        const OWN: &str = "/.well-known/oauth-authorization-server";
        let mut last = match self.metadata_at(None, OWN, issuer).await {
            // The base URL need not serve documents. But a document of another issuer is an error.
            Err(error) if !is_of_another_issuer(&error) => error,
            other => return other,
        };
        for url in document_urls(issuer)? {
            match self.metadata_at(Some(Address::parse(&url)?), "/", issuer).await {
                Err(error) if is_elsewhere(&error) => last = error,
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
            .map_err(|e| Error::build(OPERATION, "the request cannot be built").with_source(e))?;
        let mut outgoing = Outgoing::new(OPERATION, request, ResponseKind::Json, true);
        outgoing.address = address;
        let response = self.exchange(outgoing, Auth::None).await?;
        // This is not a message of the contract, so lists that are `null` and the like are accepted in every
        // mode.
        let metadata = tolerant::decode::<ServerMetadata>(&response.bytes, &Limits::default())
            .map_err(|e| response.unreadable(OPERATION, ReadFailure::Decode(e)))?
            .message;
        if metadata.issuer != issuer {
            let found = printable(&metadata.issuer, 200);
            let what = format!("the metadata belong to another issuer, {found}");
            return Err(Error::new(ErrorKind::Decode, OPERATION, what)
                .with_advice("do not send users there; check the issuer in the settings"));
        }
        Ok(metadata)
    }
}

fn is_of_another_issuer(error: &Error) -> bool {
    error.kind() == ErrorKind::Decode && error.status().is_none()
}

/// Returns whether the document is to be looked for at the next address.
///
/// Returns `true` for a response with a status other than 408, 429 and 5xx, which a retry may change, and
/// for a body that is not JSON.
fn is_elsewhere(error: &Error) -> bool {
    match error.status() {
        Some(status) => status < 500 && status != 429 && status != 408,
        None => false,
    }
}

/// Returns the addresses of an issuer's document: RFC 8414 section 3, then OpenID Connect Discovery.
fn document_urls(issuer: &str) -> Result<[String; 2], Error> {
    let url = Url::parse(issuer)
        .map_err(|e| Error::build(OPERATION, "the issuer is not a URL").with_source(e))?;
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
