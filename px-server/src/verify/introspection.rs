//! Tokens of the partner's identity provider, checked by asking it (RFC 7662).

use super::{TokenVerifier, VerifyError, claims, provider};
use crate::TokenGrant;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use px_core::{Clock, HttpTransport, SystemClock};
use px_types::{AccessToken, ClientId, ClientSecret};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// Asks the identity provider about each token.
///
/// Wrap it in a [`CachedVerifier`](super::CachedVerifier) with a time to live of a few
/// seconds. `sub` is the principal. Whatever is not a clear answer (a fault, another status
/// than 200, junk) is [`VerifyError::Unavailable`]: a provider that stumbles ends no token.
pub struct IntrospectionVerifier {
    transport: Arc<dyn HttpTransport>,
    endpoint: Uri,
    authorization: HeaderValue,
    clock: Arc<dyn Clock>,
    audience: Option<String>,
    accounts_claim: Option<String>,
}

impl fmt::Debug for IntrospectionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionVerifier")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl IntrospectionVerifier {
    /// Asks an endpoint, as a client of the provider.
    ///
    /// # Errors
    /// When the credentials cannot be written in a header, which has no known cause.
    pub fn new(
        transport: Arc<dyn HttpTransport>,
        endpoint: Uri,
        id: &ClientId,
        secret: &ClientSecret,
    ) -> Result<Self, http::Error> {
        let encode = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let pair = format!("{}:{}", encode(id.as_str()), encode(secret.expose()));
        let mut authorization = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))?;
        authorization.set_sensitive(true);
        Ok(Self {
            transport,
            endpoint,
            authorization,
            clock: Arc::new(SystemClock::new()),
            audience: None,
            accounts_claim: None,
        })
    }

    /// Refuses tokens whose `aud` does not name the partner's API.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Takes the permitted accounts from a member of the answer, a list of account ids; an
    /// answer without it permits none. Unless this is set, a token sees all accounts.
    #[must_use]
    pub fn accounts_claim(mut self, name: impl Into<String>) -> Self {
        self.accounts_claim = Some(name.into());
        self
    }

    /// Takes the time from elsewhere than the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn request(&self, token: &AccessToken) -> Result<Request<Bytes>, http::Error> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token.expose());
        form.append_pair("token_type_hint", "access_token");
        Request::post(self.endpoint.clone())
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form.finish().into())
    }
}

#[async_trait]
impl TokenVerifier for IntrospectionVerifier {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let request = self.request(token).map_err(VerifyError::unavailable)?;
        let body = provider::send(&*self.transport, request).await;
        let body = body.map_err(VerifyError::Unavailable)?;
        let junk = |text: &'static str| VerifyError::unavailable(text);
        // The source of a JSON error may quote the answer, which describes a person.
        let answer: claims::Claims = serde_json::from_slice(&body)
            .map_err(|_| junk("the introspection answer is not a JSON object"))?;
        match answer.get("active").and_then(Value::as_bool) {
            Some(true) => {}
            Some(false) => return Err(VerifyError::Invalid),
            None => return Err(junk("the introspection answer does not say `active`")),
        }
        let moment = |name| {
            claims::moment(&answer, name)
                .map_err(|()| junk("the introspection answer has a time that is none"))
        };
        let (now, expires, begins) = (self.clock.now(), moment("exp")?, moment("nbf")?);
        if expires.is_some_and(|at| now >= at) || begins.is_some_and(|at| now < at) {
            return Err(VerifyError::Invalid);
        }
        let bearer = claims::text(&answer, "token_type")
            .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let meant = match &self.audience {
            Some(audience) => claims::names(&answer, "aud", audience),
            None => true,
        };
        // A token that is bound to a key or a certificate is no bearer token.
        if !bearer || !meant || answer.contains_key("cnf") {
            return Err(VerifyError::Invalid);
        }
        let grant = claims::grant(&answer, self.accounts_claim.as_deref());
        let mut grant =
            grant.ok_or_else(|| junk("the introspection answer names no principal in `sub`"))?;
        grant.expires_at = expires;
        Ok(Arc::new(grant))
    }
}
