//! Logs, debug output and errors of a whole lifecycle: no secret, and no customer data.

use super::world::{HandClock, foreign, user};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Request, Response};
use px_client::{PartnerClient, RetryPolicy, Window, oauth::TokenSet};
use px_core::{Clock, HttpLimits, HttpTransport, SeededRandom, TransportError};
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Observer},
    items::{Items, TransactionsRequest},
    partners::{FixedPartners, Partner},
    store::{MemoryStore, Store},
};
use px_types::{
    AccessToken, ApplicationId, ClientSecret, InstitutionId, RefreshToken, UserId,
    model::product::Product, webhook::Environment,
};
use serde_json::{Value, json};
use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const USER: &str = "user-jane-4711";
/// Texts that must not appear anywhere; each of them is in a message of the bank or an application.
const SECRETS: [&str; 12] = [
    USER,
    "bank-access-one",
    "bank-refresh-one",
    "bank-access-two",
    "bank-refresh-two",
    "client-secret-hush",
    "9900009606",
    "GB33BUKB20201555555555",
    "Ada Lovelace",
    "ada@example.com",
    "a very private purchase",
    "7317.42",
];

/// Records all output to `tracing` as text.
#[derive(Clone, Default)]
struct Listener {
    heard: Arc<Mutex<String>>,
    spans: Arc<AtomicU64>,
}

