//! A client for Plaid Exchange: reads any conforming partner, and calls Plaid.
//!
//! To read a partner, as Plaid does:
//!
//! - [`PartnerClient`]: every endpoint of a partner as a method, over a [`px_core::HttpTransport`];
//! - [`PartnerClient::transactions`]: years of transactions as a stream; [`page`] has the details;
//! - [`oauth`]: sends the user to the partner and gets tokens; [`RefreshingTokens`] refreshes them;
//! - [`credentials`]: names, passwords and challenges;
//! - [`ReadMode`]: by default, responses that break the contract are read as far as possible, and
//!   `response.faults()` lists their faults.
//!
//! To call Plaid, as a partner does:
//!
//! - [`PlaidClient`]: every endpoint of Plaid as a method;
//! - [`notifier`]: notifies Plaid of new transactions and loses no notification;
//! - [`portal`]: the data of the page where customers see and end what they share.
//!
//! For both:
//!
//! - [`retry`]: the retry policy; [`px_core`]: the interfaces for time, randomness and network.
//!
//! # Quickstart
//!
//! Set a partner's address, then read a user's accounts and two years of transactions. Over the network, use
//! `ReqwestTransport::new()?` (feature `reqwest` of `px-core`) as the transport. In this example the partner
//! is a service in the same process.
//!
//! ```
//! use futures_util::TryStreamExt as _;
//! use px_client::PartnerClient;
//! use px_core::{Clock as _, SystemClock, InProcessTransport};
//! use px_types::{AccessToken, Date, UserId};
//! # use px_server::{Caller, Error, Partner, PartnerService, TokenGrant, verify::{TokenVerifier, VerifyError}};
//! # use px_types::{ScopeSet, partner::*, wire};
//! # struct Bank;
//! # #[async_trait::async_trait]
//! # impl Partner for Bank {
//! #     async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
//! #         Ok(wire::decode(br#"{"user_identity_id": "i", "identities": [{"id": "i", "name": "Ann"}], "securities": [],
//! #             "accounts": [{"id": "a", "type": "credit", "subtype": "credit card", "name": "Card", "status": "active",
//! #             "owner_identity_ids": ["i"], "current_balance": "100.950000", "currency": "USD"}]}"#).unwrap())
//! #     }
//! #     async fn transactions(&self, _: &Caller, _: ListTransactions) -> Result<TransactionsResponse, Error> {
//! #         Ok(TransactionsResponse::new(0_u64, vec![]))
//! #     }
//! # }
//! # struct Anyone;
//! # #[async_trait::async_trait]
//! # impl TokenVerifier for Anyone {
//! #     async fn verify(&self, _: &AccessToken) -> Result<std::sync::Arc<TokenGrant>, VerifyError> {
//! #         Ok(std::sync::Arc::new(TokenGrant::new("u-1".parse().unwrap(), ScopeSet::defaults())))
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let bank = PartnerService::builder(Bank).tokens(std::sync::Arc::new(Anyone)).build()?;
//! let client = PartnerClient::builder("https://bank.example", InProcessTransport::new(bank))
//!     .token(AccessToken::new("the-token-of-the-user"))
//!     .build()?;
//! let user_id: UserId = "u-1".parse()?;
//!
//! for account in client.user(&user_id).await?.accounts {
//!     println!("{}: {} {}", account.name, account.current_balance, account.unit.as_str());
//! }
//!
//! let today = Date::from(SystemClock::new().now().date_naive());
//! let mut transactions = client.transactions(&user_id, today.minus_days(730), today);
//! while let Some(transaction) = transactions.try_next().await? {
//!     println!("{} {}", transaction.date(), transaction.amount);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Getting a token
//!
//! ```no_run
//! # async fn example(client: px_client::PartnerClient, callback_url: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use px_client::{MemoryTokenStore, RefreshingTokens, oauth::AuthorizationRequest};
//! use std::sync::Arc;
//!
//! let mut request = AuthorizationRequest::new("https://plaid.example/oauth.html");
//! request.issuer = Some("https://bank.example".into());
//! let (url, pending) = client.begin_authorization(request)?;
//! // Send the user to `url` and store `pending` in the session. When the user returns:
//! let tokens = client.exchange_code(pending.check_callback(callback_url)?).await?;
//! // Store the tokens in your own store and call with them. They are refreshed before they expire.
//! let store = Arc::new(MemoryTokenStore::new(tokens));
//! let user = client.with_tokens(Arc::new(RefreshingTokens::new(client.clone(), store)));
//! println!("{}", user.current_user().await?.user_id);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `bank` | `portal::OAuthTokens`: a bank's tokens for Plaid, made by the OAuth kit of `px-server` |
//!
//! The project's README lists which parts of the contract Plaid has published and which are decisions of this
//! project.

pub mod credentials;
mod error;
mod exchange;
pub mod notifier;
pub mod oauth;
pub mod page;
mod partner;
mod plaid;
pub mod portal;
mod read_mode;
pub mod retry;
mod token;

pub use error::{Error, ErrorKind, PagingFault};
pub use page::{
    HistoryEvent, HistoryEvents, HistoryOptions, PageEvent, PageReader, Transactions, Window,
};
pub use partner::{PartnerClient, PartnerClientBuilder, SignBody};
pub use plaid::{PlaidClient, PlaidClientBuilder, is_repeated};
pub use read_mode::ReadMode;
pub use retry::RetryPolicy;
pub use token::{MemoryTokenStore, RefreshingTokens, StaticToken, TokenSource, TokenStore};
