//! One attempt to deliver one webhook, and what it came to.

use crate::{store::QueuedWebhook, webhook::Signer};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use px_client::{
    HttpTransport, Limits,
    clock::Clock,
    retry::retry_after,
    transport::{TransportError, TransportErrorKind},
};
use px_types::webhook::VERIFICATION_HEADER;
use std::fmt;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Answered 200.
    Delivered,
    /// Anything else, with what the endpoint asked for.
    Failed { reason: Reason, asked: Option<DateTime<Utc>> },
    /// Nothing was sent, for a reason of this side.
    NotSigned,
    /// Nothing can ever be sent there.
    NoAddress,
}

/// Why an attempt failed: for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Status(StatusCode),
    Transport(TransportErrorKind),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {}", status.as_u16()),
            Self::Transport(TransportErrorKind::Refused) => f.write_str("refused: not sent"),
            Self::Transport(TransportErrorKind::Connect) => f.write_str("no connection"),
            Self::Transport(TransportErrorKind::Timeout) => f.write_str("no answer in time"),
            Self::Transport(_) => f.write_str("no whole answer"),
        }
    }
}

/// Sends a webhook, signed now. It takes no longer than the limits say.
pub(super) async fn attempt(
    webhook: &QueuedWebhook,
    (transport, limits): (&dyn HttpTransport, &Limits),
    signer: &Signer,
    clock: &dyn Clock,
) -> Outcome {
    let token = signer.sign(webhook.body.as_bytes(), clock.now());
    let token = token.ok().and_then(|token| HeaderValue::try_from(token).ok());
    let Some(token) = token else { return Outcome::NotSigned };
    let Some(request) = request(webhook, token) else { return Outcome::NoAddress };
    let answer = tokio::select! {
        // In this order, so that a simulation repeats.
        biased;
        answer = transport.send(request, limits) => answer,
        () = clock.sleep(limits.answer) => {
            Err(TransportError::new(TransportErrorKind::Timeout, "no answer in time"))
        }
    };
    match answer {
        Ok(answer) if answer.status() == StatusCode::OK => Outcome::Delivered,
        Ok(answer) => {
            let asked = (answer.status() == StatusCode::TOO_MANY_REQUESTS)
                .then(|| asked(answer.headers(), clock.now()))
                .flatten();
            Outcome::Failed { reason: Reason::Status(answer.status()), asked }
        }
        Err(error) => Outcome::Failed { reason: Reason::Transport(error.kind()), asked: None },
    }
}

fn request(webhook: &QueuedWebhook, token: HeaderValue) -> Option<Request<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri(&webhook.url)
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
