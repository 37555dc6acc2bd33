//! A small bank in the test process: invented users, and one address ("door") for each program that calls it.
//!
//! It records the user and time of each call by door, so that a test can tell which `px` read which user.

use async_trait::async_trait;
use axum::{
    Json, Router, extract::Request, http::StatusCode, middleware::Next, response::Response,
};
use chrono::{DateTime, Utc};
use px_core::{Clock as _, SystemClock};
use px_server::{
    Caller, Error, Partner, PartnerService, TokenGrant,
    verify::{TokenVerifier, VerifyError},
    webhook::{FixedKeys, Verifier},
};
use px_types::{
    AccessToken, AccountId, Amount, Date, IdentityId, ScopeSet, TransactionId, Unit, UserId,
    model::{
        account::{Account, AccountKind, AccountStatus, AccountType, Other},
        account_subtype::OtherSubtype,
        identity::Identity,
        transaction::Transaction,
        verification_key::VerificationKey,
    },
    partner::{
        GetUser, ListTransactions, NewApplicationLinkNotification, TransactionsResponse,
        UserAccountInfoResponse,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

/// Text that moves the cursor, rings the bell and reverses a line.
pub(crate) const HOSTILE: &str = "A\u{1b}[2J\u{9b}31m\u{7}\u{202e}B\u{2066}\u{7f}";

/// Number of days of every user's history.
const DAYS: u64 = 725;

/// The bank, which ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Bank(Arc<Inner>);

struct Inner {
    clock: SystemClock,
    users: Mutex<BTreeMap<String, User>>,
    calls: Mutex<Vec<Call>>,
    /// Number of calls that have begun.
    begun: watch::Sender<u64>,
    /// Delay of each response.
    slowness: Mutex<Duration>,
    /// Calls from this number on wait until they are released.
    held_from: watch::Sender<Option<usize>>,
    revoked: Mutex<Vec<String>>,
    /// The refresh tokens that were used, with the time.
    refreshes: watch::Sender<Vec<(String, Duration)>>,
    /// Whether the response to a refresh is delayed after the rotation.
    holds_refreshes: watch::Sender<bool>,
    /// The key that verifies notifications of applications. Without it, they are not accepted.
    key: Mutex<Option<VerificationKey>>,
    notifications: Mutex<Vec<NewApplicationLinkNotification>>,
}

#[derive(Clone)]
struct User {
    rows: Arc<Vec<Transaction>>,
    trouble: Option<Trouble>,
}

/// The effect on a user's calls, instead of data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// 401: the token was revoked.
    Revoked,
    /// 500.
    Broken,
    /// The data, with escape sequences and bidirectional controls in every text.
    Hostile,
}

/// A call to the bank.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) door: usize,
    pub(crate) user: String,
    pub(crate) begun: Duration,
    /// `None` while it is processed, and if the caller closed the connection.
    pub(crate) ended: Option<Duration>,
}

