//! Plaid's API over HTTP: the demo Plaid, as a separate process.
//!
//! `live` measures the time from a booking at the bank to the application's webhook; `notify` sends
//! full batches among many Items; `reads` compares the service with handlers that run the same
//! queries on the same store without checks.

mod live;
mod notify;
mod reads;

use crate::{Failure, Plan, report::Report};
use axum::{Json, Router, extract::State, routing::post};
use demo_bank::plaid::{Config, DemoPlaid, Parts, config::Database};
use px_items::{
    items::Items,
    store::{AccessDigest, Store},
};
use px_types::ItemAccessToken;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpListener;

/// The kind of server.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// The demo Plaid, every check on.
    Demo,
    /// Handlers on axum over the same store, without any check.
    Handwritten,
}

pub(crate) async fn measure(report: &mut Report, plan: Plan, items: usize) {
    live::measure(report);
    notify::measure(report, items).await;
    reads::measure(report, plan).await;
}

/// Returns the settings of the demo with another database.
fn config(database: &str, key: &Path) -> Result<Config, Failure> {
    let mut config = Config::demo()?;
    config.database = match database.strip_prefix("sqlite:") {
        Some(file) => Database::Sqlite(file.into()),
        None => Database::Postgres(database.parse()?),
    };
    config.key_file = Some(key.to_owned());
    config.webhook_key_file = Some(key.with_extension("pem"));
    Ok(config)
}

/// Serves until the process is killed. Prints its address on standard output.
pub(crate) async fn serve(kind: Kind, database: String, key: PathBuf) -> Result<(), Failure> {
    let config = config(&database, &key)?;
    let parts = Parts::system(&config)?;
    let plaid = DemoPlaid::open(config, parts).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let router = match kind {
        Kind::Demo => plaid.router(),
        Kind::Handwritten => Router::new()
            .route("/item/application/list", post(applications))
            .route("/transactions/sync", post(sync))
            .with_state(BareState {
                store: plaid.store().clone(),
                items: Arc::new(plaid.items().for_any_owner().clone()),
            }),
    };
    axum::serve(listener, router).await?;
    Ok(())
}

#[derive(Clone)]
struct BareState {
    store: Arc<dyn Store>,
    items: Arc<Items>,
}

#[derive(Deserialize)]
struct ReadRequest {
    access_token: ItemAccessToken,
    count: Option<usize>,
}

/// Runs the query without any checks. An error ends the connection.
async fn applications(
    State(bare): State<BareState>,
    Json(request): Json<ReadRequest>,
) -> Json<Value> {
    let digest = AccessDigest(Sha256::digest(request.access_token.expose()).into());
    let access = bare.store.access(&digest).await.expect("a store").expect("a token");
    let accounts = bare.store.accounts(&access.item_id).await.expect("a store");
    let connections = bare.store.connections(&access.item_id).await.expect("a store");
    Json(json!({
        "applications": connections.iter().map(|one| json!({
            "application_id": one.application_id,
            "name": one.application_id,
            "created_at": one.created_at,
            "scopes": {"accounts": accounts.iter().map(|account| json!({
                "unique_id": account.account.id, "authorized": true,
            })).collect::<Vec<_>>()},
        })).collect::<Vec<_>>(),
        "request_id": "r",
    }))
}

async fn sync(State(bare): State<BareState>, Json(request): Json<ReadRequest>) -> Json<Value> {
    let page = bare.items.transactions_sync(&request.access_token, None, request.count).await;
    let page = page.expect("a page").data;
    Json(json!({
        "added": page.added,
        "modified": page.modified,
        "removed": page.removed.iter().map(|gone| &gone.transaction_id).collect::<Vec<_>>(),
        "next_cursor": page.next_cursor,
        "has_more": page.has_more,
        "request_id": "r",
    }))
}
