//! A small bank for the tests: two users, three accounts, tokens with descriptive names.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use px_core::ManualClock;
use px_server::{
    Caller, Error, Partner, PartnerService, PartnerServiceBuilder, PermittedAccounts, TokenGrant,
    verify::{TokenVerifier, VerifyError},
};
use px_types::{
    AccessToken, AccountId, Date, ScopeSet, Timestamp, Unit, UserId,
    model::{
        account::{Account, AccountKind, AccountStatus, AccountType},
        account_subtype::DepositorySubtype,
        depository::{Ach, Depository, TransferCode},
        identity::Identity,
        transaction::Transaction,
    },
    partner::{GetUser, ListTransactions, Position, TransactionsResponse, UserAccountInfoResponse},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tower::ServiceExt as _;

/// The bank's handling of accounts that a grant does not cover, and of order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// Returns everything; the service filters.
    Plain,
    /// Filters, and declares it.
    Filters,
    /// Declares that it filters, but does not.
    ClaimsToFilter,
    /// Returns rows without order.
    Unsorted,
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2024-06-01T12:00:00Z".parse::<Timestamp>().unwrap().utc()))
}

pub(crate) fn service() -> PartnerService {
    service_with(Behaviour::Plain, |builder| builder)
}

pub(crate) fn service_with(
    behaviour: Behaviour,
    change: impl FnOnce(PartnerServiceBuilder) -> PartnerServiceBuilder,
) -> PartnerService {
    let builder = PartnerService::builder(Bank(behaviour, Arc::default()))
        .tokens(Arc::new(Tokens))
        .clock(clock());
    change(builder).build().unwrap()
}

/// A bank that does not filter accounts, and counts its calls for transactions.
#[cfg(feature = "hyper")]
pub(crate) fn counting_service(calls: Arc<AtomicUsize>) -> PartnerService {
    let bank = Bank(Behaviour::Plain, calls);
    PartnerService::builder(bank).tokens(Arc::new(Tokens)).clock(clock()).build().unwrap()
}

pub(crate) fn get(path: &str, token: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::get(path).header(header::HOST, "bank.example");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Full::default()).unwrap()
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(path).header(header::HOST, "bank.example").body(body.into()).unwrap()
}

pub(crate) async fn send(
    service: &PartnerService,
    request: Request<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    service.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn body(response: Response<Full<Bytes>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub(crate) async fn json(response: Response<Full<Bytes>>) -> serde_json::Value {
    serde_json::from_slice(&body(response).await).unwrap()
}

struct Tokens;

#[async_trait]
impl TokenVerifier for Tokens {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let all = ScopeSet::defaults();
        let scopes = |text: &str| text.parse::<ScopeSet>().unwrap();
        let (user, scopes) = match token.expose() {
            "t1" | "one-account" => ("u1", all),
            "t2" => ("u2", all),
            "no-accounts" => ("u1", scopes("transactions")),
            "no-transactions" => ("u1", scopes("accounts")),
            "accounts-only" => ("u1", scopes("accounts")),
            "odd" => ("u 1/ü", all),
            name @ ("panics" | "fails" | "down" | "refuses") => (name, all),
            "store-down" => return Err(VerifyError::unavailable("the token store is down")),
            _ => return Err(VerifyError::invalid()),
        };
        let mut grant = TokenGrant::new(UserId::new(user).unwrap(), scopes);
        if token.expose() == "one-account" {
            grant.accounts = PermittedAccounts::Only([AccountId::new("a1").unwrap()].into());
        }
        Ok(Arc::new(grant))
    }
}

struct Bank(Behaviour, Arc<AtomicUsize>);

fn usd() -> Unit {
    Unit::iso("USD").unwrap()
}

fn account(id: &str, owner: &str) -> Account {
    let mut depository = Depository::new(DepositorySubtype::Checking);
    let ach = Ach::new(px_types::AccountNumber::new("1234567890"), "021000021", true, true);
    depository.transfer_codes = Some(vec![TransferCode::Ach(ach)]);
    Account::new(
        AccountId::new(id).unwrap(),
        "Everyday",
        AccountStatus::Active,
        vec![owner.parse().unwrap()],
        "10.00".parse::<px_types::Amount>().unwrap(),
        usd(),
        AccountKind::Depository(depository),
    )
}

/// 700 rows in January 2024, alternately of `a1` and `a2`, newest first.
fn rows() -> Vec<Transaction> {
    let start = Date::from_ymd(2024, 1, 31).unwrap();
    (0..700_u64)
        .map(|n| {
            let date = start.minus_days(n / 25);
            let account = if n % 2 == 0 { "a1" } else { "a2" };
            let mut row = Transaction::new(
                format!("tx-{n:04}").parse::<px_types::TransactionId>().unwrap(),
                AccountId::new(account).unwrap(),
                "1.50".parse::<px_types::Amount>().unwrap(),
                date,
                AccountType::Depository,
                usd(),
            );
            row.settled_at = Some(date.into());
            row
        })
        .collect()
}

#[async_trait]
impl Partner for Bank {
    async fn user(
        &self,
        caller: &Caller,
        request: GetUser,
    ) -> Result<UserAccountInfoResponse, Error> {
        match request.user_id.as_str() {
            "panics" => panic!("the bank's code panics"),
            "fails" => return Err(Error::internal("secret cause")),
            "refuses" => return Err(Error::invalid_credentials()),
            "down" => {
                let at: Timestamp = "2024-06-01T12:01:30Z".parse().unwrap();
                return Err(Error::unavailable().retry_at(at));
            }
            _ => assert_eq!(caller.principal(), &request.user_id),
        }
        let mut first = Identity::new(id("i1"), "Ann Example");
        first.email = Some("ann@bank.example".into());
        let second = Identity::new(id("i2"), "Bob Example");
        let accounts = vec![account("a1", "i1"), account("a2", "i2")];
        Ok(UserAccountInfoResponse::new(id("i1"), vec![first, second], vec![], accounts))
    }

    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let query = request.query;
        let mut rows = rows();
        rows.retain(|row| (query.start_date..=query.end_date).contains(&row.date()));
        if self.0 == Behaviour::Filters {
            rows.retain(|row| caller.accounts().allows(&row.account_id));
        }
        if self.0 == Behaviour::Unsorted {
            rows.reverse();
        }
        let Position::Offset(offset) = query.position else {
            return Err(Error::cursor_expired());
        };
        let total = rows.len() as u64;
        let page =
            rows.into_iter().skip(offset as usize).take(query.limit as usize).collect::<Vec<_>>();
        Ok(TransactionsResponse::new(total, page))
    }

    fn filters_accounts(&self) -> bool {
        matches!(self.0, Behaviour::Filters | Behaviour::ClaimsToFilter)
    }
}

fn id(text: &str) -> px_types::IdentityId {
    text.parse().unwrap()
}
