//! The token and revocation endpoints: HTTP in, a step of a grant, HTTP out.

use super::{
    Digest, GrantRecord, OAuth, Swap, Versioned,
    client_auth::authenticate_form,
    error::{OAuthError, OAuthErrorKind},
    grant::{Fresh, Given, Refusal, Step},
    store::StoreError,
};
use crate::clients::Client;
use chrono::TimeDelta;
use http::{HeaderMap, header};
use metrics::counter;
use px_types::{
    AccessToken, RefreshToken, ScopeSet,
    endpoint::parameters::{Pairs, Parameters as _},
    partner::{Grant, RevokeRequest, TokenRequest, TokenResponse},
};

/// How often a step is taken anew because someone else changed the record meanwhile. Few
/// suffice: a grant has only a handful of steps that change it at one time.
const TRIES: usize = 32;

/// The parameters of both endpoints; each may be given once.
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
    /// The token endpoint: exchanges a code or a refresh token.
    ///
    /// The caller has checked the method; the media type is checked here.
    ///
    /// # Errors
    /// What the endpoint answers; see [`OAuthError`].
    pub async fn token(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<TokenResponse, OAuthError> {
        self.token_of(None, headers, body).await
    }

    /// The token endpoint for a client that was authenticated by its header, if it was.
    pub(crate) async fn token_of(
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
                self.give(&code, family, |record, fresh| {
                    record.redeem(&code, &client.id, redirect_uri, verifier, fresh, self.now())
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

    /// The revocation endpoint: ends a token (RFC 7009).
    ///
    /// Of a refresh token the whole grant ends, of an access token that one alone. Unknown
    /// tokens and those of other clients are answered alike, and nothing ends.
    ///
    /// # Errors
    /// What the endpoint answers; see [`OAuthError`].
    pub async fn revoke(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), OAuthError> {
        self.revoke_of(None, headers, body).await
    }

    /// The revocation endpoint for a client that was authenticated by its header, if it was.
    pub(crate) async fn revoke_of(
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
            return Err(Refusal::InvalidGrant.into());
        };
        let scope = scope.map(str::parse::<ScopeSet>).transpose();
        let Ok(scope) = scope else {
            return Err(Refusal::InvalidScope.into());
        };
        let scope = scope.filter(|scope| !scope.is_empty());
        let (found_by, secret) = (Digest::of(family), Digest::of(secret));
        let step = |record: &GrantRecord, fresh: &Fresh| {
            record.refresh(&found_by, &secret, &client.id, scope.as_ref(), fresh, self.now())
        };
        self.give(&found_by, family.to_owned(), step).await
    }

    /// Takes a step that gives tokens, and writes the answer.
    async fn give(
        &self,
        found_by: &Digest,
        family: String,
        step: impl Fn(&GrantRecord, &Fresh) -> Step<Given>,
    ) -> Result<TokenResponse, OAuthError> {
        let access = self.secret();
        let secret = self.secret();
        let fresh = Fresh::new(
            Digest::of(&access),
            Digest::of(&family),
            Digest::of(&secret),
            self.0.access_token_lifetime,
        );
        let stepped = self.step(found_by, |record| step(record, &fresh)).await;
        let (found, outcome) =
            stepped.map_err(OAuthError::unavailable)?.ok_or(Refusal::InvalidGrant)?;
        let given = outcome?;
        let mut response = TokenResponse::new(AccessToken::new(access), "Bearer");
        // Rounded up, or the time that this answer took would cost a whole second.
        let rest = given.expires_at - self.now() + TimeDelta::milliseconds(999);
        response.expires_in = u64::try_from(rest.num_seconds()).ok();
        response.refresh_token =
            given.refresh.then(|| RefreshToken::new(format!("{family}.{secret}")));
        response.scope = Some(given.scopes.to_string());
        response.user_id = Some(found.record.principal.clone());
        Ok(response)
    }

    /// Takes a step of the grant that has a digest: reads, steps, swaps, and anew if
    /// someone else was faster. `None` when there is no such grant.
    pub(super) async fn step<T>(
        &self,
        found_by: &Digest,
        step: impl Fn(&GrantRecord) -> Step<T>,
    ) -> Result<Option<(Versioned, Result<T, Refusal>)>, StoreError> {
        for _ in 0..TRIES {
            let Some(found) = self.0.store.find(found_by).await? else {
                return Ok(None);
            };
            if let Some(outcome) = self.take(&found, step(&found.record)).await? {
                return Ok(Some((found, outcome)));
            }
        }
        Err(format!("a grant changed {TRIES} times while it was to be changed").into())
    }

    /// Stores what a step made of a record; `None` when the step must be taken anew.
    pub(super) async fn take<T>(
        &self,
        found: &Versioned,
        step: Step<T>,
    ) -> Result<Option<Result<T, Refusal>>, StoreError> {
        let Step { record, outcome } = step;
        if let Some(record) = record {
            let is_revoked = record.revoked_at.is_some();
            if self.0.store.swap(found.version, record).await? == Swap::Lost {
                return Ok(None);
            }
            self.purge_caches(&found.record.id);
            // What is missed here is refused all the same: its consent does not hold.
            if is_revoked && let Err(error) = self.end_under(&found.record).await {
                tracing::warn!(error, "what was given under a revoked consent is not ended yet");
            }
        }
        let (grant_id, client_id) = (&*found.record.id, found.record.client_id.as_str());
        match outcome.as_ref().err() {
            Some(Refusal::Reused) => tracing::warn!(
                grant_id,
                client_id,
                "a spent code or refresh token was used again: the grant is revoked"
            ),
            Some(Refusal::Superseded) => {
                counter!("px_oauth_superseded_total").increment(1);
                tracing::warn!(
                    grant_id,
                    client_id,
                    "a pair of tokens was presented whose sibling was used before"
                );
            }
            _ => {}
        }
        Ok(Some(outcome))
    }
}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        let (kind, text) = match refusal {
            Refusal::InvalidScope => {
                (OAuthErrorKind::InvalidScope, "More scopes are asked for than were granted.")
            }
            // Whoever tries stolen tokens is not told which of them are spent.
            Refusal::InvalidGrant | Refusal::Reused | Refusal::Superseded => (
                OAuthErrorKind::InvalidGrant,
                "The code or the refresh token is not valid, or no longer.",
            ),
        };
        Self::new(kind, text)
    }
}

fn read_form(headers: &HeaderMap, body: &[u8]) -> Result<Pairs, OAuthError> {
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
    let pairs = text.and_then(|text| Pairs::parse(text).ok());
    let pairs =
        pairs.ok_or_else(|| OAuthError::invalid_request("The body is not a form in UTF-8."))?;
    for name in PARAMETERS {
        if pairs.text(name).is_err() {
            return Err(OAuthError::invalid_request("A parameter is given twice."));
        }
    }
    Ok(pairs)
}
