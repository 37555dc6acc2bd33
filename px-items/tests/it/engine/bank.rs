//! A scripted bank behind a transport.

use bytes::Bytes;
use http::{Request, Response};
use px_client::{PartnerClient, RetryPolicy, oauth::TokenSet};
use px_core::{Clock, HttpLimits, HttpTransport, TransportError, TransportErrorKind};
use px_types::{
    AccessToken, Date, RefreshToken, TransactionId, model::transaction::Transaction, wire,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `user`, `transactions`, `token` or `revoke`.
    pub(crate) what: &'static str,
    pub(crate) token: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Number of earlier requests of this kind.
    pub(crate) of_kind: usize,
}

impl Call {
    pub(crate) fn date(&self, name: &str) -> Date {
        self.query[name].parse().unwrap()
    }

    fn number(&self, name: &str, otherwise: usize) -> usize {
        self.query.get(name).map_or(otherwise, |text| text.parse().unwrap())
    }
}

/// Response of the bank.
pub(crate) type Reply = Result<Response<Bytes>, TransportError>;

/// Script of a test: a response to a call, or `None` for the bank's own.
type Script = Box<dyn FnMut(&Call, &mut Data) -> Option<Reply> + Send>;

/// Data of the bank.
pub(crate) struct Data {
    pub(crate) accounts: Vec<Value>,
    pub(crate) securities: Vec<Value>,
    pub(crate) rows: BTreeMap<TransactionId, Transaction>,
    pub(crate) by_cursor: bool,
    /// Valid access tokens, and the refresh tokens that return the next ones.
    pub(crate) access: Vec<String>,
    pub(crate) refresh: Vec<String>,
    pub(crate) revoked: Vec<String>,
    pub(crate) calls: Vec<Call>,
    /// Number of calls under way, and its maximum.
    pub(crate) under_way: (usize, usize),
    /// Duration of each response.
    pub(crate) slow: Duration,
    pairs: usize,
    script: Option<Script>,
    clock: Arc<dyn Clock>,
}

pub(crate) struct Bank(Mutex<Data>);

impl Bank {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Data {
            accounts: vec![account("a-1", "Giro"), account("a-2", "Savings")],
            securities: Vec::new(),
            rows: BTreeMap::new(),
            by_cursor: false,
            access: vec!["access-0".into()],
            refresh: vec!["refresh-0".into()],
            revoked: Vec::new(),
            calls: Vec::new(),
            under_way: (0, 0),
            slow: Duration::ZERO,
            pairs: 0,
            script: None,
            clock,
        })))
    }

    pub(crate) fn data(&self) -> MutexGuard<'_, Data> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets a script for the following calls.
    pub(crate) fn script(
        &self,
        script: impl FnMut(&Call, &mut Data) -> Option<Reply> + Send + 'static,
    ) {
        self.data().script = Some(Box::new(script));
    }

    pub(crate) fn behaves(&self) {
        self.data().script = None;
    }

    pub(crate) fn put(&self, row: Transaction) {
        self.data().rows.insert(row.id.clone(), row);
    }

    pub(crate) fn remove(&self, id: &str) {
        let id = TransactionId::new(id).unwrap();
        assert!(self.data().rows.remove(&id).is_some(), "{id} is not there");
    }

    /// Returns the number of calls of a kind.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.data().calls.iter().filter(|call| call.what == what).count()
    }

    pub(crate) fn forget_calls(&self) {
        self.data().calls.clear();
    }

    pub(crate) fn client(self: &Arc<Self>, clock: Arc<dyn Clock>) -> PartnerClient {
        PartnerClient::builder("https://bank.example", Transport(Arc::clone(self)))
            .client("plaid".parse().unwrap(), px_types::ClientSecret::new("hush"))
            .clock(clock)
            .retry(RetryPolicy::never())
            .random(Arc::new(px_core::SeededRandom::new(7)))
            .build()
            .unwrap()
    }

    /// Returns the tokens of the user's authorization, valid for 15 minutes or forever.
    pub(crate) fn tokens(&self, expire: bool) -> TokenSet {
        let data = self.data();
        let now = data.clock.now();
        let mut tokens = TokenSet::new(AccessToken::new(data.access.last().unwrap()), now);
        if expire {
            tokens.refresh_token = data.refresh.last().map(RefreshToken::new);
            tokens.expires_at = Some((now + chrono::TimeDelta::minutes(15)).into());
        }
        tokens
    }
}

impl fmt::Debug for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bank")
    }
}

impl Data {
    /// Returns the bank's own response.
    pub(crate) fn response(&mut self, call: &Call) -> Reply {
        match call.what {
            "token" => self.refresh(call),
            "revoke" => {
                self.revoked.push(call.token.clone());
                Ok(Response::builder().status(200).body(Bytes::new()).unwrap())
            }
            _ if !self.access.contains(&call.token) => refusal(401, "invalid_token"),
            "user" => ok(&json!({
                "user_identity_id": "i-1",
                "identities": [{"id": "i-1", "name": "Ann"}],
                "securities": self.securities,
                "accounts": self.accounts,
            })),
            _ => self.page(call),
        }
    }