impl Bank {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            clock: SystemClock::new(),
            users: Mutex::default(),
            calls: Mutex::default(),
            begun: watch::Sender::new(0),
            slowness: Mutex::default(),
            held_from: watch::Sender::new(None),
            revoked: Mutex::default(),
            refreshes: watch::Sender::new(Vec::new()),
            holds_refreshes: watch::Sender::new(false),
            key: Mutex::default(),
            notifications: Mutex::default(),
        }))
    }

    /// Adds a user with that many transactions, spread over two years.
    pub(crate) fn with_user(self, name: &str, transactions: u64) -> Self {
        let today = Date::from(self.now().date_naive());
        let rows = (0..transactions).map(|n| row(name, today, n, transactions)).collect();
        let user = User { rows: Arc::new(rows), trouble: None };
        self.0.users.lock().unwrap().insert(name.to_owned(), user);
        self
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    pub(crate) fn trouble(&self, name: &str, trouble: Option<Trouble>) {
        self.0.users.lock().unwrap().get_mut(name).unwrap().trouble = trouble;
    }

    /// Changes the second newest transaction, removes the newest and adds another one.
    pub(crate) fn live_on(&self, name: &str) {
        let today = Date::from(self.now().date_naive());
        let mut users = self.0.users.lock().unwrap();
        let user = users.get_mut(name).unwrap();
        let mut rows = Vec::clone(&user.rows);
        rows.sort_by_key(Transaction::date);
        let gone = rows.pop().unwrap();
        let changed = rows.last_mut().unwrap();
        changed.description = Some("CHANGED".to_owned());
        let mut new = row(name, today, 900_000, 1);
        new.transacted_at = gone.transacted_at;
        new.settled_at = gone.settled_at;
        rows.push(new);
        user.rows = Arc::new(rows);
    }

    /// Gives all transactions of a user other ids.
    pub(crate) fn renumber(&self, name: &str) {
        let mut users = self.0.users.lock().unwrap();
        let user = users.get_mut(name).unwrap();
        let mut rows = Vec::clone(&user.rows);
        for row in &mut rows {
            row.id = format!("other-{}", row.id).parse().unwrap();
        }
        user.rows = Arc::new(rows);
    }

    pub(crate) fn slow(&self, time: Duration) {
        *self.0.slowness.lock().unwrap() = time;
    }

    /// Responds to that many further calls; later ones wait until [`Bank::let_go`].
    pub(crate) fn hold_after(&self, calls: usize) {
        let from = self.calls().len() + calls;
        self.0.held_from.send_replace(Some(from));
    }

    /// Responds to all calls again.
    pub(crate) fn let_go(&self) {
        self.0.held_from.send_replace(None);
    }

    /// Returns a user's transactions, newest first, as JSON.
    pub(crate) fn rows(&self, name: &str) -> Vec<serde_json::Value> {
        let mut rows = Vec::clone(&self.0.users.lock().unwrap()[name].rows);
        rows.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
        rows.iter().map(|row| serde_json::to_value(row).unwrap()).collect()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    /// Sets whether the responses to refreshes are delayed.
    pub(crate) fn hold_refreshes(&self, hold: bool) {
        self.0.holds_refreshes.send_replace(hold);
    }

    /// Returns the refresh tokens that were used, with the time.
    pub(crate) fn refreshes(&self) -> watch::Receiver<Vec<(String, Duration)>> {
        self.0.refreshes.subscribe()
    }

    /// Rotates `refresh-ann-0` to `refresh-ann-1`. A used one gives another pair for 30 s after its first
    /// use, and then nothing.
    async fn refresh(&self, body: &str) -> Result<Json<serde_json::Value>, StatusCode> {
        let used = field(body, "refresh_token");
        let (user, number) = used.strip_prefix("refresh-").unwrap().rsplit_once('-').unwrap();
        let now = self.0.clock.elapsed();
        let mut first = now;
        self.0.refreshes.send_modify(|all| {
            first = all.iter().find(|(token, _)| *token == used).map_or(now, |(_, at)| *at);
            all.push((used.clone(), now));
        });
        let mut holds = self.0.holds_refreshes.subscribe();
        // The sender lives as long as this bank.
        drop(holds.wait_for(|holds| !holds).await);
        if now - first >= Duration::from_secs(30) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let next = number.parse::<u32>().unwrap() + 1;
        Ok(Json(serde_json::json!({
            "access_token": format!("token-{user}"), "refresh_token": format!("refresh-{user}-{next}"),
            "token_type": "bearer", "expires_in": 3600,
        })))
    }

    /// Returns the revoked tokens.
    pub(crate) fn revoked(&self) -> Vec<String> {
        self.0.revoked.lock().unwrap().clone()
    }

    /// Accepts notifications of applications at doors opened later, signed by that key.
    pub(crate) fn verifies_by(&self, key: VerificationKey) {
        *self.0.key.lock().unwrap() = Some(key);
    }

    /// Returns the notifications of applications.
    pub(crate) fn notifications(&self) -> Vec<NewApplicationLinkNotification> {
        self.0.notifications.lock().unwrap().clone()
    }

    /// Returns the number of calls that have begun.
    pub(crate) fn begun(&self) -> watch::Receiver<u64> {
        self.0.begun.subscribe()
    }

    /// Opens an address. Every call to it is recorded under its number.
    pub(crate) async fn door(&self, door: usize) -> String {
        let verifier = Arc::new(Tokens(self.clone()));
        let mut service = PartnerService::builder(self.clone()).tokens(verifier);
        if let Some(key) = self.0.key.lock().unwrap().clone() {
            let verifier = Verifier::new(Arc::new(FixedKeys::new(vec![key])));
            service = service.notifications(Arc::new(verifier));
        }
        let service = service.build().unwrap();
        let bank = self.clone();
        let noted = axum::middleware::from_fn(move |request: Request, next: Next| {
            let bank = bank.clone();
            async move { bank.note(door, request, next).await }
        });
        let (revoking, refreshing) = (self.clone(), self.clone());
        let token = async move |body: String| {
            if body.contains("grant_type=refresh_token") {
                return refreshing.refresh(&body).await;
            }
            Ok(redeem(body).await)
        };
        let router = Router::new()
            .route("/oauth2/token", axum::routing::post(token))
            .route(
                "/oauth2/revoke",
                axum::routing::post(|body: String| async move {
                    revoking.0.revoked.lock().unwrap().push(field(&body, "token"));
                }),
            )
            .merge(px_server::axum::router(service))
            .layer(noted);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn note(&self, door: usize, request: Request, next: Next) -> Response {
        let mut segments = request.uri().path().split('/').skip(1);
        let user = match (segments.next(), segments.next()) {
            (Some("users"), Some(user)) => user.to_owned(),
            _ => return next.run(request).await,
        };
        let begun = self.0.clock.elapsed();
        let number = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.push(Call { door, user, begun, ended: None });
            calls.len() - 1
        };
        self.0.begun.send_modify(|count| *count += 1);
        let slowness = *self.0.slowness.lock().unwrap();
        if !slowness.is_zero() {
            self.0.clock.sleep(slowness).await;
        }
        let mut held = self.0.held_from.subscribe();
        // The sender lives as long as this bank.
        drop(held.wait_for(|from| from.is_none_or(|from| number < from)).await);
        let response = next.run(request).await;
        self.0.calls.lock().unwrap()[number].ended = Some(self.0.clock.elapsed());
        response
    }

    fn of(&self, caller: &Caller) -> Result<User, Error> {
        let users = self.0.users.lock().unwrap();
        let user = users.get(caller.principal().as_str()).cloned();
        let user = user.ok_or_else(|| Error::internal("no such user"))?;
        match user.trouble {
            Some(Trouble::Broken) => Err(Error::internal("broken on purpose")),
            _ => Ok(user),
        }
    }
}

#[async_trait]
impl Partner for Bank {
    async fn user(&self, caller: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        let hostile = matches!(self.of(caller)?.trouble, Some(Trouble::Hostile));
        let holder = IdentityId::new("holder").unwrap();
        let accounts = ["checking", "savings"].map(|name| {
            let mut account = Account::new(
                account_id(caller.principal().as_str(), name),
                if hostile { HOSTILE } else { name },
                AccountStatus::Active,
                vec![holder.clone()],
                "41.50".parse::<Amount>().unwrap(),
                Unit::iso("USD").unwrap(),
                AccountKind::Other(Other::new(match hostile {
                    true => OtherSubtype::from(HOSTILE),
                    false => OtherSubtype::Other,
                })),
            );
            if hostile {
                account.display_mask = Some("\u{1b}c\u{202e}".to_owned());
                account.unit = Unit::NonIso("\u{9b}2J\u{202e}pts".into());
            }
            account
        });
        let identity = Identity::new(holder.clone(), "Ann Example");
        Ok(UserAccountInfoResponse::new(holder, vec![identity], vec![], accounts.to_vec()))
    }

    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        let User { rows, trouble } = self.of(caller)?;
        let window = request.query.start_date..=request.query.end_date;
        let mut rows: Vec<_> =
            rows.iter().filter(|row| window.contains(&row.date())).cloned().collect();
        if matches!(trouble, Some(Trouble::Hostile)) {
            rows.iter_mut().for_each(|row| row.description = Some(HOSTILE.to_owned()));
        }
        request.query.page_of(rows).ok_or_else(Error::cursor_expired)
    }

    async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        self.0.notifications.lock().unwrap().push(notification);
        Ok(())
    }
}

