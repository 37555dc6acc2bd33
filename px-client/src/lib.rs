//! Call Plaid Exchange: read any conforming partner.
//!
//! - [`PartnerClient`]: every endpoint of a partner as a method; [`transport`]: how it gets there;
//! - [`PartnerClient::transactions`]: two years of transactions as a stream; [`page`]: how;
//! - [`oauth`]: sending the user to the partner and getting tokens; [`RefreshingTokens`] keeps them;
//! - [`credentials`]: names, passwords and challenges;
//! - [`retry`]: what is repeated, and when; [`clock`]: time, handed in.
//!
//! Which parts of the contract Plaid has published and which this project decided is said in
//! the project's README.

pub mod clock;
pub mod credentials;
mod error;
pub mod oauth;
pub mod page;
mod partner;
pub mod retry;
mod token;
pub mod transport;

pub use error::{Error, Kind, PagingFault};
pub use page::{HistoryOptions, PageEvent, Transactions, Window};
pub use partner::{PartnerClient, PartnerClientBuilder, SignBody};
pub use retry::RetryPolicy;
pub use token::{MemoryTokenStore, RefreshingTokens, StaticToken, TokenSource, TokenStore};
pub use transport::{HttpTransport, Limits};
