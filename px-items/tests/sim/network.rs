//! Network between a machine and a bank: it delays, loses, duplicates and cuts messages, and
//! returns errors of its own.
//!
//! It never does two things that no client could survive: it never invents a 401, and of two
//! consecutive refreshes of a grant it lets at least one through (a refresh token that is used
//! again after 30 s ends the user's authorization, by the contract).

use crate::{
    bank::Bank,
    damage::Damage,
    dice::{Dice, SharedDice},
    life::Life,
    time::SimClock,
    trace::Trace,
    witness::Witness,
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::TimeDelta;
use http::{Request, Response, header};
use px_core::{
    Clock as _, HttpLimits, HttpTransport, InProcessTransport, TransportError, TransportErrorKind,
};
use px_items::store::Store;
use px_server::PartnerService;
use px_types::Timestamp;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Fault rates of a network, per thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) slow: u64,
    pub(crate) never_sent: u64,
    pub(crate) lost_before: u64,
    pub(crate) lost_after: u64,
    pub(crate) doubled: u64,
    pub(crate) cut: u64,
    pub(crate) too_many: u64,
    pub(crate) broken: u64,
    pub(crate) unavailable: u64,
    pub(crate) html: u64,
}

impl Rates {
    /// Returns random rates; in one of five runs a network without faults.
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let worst = match dice.below(5) {
            0 => 0,
            1 => 10,
            2 | 3 => 40,
            _ => 100,
        };
        Self {
            slow: dice.below(worst + 1),
            never_sent: dice.below(worst + 1),
            lost_before: dice.below(worst + 1),
            lost_after: dice.below(worst + 1),
            doubled: dice.below(worst + 1),
            cut: dice.below(worst + 1),
            too_many: dice.below(worst + 1),
            broken: dice.below(worst + 1),
            unavailable: dice.below(worst + 1),
            html: dice.below(worst + 1),
        }
    }
}

/// Network from one machine to one bank.
pub(crate) struct Network {
    pub(crate) bank: Arc<Bank>,
    pub(crate) service: InProcessTransport<PartnerService>,
    pub(crate) life: Arc<Life>,
    pub(crate) rates: Rates,
    pub(crate) damage: Damage,
    /// Whether there are faults at all; shared by all networks of a run.
    pub(crate) bad: Arc<AtomicBool>,
    pub(crate) dice: SharedDice,
    pub(crate) clock: SimClock,
    pub(crate) trace: Arc<Trace>,
    pub(crate) witness: Arc<Witness>,
    /// Used to check whether an Item has a revoked token.
    pub(crate) store: Arc<dyn Store>,
    /// Families of refresh tokens with a failed last refresh.
    pub(crate) spare_next_refresh: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Network").field(&self.life.name).finish()
    }
}

/// Fate of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Slow,
    NeverSent,
    LostBefore,
    LostAfter,
    Doubled,
    Cut,
    TooMany { header: bool },
    Broken,
    Unavailable { at: bool },
    Html,
}

impl Fate {
    fn random(rates: &Rates, dice: &mut Dice) -> Self {
        let fates = [
            (rates.slow, Self::Slow),
            (rates.never_sent, Self::NeverSent),
            (rates.lost_before, Self::LostBefore),
            (rates.lost_after, Self::LostAfter),
            (rates.doubled, Self::Doubled),
            (rates.cut, Self::Cut),
            (rates.too_many, Self::TooMany { header: dice.chance(500) }),
            (rates.broken, Self::Broken),
            (rates.unavailable, Self::Unavailable { at: dice.chance(500) }),
            (rates.html, Self::Html),
        ];
        let mut left = dice.below(1000);
        for (rate, fate) in fates {
            match left.checked_sub(rate) {
                Some(rest) => left = rest,
                None => return fate,
            }
        }
        Self::Fine
    }
}

#[async_trait]
impl HttpTransport for Network {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.life.gate(true).await;
        let what = format!("{} {}", request.method(), short(&request));
        let fate = self.fate(family(&request));
        if fate != Fate::Fine {
            self.trace.note(&self.life.name, format_args!("{what}: {fate:?}"));
        }
        self.wait(1, 60).await;
        let response = self.send_with(fate, request, limits).await;
        self.wait(1, 60).await;
        self.life.gate(true).await;
        match &response {
            Ok(response) => {
                let status = response.status().as_u16();
                self.trace.note(&self.life.name, format_args!("{what}: {status}"));
            }
            Err(error) => self.trace.note(&self.life.name, format_args!("{what}: {error}")),
        }
        response
    }
}

impl Network {
    fn fate(&self, refreshed: Option<String>) -> Fate {
        if !self.bad.load(Ordering::Relaxed) {
            return Fate::Fine;
        }
        let mut spared = self.spare_next_refresh.lock().unwrap_or_else(PoisonError::into_inner);
        if refreshed.as_ref().is_some_and(|family| spared.remove(family)) {
            return Fate::Fine;
        }
        if self.life.is_cut_off() {
            return Fate::NeverSent;
        }
        let fate = self.dice.throw(|dice| Fate::random(&self.rates, dice));
        if fate != Fate::Fine {
            spared.extend(refreshed);
        }
        fate
    }

