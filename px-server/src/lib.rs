//! Serves the Plaid Exchange API: a bank implements [`Partner`], and this crate does the rest.
//!
//! | to | use |
//! |---|---|
//! | serve a bank's data | [`Partner`], the trait to implement, and [`PartnerService`], the tower service |
//! | serve Plaid's own API | [`plaid`] |
//! | check bearer tokens | [`verify`] |
//! | issue tokens | [`oauth`] |
//! | sign users in with a name and a password | [`credentials`] |
//! | keep the state of a page until its user has signed in, without server memory | [`visits`] |
//! | verify webhooks from Plaid, at a bank or at an application | [`webhook`] |
//! | restrict callers by address and by rate | [`guard`] |
//! | follow step-by-step instructions | [`guide`]: [bring your identity provider](guide::identity_provider) |
//!
//! The crate does not store accounts or transactions, does not render pages, and does not call
//! banks: a client is in `px-client`, and the message types are in [`px_types`].
//!
//! # Examples
//!
//! A bank with two methods and a token verifier:
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
//! /// Looks tokens up in the bank's session store, which has one token in this example.
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
//! #     assert_eq!(service.respond(request).await.status(), status);
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! No feature is enabled by default. Without features, a service is a [`tower`](tower_service)
//! service over `http` types, which any HTTP server can run.
//!
//! | feature | adds |
//! |---|---|
//! | `argon2` | `clients::ChosenSecret`: client secrets chosen by a person, hashed with Argon2id |
//! | `axum` | `px_server::axum::router`: an `axum::Router` around a service |
//! | `hyper` | `px_server::hyper`: a server on plain hyper with TLS, limits and graceful shutdown |
//! | `jwt` | `verify::JwtVerifier`, for the JWTs of an identity provider, and `webhook`, with notifications from Plaid; needs a C compiler |

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
#[cfg(feature = "jwt")]
pub mod webhook;

pub use caller::{Caller, PermittedAccounts, TokenGrant};
pub use error::{Error, ErrorKind};
pub use partner::Partner;
pub use service::{PartnerService, PartnerServiceBuildError, PartnerServiceBuilder, ResponseCheck};
