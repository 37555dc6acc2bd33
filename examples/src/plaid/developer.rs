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
use super::{
    clients::{Registry, Who},
    desk::Desk,
    web,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    response::Response,
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use px_client::Window;
use px_items::{
    items::{Answer, ItemsError, TransactionsRequest},
    random::Random,
};
use px_server::guard::RateLimit;
use px_types::{
    ApplicationId, ClientId, ClientSecret, ItemAccessToken,
    model::{
        account::{Account, AccountKind},
        plaid_error::{PlaidError, PlaidErrorType},
        product::Product,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc, time::Duration};

/// The most bytes of a body.
const LONGEST_BODY: usize = 1 << 20;

/// The developer's side. Cheap to clone.
#[derive(Clone)]
pub(super) struct Developer(Arc<Inner>);

struct Inner {
    desk: Desk,
    registry: Registry,
    rate_limit: Option<Arc<RateLimit>>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Developer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Developer").finish_non_exhaustive()
    }
}

/// Why nothing is answered but an error.
pub(super) struct Refusal {
    error: PlaidError,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: u16, kind: PlaidErrorType, code: &str, message: &str) -> Self {
        let mut error = PlaidError::new(kind, code, message);
        error.status = Some(u64::from(status));
        Self { error, retry_after: None }
    }

    fn field(message: &str) -> Self {
        Self::new(400, PlaidErrorType::InvalidRequest, "INVALID_FIELD", message)
    }

    fn into_response(self, request_id: &str) -> Response {
        let mut error = self.error;
        error.request_id = Some(request_id.to_owned());
        let status = error.status.and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let mut response = json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &error);
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl From<ItemsError> for Refusal {
    fn from(error: ItemsError) -> Self {
        if error.status() >= 500 {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "a read failed");
        }
        Self { error: error.to_plaid_error(""), retry_after: None }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    web::answer(status, "application/json", px_types::encode(body))
}

/// One endpoint: what is asked, by whom, and what is answered.
macro_rules! route {
    ($method:ident) => {
        post(|State(developer): State<Developer>, request: Request| async move {
            developer
                .serve(request, async |developer: &Developer, app, asked| {
                    developer.$method(app, asked).await
                })
                .await
        })
    };
}

impl Developer {
    pub(super) fn new(
        desk: Desk,
        registry: Registry,
        rate_limit: Option<Arc<RateLimit>>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self(Arc::new(Inner { desk, registry, rate_limit, random }))
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
            .method_not_allowed_fallback(|State(developer): State<Self>, headers: HeaderMap| async move {
                let refusal = Refusal::new(
                    405,
                    PlaidErrorType::InvalidRequest,
                    "INVALID_METHOD",
                    "this endpoint takes POST alone",
                );
                let id = web::request_id(&headers, &*developer.0.random);
                with_id(refusal.into_response(&id), &id)
            })
            .layer(DefaultBodyLimit::max(LONGEST_BODY))
            .with_state(self.clone())
    }

    /// Who asks, and for what; then what is answered.
    async fn serve<Q, A>(
        &self,
        request: Request,
        answer: impl AsyncFnOnce(&Self, &ApplicationId, Q) -> Result<A, Refusal>,
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
                Refusal::new(413, PlaidErrorType::InvalidRequest, "INVALID_BODY", what)
            })?;
            let is_json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
                kind.to_str().is_ok_and(|kind| kind.trim_start().starts_with("application/json"))
            });
            if !is_json {
                let what = "the body must be JSON and say so: Content-Type: application/json";
                return Err(Refusal::new(400, PlaidErrorType::InvalidRequest, "INVALID_HEADERS", what));
            }
            let app = self.application(&parts.headers, &body).await?;
            let asked: Q = px_types::decode(&body).map_err(|error| {
                // The path of a field, never its value.
                let what = format!("{}: {}", error.path(), error.reason());
                Refusal::field(&what)
            })?;
            answer(self, app, asked).await
        };
        let response = match answered.await {
            Ok(answer) => json(StatusCode::OK, &Read { answer, request_id: &id }),
            Err(refusal) => refusal.into_response(&id),
        };
        with_id(response, &id)
    }

    /// The application whose id and secret are shown, in the headers or in the body.
    async fn application(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<&ApplicationId, Refusal> {
        #[derive(serde::Deserialize)]
        struct Shown {
            client_id: Option<String>,
            secret: Option<ClientSecret>,
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let in_headers = (header("plaid-client-id"), header("plaid-secret"));
        let (id, secret) = if let (Some(id), Some(secret)) = in_headers {
            (Some(id.to_owned()), Some(ClientSecret::new(secret)))
        } else {
            let shown: Shown = px_types::decode(body).map_err(|_| {
                let what = "the body is not a JSON object";
                Refusal::new(400, PlaidErrorType::InvalidRequest, "INVALID_BODY", what)
            })?;
            (shown.client_id, shown.secret)
        };
        let wrong = || {
            let what = "the client_id or the secret is not right";
            Refusal::new(401, PlaidErrorType::InvalidInput, "INVALID_API_KEYS", what)
        };
        let id = ClientId::new(id.ok_or_else(wrong)?).map_err(|_| wrong())?;
        let secret = secret.ok_or_else(wrong)?;
        let who = self.0.registry.authenticate(&id, &secret).await.ok_or_else(wrong)?;
        if let Some(limit) = &self.0.rate_limit
            && let Err(wait) = limit.check(Some(&id), None)
        {
            let what = "too many calls; wait as long as Retry-After says";
            let mut refusal =
                Refusal::new(429, PlaidErrorType::RateLimitExceeded, "RATE_LIMIT_EXCEEDED", what);
            refusal.retry_after = Some(wait);
            return Err(refusal);
        }
        match who {
            Who::Application(app) => Ok(app),
            Who::Bank(_) => Err(Refusal::new(
                400,
                PlaidErrorType::InvalidInput,
                "UNAUTHORIZED_ROUTE_ACCESS",
                "this client is a bank's: it names Items and reads nothing of them",
            )),
        }
    }

    async fn accounts(
        &self,
        app: &ApplicationId,
        asked: Asked,
    ) -> Result<AccountsAnswer, Refusal> {
        self.answer_accounts(app, &asked, None, |_| true).await
    }

    async fn auth(&self, app: &ApplicationId, asked: Asked) -> Result<AccountsAnswer, Refusal> {
        let has_numbers = |account: &Account| matches!(&account.kind, AccountKind::Depository(depository) if depository.transfer_codes.is_some());
        self.answer_accounts(app, &asked, Some(Product::Auth), has_numbers).await
    }

    async fn liabilities(
        &self,
        app: &ApplicationId,
        asked: Asked,
    ) -> Result<AccountsAnswer, Refusal> {
        let is_one =
            |account: &Account| matches!(account.kind, AccountKind::Credit(_) | AccountKind::Loan(_));
        self.answer_accounts(app, &asked, Some(Product::Liabilities), is_one).await
    }

    async fn answer_accounts(
        &self,
        app: &ApplicationId,
        asked: &Asked,
        product: Option<Product>,
        fits: impl Fn(&Account) -> bool,
    ) -> Result<AccountsAnswer, Refusal> {
        let item = self.item(app, &asked.access_token, product.as_ref()).await?;
        let read = self.0.desk.items.accounts(&asked.access_token).await?;
        let accounts = asked.filter(read.data, |account| &account.id)?;
        Ok(AccountsAnswer { accounts: accounts.into_iter().filter(fits).collect(), item })
    }

    async fn balances(
        &self,
        app: &ApplicationId,
        asked: Asked,
    ) -> Result<BalancesAnswer, Refusal> {
        let item = self.item(app, &asked.access_token, None).await?;
        let read = self.0.desk.items.balances(&asked.access_token).await?;
        let balances = asked.filter(read.data, |balance| &balance.account_id)?;
        Ok(BalancesAnswer { accounts: balances.into_iter().map(Balance::from).collect(), item })
    }

    async fn identity(
        &self,
        app: &ApplicationId,
        asked: Asked,
    ) -> Result<IdentityAnswer, Refusal> {
        let item = self.item(app, &asked.access_token, None).await?;
        let read = self.0.desk.items.identities(&asked.access_token).await?.data;
        let accounts = self.0.desk.items.accounts(&asked.access_token).await?.data;
        let accounts = asked.filter(accounts, |account| &account.id)?;
        Ok(IdentityAnswer {
            accounts,
            identities: read.identities,
            user_identity_id: read.user_identity_id,
            item,
        })
    }

    async fn holdings(
        &self,
        app: &ApplicationId,
        asked: Asked,
    ) -> Result<HoldingsAnswer, Refusal> {
        let item = self.item(app, &asked.access_token, None).await?;
        let read = self.0.desk.items.holdings(&asked.access_token).await?.data;
        let accounts = asked.filter(read.accounts, |account| &account.id)?;
        Ok(HoldingsAnswer { accounts, securities: read.securities, item })
    }

    async fn transactions(
        &self,
        app: &ApplicationId,
        asked: TransactionsGetRequest,
    ) -> Result<TransactionsAnswer, Refusal> {
        let item = self.item(app, &asked.access_token, None).await?;
        let window = Window::new(asked.start_date, asked.end_date)
            .ok_or_else(|| Refusal::field("start_date: must not be after end_date"))?;
        let options = asked.options.unwrap_or_default();
        let mut request = TransactionsRequest::new(window);
        request.account_ids = options.account_ids;
        request.cursor = options.cursor;
        request.limit = options.count.unwrap_or(request.limit);
        let read = self.0.desk.items.transactions(&asked.access_token, &request).await?.data;
        let accounts = self.0.desk.items.accounts(&asked.access_token).await?.data;
        Ok(TransactionsAnswer {
            accounts,
            transactions: read.transactions,
            securities: read.securities,
            total_transactions: read.total,
            next_cursor: read.next_cursor,
            item,
        })
    }

    async fn sync(&self, app: &ApplicationId, asked: SyncRequest) -> Result<SyncAnswer, Refusal> {
        self.0.desk.must_be_of(app, &asked.access_token).await?;
        let Answer { data, .. } = self
            .0
            .desk
            .items
            .transactions_sync(&asked.access_token, asked.cursor.as_deref(), asked.count)
            .await?;
        Ok(SyncAnswer::from(data))
    }

    /// The Item as the application sees it, if the token is that application's.
    async fn item(
        &self,
        app: &ApplicationId,
        token: &ItemAccessToken,
        product: Option<&Product>,
    ) -> Result<px_types::model::item::Item, Refusal> {
        self.0.desk.must_be_of(app, token).await?;
        let item = self.0.desk.items.status(token).await?.item;
        match product.filter(|product| !item.products.contains(product)) {
            None => Ok(item),
            Some(product) => Err(Refusal::new(
                400,
                PlaidErrorType::InvalidInput,
                "ADDITIONAL_CONSENT_REQUIRED",
                &format!("the user did not let this application use {product}: ask for it"),
            )),
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
    ) -> Result<Vec<T>, Refusal> {
        let Some(wanted) = self.options.as_ref().and_then(|o| o.account_ids.as_ref()) else {
            return Ok(all);
        };
        if let Some(n) = wanted.iter().position(|wanted| !all.iter().any(|one| id(one) == wanted)) {
            let what =
                format!("the Item has no account of the id at index {n} of options.account_ids");
            let kind = PlaidErrorType::InvalidInput;
            return Err(Refusal::new(400, kind, "INVALID_ACCOUNT_ID", &what));
        }
        Ok(all.into_iter().filter(|one| wanted.contains(id(one))).collect())
    }
}
