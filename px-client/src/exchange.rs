//! One call: authentication, time limits and attempts. Shared by both clients.
//!
//! - `setup`: the settings that both builders share;
//! - `address`: the address of a request that does not go to the base URL;
//! - `prepare`: host, authentication and headers of a request, and the secrets in it;
//! - `response`: the classification of a response; `dialect`: the error bodies of each side.
//!
//! The clients know the endpoints and decide which of them may be repeated.

mod address;
mod dialect;
mod prepare;
mod response;
mod setup;

pub(crate) use self::{
    address::Address,
    dialect::Dialect,
    response::ApiResponse,
    setup::{Setup, shared_settings},
};

use crate::{
    error::{Error, ErrorKind},
    partner::SignBody,
    read_mode::ReadMode,
    retry::{Attempt, Decision, Failure, RetryPolicy, decide},
    token::TokenState,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::{Either, select};
use http::Request;
use px_core::{Clock, HttpLimits, HttpTransport, Random, TransportErrorKind};
use px_types::{AccessToken, ClientId, ClientSecret, endpoint::codec::ResponseKind};
use response::classify;
use std::{fmt, pin::pin, sync::Arc, time::Duration};

/// The transport, settings and address of one side's API.
pub(crate) struct Core {
    /// Scheme, host and path prefix, without a trailing slash.
    base: String,
    host: String,
    transport: Arc<dyn HttpTransport>,
    clock: Arc<dyn Clock>,
    retry: RetryPolicy,
    limits: HttpLimits,
    random: Arc<dyn Random>,
    dialect: Dialect,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("host", &self.host)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// A request to send, without host and authentication.
pub(crate) struct Outgoing {
    pub(crate) operation: &'static str,
    pub(crate) request: Request<Bytes>,
    /// The address, if the request does not go to the base URL. Then the path of the request is ignored.
    pub(crate) address: Option<Address>,
    pub(crate) reply: ResponseKind,
    /// Whether the request may be sent again although it may have been processed.
    pub(crate) repeatable: bool,
    /// The strictness of reading the response. Default: [`ReadMode::Strict`].
    pub(crate) read_mode: ReadMode,
}

impl Outgoing {
    pub(crate) fn new(
        operation: &'static str,
        request: Request<Vec<u8>>,
        reply: ResponseKind,
        repeatable: bool,
    ) -> Self {
        let request = request.map(Bytes::from);
        Self { operation, request, address: None, reply, repeatable, read_mode: ReadMode::Strict }
    }
}

/// The authentication of a call.
#[derive(Clone, Copy)]
pub(crate) enum Authentication<'a> {
    None,
    /// HTTP Basic.
    Basic(&'a ClientId, &'a ClientSecret),
    /// The client id and secret in the two headers of Plaid's API.
    Plaid(&'a ClientId, &'a ClientSecret),
    /// A user's token, requested from its source for every attempt.
    Bearer(&'a TokenState),
    /// A signature over the body.
    Signer(&'a dyn SignBody),
}

impl<'a> Authentication<'a> {
    fn tokens(self) -> Option<&'a TokenState> {
        match self {
            Self::Bearer(tokens) => Some(tokens),
            _ => None,
        }
    }

    fn secret(self) -> Option<&'a ClientSecret> {
        match self {
            Self::Basic(_, secret) | Self::Plaid(_, secret) => Some(secret),
            _ => None,
        }
    }
}

/// A failed attempt.
struct FailedAttempt {
    error: Error,
    /// `None` if the call must not be repeated.
    failure: Option<Failure>,
    retry_at: Option<DateTime<Utc>>,
}

impl FailedAttempt {
    fn permanent(error: Error) -> Self {
        Self { error, failure: None, retry_at: None }
    }
}

impl Core {
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn request_id(&self) -> String {
        let mut id = [0; 8];
        self.random.fill(&mut id);
        format!("{:016x}", u64::from_be_bytes(id))
    }

    /// Makes a call, with retries by the policy.
    pub(crate) async fn exchange(
        &self,
        outgoing: Outgoing,
        authentication: Authentication<'_>,
    ) -> Result<ApiResponse, Error> {
        let (policy, clock) = (&self.retry, &*self.clock);
        let start = clock.elapsed();
        let (mut made, mut last_wait) = (0, None);
        loop {
            made += 1;
            let token = bearer(outgoing.operation, authentication).await?;
            let left = policy.budget.saturating_sub(clock.elapsed() - start);
            let time = match made {
                1 => self.limits.request_timeout,
                _ => self.limits.request_timeout.min(left),
            };
            let failed = match self.attempt(&outgoing, authentication, token.as_ref(), time).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let error = failed.error.with_attempts(made);
            if error.ends_token()
                && let (Some(tokens), Some(token)) = (authentication.tokens(), &token)
            {
                tokens.end(token);
            }
            tracing::debug!(
                operation = outgoing.operation,
                attempt = made,
                status = error.status(),
                kind = ?error.kind(),
                "a call to {} failed", self.dialect.name()
            );
            let Some(failure) = failed.failure else {
                return Err(error);
            };
            let wait = |at: DateTime<Utc>| (at - clock.now()).to_std().unwrap_or_default();
            let attempt = Attempt {
                failure,
                safe: outgoing.repeatable,
                may_have_been_sent: error.may_have_been_sent(),
                made,
                spent: clock.elapsed() - start,
                last_wait,
                requested_wait: failed.retry_at.map(wait),
            };
            match decide(policy, &attempt, &*self.random) {
                Decision::GiveUp => return Err(error),
                Decision::Retry(wait) => {
                    match self.until(authentication, token.as_ref(), wait).await {
                        WaitEnd::Elapsed => {}
                        WaitEnd::TokenEnded => return Err(ended_token(outgoing.operation)),
                    }
                    last_wait = Some(wait);
                }
            }
        }
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        authentication: Authentication<'_>,
        token: Option<&AccessToken>,
        time: Duration,
    ) -> Result<ApiResponse, FailedAttempt> {
        let request =
            self.prepare(outgoing, authentication, token).map_err(FailedAttempt::permanent)?;
        let host = outgoing.address.as_ref().map_or(&*self.host, Address::host);
        let sending = pin!(self.transport.send(request, &self.limits));
        let stopping = pin!(self.until(authentication, token, time));
        let response = match select(sending, stopping).await {
            Either::Left((response, _)) => response,
            Either::Right((WaitEnd::TokenEnded, _)) => {
                return Err(FailedAttempt::permanent(
                    ended_token(outgoing.operation).with_may_have_been_sent(true),
                ));
            }
            Either::Right((WaitEnd::Elapsed, _)) => {
                let what = format!("{host} sent no complete response within {} s", seconds(time));
                return Err(FailedAttempt {
                    error: Error::new(ErrorKind::Timeout, outgoing.operation, what)
                        .with_advice("try again later"),
                    failure: Some(Failure::Transport(TransportErrorKind::Timeout)),
                    retry_at: None,
                });
            }
        };
        match response {
            Ok(response) => {
                let scrub = |text: &str| prepare::scrub(outgoing, authentication, token, text);
                let bearer = authentication.tokens().is_some();
                classify(self, outgoing, bearer, response, &scrub)
            }
            Err(error) => {
                use TransportErrorKind as T;
                let (kind, what, advice) = match error.kind() {
                    T::Refused => (ErrorKind::Build, error.to_string(), ""),
                    T::Connect => (
                        ErrorKind::Connect,
                        format!("cannot connect to {host}: {error}"),
                        self.dialect.connect_advice(),
                    ),
                    T::Timeout => {
                        (ErrorKind::Timeout, format!("{host}: {error}"), "try again later")
                    }
                    T::TooLarge => (
                        ErrorKind::Transport,
                        format!("{host}: {error}"),
                        self.dialect.fault_advice(),
                    ),
                    _ => (ErrorKind::Transport, format!("{host}: {error}"), "try again later"),
                };
                let failure = Failure::Transport(error.kind());
                let sent = error.may_have_been_sent();
                Err(FailedAttempt {
                    error: Error::new(kind, outgoing.operation, what)
                        .with_advice(advice)
                        .with_may_have_been_sent(sent)
                        .with_source(error),
                    failure: Some(failure),
                    retry_at: None,
                })
            }
        }
    }

    /// Waits until the time has passed, or another call has ended the token.
    async fn until(
        &self,
        authentication: Authentication<'_>,
        token: Option<&AccessToken>,
        time: Duration,
    ) -> WaitEnd {
        let sleeping = pin!(self.clock.sleep(time));
        let Some((tokens, token)) = authentication.tokens().zip(token) else {
            sleeping.await;
            return WaitEnd::Elapsed;
        };
        let ended = pin!(tokens.until_ended(token));
        match select(sleeping, ended).await {
            Either::Left(_) => WaitEnd::Elapsed,
            Either::Right(_) => WaitEnd::TokenEnded,
        }
    }
}

/// Returns the token for a call that requires one.
async fn bearer(
    operation: &'static str,
    authentication: Authentication<'_>,
) -> Result<Option<AccessToken>, Error> {
    let Some(tokens) = authentication.tokens() else {
        return Ok(None);
    };
    let token = tokens.source.token().await?;
    if tokens.has_ended(&token) {
        return Err(ended_token(operation));
    }
    Ok(Some(token))
}

enum WaitEnd {
    Elapsed,
    TokenEnded,
}

fn ended_token(operation: &'static str) -> Error {
    Error::new(ErrorKind::Auth, operation, "the token was refused by an earlier call")
        .with_advice("get a new authorization from the user")
        .with_may_have_been_sent(false)
        .with_ended_token()
}

/// Formats a duration in seconds, with tenths if they are not zero.
fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    match tenths % 10 {
        0 => format!("{}", tenths / 10),
        rest => format!("{}.{rest}", tenths / 10),
    }
}
