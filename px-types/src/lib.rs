//! The messages and endpoints of Plaid Exchange, without I/O, async runtime or clock.
//!
//! Plaid Exchange (PX) is the API through which a bank, the *partner*, serves its customers' accounts
//! to Plaid. This crate has a type for every message and every endpoint of the contract, `px.md`.
//! Servers are in `px-server`, clients in `px-client`.
//!
//! | module | contents |
//! |---|---|
//! | [`partner`] | requests and responses of the partner's API |
//! | [`plaid`] | requests and responses of Plaid's API |
//! | [`webhook`] | webhooks that Plaid sends, and the claims of their signatures |
//! | [`model`] | objects that several messages share, such as accounts and transactions |
//! | [`primitive`] | amounts, dates, ids, secrets and open enums |
//! | [`scope`], [`error`] | OAuth scopes and error responses |
//! | [`endpoint`] | the [`Endpoint`] trait, and the conversion of requests to and from HTTP |
//! | [`wire`] | JSON encoding and strict decoding |
//! | [`tolerant`], [`fault`] | decoding of messages with faults, and the faults that were found |
//! | [`validate`], [`rule`] | rules across fields and messages, and the list of all rules |
//!
//! A message is built with `new`, which takes the required fields; the other fields are public and can
//! be assigned. Enums are open: unknown values are kept.
//!
//! # Examples
//!
//! ```
//! use px_types::{partner::ListTransactions, partner::TransactionsQuery, endpoint::codec, Date, UserId};
//!
//! let (start, end) = (Date::from_ymd(2024, 1, 1).unwrap(), Date::from_ymd(2024, 1, 31).unwrap());
//! let request = ListTransactions::new(UserId::new("u/1")?, TransactionsQuery::new(start, end));
//! let http = codec::to_http(request).unwrap();
//! assert_eq!(http.uri(), "/users/u%2F1/transactions?start_date=2024-01-01&end_date=2024-01-31&limit=100");
//! # Ok::<(), px_types::InvalidId>(())
//! ```
//!
//! # Features
//!
//! - `openapi`: JSON schemas of all messages, and the OpenAPI documents of both APIs (module `openapi`).
//! - `testing`: randomly varied samples of all messages, for tests (module `testing`).
//!
//! # What this crate does not do
//!
//! It sends and receives no HTTP requests, stores nothing, and does not sign or verify webhooks.

pub mod endpoint;
pub mod error;
pub mod fault;
mod json;
mod message;
pub mod model;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod partner;
pub mod plaid;
pub mod primitive;
pub mod rule;
pub mod scope;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tolerant;
pub mod validate;
pub mod webhook;
pub mod wire;

pub use endpoint::{Auth, Endpoint, Meta, RequiredScope};
pub use error::{ErrorDetail, ErrorResponse, OAuthErrorResponse, error_id};
pub use fault::{ElementKind, Fault, FaultSeverity, Faults};
pub use primitive::{
    amount::{Amount, InvalidNumber, Rate},
    bounded::{AtLeastOne, Bounded, InvalidLength},
    currency::{CurrencyCode, InvalidCurrency, Unit},
    date::{Date, InvalidDate, Iso8601, Timestamp},
    id::*,
    open_enum::OpenEnum,
    secret::*,
};
pub use rule::Rule;
pub use scope::{InvalidScope, Scope, ScopeSet};
pub use wire::{DecodeError, decode, encode};
