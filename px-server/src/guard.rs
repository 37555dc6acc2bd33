//! Who may call at all, how often, and what a grant lets through.
//!
//! - [`AllowList`]: only Plaid's addresses may reach a partner; a tower layer around the service;
//! - [`RateLimit`]: how many calls one client may make for one user.
//!
//! Whose token a call carries is not told here but in [`verify`](crate::verify).

mod allow_list;
pub(crate) mod grant;
mod rate_limit;
pub(crate) mod refusal;

pub use allow_list::{
    AllowList, AllowListService, InvalidRange, PLAID_PRODUCTION, PLAID_TESTING, PeerAddr,
};
pub use rate_limit::RateLimit;