    async fn send_with(
        &self,
        fate: Fate,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let now = self.clock.now();
        match fate {
            Fate::Fine => self.call_bank(request, limits).await,
            Fate::Slow => {
                // The delays of both ways together may exceed the client's timeout.
                self.wait(1000, 20_000).await;
                let response = self.call_bank(request, limits).await;
                self.wait(1000, 20_000).await;
                response
            }
            Fate::NeverSent => {
                Err(TransportError::new(TransportErrorKind::Connect, "no connection"))
            }
            Fate::LostBefore => std::future::pending().await,
            Fate::LostAfter => {
                self.call_bank(request, limits).await?;
                std::future::pending().await
            }
            Fate::Doubled => {
                let first = self.call_bank(request.clone(), limits).await;
                self.call_bank(request, limits).await.ok();
                first
            }
            Fate::Cut => self.cut(request, limits).await,
            Fate::TooMany { header } => {
                let mut response = error(429, "too_many_requests");
                if header {
                    let seconds = self.dice.throw(|dice| dice.between(1, 900));
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                Ok(response)
            }
            Fate::Broken => Ok(error(500, "internal_error")),
            Fate::Unavailable { at } => {
                let seconds = self.dice.throw(|dice| dice.between(10, 7200)).cast_signed();
                let retry_at = Timestamp::from(now + TimeDelta::seconds(seconds));
                let mut body = serde_json::json!({
                    "error": { "id": "institution_unavailable", "message": "Not now." },
                });
                if at {
                    body["retry_at"] = serde_json::json!(retry_at.to_string());
                }
                Ok(json(503, body.to_string()))
            }
            Fate::Html => {
                // RFC 7009: only the status of a revocation response counts.
                let revocation = revoked_token(&request).is_some();
                let statuses: &[u16] = if revocation { &[502, 504] } else { &[200, 502, 504] };
                let status = self.dice.throw(|dice| dice.pick(statuses).copied().unwrap_or(502));
                let mut response = Response::new(Bytes::from_static(b"<html>Maintenance</html>"));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                let html = header::HeaderValue::from_static("text/html");
                response.headers_mut().insert(header::CONTENT_TYPE, html);
                Ok(response)
            }
        }
    }

    /// Cuts the response: noticed by the transport, or only by the reader.
    async fn cut(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let response = self.call_bank(request, limits).await?;
        if self.dice.throw(|dice| dice.chance(500)) {
            return Err(TransportError::new(TransportErrorKind::Truncated, "cut off"));
        }
        let (parts, body) = response.into_parts();
        let length = self.dice.throw(|dice| dice.below(body.len() as u64));
        let length = usize::try_from(length).unwrap_or_default();
        Ok(Response::from_parts(parts, body.slice(..length)))
    }

    async fn call_bank(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        if let Some(token) = revoked_token(&request)
            && let Some(grant) = self.bank.grant_of_any(&token).await
        {
            self.bank.note_end(&grant, "this side");
            self.witness.revoking(&*self.store, &self.life, &self.bank, &grant).await;
        }
        let refreshed = match family(&request) {
            Some(family) => self.bank.grant_of_any(&family).await,
            None => None,
        };
        let Some(grant) = refreshed else {
            let path = request.uri().path().to_owned();
            let response = self.service.send(request, limits).await?;
            let is_damaged = self.bad.load(Ordering::Relaxed);
            return Ok(match is_damaged {
                true => self.damage.apply(&path, self.clock.now(), response),
                false => response,
            });
        };
        let lived = self.bank.is_alive(&grant).await;
        let response = self.service.send(request, limits).await;
        if lived && !self.bank.is_alive(&grant).await {
            self.witness.reused(&self.life, grant);
        } else if response.as_ref().is_ok_and(|response| response.status().is_success()) {
            self.witness.refreshed(&self.life, grant);
        }
        response
    }

    async fn wait(&self, shortest: u64, longest: u64) {
        let millis = self.dice.throw(|dice| dice.between(shortest, longest));
        self.clock.sleep(Duration::from_millis(millis)).await;
    }
}

/// Returns the end of the path with the dates, for the trace.
fn short(request: &Request<Bytes>) -> String {
    let path = request.uri().path();
    if let Some(token) = revoked_token(request) {
        return format!("{path} of {token}");
    }
    match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// Returns the constant part of a refresh token in a refresh request.
fn family(request: &Request<Bytes>) -> Option<String> {
    if !request.uri().path().ends_with("/oauth2/token") {
        return None;
    }
    let token = field(request, "refresh_token=")?;
    Some(token.split_once('.').map_or(token.as_str(), |(family, _)| family).to_owned())
}

/// Returns the token of a revocation request.
fn revoked_token(request: &Request<Bytes>) -> Option<String> {
    if !request.uri().path().ends_with("/oauth2/revoke") {
        return None;
    }
    field(request, "token=")
}

/// Returns a field of a form.
fn field(request: &Request<Bytes>, name: &str) -> Option<String> {
    let body = std::str::from_utf8(request.body()).ok()?;
    body.split('&').find_map(|pair| pair.strip_prefix(name)).map(str::to_owned)
}

fn error(status: u16, id: &str) -> Response<Bytes> {
    json(status, format!(r#"{{"error":{{"id":"{id}","message":"Not now."}}}}"#))
}

fn json(status: u16, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
