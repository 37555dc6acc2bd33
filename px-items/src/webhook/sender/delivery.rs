//! One attempt to deliver one webhook, and what it came to.

use super::Inner;
use crate::store::{Destination, QueuedWebhook};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use px_client::{Kind, retry::retry_after};
use px_core::{TransportError, TransportErrorKind};
use px_types::{
    InstitutionId,
    webhook::{SignatureClaims, VERIFICATION_HEADER},
};
use std::fmt;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Answered with a 2xx status.
    Delivered,
    /// Anything else, with what the endpoint asked for.
    Failed { reason: Reason, asked: Option<DateTime<Utc>> },
    /// The partner does not offer the endpoint (404): nothing is wrong, and nobody is told.
    NotOffered,
    /// Nothing was sent, for a reason of this side.
    NotSigned,
    /// This process does not know the partner; another one may.
    NoPartner,
    /// Nothing can ever be sent there.
    NoAddress,
}

/// Why an attempt failed: for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Status(StatusCode),
    Transport(TransportErrorKind),
    /// What a call of a partner came to, where there is no status.
    Call(Kind),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {}", status.as_u16()),
            Self::Transport(TransportErrorKind::Refused) => f.write_str("refused: not sent"),
            Self::Transport(TransportErrorKind::Connect) => f.write_str("no connection"),
            Self::Transport(TransportErrorKind::Timeout) => f.write_str("no answer in time"),
            Self::Transport(_) => f.write_str("no whole answer"),
            Self::Call(Kind::Connect) => f.write_str("no connection"),
            Self::Call(Kind::Timeout) => f.write_str("no answer in time"),
            Self::Call(_) => f.write_str("no answer that can be read"),
        }
    }
}

/// Sends one thing of the outbox, signed now. It takes no longer than the limits say.
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
    let Some(request) = request(webhook, url, token) else { return Outcome::NoAddress };
    let answer = tokio::select! {
        // In this order, so that a simulation repeats.
        biased;
        answer = inner.transport.send(request, limits) => answer,
        () = clock.sleep(limits.request_timeout) => {
            Err(TransportError::new(TransportErrorKind::Timeout, "no answer in time"))
        }
    };
    match answer {
        Ok(answer) if answer.status().is_success() => Outcome::Delivered,
        Ok(answer) => {
            let asked = (answer.status() == StatusCode::TOO_MANY_REQUESTS)
                .then(|| asked(answer.headers(), clock.now()))
                .flatten();
            Outcome::Failed { reason: Reason::Status(answer.status()), asked }
        }
        Err(error) => Outcome::Failed { reason: Reason::Transport(error.kind()), asked: None },
    }
}

/// Tells a partner, with the client that the partner is called with; that one signs.
async fn to_partner(
    inner: &Inner,
    webhook: &QueuedWebhook,
    institution: &InstitutionId,
) -> Outcome {
    let partner = inner.partners.as_ref().and_then(|partners| partners.partner(institution));
    let Some(partner) = partner else { return Outcome::NoPartner };
    let Ok(notification) = px_types::decode(webhook.body.as_bytes()) else {
        return Outcome::NoAddress;
    };
    let answer = tokio::select! {
        biased;
        answer = partner.client.application_linked(notification) => answer,
        () = inner.clock.sleep(inner.limits.request_timeout) => {
            return Outcome::Failed { reason: Reason::Call(Kind::Timeout), asked: None };
        }
    };
    let Err(error) = answer else { return Outcome::Delivered };
    let status = error.status().and_then(|status| StatusCode::from_u16(status).ok());
    match (status, error.kind()) {
        (Some(StatusCode::NOT_FOUND), _) => Outcome::NotOffered,
        (Some(status), _) => {
            Outcome::Failed { reason: Reason::Status(status), asked: error.retry_at() }
        }
        (None, Kind::Build) => Outcome::NotSigned,
        (None, kind) => Outcome::Failed { reason: Reason::Call(kind), asked: error.retry_at() },
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
        // A transport is promised an absolute URI.
        .filter(|request| request.uri().scheme().is_some() && request.uri().host().is_some())
}

fn asked(headers: &HeaderMap, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)
}
