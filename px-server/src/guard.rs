//! Restrictions on callers: addresses, rates, and the scope of a grant.
//!
//! - [`AllowList`]: a tower layer that permits only known addresses, for example Plaid's;
//! - [`CallerAddr`], [`Proxies`]: the address of a caller, for all limits by address;
//! - [`ClientCertificate`]: the TLS certificate of a caller;
//! - [`RateLimit`]: the rate of calls of one client for one user;
//! - [`FailureLimit`]: the rate of requests of one address that fail to authenticate.
//!
//! The verification of tokens is in [`verify`](crate::verify).

mod address;
mod allow_list;
mod buckets;
mod certificate;
mod failures;
pub(crate) mod grant;
pub(crate) mod open_calls;
mod rate_limit;
pub(crate) mod refusal;

pub use address::{AddressBlock, CallerAddr, InvalidRange, PeerAddr, Proxies, ProxiesService};
#[cfg(feature = "hyper")]
pub(crate) use allow_list::refuse as refuse_address;
pub use allow_list::{AllowList, AllowListService, PLAID_PRODUCTION, PLAID_TESTING};
pub use certificate::{ClientCertificate, ClientCertificatesRequested, PeerCertificate};
pub use failures::FailureLimit;
pub use rate_limit::RateLimit;
