//! Serve Plaid Exchange: a bank implements [`Partner`], the rest is here.
//!
//! - [`Partner`]: what the bank's own code answers; [`PartnerService`]: the API over it, as a tower service;
//! - [`plaid`]: the other side: what Plaid implements, and the API over it;
//! - [`verify`]: whose token it is; [`oauth`]: giving tokens out; [`credentials`]: names and passwords;
//! - [`visits`]: what a page must remember before the user has signed in, without memory for it;
//! - [`webhook`]: checking what Plaid sends, at a bank and at an application;
//! - [`guard`]: who may call at all, and how often;
//! - [`guide`]: how to [bring your identity provider](guide::identity_provider).
//!
//! # Examples
//!
//! A bank of two methods, and a way to tell whose token it is:
//!
//! ```
//! use async_trait::async_trait;
//! use px_server::{
//!     Caller, Error, Partner, PartnerService, TokenGrant,
//!     verify::{TokenVerifier, VerifyError},
//! };
//! use px_types::{AccessToken, IdentityId, ScopeSet, model::identity::Identity, partner::*};
//! use std::sync::Arc;
//!
//! struct MyBank;
//!
//! #[async_trait]
//! impl Partner for MyBank {
//!     async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
//!         let id: IdentityId = "ann-holder".parse().map_err(Error::internal)?;
//!         let holder = Identity::new(id.clone(), "Ann Example");
//!         Ok(UserAccountInfoResponse::new(id, vec![holder], vec![], vec![]))
//!     }
//!
//!     async fn transactions(
//!         &self,
//!         _: &Caller,
//!         request: ListTransactions,
//!     ) -> Result<TransactionsResponse, Error> {
//!         request.query.page_of(vec![]).ok_or_else(Error::cursor_expired)
//!     }
//! }
//!
//! /// Asks the bank's session store; here it knows one token.
//! struct MyTokens;
//!
//! #[async_trait]
//! impl TokenVerifier for MyTokens {
//!     async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
//!         if *token != AccessToken::new("demo-token") {
//!             return Err(VerifyError::invalid());
//!         }
//!         let ann = "ann".parse().map_err(VerifyError::unavailable)?;
//!         Ok(Arc::new(TokenGrant::new(ann, ScopeSet::defaults())))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = PartnerService::builder(MyBank).tokens(Arc::new(MyTokens)).build()?;
//!
//! // With the feature `axum`, for `axum::serve(listener, app)`:
//! # #[cfg(feature = "axum")]
//! let app = px_server::axum::router(service.clone());
//! // With the feature `hyper`: `px_server::hyper::serve(listener, service)`.
//! # for (token, status) in [("demo-token", 200), ("another", 401)] {
//! #     let request = http::Request::get("/users/ann")
//! #         .header("host", "bank.example")
//! #         .header("authorization", format!("Bearer {token}"))
//! #         .body(http_body_util::Empty::<bytes::Bytes>::new())?;
//! #     assert_eq!(service.answer(request).await.status(), status);
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! None is on by default. Without any, a service is a [`tower`](tower_service) service over `http`
//! types, for whatever serves those.
//!
//! | feature | adds |
//! |---|---|
//! | `argon2` | `clients::ChosenSecret`: client secrets that people chose, hashed with Argon2id |
//! | `axum` | `px_server::axum::router`: an `axum::Router` around a service |
//! | `hyper` | `px_server::hyper`: a server on plain hyper with TLS, limits and graceful shutdown |

#[cfg(feature = "axum")]
pub mod axum;
mod budget;
mod call;
mod caller;
pub mod clients;
pub mod credentials;
mod error;
pub mod guard;
pub mod guide;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod metrics;
pub mod oauth;
mod partner;
pub mod plaid;
mod request_id;
mod router;
mod service;
mod throttle;
pub mod verify;
pub mod visits;
pub mod webhook;

pub use caller::{Caller, PermittedAccounts, TokenGrant};
pub use error::{Error, Kind};
pub use partner::Partner;
pub use service::{BuildError, PartnerService, PartnerServiceBuilder, ResponseCheck};