    fn refresh(&mut self, call: &Call) -> Reply {
        let Some(at) = self.refresh.iter().position(|token| *token == call.token) else {
            return refusal(400, "invalid_grant");
        };
        self.refresh.remove(at);
        self.access.clear();
        let (access, refresh) = self.next_pair();
        ok(&json!({
            "access_token": access, "refresh_token": refresh,
            "token_type": "Bearer", "expires_in": 900,
        }))
    }

    /// Creates another valid pair.
    pub(crate) fn next_pair(&mut self) -> (String, String) {
        self.pairs += 1;
        let (access, refresh) =
            (format!("access-{}", self.pairs), format!("refresh-{}", self.pairs));
        self.access.push(access.clone());
        self.refresh.push(refresh.clone());
        (access, refresh)
    }

    /// Returns the rows of a window, in the contract's order.
    pub(crate) fn window(&self, call: &Call) -> Vec<Transaction> {
        let (start, end) = (call.date("start_date"), call.date("end_date"));
        let inside = |row: &&Transaction| (start..=end).contains(&row.date());
        let mut rows: Vec<_> = self.rows.values().filter(inside).cloned().collect();
        rows.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
        rows
    }

    fn page(&self, call: &Call) -> Reply {
        let rows = self.window(call);
        let limit = call.number("limit", 100);
        let offset = call.query.get("cursor").map_or_else(
            || call.number("offset", 0),
            |cursor| cursor.strip_prefix("at-").unwrap().parse().unwrap(),
        );
        let page: Vec<_> = rows.iter().skip(offset).take(limit).collect();
        let next = offset + page.len();
        let mut body = json!({ "total": rows.len(), "transactions": page });
        if self.by_cursor && next < rows.len() {
            body["next_cursor"] = json!(format!("at-{next}"));
        }
        ok(&body)
    }
}

/// Transport to the bank.
struct Transport(Arc<Bank>);

#[async_trait::async_trait]
impl HttpTransport for Transport {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        // A call takes a while, and a cancelled caller is cancelled here, too.
        tokio::task::yield_now().await;
        let (slow, clock) = {
            let mut data = self.0.data();
            data.under_way.0 += 1;
            data.under_way.1 = data.under_way.1.max(data.under_way.0);
            (data.slow, Arc::clone(&data.clock))
        };
        if !slow.is_zero() {
            clock.sleep(slow).await;
        }
        let reply = {
            let mut data = self.0.data();
            data.under_way.0 -= 1;
            let call = read(&request, &data.calls);
            data.calls.push(call.clone());
            let mut script = data.script.take();
            let scripted = script.as_mut().and_then(|script| script(&call, &mut data));
            let reply = scripted.unwrap_or_else(|| data.response(&call));
            if data.script.is_none() {
                data.script = script;
            }
            reply
        };
        tokio::task::yield_now().await;
        reply
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

fn read(request: &Request<Bytes>, before: &[Call]) -> Call {
    let path = request.uri().path();
    let what = match path {
        "/oauth2/token" => "token",
        "/oauth2/revoke" => "revoke",
        path if path.ends_with("/transactions") => "transactions",
        _ => "user",
    };
    let pairs = |text: &[u8]| -> BTreeMap<String, String> {
        url::form_urlencoded::parse(text).into_owned().collect()
    };
    let query = pairs(request.uri().query().unwrap_or_default().as_bytes());
    let form = pairs(request.body());
    let bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap());
    let token = match what {
        "token" => form["refresh_token"].clone(),
        "revoke" => form["token"].clone(),
        _ => bearer.unwrap_or_default().trim_start_matches("Bearer ").to_owned(),
    };
    let of_kind = before.iter().filter(|call| call.what == what).count();
    Call { what, token, query, of_kind }
}

pub(crate) fn ok(body: &Value) -> Reply {
    Ok(Response::builder()
        .status(200)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(body).unwrap().into())
        .unwrap())
}

pub(crate) fn refusal(status: u16, id: &str) -> Reply {
    let body = if id == "invalid_grant" {
        json!({ "error": id })
    } else {
        json!({ "error": { "id": id, "message": "No." } })
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body).unwrap().into())
        .unwrap())
}

/// Returns 429 or 503 with `Retry-After`.
pub(crate) fn wait(status: u16, seconds: u64) -> Reply {
    let mut reply = refusal(status, "wait").unwrap();
    reply.headers_mut().insert("retry-after", seconds.into());
    Ok(reply)
}

pub(crate) fn cut() -> Reply {
    Err(TransportError::new(TransportErrorKind::Truncated, "the response was cut off"))
}

pub(crate) fn account(id: &str, name: &str) -> Value {
    json!({
        "id": id, "type": "depository", "subtype": "checking", "name": name, "status": "active",
        "owner_identity_ids": ["i-1"], "current_balance": "100.00", "currency": "EUR",
        "transfer_codes": [],
    })
}

/// A posted row.
pub(crate) fn row(id: &str, amount: &str, date: Date) -> Transaction {
    decode(json!({
        "id": id, "account_id": "a-1", "amount": amount, "transacted_at": date.to_string(),
        "settled_at": date.to_string(), "description": format!("row {id}"),
        "type": "depository", "currency": "EUR",
    }))
}

/// A pending row.
pub(crate) fn pending(id: &str, amount: &str, date: Date) -> Transaction {
    let mut row = row(id, amount, date);
    row.settled_at = None;
    row
}

fn decode(value: Value) -> Transaction {
    wire::decode(&serde_json::to_vec(&value).unwrap()).unwrap()
}
