//! Who a client says it is: in two headers, or in the body, and not in both; and how often it may.

use super::Error;
use crate::{clients::Clients, guard::RateLimit};
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
}

impl Gate {
    /// The client that a request shows: its secret checked, its call counted.
    pub(super) async fn let_in(&self, headers: &HeaderMap, body: &[u8]) -> Result<ClientId, Error> {
        let (id, secret) = shown(headers, body)?;
        let id = ClientId::new(id).map_err(|_| wrong())?;
        match self.clients.check_secret(&id, &secret).await {
            Ok(true) => {}
            Ok(false) => {
                self.wrong_secrets.check(Some(&id), None).map_err(Error::rate_limit)?;
                return Err(wrong());
            }
            // Never 401: the client may be a good one.
            Err(error) => return Err(Error::unavailable(error)),
        }
        if let Some(calls) = &self.calls {
            calls.check(Some(&id), None).map_err(Error::rate_limit)?;
        }
        Ok(id)
    }
}

fn shown(headers: &HeaderMap, body: &[u8]) -> Result<(String, ClientSecret), Error> {
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
    let (id, secret) = (header(ID)?, header(SECRET)?.map(ClientSecret::new));
    let in_headers = id.is_some() || secret.is_some();
    let in_body = match Json::<InBody>::decode(body) {
        Ok(Json(read)) => read,
        // What is wrong with it is told when it is read as the endpoint's.
        Err(_) if in_headers => InBody::default(),
        Err(rejection) => return Err(rejection.into()),
    };
    let body_id = in_body.client_id.filter(|id| !id.is_empty());
    let body_secret = in_body.secret.filter(|secret| !secret.expose().is_empty());
    if in_headers && (body_id.is_some() || body_secret.is_some()) {
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
