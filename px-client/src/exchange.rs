//! One call: authentication, time limits, attempts. What both clients are made of.
//!
//! - `setup`: the settings that both builders share;
//! - `address`: where a request goes if not to the base URL;
//! - `prepare`: the request as it goes out, and what of it must never be shown;
//! - `answer`: what an answer means; `dialect`: how each side tells an error.
//!
//! Which endpoints there are, and which of them may be repeated, is the clients' matter.

mod address;
mod answer;
mod dialect;
mod prepare;
mod setup;

pub(crate) use self::{
    address::Address,
    answer::Answer,
    dialect::Dialect,
    setup::{Setup, shared_settings},
};

use crate::{
    error::{Error, Kind},
    partner::SignBody,
    read_mode::ReadMode,
    retry::{Attempt, Decision, Failure, RetryPolicy, decide},
    token::TokenState,
};
use answer::judge;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::{Either, select};
use http::Request;
use px_core::{Clock, HttpLimits, HttpTransport, Random, TransportErrorKind};
use px_types::{AccessToken, ClientId, ClientSecret, endpoint::codec::ReplyKind};
use std::{fmt, pin::pin, sync::Arc, time::Duration};

/// How one side is reached, and with how much patience.
pub(crate) struct Core {
    /// Scheme, host and path prefix, without a slash at the end.
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

/// A request on its way out, without host and authentication.
pub(crate) struct Outgoing {
    pub(crate) operation: &'static str,
    pub(crate) request: Request<Bytes>,
    /// Where it goes, if not to the base URL; the path of the request is left out then.
    pub(crate) address: Option<Address>,
    pub(crate) reply: ReplyKind,
    /// Whether it may be sent again when it may have been done already.
    pub(crate) repeatable: bool,
    /// How strictly the response is read; strictly, unless the client says otherwise.
    pub(crate) read_mode: ReadMode,
}

impl Outgoing {
    pub(crate) fn new(
        operation: &'static str,
        request: Request<Vec<u8>>,
        reply: ReplyKind,
        repeatable: bool,
    ) -> Self {
        let request = request.map(Bytes::from);
        Self { operation, request, address: None, reply, repeatable, read_mode: ReadMode::Strict }
    }
}

/// How a call shows who makes it.
#[derive(Clone, Copy)]
pub(crate) enum Caller<'a> {
    Nobody,
    /// HTTP Basic.
    Basic(&'a ClientId, &'a ClientSecret),
    /// The two headers of Plaid's API.
    Plaid(&'a ClientId, &'a ClientSecret),
    /// A user's token, asked for anew with every attempt.
    Bearer(&'a TokenState),
    /// A signature over the body.
    Signer(&'a dyn SignBody),
}

impl<'a> Caller<'a> {
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

/// An attempt that failed, and what is known of it beyond the error.
struct Failed {
    error: Error,
    /// `None`: not to be repeated.
    failure: Option<Failure>,
    asked_for: Option<DateTime<Utc>>,
}

impl Failed {
    fn for_good(error: Error) -> Self {
        Self { error, failure: None, asked_for: None }
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

    /// Makes a call, repeating it as the policy says.
    pub(crate) async fn exchange(
        &self,
        outgoing: Outgoing,
        caller: Caller<'_>,
    ) -> Result<Answer, Error> {
        let (policy, clock) = (&self.retry, &*self.clock);
        let start = clock.elapsed();
        let (mut made, mut last_wait) = (0, None);
        loop {
            made += 1;
            let token = bearer(outgoing.operation, caller).await?;
            let left = policy.budget.saturating_sub(clock.elapsed() - start);
            let time = match made {
                1 => self.limits.request_timeout,
                _ => self.limits.request_timeout.min(left),
            };
            let failed = match self.attempt(&outgoing, caller, token.as_ref(), time).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let error = failed.error.after(made);
            if error.ends_token()
                && let (Some(tokens), Some(token)) = (caller.tokens(), &token)
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
                asked_wait: failed.asked_for.map(wait),
            };
            match decide(policy, &attempt, &*self.random) {
                Decision::GiveUp => return Err(error),
                Decision::Again(wait) => {
                    match self.until(caller, token.as_ref(), wait).await {
                        Stop::TimeIsUp => {}
                        Stop::TokenEnded => return Err(token_is_dead(outgoing.operation)),
                    }
                    last_wait = Some(wait);
                }
            }
        }
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        caller: Caller<'_>,
        token: Option<&AccessToken>,
        time: Duration,
    ) -> Result<Answer, Failed> {
        let request = self.prepare(outgoing, caller, token).map_err(Failed::for_good)?;
        let host = outgoing.address.as_ref().map_or(&*self.host, Address::host);
        let sending = pin!(self.transport.send(request, &self.limits));
        let stopping = pin!(self.until(caller, token, time));
        let answer = match select(sending, stopping).await {
            Either::Left((answer, _)) => answer,
            Either::Right((Stop::TokenEnded, _)) => {
                return Err(Failed::for_good(token_is_dead(outgoing.operation).sent(true)));
            }
            Either::Right((Stop::TimeIsUp, _)) => {
                let what = format!("{host} gave no whole answer within {} s", seconds(time));
                return Err(Failed {
                    error: Error::new(Kind::Timeout, outgoing.operation, what)
                        .advice("try again later"),
                    failure: Some(Failure::Transport(TransportErrorKind::Timeout)),
                    asked_for: None,
                });
            }
        };
        match answer {
            Ok(answer) => {
                let scrub = |text: &str| prepare::scrub(outgoing, caller, token, text);
                let bearer = caller.tokens().is_some();
                judge(self, outgoing, bearer, answer, &scrub)
            }
            Err(error) => {
                use TransportErrorKind as T;
                let (kind, what, advice) = match error.kind() {
                    T::Refused => (Kind::Build, error.to_string(), ""),
                    T::Connect => (
                        Kind::Connect,
                        format!("cannot connect to {host}: {error}"),
                        self.dialect.connect_advice(),
                    ),
                    T::Timeout => (Kind::Timeout, format!("{host}: {error}"), "try again later"),
                    T::TooLarge => {
                        (Kind::Transport, format!("{host}: {error}"), self.dialect.fault_advice())
                    }
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

    /// Waits for the time to be up, or for the token to end through another call.
    async fn until(&self, caller: Caller<'_>, token: Option<&AccessToken>, time: Duration) -> Stop {
        let sleeping = pin!(self.clock.sleep(time));
        let Some((tokens, token)) = caller.tokens().zip(token) else {
            sleeping.await;
            return Stop::TimeIsUp;
        };
        let ended = pin!(tokens.until_ended(token));
        match select(sleeping, ended).await {
            Either::Left(_) => Stop::TimeIsUp,
            Either::Right(_) => Stop::TokenEnded,
        }
    }
}

/// The token for a call that needs one.
async fn bearer(operation: &'static str, caller: Caller<'_>) -> Result<Option<AccessToken>, Error> {
    let Some(tokens) = caller.tokens() else {
        return Ok(None);
    };
    let token = tokens.source.token().await?;
    if tokens.has_ended(&token) {
        return Err(token_is_dead(operation));
    }
    Ok(Some(token))
}

enum Stop {
    TimeIsUp,
    TokenEnded,
}

fn token_is_dead(operation: &'static str) -> Error {
    Error::new(Kind::Auth, operation, "the token was refused before")
        .advice("get a new authorization of the user")
        .sent(false)
        .ending_token()
}

/// A time in seconds, in tenths where it is short.
fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    match tenths % 10 {
        0 => format!("{}", tenths / 10),
        rest => format!("{}.{rest}", tenths / 10),
    }
}
