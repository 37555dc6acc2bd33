//! The servers, each in a separate process: PX in its usual setup, and the code it is compared
//! with.

use crate::{Failure, bank::Bank, jwt::Provider};
use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use px_server::{PartnerService, ResponseCheck, guard::RateLimit, verify::TokenVerifier};
use px_types::{
    Date,
    partner::{TransactionsQuery, TransactionsResponse, UserAccountInfoResponse},
};
use serde::Deserialize;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The kind of server.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `PartnerService` on axum, every check on, tokens from the cache.
    Axum,
    /// The same on the hyper adapter.
    Hyper,
    /// The same on the hyper adapter, with verification of every token.
    HyperCold,
    /// A handler on axum that serialises the same structs, without any check.
    Handwritten,
}

/// Serves until the process is killed. Prints its address on standard output.
pub(crate) async fn run(kind: Kind, transactions: usize) -> Result<(), Failure> {
    let bank = Bank::new(transactions);
    let provider = Provider::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", listener.local_addr()?, provider.token);
    match kind {
        Kind::Axum => {
            let service = service(bank, provider.cached())?;
            axum::serve(listener, px_server::axum::router(service)).await?;
        }
        Kind::Hyper => {
            px_server::hyper::serve(listener, service(bank, provider.cached())?).await?;
        }
        Kind::HyperCold => {
            px_server::hyper::serve(listener, service(bank, provider.cold())?).await?;
        }
        Kind::Handwritten => {
            let router = Router::new()
                .route("/users/{user_id}", get(user))
                .route("/users/{user_id}/transactions", get(transactions_page))
                .with_state(bank);
            axum::serve(listener, router).await?;
        }
    }
    Ok(())
}

fn service(bank: Bank, tokens: Arc<dyn TokenVerifier>) -> Result<PartnerService, Failure> {
    let service = PartnerService::builder(bank)
        .tokens(tokens)
        .response_check(ResponseCheck::Refuse)
        .rate_limit(RateLimit::per_second(1_000_000));
    Ok(service.build()?)
}

async fn user(State(bank): State<Bank>) -> Json<UserAccountInfoResponse> {
    Json(bank.user())
}

#[derive(Deserialize)]
struct Window {
    start_date: Date,
    end_date: Date,
    limit: u64,
}

async fn transactions_page(
    State(bank): State<Bank>,
    Query(window): Query<Window>,
) -> Json<TransactionsResponse> {
    let mut query = TransactionsQuery::new(window.start_date, window.end_date);
    query.limit = window.limit;
    Json(bank.page(&query).expect("a query by offset"))
}
