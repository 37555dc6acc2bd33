//! Who a client says it is: in two headers, or in the body, and not in both.

use super::Error;
use crate::clients::Clients;
use http::{HeaderMap, StatusCode};
use px_types::{ClientId, ClientSecret, model::plaid_error::PlaidErrorType};
use serde::Deserialize;

const ID: &str = "plaid-client-id";
const SECRET: &str = "plaid-secret";

/// What of a body says who calls. Fields that are named twice make it unreadable.
#[derive(Deserialize)]
struct InBody {
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    secret: Option<ClientSecret>,
}

/// The client that a request shows, its secret checked.
pub(super) async fn authenticate(
    clients: &dyn Clients,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<ClientId, Error> {
    let (id, secret) = shown(headers, body)?;
    let Ok(id) = ClientId::new(id) else { return Err(wrong()) };
    match clients.check_secret(&id, &secret).await {
        Ok(true) => Ok(id),
        Ok(false) => Err(wrong()),
        // Never 401: the client may be a good one.
        Err(error) => Err(Error::unavailable(error)),
    }
}

fn shown(headers: &HeaderMap, body: &[u8]) -> Result<(String, ClientSecret), Error> {
    let header = |name: &str| -> Result<Option<String>, Error> {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => match value.to_str() {
                Ok(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
                Err(_) => Err(wrong()),
            },
            (Some(_), Some(_)) => Err(unreadable(format!("the header `{name}` is there twice"))),
        }
    };
    let (id, secret) = (header(ID)?, header(SECRET)?.map(ClientSecret::new));
    // A body that cannot be read is told when it is read as the endpoint's; here it shows nobody.
    let in_body = serde_json::from_slice::<InBody>(body).ok();
    let in_body = in_body.map(|read| {
        let secret = read.secret.filter(|secret| !secret.expose().is_empty());
        (read.client_id.filter(|id| !id.is_empty()), secret)
    });
    let (body_id, body_secret) = in_body.unwrap_or_default();
    if (id.is_some() || secret.is_some()) && (body_id.is_some() || body_secret.is_some()) {
        return Err(unreadable(
            "the client shows who it is in headers and in the body; one of them is enough".into(),
        ));
    }
    id.or(body_id).zip(secret.or(body_secret)).ok_or_else(wrong)
}

fn wrong() -> Error {
    let text = "the client id or the secret is wrong or missing";
    Error::new(PlaidErrorType::InvalidInput, "INVALID_API_KEYS", text)
        .with_status(StatusCode::UNAUTHORIZED)
}

fn unreadable(message: String) -> Error {
    Error::new(PlaidErrorType::InvalidRequest, "INVALID_HEADERS", message)
}
