//! Receivers of webhooks: applications that verify the signature, and fail, are slow or request a
//! delay.

use crate::{
    application::Mailbox, dice::SharedDice, life::Life, time::SimClock, trace::Trace,
    witness::Witness,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use px_core::{Clock as _, HttpLimits, HttpTransport, TransportError, TransportErrorKind};
use px_items::webhook::{Signer, SigningKey};
use px_server::webhook::{FixedKeys, Verifier, WebhookErrorKind};
use px_types::{ApplicationId, KeyId, webhook::VERIFICATION_HEADER};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Applications, and the key that identifies the sender.
#[derive(Clone)]
pub(crate) struct Applications {
    pub(crate) mailboxes: BTreeMap<ApplicationId, Arc<Mailbox>>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) verifiers: BTreeMap<ApplicationId, Arc<Verifier>>,
}

impl Applications {
    pub(crate) fn new(count: u64, clock: SimClock) -> Self {
        let ids: Vec<_> =
            (1..=count).map(|number| ApplicationId::new(format!("app{number}")).unwrap()).collect();
        let key = SigningKey::generate(KeyId::new("k1").unwrap(), clock.now()).unwrap();
        let signer = Arc::new(Signer::new(key));
        let keys = FixedKeys::new(signer.verification_keys(clock.now()));
        let verifier = || Arc::new(Verifier::new(Arc::new(keys.clone())).clock(Arc::new(clock)));
        Self {
            mailboxes: ids.iter().map(|id| (id.clone(), Arc::default())).collect(),
            verifiers: ids.iter().map(|id| (id.clone(), verifier())).collect(),
            signer,
        }
    }
}

/// Network between a webhook sender and all applications.
pub(crate) struct Receivers {
    pub(crate) applications: Applications,
    pub(crate) witness: Arc<Witness>,
    pub(crate) life: Arc<Life>,
    pub(crate) bad: Arc<AtomicBool>,
    pub(crate) dice: SharedDice,
    pub(crate) clock: SimClock,
    pub(crate) trace: Arc<Trace>,
    /// Number of webhooks of a thousand that an application fails in some way.
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
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.life.gate(true).await;
        self.wait(1, 200).await;
        let fails =
            self.bad.load(Ordering::Relaxed) && self.dice.throw(|dice| dice.chance(self.fails));
        let response = if fails {
            self.receive_with_fault(request).await
        } else {
            self.accept(&request).await
        };
        self.wait(1, 200).await;
        self.life.gate(true).await;
        response
    }
}

impl Receivers {
    /// Verifies the webhook and accepts it.
    async fn accept(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let name = request.uri().path().trim_start_matches('/');
        let mailbox = self.applications.mailboxes.get_key_value(name);
        let verifier = self.applications.verifiers.get(name);
        let (Some((id, mailbox)), Some(verifier)) = (mailbox, verifier) else {
            return Ok(status(404));
        };
        let signature = request.headers().get(VERIFICATION_HEADER);
        let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or_default();
        match verifier.verify(signature, request.body(), None).await {
            Ok(_) => {}
            // The same webhook again.
            Err(error) if error.kind() == WebhookErrorKind::Replay => {}
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

    async fn receive_with_fault(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        match self.dice.throw(|dice| dice.below(6)) {
            0 => Ok(status(500)),
            1 => {
                let mut response = status(429);
                let seconds = self.dice.throw(|dice| dice.between(1, 7200));
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                Ok(response)
            }
            2 => Err(TransportError::new(TransportErrorKind::Connect, "no connection")),
            3 => {
                // Accepted, but too late for the sender.
                self.wait(11_000, 60_000).await;
                self.accept(&request).await
            }
            4 => {
                // Accepted, and the response is lost.
                self.accept(&request).await?;
                Err(TransportError::new(TransportErrorKind::Truncated, "cut off"))
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
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
