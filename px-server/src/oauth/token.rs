//! The token and revocation endpoints: from HTTP request to grant transition to HTTP response.

use super::{
    Digest, GrantRecord, OAuth, Swap, VersionedGrant,
    client_auth::authenticate_form,
    error::{OAuthError, OAuthErrorKind},
    grant::{GrantRefusal, IssuedTokens, NewTokenDigests, Step},
    store::StoreError,
};
use crate::clients::Client;
use chrono::TimeDelta;
use http::{HeaderMap, header};
use metrics::counter;
use px_types::{
    AccessToken, RefreshToken, ScopeSet,
    endpoint::parameters::{Parameters as _, ParsedParameters},
    partner::{Grant, RevokeRequest, TokenRequest, TokenResponse},
};

/// Maximum number of attempts if the record changes concurrently. Few suffice: a grant has only a
/// handful of concurrent transitions.
const MAX_ATTEMPTS: usize = 32;

/// The parameters of both endpoints. Each may occur once.
const PARAMETERS: [&str; 11] = [
    "grant_type",
    "code",
    "redirect_uri",
    "code_verifier",
    "refresh_token",
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "token",
    "token_type_hint",
];

impl OAuth {
    /// Handles the token endpoint: exchanges a code or a refresh token.
    ///
    /// The caller checks the method; this function checks the media type.
    ///
    /// # Errors
    /// - `invalid_request` if the body is not a form, or a parameter is missing, malformed or
    ///   occurs twice.
    /// - `invalid_client` if the client is not authenticated.
    /// - `invalid_grant` if the code or the refresh token is invalid, expired, spent or
    ///   revoked.
    /// - `invalid_scope` if the requested scopes are malformed or exceed those of the grant.
    /// - `unsupported_grant_type` for any other grant type.
    /// - `temporarily_unavailable` if the store or the registry of clients fails.
    pub async fn token(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<TokenResponse, OAuthError> {
        self.token_for(None, headers, body).await
    }

    /// Handles the token endpoint. `known` is a client that was authenticated by its header.
    pub(crate) async fn token_for(
        &self,
        known: Option<Client>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<TokenResponse, OAuthError> {
        let form = read_form(headers, body)?;
        let client = authenticate_form(&*self.0.clients, known, headers, &form).await?;
        let request = TokenRequest::read(&form).map_err(|error| {
            OAuthError::invalid_request(match error.parameter() {
                Some("grant_type") => "`grant_type` is missing.",
                Some("code") => "`code` is missing.",
                Some("refresh_token") => "`refresh_token` is missing.",
                _ => "A parameter is malformed.",
            })
        })?;
        match request.grant {
            Grant::AuthorizationCode { code, redirect_uri, code_verifier } => {
                let code = Digest::of(code.expose());
                let family = self.secret();
                let verifier = code_verifier.as_ref().map(|verifier| verifier.expose());
                let redirect_uri = redirect_uri.as_deref();
                self.issue_tokens(&code, family, |record, digests| {
                    record.redeem(&code, &client.id, redirect_uri, verifier, digests, self.now())
                })
                .await
            }
            Grant::RefreshToken { refresh_token, scope } => {
                self.refresh(&client, &refresh_token, scope.as_deref()).await
            }
            _ => Err(OAuthError::new(
                OAuthErrorKind::UnsupportedGrantType,
                "`grant_type` is neither authorization_code nor refresh_token.",
            )),
        }
    }

    /// Handles the revocation endpoint (RFC 7009).
    ///
    /// A refresh token revokes its whole grant; an access token revokes itself only. The
    /// response is the same for unknown tokens and tokens of other clients, which revoke
    /// nothing.
    ///
    /// # Errors
    /// - `invalid_request` if the body is not a form, or a parameter is missing or occurs
    ///   twice.
    /// - `invalid_client` if the client is not authenticated.
    /// - `temporarily_unavailable` if the store or the registry of clients fails.
    pub async fn revoke(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), OAuthError> {
        self.revoke_for(None, headers, body).await
    }

    /// Handles the revocation endpoint. `known` is a client that was authenticated by its
    /// header.
    pub(crate) async fn revoke_for(
        &self,
        known: Option<Client>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), OAuthError> {
        let form = read_form(headers, body)?;
        let client = authenticate_form(&*self.0.clients, known, headers, &form).await?;
        let request = RevokeRequest::read(&form)
            .map_err(|_| OAuthError::invalid_request("`token` is missing."))?;
        let token = request.token.expose();
        let stepped = match token.split_once('.') {
            Some((family, _)) => {
                let family = Digest::of(family);
                self.step(&family, |record| record.revoke_refresh(&family, &client.id, self.now()))
                    .await
            }
            None => {
                let access = Digest::of(token);
                self.step(&access, |record| record.revoke_access(&access, &client.id)).await
            }
        };
        match stepped.map_err(OAuthError::unavailable)? {
            Some((_, Err(refusal))) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    async fn refresh(
        &self,
        client: &Client,
        token: &RefreshToken,
        scope: Option<&str>,
    ) -> Result<TokenResponse, OAuthError> {
        let Some((family, secret)) = token.expose().split_once('.') else {
            return Err(GrantRefusal::InvalidGrant.into());
        };
        let scope = scope.map(str::parse::<ScopeSet>).transpose();
        let Ok(scope) = scope else {
            return Err(GrantRefusal::InvalidScope.into());
        };
        let scope = scope.filter(|scope| !scope.is_empty());
        let (lookup_digest, secret) = (Digest::of(family), Digest::of(secret));
        let step = |record: &GrantRecord, digests: &NewTokenDigests| {
            record.refresh(&lookup_digest, &secret, &client.id, scope.as_ref(), digests, self.now())
        };
        self.issue_tokens(&lookup_digest, family.to_owned(), step).await
    }

    /// Performs a transition that issues tokens, and returns the response.
    async fn issue_tokens(
        &self,
        lookup_digest: &Digest,
        family: String,
        step: impl Fn(&GrantRecord, &NewTokenDigests) -> Step<IssuedTokens>,
    ) -> Result<TokenResponse, OAuthError> {
        let access = self.secret();
        let secret = self.secret();
        let digests = NewTokenDigests::new(
            Digest::of(&access),
            Digest::of(&family),
            Digest::of(&secret),
            self.0.access_token_lifetime,
        );
        let stepped = self.step(lookup_digest, |record| step(record, &digests)).await;
        let (found, outcome) =
            stepped.map_err(OAuthError::unavailable)?.ok_or(GrantRefusal::InvalidGrant)?;
        let issued = outcome?;
        let mut response = TokenResponse::new(AccessToken::new(access), "Bearer");
        // Rounded up, because the duration of this request would otherwise cost a whole
        // second.
        let remaining = issued.expires_at - self.now() + TimeDelta::milliseconds(999);
        response.expires_in = u64::try_from(remaining.num_seconds()).ok();
        response.refresh_token =
            issued.refresh.then(|| RefreshToken::new(format!("{family}.{secret}")));
        response.scope = Some(issued.scopes.to_string());
        response.user_id = Some(found.record.principal.clone());
        Ok(response)
    }

    /// Performs a transition of the grant with a digest: reads the record, applies the
    /// transition and swaps, and retries after a concurrent change. Returns `None` if the grant
    /// does not exist.
    pub(super) async fn step<T>(
        &self,
        lookup_digest: &Digest,
        step: impl Fn(&GrantRecord) -> Step<T>,
    ) -> Result<Option<(VersionedGrant, Result<T, GrantRefusal>)>, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(found) = self.0.store.find(lookup_digest).await? else {
                return Ok(None);
            };
            if let Some(outcome) = self.commit(&found, step(&found.record)).await? {
                return Ok(Some((found, outcome)));
            }
        }
        Err(format!("a grant was changed concurrently {MAX_ATTEMPTS} times").into())
    }

    /// Stores the result of a transition. Returns `None` if the record was changed
    /// concurrently.
    pub(super) async fn commit<T>(
        &self,
        found: &VersionedGrant,
        step: Step<T>,
    ) -> Result<Option<Result<T, GrantRefusal>>, StoreError> {
        let Step { record, outcome } = step;
        if let Some(record) = record {
            let is_revoked = record.revoked_at.is_some();
            if self.0.store.swap(found.version, record).await? == Swap::Lost {
                return Ok(None);
            }
            self.purge_caches(&found.record.id);
            // A grant that is missed here is still refused, because its consent has
            // ended.
            if is_revoked && let Err(error) = self.revoke_children(&found.record).await {
                tracing::warn!(
                    error,
                    "tokens under a revoked consent are not revoked yet, but they are refused"
                );
            }
        }
        let (grant_id, client_id) = (&*found.record.id, found.record.client_id.as_str());
        match outcome.as_ref().err() {
            Some(GrantRefusal::Reused) => tracing::warn!(
                grant_id,
                client_id,
                "a spent code or refresh token was used again: the grant is revoked"
            ),
            Some(GrantRefusal::Superseded) => {
                counter!("px_oauth_superseded_total").increment(1);
                tracing::warn!(
                    grant_id,
                    client_id,
                    "a pair of tokens was presented after its sibling was used"
                );
            }
            _ => {}
        }
        Ok(Some(outcome))
    }
}

impl From<GrantRefusal> for OAuthError {
    fn from(refusal: GrantRefusal) -> Self {
        let (kind, text) = match refusal {
            GrantRefusal::InvalidScope => {
                (OAuthErrorKind::InvalidScope, "The requested scopes exceed those of the grant.")
            }
            // The response must not reveal to a thief which tokens are spent.
            GrantRefusal::InvalidGrant | GrantRefusal::Reused | GrantRefusal::Superseded => (
                OAuthErrorKind::InvalidGrant,
                "The code or the refresh token is invalid, expired or revoked.",
            ),
        };
        Self::new(kind, text)
    }
}

fn read_form(headers: &HeaderMap, body: &[u8]) -> Result<ParsedParameters, OAuthError> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let media_type = match (types.next(), types.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let media_type = media_type.and_then(|value| value.split(';').next());
    let form = "application/x-www-form-urlencoded";
    if !media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case(form)) {
        let text = "The body is not of the type application/x-www-form-urlencoded.";
        return Err(OAuthError::invalid_request(text));
    }
    let text = std::str::from_utf8(body).ok();
    let pairs = text.and_then(|text| ParsedParameters::parse(text).ok());
    let pairs =
        pairs.ok_or_else(|| OAuthError::invalid_request("The body is not a form in UTF-8."))?;
    for name in PARAMETERS {
        if pairs.text(name).is_err() {
            return Err(OAuthError::invalid_request("A parameter occurs twice."));
        }
    }
    Ok(pairs)
}
