//! The developer's side: what an application reads of an Item.
//!
//! Paths, field names of requests and error codes are those that Plaid publishes. What is
//! answered are PX's own models, amounts as decimal strings; there is no second set of them.
//! `messages` has requests and answers.

mod messages;

use self::messages::{
    AccountsAnswer, Asked, Balance, BalancesAnswer, HoldingsAnswer, IdentityAnswer, Read,
    SyncAnswer, SyncRequest, TransactionsAnswer, TransactionsGetRequest,
};
use super::{api::refusal, clients::Registry, web};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    response::Response,
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use px_client::Window;
use px_core::Random;
use px_items::items::{Holder, Items, SharedItems, TransactionsRequest};
use px_server::{
    guard::CallerAddr,
    plaid::{Error, PlaidService},
};
use px_types::{
    ItemAccessToken,
    model::{
        account::{Account, AccountKind},
        plaid_error::PlaidErrorType,
        product::Product,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};

/// The most bytes of a body.
const LONGEST_BODY: usize = 1 << 20;

/// The developer's side. Cheap to clone.
#[derive(Clone)]
pub(super) struct Developer(Arc<Inner>);

struct Inner {
    items: SharedItems,
    registry: Registry,
    /// Knows who calls.
    service: PlaidService,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Developer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Developer").finish_non_exhaustive()
    }
}

