//! Every message and every endpoint of Plaid Exchange, without I/O, runtime or clock.
//!
//! - [`partner`]: the requests and answers that a bank serves;
//! - [`plaid`]: those that Plaid serves; [`webhook`]: what Plaid sends;
//! - [`model`]: what messages share, one file per model;
//! - [`primitive`]: amounts, dates, ids, secrets, open enums;
//! - [`endpoint`]: what an endpoint is, and how it is written as HTTP and read back;
//! - [`tolerant`]: reading messages as banks send them; [`fault`]: what was wrong with them;
//! - [`validate`]: the rules between fields and messages; [`rule`]: all rules in one list.
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
