//! Adds host, authentication and headers to a request, and removes its secrets from foreign text.

use super::{Authentication, Core, Outgoing};
use crate::error::Error;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use px_types::{AccessToken, webhook::VERIFICATION_HEADER};
use url::form_urlencoded;

impl Core {
    /// Adds the host, the authentication and the headers of every request.
    pub(super) fn prepare(
        &self,
        outgoing: &Outgoing,
        authentication: Authentication<'_>,
        token: Option<&AccessToken>,
    ) -> Result<Request<Bytes>, Error> {
        let operation = outgoing.operation;
        let mut request = outgoing.request.clone();
        let address = match &outgoing.address {
            Some(address) => address.with_query(request.uri().query()),
            None => format!("{}{}", self.base(), request.uri()),
        };
        *request.uri_mut() = address.parse::<Uri>().map_err(|e| {
            Error::build(operation, "the address cannot be used in an HTTP request").with_source(e)
        })?;
        if let Authentication::Signer(signer) = authentication {
            let value = signer
                .sign(request.body())
                .map_err(|e| Error::build(operation, "the body cannot be signed").with_source(e))?;
            let value = HeaderValue::from_str(&value).map_err(|e| {
                Error::build(operation, "the signature is not a valid header value").with_source(e)
            })?;
            request.headers_mut().insert(VERIFICATION_HEADER, value);
        }
        let headers = request.headers_mut();
        let authorization = match (authentication, token) {
            (_, Some(token)) => Some(format!("Bearer {}", token.expose())),
            (Authentication::Basic(id, secret), _) => Some(basic(id.as_str(), secret.expose())),
            _ => None,
        };
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, secret_header(operation, "token", &text)?);
        }
        if let Authentication::Plaid(id, secret) = authentication {
            let id = HeaderValue::from_str(id.as_str()).map_err(|_| {
                Error::build(operation, "the client id has characters that a header cannot contain")
            })?;
            headers.insert("plaid-client-id", id);
            let secret = secret_header(operation, "secret", secret.expose())?;
            headers.insert("plaid-secret", secret);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(&self.request_id()) {
            headers.insert("x-request-id", id);
        }
        Ok(request)
    }
}

/// Returns a header value that is marked as sensitive, so that logs do not show it.
fn secret_header(operation: &'static str, what: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::build(operation, format!("the {what} has characters that a header cannot contain"))
            .with_advice("check that it is complete and that its file contains nothing else")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Replaces the secrets that this call sent in a text of the other side.
pub(super) fn scrub(
    outgoing: &Outgoing,
    authentication: Authentication<'_>,
    token: Option<&AccessToken>,
    text: &str,
) -> String {
    let mut secrets: Vec<String> = Vec::new();
    secrets.extend(token.map(|token| token.expose().to_owned()));
    secrets.extend(authentication.secret().map(|secret| secret.expose().to_owned()));
    let body = outgoing.request.body();
    match serde_json::from_slice(body) {
        Ok(value) => strings(&value, &mut secrets),
        Err(_) => secrets.extend(form_urlencoded::parse(body).map(|(_, v)| v.into_owned())),
    }
    // Longest first, so that no part of a longer secret remains.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 3) {
        text = text.replace(secret, "***");
    }
    text
}

/// Encodes a client id and secret. RFC 6749 section 2.3.1: both are form-encoded before they are joined.
fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

fn strings(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => out.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
        serde_json::Value::Object(fields) => fields.values().for_each(|item| strings(item, out)),
        _ => {}
    }
}