impl Listener {
    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }

    fn hear(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("{} {}", metadata.target(), metadata.name()));
        record(&mut line);
        let mut heard = self.heard.lock().unwrap();
        heard.push_str(&line.0);
        heard.push('\n');
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.hear(span.metadata(), |line| span.record(line));
        span::Id::from_u64(1 + self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = Line(String::from("recorded"));
        values.record(&mut line);
        let mut heard = self.heard.lock().unwrap();
        heard.push_str(&line.0);
        heard.push('\n');
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.hear(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A bank with changing moods: one behaviour after the other.
#[derive(Debug)]
struct MoodyBank {
    responses: AtomicUsize,
    mood: Mutex<Mood>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Good,
    /// Refuses the token until it is refreshed.
    Refreshing,
    /// Refuses every token.
    Refusing,
    /// Responds with a violation of the contract, full of customer data.
    Broken,
    /// Does not respond.
    Down,
}

#[async_trait]
impl HttpTransport for MoodyBank {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.responses.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        let path = request.uri().path().to_owned();
        let (status, body) = match (mood, path.as_str()) {
            (Mood::Refusing, "/oauth2/token") => (400, json!({ "error": "invalid_grant" })),
            (_, "/oauth2/token") => {
                let mut mood = self.mood.lock().unwrap();
                if *mood == Mood::Refreshing {
                    *mood = Mood::Good;
                }
                (
                    200,
                    json!({
                        "access_token": "bank-access-two", "refresh_token": "bank-refresh-two",
                        "token_type": "Bearer", "expires_in": 900,
                    }),
                )
            }
            (_, "/oauth2/revoke") => (200, json!({})),
            (Mood::Refreshing | Mood::Refusing, _) => {
                let message = format!("the token of {USER} (bank-access-one) is bad");
                (401, json!({ "error": { "id": "invalid_token", "message": message } }))
            }
            (Mood::Down, _) => {
                let message = format!("{USER} has to wait");
                (503, json!({ "error": { "id": "institution_unavailable", "message": message } }))
            }
            (Mood::Broken, _) => (
                200,
                json!({
                    "user_identity_id": ["Ada Lovelace"], "total": "7317.42",
                    "transactions": [{ "id": 9_900_009_606_u64, "description": "a very private purchase" }],
                }),
            ),
            (Mood::Good, path) if path.ends_with("/transactions") => (200, page(&request)),
            (Mood::Good, _) => (200, serde_json::to_value(user()).unwrap()),
        };
        let response =
            Response::builder().status(status).header("content-type", "application/json");
        Ok(response.body(body.to_string().into()).unwrap())
    }
}

/// Returns one row, on a date that is in every window up to now.
fn page(request: &Request<Bytes>) -> Value {
    let query = request.uri().query().unwrap_or_default();
    let has_it = query.contains("end_date=2026-03");
    let row = json!({
        "id": "t1", "account_id": "account-checking", "amount": "7317.42", "currency": "USD",
        "description": "a very private purchase", "type": "depository",
        "transacted_at": "2026-03-01", "settled_at": "2026-03-01",
        "merchant": { "name": "a very private purchase" },
    });
    let rows = if has_it { vec![row] } else { Vec::new() };
    json!({ "total": rows.len(), "transactions": rows })
}

/// Records the events of an observer as text.
#[derive(Debug, Default)]
struct Notes(Mutex<String>);

impl Observer for Notes {
    fn observe(&self, event: &Observed) {
        write!(self.0.lock().unwrap(), "{event:?}").unwrap();
    }
}

fn tokens(now: DateTime<Utc>, which: &str) -> TokenSet {
    let mut tokens = TokenSet::new(AccessToken::new(format!("bank-access-{which}")), now);
    tokens.refresh_token = Some(RefreshToken::new(format!("bank-refresh-{which}")));
    tokens.expires_at = Some((now + TimeDelta::days(365)).into());
    tokens
}

/// Runs the lifecycle of an Item with all kinds of failures. Returns the visible output as text,
/// and the issued tokens.
async fn live() -> (String, Vec<String>) {
    let mut shown = String::new();
    let clock = Arc::new(HandClock::at("2026-03-01T12:00:00Z"));
    let store = Arc::new(MemoryStore::new(Environment::Sandbox));
    let bank = Arc::new(MoodyBank { responses: AtomicUsize::new(0), mood: Mutex::new(Mood::Good) });
    let client = PartnerClient::builder("https://bank.example", Shared(Arc::clone(&bank)))
        .client("plaid".parse().unwrap(), ClientSecret::new("client-secret-hush"))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .retry(RetryPolicy::never())
        .random(Arc::new(px_core::SeededRandom::new(7)))
        .build()
        .unwrap();
    let institution = InstitutionId::new("bank").unwrap();
    let partners = FixedPartners::new().with(institution.clone(), Partner::new(client));
    let notes = Arc::new(Notes::default());
    let engine = Engine::builder(Arc::clone(&store) as Arc<dyn Store>, Arc::new(partners))
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .random(Arc::new(SeededRandom::new(3)))
        .observer(Arc::clone(&notes) as Arc<dyn Observer>)
        .build();
    let items = Items::builder(Arc::clone(&store) as Arc<dyn Store>)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .random(Arc::new(SeededRandom::new(1)))
        .build();
    let user_id = UserId::new(USER).unwrap();
    let connect = |name: &str| {
        let application = ApplicationId::new(name).unwrap();
        let mut connection = Connection::new(
            application,
            [
                Product::Auth,
                Product::Identity,
                Product::Investments,
                Product::Liabilities,
                Product::Transactions,
            ],
            clock.now(),
        );
        connection.webhook = Some(format!("https://{name}.example/hook"));
        connection
    };
    let mut show = |what: &dyn fmt::Debug| writeln!(shown, "{what:?}").unwrap();

    let first =
        items.link(&institution, &user_id, tokens(clock.now(), "one"), connect("one")).await;
    let first = first.unwrap();
    show(&first);
    let early = items.accounts(&first.access_token).await.unwrap_err();
    show(&early);
    engine.run_due().await;
    let window = Window::new("2026-01-01".parse().unwrap(), "2026-12-31".parse().unwrap()).unwrap();
    let page = items.transactions(&first.access_token, &TransactionsRequest::new(window)).await;
    assert_eq!(page.unwrap().data.total, 1, "the life is a real one");
    for mood in [Mood::Down, Mood::Broken, Mood::Refreshing, Mood::Broken, Mood::Refusing] {
        *bank.mood.lock().unwrap() = mood;
        clock.advance(TimeDelta::days(3));
        engine.run_due().await;
        show(&items.status(&first.access_token).await.unwrap());
        // The failure is stored for operators.
        let record = store.item(&first.item_id).await.unwrap().unwrap();
        show(&record.sync_state.last_failure);
        let requests = bank.responses.swap(0, Ordering::Relaxed);
        assert!(requests > 0, "the bank was called in mood {mood:?}");
    }
    let lost = items.status(&first.access_token).await.unwrap();
    assert_eq!(lost.item.error.unwrap().error_code, "ITEM_LOGIN_REQUIRED");

    *bank.mood.lock().unwrap() = Mood::Good;
    let second =
        items.link(&institution, &user_id, tokens(clock.now(), "two"), connect("two")).await;
    let second = second.unwrap();
    assert!(second.repaired);
    show(&second);
    engine.run_due().await;
    let notification = serde_json::from_value(json!({
        "notifications": [
            { "access_token": first.access_token.expose(), "account_id": "account-checking" },
            { "access_token": foreign().expose(), "account_id": "account-checking" },
        ],
        "new_since": "2026-02-20",
    }))
    .unwrap();
    let refused = items.handle_transactions_notification(&institution, &notification).await;
    let refused = refused.unwrap_err();
    show(&refused);
    show(&refused.to_plaid_error("r1"));
    let wrong = items.transactions_sync(&first.access_token, Some("wrong"), None).await;
    show(&wrong.unwrap_err());
    let rotated = items.rotate_access(&first.access_token).await.unwrap();
    show(&items.unlink(&rotated).await.unwrap());
    show(&items.unlink(&second.access_token).await.unwrap());
    clock.advance(TimeDelta::days(1));
    engine.run_due().await;
    show(&(&items, &engine, &store));
    show(&notes);
    let given = [&first.access_token, &second.access_token, &rotated, &foreign()]
        .map(|token| token.expose().to_owned());
    (shown, given.to_vec())
}

/// One bank behind clients that own their transport.
#[derive(Debug)]
struct Shared(Arc<MoodyBank>);

#[async_trait]
impl HttpTransport for Shared {
    async fn send(
        &self,
        request: Request<Bytes>,
        limits: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.0.send(request, limits).await
    }
}

#[tokio::test]
async fn case_48_no_secret_is_logged_or_shown_in_a_whole_life() {
    let listener = Listener::default();
    let (shown, given) = {
        // With a single subscriber, a callsite that another test reaches first would be cached as
        // disabled.
        let _second = tracing::Dispatch::new(listener.clone());
        let _listening = tracing::subscriber::set_default(listener.clone());
        live().await
    };
    let logged = listener.heard();
    // The listener works: the Item is named, and so is the failure.
    assert!(logged.contains("linked") && logged.contains("px_items"), "{logged}");
    assert!(shown.contains("ITEM_LOGIN_REQUIRED"), "{shown}");
    for (where_, text) in [("logged", &logged), ("shown", &shown)] {
        for secret in SECRETS.into_iter().chain(given.iter().map(String::as_str)) {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret:?} is {where_}");
        }
    }
}
