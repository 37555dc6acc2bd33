//! One call: authentication, time limits, attempts. The answer is judged in `answer`.

use super::{
    PartnerClient,
    answer::{Answer, judge},
};
use crate::{
    error::{Error, Kind},
    retry::{Attempt, Decision, Failure, decide},
    transport::TransportErrorKind,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::{Either, select};
use http::{HeaderValue, Method, Request, Uri, header};
use px_types::{AccessToken, Auth, endpoint::codec::ReplyKind};
use std::{pin::pin, sync::PoisonError, time::Duration};
use url::form_urlencoded;

/// A request on its way out, without host and authentication.
pub(crate) struct Outgoing {
    pub(crate) operation: &'static str,
    pub(crate) request: Request<Bytes>,
    pub(crate) auth: Auth,
    pub(crate) reply: ReplyKind,
}

impl Outgoing {
    pub(crate) fn new(
        operation: &'static str,
        request: Request<Vec<u8>>,
        auth: Auth,
        reply: ReplyKind,
    ) -> Self {
        Self { operation, request: request.map(Bytes::from), auth, reply }
    }

    fn is_safe(&self) -> bool {
        matches!(*self.request.method(), Method::GET | Method::HEAD)
    }
}

/// An attempt that failed, and what is known of it beyond the error.
pub(super) struct Failed {
    pub(super) error: Error,
    /// `None`: not to be repeated.
    pub(super) failure: Option<Failure>,
    pub(super) asked_for: Option<DateTime<Utc>>,
}

impl Failed {
    pub(super) fn for_good(error: Error) -> Self {
        Self { error, failure: None, asked_for: None }
    }
}

impl PartnerClient {
    /// Makes a call, repeating it as the policy says.
    pub(crate) async fn exchange(&self, outgoing: Outgoing) -> Result<Answer, Error> {
        let shared = &*self.shared;
        let (policy, clock) = (&shared.retry, &*shared.clock);
        let start = clock.elapsed();
        let (mut made, mut last_wait) = (0, None);
        loop {
            made += 1;
            let token = self.bearer(&outgoing).await?;
            let left = policy.budget.saturating_sub(clock.elapsed() - start);
            let time = match made {
                1 => shared.limits.answer,
                _ => shared.limits.answer.min(left),
            };
            let failed = match self.attempt(&outgoing, token.as_ref(), time).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let error = failed.error.after(made);
            if error.ends_token()
                && let (Some(tokens), Some(token)) = (&self.tokens, &token)
            {
                tokens.end(token);
            }
            tracing::debug!(
                operation = outgoing.operation,
                attempt = made,
                status = error.status(),
                kind = ?error.kind(),
                "a call to a partner failed"
            );
            let Some(failure) = failed.failure else {
                return Err(error);
            };
            let wait = |at: DateTime<Utc>| (at - clock.now()).to_std().unwrap_or_default();
            let attempt = Attempt {
                failure,
                safe: outgoing.is_safe(),
                may_have_been_sent: error.may_have_been_sent(),
                made,
                spent: clock.elapsed() - start,
                last_wait,
                asked_wait: failed.asked_for.map(wait),
            };
            let decision = {
                let mut rng = shared.rng.lock().unwrap_or_else(PoisonError::into_inner);
                decide(policy, &attempt, &mut *rng)
            };
            match decision {
                Decision::GiveUp => return Err(error),
                Decision::Again(wait) => {
                    self.wait_unless_ended(outgoing.operation, token.as_ref(), wait).await?;
                    last_wait = Some(wait);
                }
            }
        }
    }

    /// The token for a call that needs one.
    async fn bearer(&self, outgoing: &Outgoing) -> Result<Option<AccessToken>, Error> {
        if !matches!(outgoing.auth, Auth::Bearer(_)) {
            return Ok(None);
        }
        let Some(tokens) = &self.tokens else {
            let what = "the client has no token";
            return Err(Error::build(outgoing.operation, what)
                .advice("take `with_token` or `with_tokens` first"));
        };
        let token = tokens.source.token().await?;
        if tokens.has_ended(&token) {
            return Err(token_is_dead(outgoing.operation));
        }
        Ok(Some(token))
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        token: Option<&AccessToken>,
        time: Duration,
    ) -> Result<Answer, Failed> {
        let shared = &*self.shared;
        let request = self.prepare(outgoing, token).map_err(Failed::for_good)?;
        let sending = pin!(shared.transport.send(request, &shared.limits));
        let stopping = pin!(self.until(token, time));
        let answer = match select(sending, stopping).await {
            Either::Left((answer, _)) => answer,
            Either::Right((Stop::TokenEnded, _)) => {
                return Err(Failed::for_good(token_is_dead(outgoing.operation).sent(true)));
            }
            Either::Right((Stop::TimeIsUp, _)) => {
                let what =
                    format!("{} gave no whole answer within {} s", shared.host, seconds(time));
                return Err(Failed {
                    error: Error::new(Kind::Timeout, outgoing.operation, what)
                        .advice("try again later"),
                    failure: Some(Failure::Transport(TransportErrorKind::Timeout)),
                    asked_for: None,
                });
            }
        };
        match answer {
            Ok(answer) => judge(outgoing, answer, &shared.limits, self.clock().now(), |text| {
                self.scrub(outgoing, token, text)
            }),
            Err(error) => {
                use TransportErrorKind as T;
                let host = &shared.host;
                let (kind, what, advice) = match error.kind() {
                    T::Refused => (Kind::Build, error.to_string(), ""),
                    T::Connect => (
                        Kind::Connect,
                        format!("cannot connect to {host}: {error}"),
                        "check the address and that the partner is up",
                    ),
                    T::Timeout => (Kind::Timeout, format!("{host}: {error}"), "try again later"),
                    T::TooLarge => (
                        Kind::Transport,
                        format!("{host}: {error}"),
                        "this is a fault of the partner; tell them",
                    ),
                    _ => (Kind::Transport, format!("{host}: {error}"), "try again later"),
                };
                let failure = Failure::Transport(error.kind());
                let sent = error.may_have_been_sent();
                Err(Failed {
                    error: Error::new(kind, outgoing.operation, what)
                        .advice(advice)
                        .sent(sent)
                        .caused_by(error),
                    failure: Some(failure),
                    asked_for: None,
                })
            }
        }
    }

    /// Adds host, authentication and the headers that every request has.
    fn prepare(
        &self,
        outgoing: &Outgoing,
        token: Option<&AccessToken>,
    ) -> Result<Request<Bytes>, Error> {
        let shared = &*self.shared;
        let operation = outgoing.operation;
        let mut request = outgoing.request.clone();
        let address = format!("{}{}", shared.base, request.uri());
        *request.uri_mut() = address.parse::<Uri>().map_err(|e| {
            Error::build(operation, "the address is not one that HTTP can carry").caused_by(e)
        })?;
        let authorization = match (outgoing.auth, token, &shared.client) {
            (_, Some(token), _) => Some(format!("Bearer {}", token.expose())),
            (Auth::Client, None, Some((id, secret))) => Some(basic(id.as_str(), secret.expose())),
            (Auth::Client, None, None) => {
                let what = "the client has no id and secret";
                return Err(Error::build(operation, what).advice("give them to the builder"));
            }
            _ => None,
        };
        let headers = request.headers_mut();
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                Error::build(operation, "the token has characters that no header can carry")
                    .advice("check that the token is whole and is alone in its file")
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(&self.request_id()) {
            headers.insert("x-request-id", id);
        }
        if outgoing.auth == Auth::Signature {
            let signer = shared.signer.as_ref().ok_or_else(|| {
                Error::build(operation, "the client has no signer")
                    .advice("give one to the builder")
            })?;
            let value = signer
                .sign(request.body())
                .map_err(|e| Error::build(operation, "the body cannot be signed").caused_by(e))?;
            let value = HeaderValue::from_str(&value)
                .map_err(|e| Error::build(operation, "the signature is no header").caused_by(e))?;
            request.headers_mut().insert("plaid-verification", value);
        }
        Ok(request)
    }

    /// Waits for the time to be up, or for the token to end through another call.
    async fn until(&self, token: Option<&AccessToken>, time: Duration) -> Stop {
        let sleeping = pin!(self.shared.clock.sleep(time));
        let Some((tokens, token)) = self.tokens.as_ref().zip(token) else {
            sleeping.await;
            return Stop::TimeIsUp;
        };
        let ended = pin!(tokens.until_ended(token));
        match select(sleeping, ended).await {
            Either::Left(_) => Stop::TimeIsUp,
            Either::Right(_) => Stop::TokenEnded,
        }
    }

    async fn wait_unless_ended(
        &self,
        operation: &'static str,
        token: Option<&AccessToken>,
        wait: Duration,
    ) -> Result<(), Error> {
        match self.until(token, wait).await {
            Stop::TimeIsUp => Ok(()),
            Stop::TokenEnded => Err(token_is_dead(operation)),
        }
    }

    /// Takes out of a partner's text what this call sent in secret.
    fn scrub(&self, outgoing: &Outgoing, token: Option<&AccessToken>, text: &str) -> String {
        let mut secrets: Vec<String> = Vec::new();
        secrets.extend(token.map(|token| token.expose().to_owned()));
        secrets.extend(self.shared.client.as_ref().map(|(_, secret)| secret.expose().to_owned()));
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
}

enum Stop {
    TimeIsUp,
    TokenEnded,
}

pub(super) fn token_is_dead(operation: &'static str) -> Error {
    Error::new(Kind::Auth, operation, "the token was refused before")
        .advice("get a new authorization of the user")
        .sent(false)
        .ending_token()
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

/// A time in seconds, in tenths where it is short.
fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    match tenths % 10 {
        0 => format!("{}", tenths / 10),
        rest => format!("{}.{rest}", tenths / 10),
    }
}