/// Redeems a code: `code-ann` is for ann.
async fn redeem(body: String) -> Json<serde_json::Value> {
    let user = field(&body, "code").replace("code-", "");
    let token = format!("token-{user}");
    Json(serde_json::json!({ "access_token": token, "token_type": "bearer", "user_id": user }))
}

/// Returns a field of a form.
fn field(body: &str, name: &str) -> String {
    let mut fields = url::form_urlencoded::parse(body.as_bytes());
    fields.find(|(found, _)| found == name).unwrap().1.into_owned()
}

/// A verifier of tokens: a user's token is `token-` and the name.
struct Tokens(Bank);

#[async_trait]
impl TokenVerifier for Tokens {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let name = token.expose().strip_prefix("token-").ok_or_else(VerifyError::invalid)?;
        let users = self.0.0.users.lock().unwrap();
        match users.get(name) {
            Some(User { trouble: Some(Trouble::Revoked), .. }) | None => {
                Err(VerifyError::invalid())
            }
            Some(_) => {
                let user = UserId::new(name).unwrap();
                Ok(Arc::new(TokenGrant::new(user, ScopeSet::defaults())))
            }
        }
    }
}

fn account_id(user: &str, account: &str) -> AccountId {
    AccountId::new(format!("{user}-{account}")).unwrap()
}

fn row(user: &str, today: Date, n: u64, of: u64) -> Transaction {
    let date = today.minus_days(n * DAYS / of.max(1));
    let account = if n.is_multiple_of(3) { "savings" } else { "checking" };
    let mut row = Transaction::new(
        TransactionId::new(format!("{user}-{n}")).unwrap(),
        account_id(user, account),
        format!("{}.{:02}", n % 97 + 1, n % 100).parse::<Amount>().unwrap(),
        date,
        AccountType::Other,
        Unit::iso("USD").unwrap(),
    );
    row.description = Some(format!("PURCHASE {}", n % 11));
    // The newest are pending.
    row.settled_at = (n >= 3).then(|| date.into());
    row
}
