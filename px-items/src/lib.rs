//! The Item: one user's connection at one institution, kept true for years.
//!
//! - [`item`]: the state machine, pure; [`life`]: what an Item remembers between updates;
//! - [`health`]: what is wrong with an Item, as operators, applications and partners see it;
//! - [`plan`]: which windows of dates are read; [`merge`]: what an answer changes. Both pure;
//! - [`connection`]: applications that share an Item, and what each may see;
//! - [`items`]: how a Plaid service serves applications and partners;
//! - [`applications`]: those that are registered; [`tickets`]: one-time tokens of Plaid's page;
//! - [`partners`]: the banks;
//! - [`review`]: data on hold until it is decided what it is;
//! - [`vault`]: how tokens are sealed at rest;
//! - [`webhook`]: what tells applications: signed, and sent until it arrives;
//! - [`store`]: where Items are kept, with SQLite, PostgreSQL and memory behind one trait;
//! - `testing` (feature): what tests need.
//!
//! # Quickstart
//!
//! Connect an application to a user's Item, let an engine fetch, and read. Here the bank is a
//! service in the same process and the store is in memory; a service takes
//! [`PartnerClient`](px_client::PartnerClient)s over the network and a database.
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
//! #     async fn transactions(&self, _: &Caller, asked: ListTransactions) -> Result<TransactionsResponse, Error> {
//! #         let date = px_types::Date::from(SystemClock::new().now().date_naive()).minus_days(3);
//! #         if !(asked.query.start_date..=asked.query.end_date).contains(&date) {
//! #             return Ok(TransactionsResponse::new(0_u64, vec![]));
//! #         }
//! #         let text = format!(r#"{{"id": "t", "account_id": "a", "amount": "4.20", "currency": "USD", "type": "credit",
//! #             "description": "COFFEE", "transacted_at": "{date}", "settled_at": "{date}"}}"#);
//! #         Ok(TransactionsResponse::new(1_u64, vec![wire::decode(text.as_bytes()).unwrap()]))
//! #     }
//! # }
//! # struct Anyone;
//! # #[async_trait::async_trait]
//! # impl TokenVerifier for Anyone {
//! #     async fn verify(&self, _: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
//! #         Ok(Arc::new(TokenGrant::new("u-1".parse().unwrap(), ScopeSet::defaults())))
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let bank = PartnerService::builder(Bank).tokens(Arc::new(Anyone)).build()?;
//! let client = PartnerClient::builder("https://bank.example", InProcessTransport::new(bank)).build()?;
//! let partners = FixedPartners::new().with("bank".parse()?, Partner::new(client));
//! let store = Arc::new(MemoryStore::new(Environment::Sandbox));
//! let engine = Engine::builder(store.clone(), Arc::new(partners)).build();
//! let items = Items::builder(store).build();
//!
//! // The user has signed in at the bank, and `tokens` are what that gave.
//! let now = SystemClock::new().now();
//! let tokens = TokenSet::new(AccessToken::new("the-token-of-the-user"), now);
//! let budget_app = Connection::new("budget-app".parse()?, [Product::Transactions], now);
//! let linked = items.link(&"bank".parse()?, &"u-1".parse()?, tokens, budget_app).await?;
//!
//! // A service has `engine.run(workers, stop)` go on beside it, in as many processes as it likes.
//! engine.work_off().await;
//!
//! for account in items.accounts(&linked.access_token).await?.data {
//!     println!("{}: {} {}", account.name, account.current_balance, account.unit.as_str());
//! }
//! let page = items.transactions_sync(&linked.access_token, None, None).await?.data;
//! assert_eq!(page.added.len(), 1);
//! // Next time, what has changed since.
//! let cursor = page.next_cursor;
//! assert!(items.transactions_sync(&linked.access_token, Some(&cursor), None).await?.data.added.is_empty());
//! # Ok(())
//! # }
//! ```

pub mod applications;
pub mod connection;
pub mod engine;
pub mod faults;
pub mod health;
pub mod item;
pub mod items;
pub mod life;
pub mod merge;
pub mod metrics;
pub mod news;
pub mod partners;
pub mod plan;
pub mod review;
pub mod schedule;
mod skew;
pub mod store;
pub mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tickets;
pub mod vault;
pub mod webhook;
