//! The Item of Plaid Exchange: one user's connection at one institution, fetched once and kept up
//! to date for all applications that share it.
//!
//! Modules:
//!
//! - [`item`]: the state machine of an Item, pure; [`sync_state`]: the state that an Item has between
//!   updates;
//! - [`health`]: problems with an Item's data, as operators, applications and partners see them;
//! - [`plan`]: the windows of dates that are read; [`merge`]: the changes that a response causes.
//!   Both pure;
//! - [`connection`]: applications that share an Item, and the data that each may see;
//! - [`engine`]: workers that fetch and update Items; [`sync`] and [`schedule`]: its rules, pure;
//! - [`items`]: the API for a service that serves applications and partners;
//! - [`applications`]: the registered applications; [`tickets`]: one-time tokens of Plaid's page;
//! - [`partners`]: the partners that Items are fetched from;
//! - [`review`]: data on hold, and the decisions about it;
//! - [`vault`]: encryption of stored tokens;
//! - [`webhook`]: notifications of applications and partners: signed, and sent until they are
//!   delivered;
//! - [`store`]: storage of Items, with SQLite, PostgreSQL and memory behind one trait;
//! - `testing` (feature): support for tests.
//!
//! # Scope
//!
//! This crate serves nothing over HTTP: [`items::Items`] is what an implementation of the API that
//! Plaid serves (`px_server::plaid`) calls. Requests to partners are made by
//! [`px_client`]; messages are in [`px_types`].
//!
//! # Features
//!
//! - `sqlite` (default): the store in one SQLite file;
//! - `postgres`: the store on PostgreSQL, for any number of processes;
//! - `testing`: the conformance suite of stores, and a PostgreSQL server for tests.
//!
//! # Quickstart
//!
//! Connect an application to a user's Item, let an engine fetch it, and read. In this example the
//! partner is a service in the same process and the store is in memory. A real service uses
//! [`PartnerClient`](px_client::PartnerClient)s over the network, and a database.
//!
//! ```
//! use px_client::{PartnerClient, oauth::TokenSet};
//! use px_core::{Clock as _, SystemClock, InProcessTransport};
//! use px_items::{
//!     connection::Connection, engine::Engine, items::Items, store::MemoryStore,
//!     partners::{FixedPartners, Partner},
//! };
//! use px_types::{AccessToken, model::product::Product, webhook::Environment};
//! use std::sync::Arc;
//! # use px_server::{Caller, Error, PartnerService, TokenGrant, verify::{TokenVerifier, VerifyError}};
//! # use px_types::{ScopeSet, partner::*, wire};
//! # struct Bank;
//! # #[async_trait::async_trait]
//! # impl px_server::Partner for Bank {
//! #     async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
//! #         Ok(wire::decode(br#"{"user_identity_id": "i", "identities": [{"id": "i", "name": "Ann"}], "securities": [],
//! #             "accounts": [{"id": "a", "type": "credit", "subtype": "credit card", "name": "Card", "status": "active",
//! #             "owner_identity_ids": ["i"], "current_balance": "100.95", "currency": "USD"}]}"#).unwrap())
//! #     }
//! #     async fn transactions(&self, _: &Caller, request: ListTransactions) -> Result<TransactionsResponse, Error> {
//! #         let date = px_types::Date::from(SystemClock::new().now().date_naive()).minus_days(3);
//! #         if !(request.query.start_date..=request.query.end_date).contains(&date) {
//! #             return Ok(TransactionsResponse::new(0_u64, vec![]));
//! #         }
//! #         let text = format!(r#"{{"id": "t", "account_id": "a", "amount": "4.20", "currency": "USD", "type": "credit",
//! #             "description": "COFFEE", "transacted_at": "{date}", "settled_at": "{date}"}}"#);
//! #         Ok(TransactionsResponse::new(1_u64, vec![wire::decode(text.as_bytes()).unwrap()]))
//! #     }
//! # }
//! # struct AnyToken;
//! # #[async_trait::async_trait]
//! # impl TokenVerifier for AnyToken {
//! #     async fn verify(&self, _: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
//! #         Ok(Arc::new(TokenGrant::new("u-1".parse().unwrap(), ScopeSet::defaults())))
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let bank = PartnerService::builder(Bank).tokens(Arc::new(AnyToken)).build()?;
//! let client = PartnerClient::builder("https://bank.example", InProcessTransport::new(bank)).build()?;
//! let partners = FixedPartners::new().with("bank".parse()?, Partner::new(client));
//! let store = Arc::new(MemoryStore::new(Environment::Sandbox));
//! let engine = Engine::builder(store.clone(), Arc::new(partners)).build();
//! let items = Items::builder(store).build();
//!
//! // The user has signed in at the bank, which returned these tokens.
//! let now = SystemClock::new().now();
//! let tokens = TokenSet::new(AccessToken::new("the-token-of-the-user"), now);
//! let budget_app = Connection::new("budget-app".parse()?, [Product::Transactions], now);
//! let linked = items.link(&"bank".parse()?, &"u-1".parse()?, tokens, budget_app).await?;
//!
//! // A service runs `engine.run(workers, stop)` in the background, in any number of processes.
//! engine.run_due().await;
//!
//! for account in items.accounts(&linked.access_token).await?.data {
//!     println!("{}: {} {}", account.name, account.current_balance, account.unit.as_str());
//! }
//! let page = items.transactions_sync(&linked.access_token, None, None).await?.data;
//! assert_eq!(page.added.len(), 1);
//! // The next call returns the changes since.
//! let cursor = page.next_cursor;
//! assert!(items.transactions_sync(&linked.access_token, Some(&cursor), None).await?.data.added.is_empty());
//! # Ok(())
//! # }
//! ```

pub mod applications;
pub mod changes;
pub mod connection;
pub mod engine;
pub mod faults;
pub mod health;
pub mod item;
pub mod items;
pub mod merge;
pub mod metrics;
pub mod partners;
pub mod plan;
pub mod review;
pub mod schedule;
mod skew;
pub mod store;
pub mod sync;
pub mod sync_state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tickets;
pub mod vault;
pub mod webhook;
