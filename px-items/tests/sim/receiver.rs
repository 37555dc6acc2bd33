//! Where webhooks arrive: applications that check the signature, and fail, are slow or ask for
//! patience.

use crate::{
    application::Mailbox, dice::SharedDice, life::Life, time::SimClock, trace::Trace,
    witness::Witness,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use px_client::{
    clock::Clock as _,
    transport::{HttpTransport, Limits, TransportError, TransportErrorKind},
};
use px_items::webhook::Verifier;
use px_types::{ApplicationId, webhook::VERIFICATION_HEADER};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The network between a sender of webhooks and all applications.
pub(crate) struct Receivers {
    pub(crate) applications: BTreeMap<ApplicationId, Arc<Mailbox>>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) life: Arc<Life>,
    pub(crate) bad: Arc<AtomicBool>,
    pub(crate) dice: SharedDice,
    pub(crate) clock: SimClock,
    pub(crate) trace: Arc<Trace>,
    /// How often of a thousand an application fails in some way.
    pub(crate) fails: u64,
}

impl std::fmt::Debug for Receivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Receivers").field(&self.life.name).finish()
    }
}

#[async_trait]
impl HttpTransport for Receivers {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &Limits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.life.gate().await;
        self.wait(1, 200).await;
        let fails = self.bad.load(Ordering::Relaxed)
            && self.dice.throw(|dice| dice.chance(self.fails));
        let answer = if fails { self.badly(request).await } else { self.take(&request).await };
        self.wait(1, 200).await;
        self.life.gate().await;
        answer
    }
}

impl Receivers {
    /// The application checks the webhook and takes it.
    async fn take(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let name = request.uri().path().trim_start_matches('/');
        let Some((id, mailbox)) = self.applications.iter().find(|(id, _)| id.as_str() == name)
        else {
            return Ok(status(404));
        };
        let signature = request.headers().get(VERIFICATION_HEADER);
        let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or_default();
        match self.verifier.verify(signature, request.body()).await {
            Ok(_) => {}
            Err(error) => {
                let what = format!("{id} got a webhook that is not to be trusted: {error}");
                self.trace.wrong(what);
                return Ok(status(error.status()));
            }
        }
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let webhook = body.split("\"webhook_code\":\"").nth(1).unwrap_or_default();
        let code = webhook.split('"').next().unwrap_or_default();
        self.trace.note(id.as_str(), format_args!("is told {code}"));
        self.witness.arrived(id, &body);
        mailbox.notify();
        Ok(status(200))
    }

    async fn badly(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        match self.dice.throw(|dice| dice.below(6)) {
            0 => Ok(status(500)),
            1 => {
                let mut answer = status(429);
                let seconds = self.dice.throw(|dice| dice.between(1, 7200));
                answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                Ok(answer)
            }
            2 => Err(TransportError::new(TransportErrorKind::Connect, "no connection")),
            3 => {
                // Taken, but too late for who sent it.
                self.wait(11_000, 60_000).await;
                self.take(&request).await
            }
            4 => {
                // Taken, and the answer is lost.
                self.take(&request).await?;
                Err(TransportError::new(TransportErrorKind::Cut, "cut off"))
            }
            _ => Ok(status(302)),
        }
    }

    async fn wait(&self, shortest: u64, longest: u64) {
        let millis = self.dice.throw(|dice| dice.between(shortest, longest));
        self.clock.sleep(Duration::from_millis(millis)).await;
    }
}

fn status(code: u16) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}
