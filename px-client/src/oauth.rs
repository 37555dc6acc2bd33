//! OAuth as Plaid does it: send the user to the partner, check what comes back, get tokens.
//!
//! Every flow has PKCE (S256) and a `state`. [`RefreshingTokens`](crate::RefreshingTokens) keeps tokens fresh.
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
    endpoint::parameters::PairsOut,
    partner::{
        AuthorizeQuery, Grant, ResponseType, RevokeRequest, TokenRequest, TokenResponse,
        TokenTypeHint,
    },
};
use serde::{Deserialize, Serialize};
use std::fmt;
use url::Url;

/// What an authorization is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorizationRequest {
    /// Where the partner sends the user back to; registered there, byte by byte.
    pub redirect_uri: String,
    /// What is asked for; the partner's defaults when `None`.
    pub scope: Option<ScopeSet>,
    /// The application for which the user is asked.
    pub application_id: Option<ApplicationId>,
    /// Its name, which the partner shows.
    pub application_name: Option<String>,
    /// The issuer that must respond. `None` takes the one that was discovered; if there is none, it
    /// is not checked.
    pub issuer: Option<String>,
    /// Where the user is sent; the [endpoint](PartnerClient::endpoints) of the client if `None`.
    pub authorization_endpoint: Option<String>,
}

impl AuthorizationRequest {
    /// Asks for the partner's default scopes.
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

/// An authorization that the user has not come back from.
///
/// Keep it with the user's session; it can be serialized, and then holds secrets. Checking
/// the callback consumes it, so that it serves once: delete the stored copy first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingAuthorization {
    state: AuthorizationState,
    code_verifier: CodeVerifier,
    redirect_uri: String,
    #[serde(default)]
    issuer: Option<String>,
    /// Whether a callback without an issuer is refused.
    #[serde(default = "yes")]
    requires_iss: bool,
}

fn yes() -> bool {
    true
}

/// The tokens of one user.
///
/// `Debug` masks them; serialized they are plain, for a store that keeps secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenSet {
    /// Presented with every call.
    pub access_token: AccessToken,
    /// Exchanged for the next pair.
    #[serde(default)]
    pub refresh_token: Option<RefreshToken>,
    /// When they were asked for.
    pub issued_at: Timestamp,
    /// When the access token expires; `None` where the partner does not say.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// What was granted, where the partner says it.
    #[serde(default)]
    pub scope: Option<ScopeSet>,
    /// The principal, where the partner says it.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The type of the access token if it is not `Bearer`. Such tokens can be stored and are never
    /// used; see [`defect`](Self::defect).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
}

/// Why tokens that a partner gave must not be used.
///
/// A pair that is thrown away is lost, with the authorization that it replaces. So such tokens are
/// stored apart, see [`TokenStore::keep_apart`](crate::TokenStore::keep_apart), and are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenDefect {
    /// They name another user than the one that they were requested for.
    AnotherUser,
    /// They are no bearer tokens (RFC 6750).
    NotBearer,
}

impl fmt::Display for TokenDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AnotherUser => "the partner gave tokens of another user",
            Self::NotBearer => "the partner gave tokens that are no bearer tokens",
        })
    }
}

impl TokenSet {
    /// An access token alone, got at a moment.
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

    /// Returns why these tokens must not be used for a user, if they must not. Tokens that name no
    /// user may be anyone's.
    #[must_use]
    pub fn defect(&self, user: Option<&UserId>) -> Option<TokenDefect> {
        let another = |named: &UserId| user.is_some_and(|user| user != named);
        match &self.user_id {
            Some(named) if another(named) => Some(TokenDefect::AnotherUser),
            _ => self.token_type.as_ref().map(|_| TokenDefect::NotBearer),
        }
    }

    fn from_response(response: TokenResponse, asked_at: DateTime<Utc>) -> Self {
        let mut tokens = Self::new(response.access_token, asked_at);
        tokens.expires_at = response.expires_in.and_then(|seconds| {
            let life = TimeDelta::try_seconds(i64::try_from(seconds).ok()?)?;
            asked_at.checked_add_signed(life).map(Timestamp::from)
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
    /// Begins an authorization: the URL to send the user to, and what to keep until then.
    ///
    /// # Errors
    /// When the client has no id, the authorization endpoint is no URL, or the endpoints are to be
    /// discovered and [`endpoints`](Self::endpoints) was not called yet.
    pub fn begin_authorization(
        &self,
        request: AuthorizationRequest,
    ) -> Result<(Url, PendingAuthorization), Error> {
        let refuse = |what: &str| Error::build("authorize", what);
        let client_id = self
            .client_id()
            .ok_or_else(|| refuse("the client has no id").advice("give it to the builder"))?;
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
            .map_err(|e| refuse("the authorization endpoint is no URL").caused_by(e))?;
        // RFC 6749 section 3.1: a query that the endpoint has is kept.
        let query = match url.query() {
            Some(own) if !own.is_empty() => format!("{own}&{}", PairsOut::text_of(&query)),
            _ => PairsOut::text_of(&query),
        };
        url.set_query(Some(&query));
        Ok((url, pending))
    }

    /// Exchanges the code of a checked callback for tokens.
    ///
    /// Store them before anything else, then look at their [`defect`](TokenSet::defect): the code
    /// serves once, and tokens that are thrown away are lost.
    ///
    /// # Errors
    /// As [`send`](Self::send). A code serves once: after an error begin a new authorization.
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
    /// [`RefreshingTokens`](crate::RefreshingTokens) does it when it is time, one at a time. Else
    /// store the new pair before anything else, then look at its [`defect`](TokenSet::defect).
    ///
    /// # Errors
    /// As [`send`](Self::send); [`error_id`](Error::error_id) `invalid_grant` ends the token.
    pub async fn refresh(&self, refresh_token: &RefreshToken) -> Result<TokenSet, Error> {
        let grant = Grant::RefreshToken { refresh_token: refresh_token.clone(), scope: None };
        self.tokens_for(grant).await
    }

    /// Ends a user's tokens: the refresh token with all its family, or the access token alone.
    ///
    /// # Errors
    /// As [`send`](Self::send).
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
        let asked_at = self.clock().now();
        let response = self.token(TokenRequest::new(grant)).await?;
        Ok(TokenSet::from_response(response, asked_at))
    }
}

/// The S256 challenge of RFC 7636 section 4.2.
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
