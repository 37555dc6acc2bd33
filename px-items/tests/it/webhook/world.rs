//! A store with webhooks in its outbox, and receivers with scripted responses.

use super::{at, kid};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Request, Response, StatusCode, Uri};
use px_client::oauth::TokenSet;
use px_core::{
    Clock, HttpLimits, HttpTransport, LocalClock, SeededRandom, SystemClock, TransportError,
    TransportErrorKind,
};
use px_items::{
    changes::ItemChanges,
    connection::Connection,
    item::State,
    store::{AccessDigest, Commit, LeaseOutcome, MemoryStore, NewHolder, NewLink, Store},
    sync_state::History,
    webhook::{Sender, SenderSettings, Signer, SigningKey},
};
use px_server::webhook::{FixedKeys, Verifier};
use px_types::{
    AccessToken, AccountId, ApplicationId, InstitutionId, ItemId, UserId,
    model::product::Product,
    webhook::{Environment, VERIFICATION_HEADER},
};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const START: &str = "2024-05-01T12:00:00Z";

/// A request as a receiver saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Seconds since the start.
    pub(crate) second: i64,
    pub(crate) url: String,
    pub(crate) header: String,
    pub(crate) body: String,
}

/// Behaviour of a receiver.
pub(crate) enum Reply {
    Status(u16),
    RetryAfter(u16, &'static str),
    /// Responds with 200 after a number of milliseconds.
    After(u64),
    Never,
    NoConnection,
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// Network with all receivers.
#[derive(Clone)]
pub(crate) struct Net {
    clock: Arc<dyn Clock>,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

#[async_trait]
impl HttpTransport for Net {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        assert_eq!(request.method(), http::Method::POST);
        assert_eq!(request.headers()["content-type"], "application/json");
        let seen = Seen {
            second: (self.clock.now() - at(START)).num_seconds(),
            url: Uri::to_string(request.uri()),
            header: request.headers()[VERIFICATION_HEADER].to_str().unwrap().to_owned(),
            body: String::from_utf8(request.body().to_vec()).unwrap(),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let response = |status| Response::builder().status(StatusCode::from_u16(status).unwrap());
        let response = match (self.script)(&seen) {
            Reply::Status(status) => response(status),
            Reply::RetryAfter(status, when) => response(status).header("retry-after", when),
            Reply::After(millis) => {
                self.clock.sleep(Duration::from_millis(millis)).await;
                response(200)
            }
            Reply::Never => std::future::pending().await,
            Reply::NoConnection => {
                return Err(TransportError::new(TransportErrorKind::Connect, "no connection"));
            }
        };
        Ok(response.body(Bytes::new()).unwrap())
    }
}

/// Items, applications and a sender, under the time of the test.
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) signer: Arc<Signer>,
    net: Net,
}

impl World {
    pub(crate) fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at(at(START)));
        let key = SigningKey::generate(kid("k1"), at(START)).unwrap();
        let net = Net { clock: clock.clone(), script: Arc::new(script), seen: Arc::default() };
        let shared = Arc::new(LocalClock::new(clock.clone()));
        let store = MemoryStore::new(Environment::Sandbox).shared_clock(shared, clock.clone());
        let store = Arc::new(store);
        Self { clock, store, signer: Arc::new(Signer::new(key)), net }
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender_with(SenderSettings::default())
    }

    pub(crate) fn sender_with(&self, settings: SenderSettings) -> Sender {
        self.sender_over(Arc::new(self.net.clone()), settings)
    }

    pub(crate) fn sender_over(
        &self,
        transport: Arc<dyn HttpTransport>,
        settings: SenderSettings,
    ) -> Sender {
        self.sender_by(self.clock.clone(), transport, settings)
    }

    /// Returns a sender on a machine with a given clock.
    pub(crate) fn sender_by(
        &self,
        clock: Arc<dyn Clock>,
        transport: Arc<dyn HttpTransport>,
        settings: SenderSettings,
    ) -> Sender {
        Sender::builder(self.store.clone(), transport, self.signer.clone())
            .clock(clock)
            .random(Arc::new(SeededRandom::new(1)))
            .settings(settings)
            .build()
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    pub(crate) fn verifier(&self) -> Verifier {
        let keys = self.signer.verification_keys(self.clock.now());
        Verifier::new(Arc::new(FixedKeys::new(keys))).clock(self.clock.clone())
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.net.seen.lock().unwrap().clone()
    }

    /// Returns the times of the requests in seconds.
    pub(crate) fn seconds(&self) -> Vec<i64> {
        self.seen().iter().map(|seen| seen.second).collect()
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) async fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// Sends what is due, every ten seconds.
    pub(crate) async fn send_for(&self, sender: &Sender, hours: u64) {
        for _ in 0..hours * 360 {
            sender.deliver_due().await;
            self.pass(10).await;
        }
    }

    /// Returns the number of queued webhooks.
    pub(crate) async fn waiting(&self) -> u64 {
        self.store.overview(self.now()).await.unwrap().webhooks
    }

    /// Connects an application to an Item.
    pub(crate) async fn link(&self, item: &str, connection: Connection) {
        let user = (InstitutionId::new("bank").unwrap(), UserId::new(item).unwrap());
        let mut digest = [0; 32];
        let token = format!("{item}/{}", connection.application_id);
        digest[..token.len()].copy_from_slice(token.as_bytes());
        let tokens = TokenSet::new(AccessToken::new(token), self.now());
        let item = ItemId::new(item).unwrap();
        let holder = NewHolder::Application(connection);
        let link = NewLink::new(user, item, tokens, holder, AccessDigest(digest), self.now());
        self.store.link(link).await.unwrap();
    }

    /// Makes a commit with notifications.
    pub(crate) async fn notify(&self, item: &str, changes: ItemChanges) {
        self.commit(item, |commit| commit.changes = changes).await;
    }

    pub(crate) async fn commit(&self, item: &str, change: impl FnOnce(&mut Commit)) {
        let (item, now) = (ItemId::new(item).unwrap(), self.now());
        let lease = now + Duration::from_secs(60);
        let record = self.store.claim_one(&item, now, lease).await.unwrap().unwrap();
        let then = LeaseOutcome::Release { due_at: None, not_before: None, seen: record.notified };
        let mut commit = Commit::new(&record, State::Idle, now, then);
        commit.sync_state.history = History::Complete;
        change(&mut commit);
        self.store.commit(commit).await.unwrap();
    }

    /// Puts a number of webhooks into the outbox, each for its own Item.
    pub(crate) async fn queue(&self, application: &str, webhooks: usize) {
        for n in 0..webhooks {
            let item = format!("{application}-{n}");
            self.link(&item, connection(application)).await;
            self.notify(&item, changes()).await;
        }
    }
}

/// Returns an application with the webhook URL `https://<name>.example/hook?token=hunter2`. It uses
/// no transactions, so each notification is one webhook.
pub(crate) fn connection(application: &str) -> Connection {
    let id = ApplicationId::new(application).unwrap();
    let mut connection = Connection::new(id, [Product::Auth], at(START));
    connection.webhook = Some(format!("https://{application}.example/hook?token=hunter2"));
    connection
}

/// `NEW_ACCOUNTS_AVAILABLE`.
pub(crate) fn changes() -> ItemChanges {
    let mut changes = ItemChanges::default();
    changes.new_accounts = vec![AccountId::new("a1").unwrap()];
    changes
}
