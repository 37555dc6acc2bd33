//! OAuth as Plaid uses it: sends the user to the partner, checks the callback, and gets tokens.
//!
//! Every flow uses PKCE (S256) and a `state`. [`RefreshingTokens`](crate::RefreshingTokens) refreshes tokens.
//! Contract: `px.md` section 4; RFC 6749, 7636, 8414, 9207.

mod callback;
mod server;

pub(crate) use server::Server;

pub use callback::{AcceptedCallback, CallbackError, CallbackErrorKind};
pub use server::{AuthorizationServer, ClientAuthentication, ServerEndpoints, ServerMetadata};

use crate::{error::Error, partner::PartnerClient};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Digest, random, text::printable};
use px_types::{
    AccessToken, AnyToken, ApplicationId, AuthorizationState, CodeVerifier, RefreshToken, ScopeSet,
    Timestamp, UserId,
    endpoint::parameters::ParameterWriter,
    partner::{
        AuthorizeQuery, Grant, ResponseType, RevokeRequest, TokenRequest, TokenResponse,
        TokenTypeHint,
    },
};
use serde::{Deserialize, Serialize};
use std::fmt;
use url::Url;

/// The parameters of an authorization.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorizationRequest {
    /// The URI to which the partner sends the user back. It must be registered there, byte by byte.
    pub redirect_uri: String,
    /// The scopes to request. `None` requests the partner's defaults.
    pub scope: Option<ScopeSet>,
    /// The application for which access is requested.
    pub application_id: Option<ApplicationId>,
    /// The name of the application, which the partner shows.
    pub application_name: Option<String>,
    /// The expected issuer of the response.
    ///
    /// `None` expects the discovered or configured one; if there is none, the issuer is not checked.
    pub issuer: Option<String>,
    /// The URL to which the user is sent. `None` uses the [endpoint](PartnerClient::endpoints) of the client.
    pub authorization_endpoint: Option<String>,
}

impl AuthorizationRequest {
    /// Returns a request for the partner's default scopes.
    #[must_use]
    pub fn new(redirect_uri: impl Into<String>) -> Self {
        Self {
            redirect_uri: redirect_uri.into(),
            scope: None,
            application_id: None,
            application_name: None,
            issuer: None,
            authorization_endpoint: None,
        }
    }
}

/// An authorization that the user has begun and not completed.
///
/// Store it with the user's session. It can be serialized and then contains secrets. Checking the callback
/// consumes it, because it may be used only once: delete the stored copy first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingAuthorization {
    state: AuthorizationState,
    code_verifier: CodeVerifier,
    redirect_uri: String,
    #[serde(default)]
    issuer: Option<String>,
    /// Whether a callback without an issuer is refused.
    #[serde(default = "default_requires_iss")]
    requires_iss: bool,
}

fn default_requires_iss() -> bool {
    true
}

/// The tokens of one user.
///
/// `Debug` masks them. The serialized form has them in plain text, for a store that protects secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenSet {
    /// The token that is sent with every call.
    pub access_token: AccessToken,
    /// The token that is exchanged for the next pair.
    #[serde(default)]
    pub refresh_token: Option<RefreshToken>,
    /// Time of the request for the tokens.
    pub issued_at: Timestamp,
    /// Expiry of the access token. `None` if the partner does not state it.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// The granted scopes, if the partner states them.
    #[serde(default)]
    pub scope: Option<ScopeSet>,
    /// The user of the tokens, if the partner states it.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The type of the access token if it is not `Bearer`.
    ///
    /// Such tokens can be stored but are never used; see [`defect`](Self::defect).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
}

/// The reason why tokens from a partner must not be used.
///
/// Discarding a pair would lose it, and the authorization that it replaces. So such tokens are stored
/// separately, see [`TokenStore::save_unusable`](crate::TokenStore::save_unusable), and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenDefect {
    /// They name another user than the one for whom they were requested.
    AnotherUser,
    /// They are not bearer tokens (RFC 6750).
    NotBearer,
}

impl fmt::Display for TokenDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnotherUser => "the partner issued tokens of another user",
            Self::NotBearer => "the partner issued tokens that are not bearer tokens",
        })
    }
}

impl TokenSet {
    /// Returns an access token without a refresh token, received at `issued_at`.
    #[must_use]
    pub fn new(access_token: AccessToken, issued_at: DateTime<Utc>) -> Self {
        Self {
            access_token,
            refresh_token: None,
            issued_at: issued_at.into(),
            expires_at: None,
            scope: None,
            user_id: None,
            token_type: None,
        }
    }

    /// Returns the reason why these tokens must not be used for a user. Returns `None` if they can be used.
    ///
    /// Tokens that name no user are accepted for any user.
    #[must_use]
    pub fn defect(&self, user: Option<&UserId>) -> Option<TokenDefect> {
        let another = |named: &UserId| user.is_some_and(|user| user != named);
        match &self.user_id {
            Some(named) if another(named) => Some(TokenDefect::AnotherUser),
            _ => self.token_type.as_ref().map(|_| TokenDefect::NotBearer),
        }
    }

