//! The endpoints from which applications read an Item.
//!
//! Paths, field names of requests and error codes are those that Plaid publishes. Responses contain
//! PX's models, with amounts as decimal strings. `messages` has the requests and responses.

mod messages;

use self::messages::{
    AccountsResponse, Balance, BalancesResponse, HoldingsResponse, IdentityResponse, ReadRequest,
    SyncRequest, SyncResponse, TransactionsGetRequest, TransactionsResponse, WithRequestId,
};
use super::{api::items_error, clients::Registry, web};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    response::Response,
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use px_client::Window;
use px_core::Random;
use px_items::items::{Items, SharedItems, TokenOwner, TransactionsRequest};
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

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The endpoints for developers of applications. Cheap to clone.
#[derive(Clone)]
pub(super) struct Developer(Arc<DeveloperState>);

struct DeveloperState {
    items: SharedItems,
    registry: Registry,
    /// Authenticates the clients.
    service: PlaidService,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Developer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Developer").finish_non_exhaustive()
    }
}

/// Returns the response for an error.
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
    web::response(status, "application/json", px_types::encode(body))
}

/// Routes an endpoint to the method that handles its request.
macro_rules! route {
    ($method:ident) => {
        post(|State(developer): State<Developer>, http_request: Request| async move {
            developer
                .serve(http_request, async |developer: &Developer, items, request| {
                    developer.$method(&items, request).await
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
        Self(Arc::new(DeveloperState { items, registry, service, random }))
    }

    /// Returns the endpoints.
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
                    let what = "this endpoint accepts POST only";
                    with_id(refused(&invalid_request(status, "INVALID_METHOD", what), &id), &id)
                },
            )
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(self.clone())
    }

    /// Authenticates the client, decodes the request, calls the handler and encodes the response.
    async fn serve<Q, A>(
        &self,
        http_request: Request,
        handler: impl AsyncFnOnce(&Self, Items, Q) -> Result<A, Error>,
    ) -> Response
    where
        Q: DeserializeOwned,
        A: Serialize,
    {
        let id = web::request_id(http_request.headers(), &*self.0.random);
        let handled = async {
            let (parts, body) = http_request.into_parts();
            let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
                let what = "the body was cut off, or is longer than 1 MiB";
                invalid_request(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_BODY", what)
            })?;
            let is_json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
                kind.to_str().is_ok_and(|kind| kind.trim_start().starts_with("application/json"))
            });
            if !is_json {
                let what = "the body must be JSON, with Content-Type: application/json";
                return Err(invalid_request(StatusCode::BAD_REQUEST, "INVALID_HEADERS", what));
            }
            let items = self.items_of(&parts, &body).await?;
            let request: Q = px_types::decode(&body).map_err(|error| {
                // The path of the field, never its value.
                let what = format!("{}: {}", error.path(), error.reason());
                Error::invalid_field(what)
            })?;
            handler(self, items, request).await
        };
        let response = match handled.await {
            Ok(response) => json(StatusCode::OK, &WithRequestId { response, request_id: &id }),
            Err(error) => refused(&error, &id),
        };
        with_id(response, &id)
    }

    /// Authenticates the application and returns its view of the Items. The checks and the rate
    /// limit are those of the API.
    async fn items_of(&self, parts: &Parts, body: &[u8]) -> Result<Items, Error> {
        let address = CallerAddr::of(&parts.extensions);
        let id = self.0.service.authenticate(&parts.headers, body, address).await?;
        match self.0.registry.holder(&id) {
            Some(who @ TokenOwner::Application(_)) => Ok(self.0.items.by(who.clone())),
            // Banks read no data of Items.
            Some(TokenOwner::Partner(_)) | None => Err(Error::unauthorized_route()),
        }
    }

    async fn accounts(
        &self,
        items: &Items,
        request: ReadRequest,
    ) -> Result<AccountsResponse, Error> {
        self.read_accounts(items, &request, None, |_| true).await
    }

    async fn auth(&self, items: &Items, request: ReadRequest) -> Result<AccountsResponse, Error> {
        let has_numbers = |account: &Account| matches!(&account.kind, AccountKind::Depository(depository) if depository.transfer_codes.is_some());
        self.read_accounts(items, &request, Some(Product::Auth), has_numbers).await
    }

    async fn liabilities(
        &self,
        items: &Items,
        request: ReadRequest,
    ) -> Result<AccountsResponse, Error> {
        let is_liability = |account: &Account| {
            matches!(account.kind, AccountKind::Credit(_) | AccountKind::Loan(_))
        };
        self.read_accounts(items, &request, Some(Product::Liabilities), is_liability).await
    }

    async fn read_accounts(
        &self,
        items: &Items,
        request: &ReadRequest,
        product: Option<Product>,
        include: impl Fn(&Account) -> bool,
    ) -> Result<AccountsResponse, Error> {
        let item = self.item(items, &request.access_token, product.as_ref()).await?;
        let read = items.accounts(&request.access_token).await.map_err(items_error)?;
        let accounts = request.filter(read.data, |account| &account.id)?;
        Ok(AccountsResponse { accounts: accounts.into_iter().filter(include).collect(), item })
    }

    async fn balances(
        &self,
        items: &Items,
        request: ReadRequest,
    ) -> Result<BalancesResponse, Error> {
        let item = self.item(items, &request.access_token, None).await?;
        let read = items.balances(&request.access_token).await.map_err(items_error)?;
        let balances = request.filter(read.data, |balance| &balance.account_id)?;
        Ok(BalancesResponse { accounts: balances.into_iter().map(Balance::from).collect(), item })
    }

    async fn identity(
        &self,
        items: &Items,
        request: ReadRequest,
    ) -> Result<IdentityResponse, Error> {
        let item = self.item(items, &request.access_token, None).await?;
        let read = items.identities(&request.access_token).await.map_err(items_error)?.data;
        let accounts = items.accounts(&request.access_token).await.map_err(items_error)?.data;
        let accounts = request.filter(accounts, |account| &account.id)?;
        Ok(IdentityResponse {
            accounts,
            identities: read.identities,
            user_identity_id: read.user_identity_id,
            item,
        })
    }

    async fn holdings(
        &self,
        items: &Items,
        request: ReadRequest,
    ) -> Result<HoldingsResponse, Error> {
        let item = self.item(items, &request.access_token, None).await?;
        let read = items.holdings(&request.access_token).await.map_err(items_error)?.data;
        let accounts = request.filter(read.accounts, |account| &account.id)?;
        Ok(HoldingsResponse { accounts, securities: read.securities, item })
    }

    async fn transactions(
        &self,
        items: &Items,
        request: TransactionsGetRequest,
    ) -> Result<TransactionsResponse, Error> {
        let item = self.item(items, &request.access_token, None).await?;
        let window = Window::new(request.start_date, request.end_date)
            .ok_or_else(|| Error::invalid_field("start_date: must not be after end_date"))?;
        let options = request.options.unwrap_or_default();
        let mut query = TransactionsRequest::new(window);
        query.account_ids = options.account_ids;
        query.cursor = options.cursor;
        query.limit = options.count.unwrap_or(query.limit);
        let read =
            items.transactions(&request.access_token, &query).await.map_err(items_error)?.data;
        let accounts = items.accounts(&request.access_token).await.map_err(items_error)?.data;
        Ok(TransactionsResponse {
            accounts,
            transactions: read.transactions,
            securities: read.securities,
            total_transactions: read.total,
            next_cursor: read.next_cursor,
            item,
        })
    }

    async fn sync(&self, items: &Items, request: SyncRequest) -> Result<SyncResponse, Error> {
        let (cursor, count) = (request.cursor.as_deref(), request.count);
        let read = items.transactions_sync(&request.access_token, cursor, count).await;
        Ok(SyncResponse::from(read.map_err(items_error)?.data))
    }

    /// Returns the Item as the application sees it. Checks the token and, if given, the product.
    async fn item(
        &self,
        items: &Items,
        token: &ItemAccessToken,
        product: Option<&Product>,
    ) -> Result<px_types::model::item::Item, Error> {
        let item = items.status(token).await.map_err(items_error)?.item;
        match product.filter(|product| !item.products.contains(product)) {
            None => Ok(item),
            Some(product) => {
                let what = format!("the user has not consented to {product} for this application");
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

impl ReadRequest {
    /// Returns the requested accounts in their stored order.
    fn filter<T>(
        &self,
        all: Vec<T>,
        id: impl Fn(&T) -> &px_types::AccountId,
    ) -> Result<Vec<T>, Error> {
        let Some(requested) = self.options.as_ref().and_then(|o| o.account_ids.as_ref()) else {
            return Ok(all);
        };
        if let Some(n) =
            requested.iter().position(|wanted| !all.iter().any(|one| id(one) == wanted))
        {
            let what =
                format!("the Item has no account of the id at index {n} of options.account_ids");
            return Err(Error::new(PlaidErrorType::InvalidInput, "INVALID_ACCOUNT_ID", what));
        }
        Ok(all.into_iter().filter(|one| requested.contains(id(one))).collect())
    }
}
