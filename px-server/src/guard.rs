//! Who may call at all, how often, and what a grant lets through.
//!
//! - [`AllowList`]: only Plaid's addresses may reach a partner; a tower layer around the service;
//! - [`CallerAddr`], [`Proxies`]: the address of a caller, for everything that limits by address;
//! - [`ClientCertificate`]: the certificate that a caller showed;
//! - [`RateLimit`]: how many calls one client may make for one user;
//! - [`FailureLimit`]: how many requests of one address may fail to authenticate.
//!
//! Whose token a call carries is not told here but in [`verify`](crate::verify).

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
pub use certificate::{AsksForCertificates, ClientCertificate, PeerCertificate};
pub use failures::FailureLimit;
pub use rate_limit::RateLimit;