    fn from_response(response: TokenResponse, requested_at: DateTime<Utc>) -> Self {
        let mut tokens = Self::new(response.access_token, requested_at);
        tokens.expires_at = response.expires_in.and_then(|seconds| {
            let lifetime = TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?;
            requested_at.checked_add_signed(lifetime).map(Timestamp::from)
        });
        tokens.refresh_token = response.refresh_token;
        tokens.scope = response.scope.and_then(|scope| scope.parse().ok());
        tokens.user_id = response.user_id;
        let is_bearer = response.token_type.eq_ignore_ascii_case("bearer");
        tokens.token_type = (!is_bearer).then(|| printable(&response.token_type, 64));
        tokens
    }
}

impl PartnerClient {
    /// Begins an authorization.
    ///
    /// Returns the URL to send the user to, and the state to store until the callback.
    ///
    /// # Errors
    /// If the client has no id, if the authorization endpoint is not a URL, or if the endpoints are to be
    /// discovered and [`endpoints`](Self::endpoints) was not called yet.
    pub fn begin_authorization(
        &self,
        request: AuthorizationRequest,
    ) -> Result<(Url, PendingAuthorization), Error> {
        let refuse = |what: &str| Error::build("authorize", what);
        let client_id = self
            .client_id()
            .ok_or_else(|| refuse("the client has no id").with_advice("set it on the builder"))?;
        let (endpoint, requires_iss, issuer) =
            match (request.authorization_endpoint, request.issuer) {
                (Some(endpoint), issuer) => (endpoint, true, issuer),
                (None, issuer) => {
                    let known = self.known_endpoints()?;
                    let requires_iss = known.requires_iss || issuer.is_some();
                    (known.authorization, requires_iss, issuer.or(known.issuer))
                }
            };
        let pending = PendingAuthorization {
            state: AuthorizationState::new(random::secret(&**self.random())),
            code_verifier: CodeVerifier::new(random::secret(&**self.random())),
            redirect_uri: request.redirect_uri,
            issuer,
            requires_iss,
        };
        let mut query = AuthorizeQuery::default();
        query.response_type = Some(ResponseType::Code);
        query.client_id = Some(client_id.clone());
        query.redirect_uri = Some(pending.redirect_uri.clone());
        query.scope = request.scope.map(|scope| scope.to_string());
        query.state = Some(pending.state.clone());
        query.code_challenge = Some(s256(&pending.code_verifier));
        query.code_challenge_method = Some("S256".into());
        query.application_id = request.application_id;
        query.application_name = request.application_name;
        let mut url = Url::parse(&endpoint)
            .map_err(|e| refuse("the authorization endpoint is not a URL").with_source(e))?;
        // RFC 6749 section 3.1: an existing query of the endpoint is retained.
        let query = match url.query() {
            Some(own) if !own.is_empty() => format!("{own}&{}", ParameterWriter::text_of(&query)),
            _ => ParameterWriter::text_of(&query),
        };
        url.set_query(Some(&query));
        Ok((url, pending))
    }

    /// Exchanges the code of a checked callback for tokens.
    ///
    /// Store the tokens first, then check their [`defect`](TokenSet::defect): a code can be used only once,
    /// and discarded tokens are lost.
    ///
    /// # Errors
    /// See [`send`](Self::send). After an error, begin a new authorization, because the code cannot be used
    /// again.
    pub async fn exchange_code(&self, callback: AcceptedCallback) -> Result<TokenSet, Error> {
        let grant = Grant::AuthorizationCode {
            code: callback.code,
            redirect_uri: Some(callback.redirect_uri),
            code_verifier: Some(callback.code_verifier),
        };
        self.tokens_for(grant).await
    }

    /// Exchanges a refresh token for a new pair, once.
    ///
    /// [`RefreshingTokens`](crate::RefreshingTokens) does this when it is due, one refresh at a time.
    /// Otherwise store the new pair first, then check its [`defect`](TokenSet::defect).
    ///
    /// # Errors
    /// See [`send`](Self::send). [`error_id`](Error::error_id) `invalid_grant` means that the refresh token
    /// has ended.
    pub async fn refresh(&self, refresh_token: &RefreshToken) -> Result<TokenSet, Error> {
        let grant = Grant::RefreshToken { refresh_token: refresh_token.clone(), scope: None };
        self.tokens_for(grant).await
    }

    /// Revokes a user's tokens: the refresh token with its whole family, or the access token alone.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn revoke_tokens(&self, tokens: &TokenSet) -> Result<(), Error> {
        let (token, hint) = match &tokens.refresh_token {
            Some(token) => (token.expose(), TokenTypeHint::RefreshToken),
            None => (tokens.access_token.expose(), TokenTypeHint::AccessToken),
        };
        let mut request = RevokeRequest::new(AnyToken::new(token));
        request.token_type_hint = Some(hint);
        self.revoke(request).await
    }

    async fn tokens_for(&self, grant: Grant) -> Result<TokenSet, Error> {
        let requested_at = self.clock().now();
        let response = self.token(TokenRequest::new(grant)).await?;
        Ok(TokenSet::from_response(response, requested_at))
    }
}

/// Returns the S256 challenge of RFC 7636 section 4.2.
fn s256(verifier: &CodeVerifier) -> String {
    Digest::of(verifier.expose()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636 appendix B
        let verifier = CodeVerifier::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(s256(&verifier), challenge);
    }
}
