//! One attempt to deliver a webhook, and its outcome.

use super::Inner;
use crate::store::{Destination, QueuedWebhook};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use px_client::{ErrorKind, retry::retry_after};
use px_core::{TransportError, TransportErrorKind};
use px_types::{
    InstitutionId,
    webhook::{SignatureClaims, VERIFICATION_HEADER},
};
use std::fmt;

/// Outcome of an attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The response had a 2xx status.
    Delivered,
    /// The attempt failed, possibly with a time requested by the endpoint.
    Failed { reason: Reason, retry_at: Option<DateTime<Utc>> },
    /// The partner does not offer the endpoint (404). That is not an error.
    NotOffered,
    /// Nothing was sent because of a problem on this side.
    NotSigned,
    /// This process does not know the partner; another one may.
    NoPartner,
    /// Nothing can ever be sent to this URL.
    Unsendable,
}

/// Reason of a failed attempt, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Status(StatusCode),
    Transport(TransportErrorKind),
    /// Failure of a call of a partner without a status.
    Call(ErrorKind),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "responded with {}", status.as_u16()),
            Self::Transport(TransportErrorKind::Refused) => {
                f.write_str("the transport refused to send it")
            }
            Self::Transport(TransportErrorKind::Connect) => f.write_str("could not connect"),
            Self::Transport(TransportErrorKind::Timeout) => f.write_str("timed out"),
            Self::Transport(_) => f.write_str("the response was incomplete"),
            Self::Call(ErrorKind::Connect) => f.write_str("could not connect"),
            Self::Call(ErrorKind::Timeout) => f.write_str("timed out"),
            Self::Call(_) => f.write_str("the response could not be read"),
        }
    }
}

/// Sends one entry of the outbox, signed now. Takes no longer than the timeout of the limits.
pub(super) async fn attempt(inner: &Inner, webhook: &QueuedWebhook) -> Outcome {
    match &webhook.to {
        Destination::Url(url) => to_application(inner, webhook, url).await,
        Destination::Partner(institution) => to_partner(inner, webhook, institution).await,
    }
}

async fn to_application(inner: &Inner, webhook: &QueuedWebhook, url: &str) -> Outcome {
    let (clock, limits) = (&*inner.clock, &inner.limits);
    let now = clock.now();
    let claims = SignatureClaims::of(webhook.body.as_bytes(), now.timestamp())
        .with_id(webhook.signature_id());
    let claims = match inner.client_ids.get(&webhook.application_id) {
        Some(client_id) => claims.for_recipient(client_id.as_str()),
        None => claims,
    };
    let token = inner.signer.sign_claims(&claims, now);
    let token = token.ok().and_then(|token| HeaderValue::try_from(token).ok());
    let Some(token) = token else { return Outcome::NotSigned };
    let Some(request) = request(webhook, url, token) else { return Outcome::Unsendable };
    let response = tokio::select! {
        // In this order, so that simulations are reproducible.
        biased;
        response = inner.transport.send(request, limits) => response,
        () = clock.sleep(limits.request_timeout) => {
            Err(TransportError::new(TransportErrorKind::Timeout, "timed out"))
        }
    };
    match response {
        Ok(response) if response.status().is_success() => Outcome::Delivered,
        Ok(response) => {
            let retry_at = (response.status() == StatusCode::TOO_MANY_REQUESTS)
                .then(|| retry_at(response.headers(), clock.now()))
                .flatten();
            Outcome::Failed { reason: Reason::Status(response.status()), retry_at }
        }
        Err(error) => Outcome::Failed { reason: Reason::Transport(error.kind()), retry_at: None },
    }
}

/// Notifies a partner with its own client, which signs the request.
async fn to_partner(
    inner: &Inner,
    webhook: &QueuedWebhook,
    institution: &InstitutionId,
) -> Outcome {
    let partner = inner.partners.as_ref().and_then(|partners| partners.partner(institution));
    let Some(partner) = partner else { return Outcome::NoPartner };
    let Ok(notification) = px_types::decode(webhook.body.as_bytes()) else {
        return Outcome::Unsendable;
    };
    let response = tokio::select! {
        biased;
        response = partner.client.application_linked(notification) => response,
        () = inner.clock.sleep(inner.limits.request_timeout) => {
            return Outcome::Failed { reason: Reason::Call(ErrorKind::Timeout), retry_at: None };
        }
    };
    let Err(error) = response else { return Outcome::Delivered };
    let status = error.status().and_then(|status| StatusCode::from_u16(status).ok());
    match (status, error.kind()) {
        (Some(StatusCode::NOT_FOUND), _) => Outcome::NotOffered,
        (Some(status), _) => {
            Outcome::Failed { reason: Reason::Status(status), retry_at: error.retry_at() }
        }
        (None, ErrorKind::Build) => Outcome::NotSigned,
        (None, kind) => Outcome::Failed { reason: Reason::Call(kind), retry_at: error.retry_at() },
    }
}

fn request(webhook: &QueuedWebhook, url: &str, token: HeaderValue) -> Option<Request<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(VERIFICATION_HEADER, token)
        .body(Bytes::from(webhook.body.clone()))
        .ok()
        // A transport requires an absolute URI.
        .filter(|request| request.uri().scheme().is_some() && request.uri().host().is_some())
}

fn retry_at(headers: &HeaderMap, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)
}
