//! Client authentication at the token and revocation endpoints: id and secret by HTTP Basic or in
//! the body (RFC 6749 section 2.3.1).

use super::error::OAuthError;
use crate::clients::{Client, Clients};
use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header};
use px_types::{ClientId, ClientSecret, endpoint::parameters::ParsedParameters};

/// Authenticates the client of a request by HTTP Basic.
///
/// # Errors
/// - `invalid_client` if the credentials are missing or wrong.
/// - `invalid_request` if there are two `Authorization` headers.
/// - `temporarily_unavailable` if the registry of clients fails.
pub async fn authenticate_client(
    clients: &dyn Clients,
    headers: &HeaderMap,
) -> Result<Client, OAuthError> {
    match basic(headers)? {
        Some(shown) => check(clients, shown).await,
        None => Err(OAuthError::invalid_client()),
    }
}

/// Authenticates the client of a form, by HTTP Basic or by its body, but not by both. `known` is a
/// client that was authenticated by HTTP Basic before the body was read.
pub(super) async fn authenticate_form(
    clients: &dyn Clients,
    known: Option<Client>,
    headers: &HeaderMap,
    form: &ParsedParameters,
) -> Result<Client, OAuthError> {
    let twice = |_| OAuthError::invalid_request("A parameter occurs twice.");
    let id = form.text("client_id").map_err(twice)?;
    let secret = form.text("client_secret").map_err(twice)?;
    let assertion = form.text("client_assertion").map_err(twice)?;
    let in_header = headers.contains_key(header::AUTHORIZATION);
    if usize::from(in_header) + usize::from(secret.is_some()) + usize::from(assertion.is_some()) > 1
    {
        let text = "The client authenticates in more than one way.";
        return Err(OAuthError::invalid_request(text));
    }
    if in_header {
        let client = match known {
            Some(known) => known,
            None => authenticate_client(clients, headers).await?,
        };
        if id.is_some_and(|id| id != client.id.as_str()) {
            let text = "`client_id` is not the client that authenticated.";
            return Err(OAuthError::invalid_request(text));
        }
        return Ok(client);
    }
    let (Some(id), Some(secret)) = (id, secret) else {
        return Err(OAuthError::invalid_client());
    };
    check(clients, vec![(id.to_owned(), ClientSecret::new(secret))]).await
}

/// Returns the possible readings of HTTP Basic credentials, the one of RFC 6749 first.
fn basic(headers: &HeaderMap) -> Result<Option<Vec<(String, ClientSecret)>>, OAuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(_), Some(_)) => {
            let text = "There are two `Authorization` headers.";
            return Err(OAuthError::invalid_request(text));
        }
        (Some(value), None) => value,
    };
    let read = || {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let config =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let base64 = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
        let text = String::from_utf8(base64.decode(rest.trim_matches(' ')).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let encoded = form_decode(id).zip(form_decode(secret));
        let plain = (id.to_owned(), secret.to_owned());
        let mut readings: Vec<_> = encoded.into_iter().collect();
        // Many clients omit the form encoding. If it changes nothing, both readings are
        // equal.
        if readings.first() != Some(&plain) {
            readings.push(plain);
        }
        Some(readings)
    };
    let readings = read().ok_or_else(OAuthError::invalid_client)?;
    let secret = |(id, secret): (String, String)| (id, ClientSecret::new(secret));
    Ok(Some(readings.into_iter().map(secret).collect()))
}

async fn check(
    clients: &dyn Clients,
    readings: Vec<(String, ClientSecret)>,
) -> Result<Client, OAuthError> {
    for (id, secret) in readings {
        let Ok(id) = ClientId::new(id) else { continue };
        let good = clients.check_secret(&id, &secret).await;
        if good.map_err(OAuthError::unavailable)?
            && let Some(client) = clients.find(&id).await.map_err(OAuthError::unavailable)?
        {
            return Ok(client);
        }
    }
    Err(OAuthError::invalid_client())
}

/// Decodes `application/x-www-form-urlencoded`. Returns `None` if the encoding is invalid.
fn form_decode(text: &str) -> Option<String> {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(out).ok()
}
