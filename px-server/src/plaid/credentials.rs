//! Who a client says it is: in two headers, or in the body, and not in both; and how often it may.

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

/// What of a body says who calls. A field that is there twice makes it unreadable.
#[derive(Default, Deserialize, Serialize)]
struct InBody {
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    secret: Option<ClientSecret>,
}

/// Who may call, and how often.
pub(super) struct Gate {
    pub(super) clients: Arc<dyn Clients>,
    /// Of the calls of a client, once its secret was found right.
    pub(super) calls: Option<RateLimit>,
    /// Of wrong secrets, by the client that was named. Another bucket than that of the calls:
    /// a stranger spends nothing of the client's own.
    pub(super) wrong_secrets: RateLimit,
    /// Of requests that fail to authenticate, by the address of the caller.
    pub(super) failures: FailureLimit,
}

impl Gate {
    /// The client that a request shows in its headers alone, its secret checked.
    ///
    /// Returns `None` if the headers do not name one: then the body may.
    ///
    /// # Errors
    /// 401 for a wrong client or secret, 429 if too many were wrong before.
    pub(super) async fn by_headers(
        &self,
        headers: &HeaderMap,
        address: Option<CallerAddr>,
    ) -> Result<Option<ClientId>, Error> {
        self.failures.check(address).map_err(Error::rate_limit)?;
        match in_headers(headers)? {
            (Some(id), Some(secret)) => self.check(id, &secret, address).await.map(Some),
            _ => Ok(None),
        }
    }

    /// The client that a request shows: its secret checked, its call counted. `known` is the one
    /// that [`by_headers`](Self::by_headers) found.
    pub(super) async fn let_in(
        &self,
        known: Option<ClientId>,
        headers: &HeaderMap,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<ClientId, Error> {
        let (id, secret) = shown(headers, body)?;
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
            return Err(wrong());
        };
        match self.clients.check_secret(&id, secret).await {
            Ok(true) => Ok(id),
            Ok(false) => {
                self.failures.failed(address);
                self.wrong_secrets.check(Some(&id), None).map_err(Error::rate_limit)?;
                Err(wrong())
            }
            // Never 401: the client may be a good one.
            Err(error) => Err(Error::unavailable(error)),
        }
    }
}

/// The id and the secret of the two headers.
fn in_headers(headers: &HeaderMap) -> Result<(Option<String>, Option<ClientSecret>), Error> {
    let header = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                let text = value.to_str().map_err(|_| wrong())?;
                Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
            }
            (Some(_), Some(_)) => Err(twice(format!("The header `{name}` is there twice."))),
        }
    };
    Ok((header(ID)?, header(SECRET)?.map(ClientSecret::new)))
}

fn shown(headers: &HeaderMap, body: &[u8]) -> Result<(String, ClientSecret), Error> {
    let (id, secret) = in_headers(headers)?;
    let has_headers = id.is_some() || secret.is_some();
    let in_body = match Json::<InBody>::decode(body) {
        Ok(Json(read)) => read,
        // What is wrong with it is told when it is read as the endpoint's.
        Err(_) if has_headers => InBody::default(),
        Err(rejection) => return Err(rejection.into()),
    };
    let body_id = in_body.client_id.filter(|id| !id.is_empty());
    let body_secret = in_body.secret.filter(|secret| !secret.expose().is_empty());
    if has_headers && (body_id.is_some() || body_secret.is_some()) {
        return Err(twice(
            "The client shows who it is in headers and in the body; one of them is enough.".into(),
        ));
    }
    id.or(body_id).zip(secret.or(body_secret)).ok_or_else(wrong)
}

/// One answer for what is missing, unknown and wrong.
fn wrong() -> Error {
    let text = "The client id or the secret is wrong or missing.";
    Error::new(PlaidErrorType::InvalidInput, "INVALID_API_KEYS", text)
        .with_status(StatusCode::UNAUTHORIZED)
}

fn twice(message: String) -> Error {
    Error::new(PlaidErrorType::InvalidRequest, "INVALID_HEADERS", message)
}