/// The answer that tells an error.
fn refused(error: &Error, request_id: &str) -> Response {
    if error.status().is_server_error() {
        let source = std::error::Error::source(error);
        tracing::error!(error = source, request_id, "a read failed");
    }
    let mut response = json(error.status(), &error.to_plaid_error(request_id));
    if let Some(wait) = error.retry_after() {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

fn invalid_request(status: StatusCode, code: &str, what: &str) -> Error {
    Error::new(PlaidErrorType::InvalidRequest, code, what).with_status(status)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    web::answer(status, "application/json", px_types::encode(body))
}

/// One endpoint: what is asked, by whom, and what is answered.
macro_rules! route {
    ($method:ident) => {
        post(|State(developer): State<Developer>, request: Request| async move {
            developer
                .serve(request, async |developer: &Developer, items, asked| {
                    developer.$method(&items, asked).await
                })
                .await
        })
    };
}

impl Developer {
    pub(super) fn new(
        items: SharedItems,
        registry: Registry,
        service: PlaidService,
        random: Arc<dyn Random>,
    ) -> Self {
        Self(Arc::new(Inner { items, registry, service, random }))
    }

    /// The endpoints.
    pub(super) fn router(&self) -> Router {
        Router::new()
            .route("/accounts/get", route!(accounts))
            .route("/accounts/balance/get", route!(balances))
            .route("/transactions/get", route!(transactions))
            .route("/transactions/sync", route!(sync))
            .route("/identity/get", route!(identity))
            .route("/auth/get", route!(auth))
            .route("/investments/holdings/get", route!(holdings))
            .route("/liabilities/get", route!(liabilities))
            .method_not_allowed_fallback(
                |State(developer): State<Self>, headers: HeaderMap| async move {
                    let id = web::request_id(&headers, &*developer.0.random);
                    let status = StatusCode::METHOD_NOT_ALLOWED;
                    let what = "this endpoint takes POST alone";
                    with_id(refused(&invalid_request(status, "INVALID_METHOD", what), &id), &id)
                },
            )
            .layer(DefaultBodyLimit::max(LONGEST_BODY))
            .with_state(self.clone())
    }

    /// Who asks, and for what; then what is answered.
    async fn serve<Q, A>(
        &self,
        request: Request,
        answer: impl AsyncFnOnce(&Self, Items, Q) -> Result<A, Error>,
    ) -> Response
    where
        Q: DeserializeOwned,
        A: Serialize,
    {
        let id = web::request_id(request.headers(), &*self.0.random);
        let answered = async {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, LONGEST_BODY).await.map_err(|_| {
                let what = "the body was cut off, or is longer than 1 MiB";
                invalid_request(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_BODY", what)
            })?;
            let is_json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
                kind.to_str().is_ok_and(|kind| kind.trim_start().starts_with("application/json"))
            });
            if !is_json {
                let what = "the body must be JSON and say so: Content-Type: application/json";
                return Err(invalid_request(StatusCode::BAD_REQUEST, "INVALID_HEADERS", what));
            }
            let items = self.items_of(&parts, &body).await?;
            let asked: Q = px_types::decode(&body).map_err(|error| {
                // The path of a field, never its value.
                let what = format!("{}: {}", error.path(), error.reason());
                Error::invalid_field(what)
            })?;
            answer(self, items, asked).await
        };
        let response = match answered.await {
            Ok(answer) => json(StatusCode::OK, &Read { answer, request_id: &id }),
            Err(error) => refused(&error, &id),
        };
        with_id(response, &id)
    }

    /// The Items of the application whose id and secret are shown: by the rules of the API, and
    /// counted with what the application calls there.
    async fn items_of(&self, parts: &Parts, body: &[u8]) -> Result<Items, Error> {
        let address = CallerAddr::of(&parts.extensions);
        let id = self.0.service.authenticate(&parts.headers, body, address).await?;
        match self.0.registry.holder(&id) {
            Some(who @ Holder::Application(_)) => Ok(self.0.items.by(who.clone())),
            // A bank names Items, and reads nothing of them.
            Some(Holder::Partner(_)) | None => Err(Error::unauthorized_route()),
        }
    }

    async fn accounts(&self, items: &Items, asked: Asked) -> Result<AccountsAnswer, Error> {
        self.answer_accounts(items, &asked, None, |_| true).await
    }

    async fn auth(&self, items: &Items, asked: Asked) -> Result<AccountsAnswer, Error> {
        let has_numbers = |account: &Account| matches!(&account.kind, AccountKind::Depository(depository) if depository.transfer_codes.is_some());
        self.answer_accounts(items, &asked, Some(Product::Auth), has_numbers).await
    }

    async fn liabilities(&self, items: &Items, asked: Asked) -> Result<AccountsAnswer, Error> {
        let is_one = |account: &Account| {
            matches!(account.kind, AccountKind::Credit(_) | AccountKind::Loan(_))
        };
        self.answer_accounts(items, &asked, Some(Product::Liabilities), is_one).await
    }

    async fn answer_accounts(
        &self,
        items: &Items,
        asked: &Asked,
        product: Option<Product>,
        fits: impl Fn(&Account) -> bool,
    ) -> Result<AccountsAnswer, Error> {
        let item = self.item(items, &asked.access_token, product.as_ref()).await?;
        let read = items.accounts(&asked.access_token).await.map_err(refusal)?;
        let accounts = asked.filter(read.data, |account| &account.id)?;
        Ok(AccountsAnswer { accounts: accounts.into_iter().filter(fits).collect(), item })
    }

    async fn balances(&self, items: &Items, asked: Asked) -> Result<BalancesAnswer, Error> {
        let item = self.item(items, &asked.access_token, None).await?;
        let read = items.balances(&asked.access_token).await.map_err(refusal)?;
        let balances = asked.filter(read.data, |balance| &balance.account_id)?;
        Ok(BalancesAnswer { accounts: balances.into_iter().map(Balance::from).collect(), item })
    }

    async fn identity(&self, items: &Items, asked: Asked) -> Result<IdentityAnswer, Error> {
        let item = self.item(items, &asked.access_token, None).await?;
        let read = items.identities(&asked.access_token).await.map_err(refusal)?.data;
        let accounts = items.accounts(&asked.access_token).await.map_err(refusal)?.data;
        let accounts = asked.filter(accounts, |account| &account.id)?;
        Ok(IdentityAnswer {
            accounts,
            identities: read.identities,
            user_identity_id: read.user_identity_id,
            item,
        })
    }

    async fn holdings(&self, items: &Items, asked: Asked) -> Result<HoldingsAnswer, Error> {
        let item = self.item(items, &asked.access_token, None).await?;
        let read = items.holdings(&asked.access_token).await.map_err(refusal)?.data;
        let accounts = asked.filter(read.accounts, |account| &account.id)?;
        Ok(HoldingsAnswer { accounts, securities: read.securities, item })
    }

    async fn transactions(
        &self,
        items: &Items,
        asked: TransactionsGetRequest,
    ) -> Result<TransactionsAnswer, Error> {
        let item = self.item(items, &asked.access_token, None).await?;
        let window = Window::new(asked.start_date, asked.end_date)
            .ok_or_else(|| Error::invalid_field("start_date: must not be after end_date"))?;
        let options = asked.options.unwrap_or_default();
        let mut request = TransactionsRequest::new(window);
        request.account_ids = options.account_ids;
        request.cursor = options.cursor;
        request.limit = options.count.unwrap_or(request.limit);
        let read = items.transactions(&asked.access_token, &request).await.map_err(refusal)?.data;
        let accounts = items.accounts(&asked.access_token).await.map_err(refusal)?.data;
        Ok(TransactionsAnswer {
            accounts,
            transactions: read.transactions,
            securities: read.securities,
            total_transactions: read.total,
            next_cursor: read.next_cursor,
            item,
        })
    }

    async fn sync(&self, items: &Items, asked: SyncRequest) -> Result<SyncAnswer, Error> {
        let (cursor, count) = (asked.cursor.as_deref(), asked.count);
        let read = items.transactions_sync(&asked.access_token, cursor, count).await;
        Ok(SyncAnswer::from(read.map_err(refusal)?.data))
    }

    /// The Item as the application sees it, if the token is that application's.
    async fn item(
        &self,
        items: &Items,
        token: &ItemAccessToken,
        product: Option<&Product>,
    ) -> Result<px_types::model::item::Item, Error> {
        let item = items.status(token).await.map_err(refusal)?.item;
        match product.filter(|product| !item.products.contains(product)) {
            None => Ok(item),
            Some(product) => {
                let what =
                    format!("the user did not let this application use {product}: ask for it");
                let code = "ADDITIONAL_CONSENT_REQUIRED";
                Err(Error::new(PlaidErrorType::InvalidInput, code, what))
            }
        }
    }
}

fn with_id(mut response: Response, id: &str) -> Response {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

impl Asked {
    /// Those that were asked for, in the order in which they are.
    fn filter<T>(
        &self,
        all: Vec<T>,
        id: impl Fn(&T) -> &px_types::AccountId,
    ) -> Result<Vec<T>, Error> {
        let Some(wanted) = self.options.as_ref().and_then(|o| o.account_ids.as_ref()) else {
            return Ok(all);
        };
        if let Some(n) = wanted.iter().position(|wanted| !all.iter().any(|one| id(one) == wanted)) {
            let what =
                format!("the Item has no account of the id at index {n} of options.account_ids");
            return Err(Error::new(PlaidErrorType::InvalidInput, "INVALID_ACCOUNT_ID", what));
        }
        Ok(all.into_iter().filter(|one| wanted.contains(id(one))).collect())
    }
}
