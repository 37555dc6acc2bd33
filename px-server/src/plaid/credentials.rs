//! Authentication and rate limits of clients: id and secret in two headers or in the body, but not
//! in both.

use super::Error;
use crate::{
    clients::Clients,
    guard::{CallerAddr, FailureLimit, RateLimit},
};
use http::{HeaderMap, StatusCode};
use px_types::{
    ClientId, ClientSecret,
    endpoint::codec::{Json, RequestBody as _},
    model::plaid_error::PlaidErrorType,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const ID: &str = "plaid-client-id";
const SECRET: &str = "plaid-secret";

/// The credentials in a body. A member that occurs twice makes the body invalid.
#[derive(Default, Deserialize, Serialize)]
struct BodyCredentials {
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    secret: Option<ClientSecret>,
}

/// Authenticates clients and limits their rate.
pub(super) struct ClientAuthenticator {
    pub(super) clients: Arc<dyn Clients>,
    /// The rate limit of an authenticated client's calls.
    pub(super) calls: Option<RateLimit>,
    /// The rate limit of wrong secrets, by the client that the request names. It is separate
    /// from `calls`, so that an unauthenticated caller cannot use up the client's own limit.
    pub(super) wrong_secrets: RateLimit,
    /// The limit of requests that fail to authenticate, by the caller's address.
    pub(super) failures: FailureLimit,
}

impl ClientAuthenticator {
    /// Authenticates the client by the headers of a request alone.
    ///
    /// Returns `None` if the headers contain no credentials; the body may.
    ///
    /// # Errors
    /// 401 for an unknown client or a wrong secret, 429 if too many requests failed before.
    pub(super) async fn authenticate_headers(
        &self,
        headers: &HeaderMap,
        address: Option<CallerAddr>,
    ) -> Result<Option<ClientId>, Error> {
        self.failures.check(address).map_err(Error::rate_limit)?;
        match header_credentials(headers)? {
            (Some(id), Some(secret)) => self.check(id, &secret, address).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Authenticates the client of a request and counts the call. `known` is the client that
    /// [`authenticate_headers`](Self::authenticate_headers) found.
    pub(super) async fn authenticate(
        &self,
        known: Option<ClientId>,
        headers: &HeaderMap,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<ClientId, Error> {
        let (id, secret) = request_credentials(headers, body)?;
        let id = match known {
            Some(known) => known,
            None => self.check(id, &secret, address).await?,
        };
        if let Some(calls) = &self.calls {
            calls.check(Some(&id), None).map_err(Error::rate_limit)?;
        }
        Ok(id)
    }

    async fn check(
        &self,
        id: String,
        secret: &ClientSecret,
        address: Option<CallerAddr>,
    ) -> Result<ClientId, Error> {
        let Ok(id) = ClientId::new(id) else {
            self.failures.failed(address);
            return Err(invalid_api_keys());
        };
        match self.clients.check_secret(&id, secret).await {
            Ok(true) => Ok(id),
            Ok(false) => {
                self.failures.failed(address);
                self.wrong_secrets.check(Some(&id), None).map_err(Error::rate_limit)?;
                Err(invalid_api_keys())
            }
            // Not 401, because the credentials may be valid.
            Err(error) => Err(Error::unavailable(error)),
        }
    }
}

/// Returns the id and the secret of the two headers.
fn header_credentials(
    headers: &HeaderMap,
) -> Result<(Option<String>, Option<ClientSecret>), Error> {
    let header = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                let text = value.to_str().map_err(|_| invalid_api_keys())?;
                Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
            }
            (Some(_), Some(_)) => {
                Err(invalid_headers(format!("The header `{name}` occurs twice.")))
            }
        }
    };
    Ok((header(ID)?, header(SECRET)?.map(ClientSecret::new)))
}

fn request_credentials(headers: &HeaderMap, body: &[u8]) -> Result<(String, ClientSecret), Error> {
    let (id, secret) = header_credentials(headers)?;
    let has_headers = id.is_some() || secret.is_some();
    let body_credentials = match Json::<BodyCredentials>::decode(body) {
        Ok(Json(read)) => read,
        // The error of an invalid body is reported later, when it is read as the
        // endpoint's.
        Err(_) if has_headers => BodyCredentials::default(),
        Err(rejection) => return Err(rejection.into()),
    };
    let body_id = body_credentials.client_id.filter(|id| !id.is_empty());
    let body_secret = body_credentials.secret.filter(|secret| !secret.expose().is_empty());
    if has_headers && (body_id.is_some() || body_secret.is_some()) {
        return Err(invalid_headers(
            "The client authenticates in the headers and in the body; use one of them.".into(),
        ));
    }
    id.or(body_id).zip(secret.or(body_secret)).ok_or_else(invalid_api_keys)
}

/// Returns the same error for missing, unknown and wrong credentials.
fn invalid_api_keys() -> Error {
    let text = "The client id or the secret is wrong or missing.";
    Error::new(PlaidErrorType::InvalidInput, "INVALID_API_KEYS", text)
        .with_status(StatusCode::UNAUTHORIZED)
}

fn invalid_headers(message: String) -> Error {
    Error::new(PlaidErrorType::InvalidRequest, "INVALID_HEADERS", message)
}
