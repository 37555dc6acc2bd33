//! The request as it goes out: host, authentication, headers; and the secrets that it carries.

use super::{Caller, Core, Outgoing};
use crate::error::Error;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use px_types::{AccessToken, webhook::VERIFICATION_HEADER};
use url::form_urlencoded;

impl Core {
    /// Adds host, authentication and the headers that every request has.
    pub(super) fn prepare(
        &self,
        outgoing: &Outgoing,
        caller: Caller<'_>,
        token: Option<&AccessToken>,
    ) -> Result<Request<Bytes>, Error> {
        let operation = outgoing.operation;
        let mut request = outgoing.request.clone();
        let address = match &outgoing.address {
            Some(address) => address.with_query(request.uri().query()),
            None => format!("{}{}", self.base(), request.uri()),
        };
        *request.uri_mut() = address.parse::<Uri>().map_err(|e| {
            Error::build(operation, "the address is not one that HTTP can carry").caused_by(e)
        })?;
        if let Caller::Signer(signer) = caller {
            let value = signer
                .sign(request.body())
                .map_err(|e| Error::build(operation, "the body cannot be signed").caused_by(e))?;
            let value = HeaderValue::from_str(&value)
                .map_err(|e| Error::build(operation, "the signature is no header").caused_by(e))?;
            request.headers_mut().insert(VERIFICATION_HEADER, value);
        }
        let headers = request.headers_mut();
        let authorization = match (caller, token) {
            (_, Some(token)) => Some(format!("Bearer {}", token.expose())),
            (Caller::Basic(id, secret), _) => Some(basic(id.as_str(), secret.expose())),
            _ => None,
        };
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, secret_header(operation, "token", &text)?);
        }
        if let Caller::Plaid(id, secret) = caller {
            let id = HeaderValue::from_str(id.as_str()).map_err(|_| {
                Error::build(operation, "the client id has characters that no header can carry")
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

/// A header whose value no log shows.
fn secret_header(operation: &'static str, what: &str, text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::build(operation, format!("the {what} has characters that no header can carry"))
            .advice("check that it is whole and is alone in its file")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Takes out of the other side's text what this call sent in secret.
pub(super) fn scrub(
    outgoing: &Outgoing,
    caller: Caller<'_>,
    token: Option<&AccessToken>,
    text: &str,
) -> String {
    let mut secrets: Vec<String> = Vec::new();
    secrets.extend(token.map(|token| token.expose().to_owned()));
    secrets.extend(caller.secret().map(|secret| secret.expose().to_owned()));
    let body = outgoing.request.body();
    match serde_json::from_slice(body) {
        Ok(value) => strings(&value, &mut secrets),
        Err(_) => secrets.extend(form_urlencoded::parse(body).map(|(_, v)| v.into_owned())),
    }
    // Longest first, so that no part of a longer one is left over.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 3) {
        text = text.replace(secret, "***");
    }
    text
}

/// RFC 6749 section 2.3.1: id and secret are form-encoded before they are joined.
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
