//! Ports and machinery of the Plaid Exchange crates that know nothing of Plaid Exchange.
//!
//! Every crate of the project takes time, randomness and the network from here, so that one
//! object serves a server and a client in the same process, and a whole system runs in a test
//! under a clock and a seed of its own.
//!
//! | to get | port | implementations |
//! |---|---|---|
//! | the time, and a way to wait | [`Clock`] | [`SystemClock`], [`ManualClock`] |
//! | the time of a database that several machines share | [`SharedClock`] | [`LocalClock`], a store's own |
//! | random bytes | [`Random`] | [`SystemRandom`], [`SeededRandom`] |
//! | an HTTP response | [`HttpTransport`] | `ReqwestTransport` (feature `reqwest`), [`InProcessTransport`] |
//!
//! [`digest`] holds SHA-256 digests and the comparison in constant time, [`metrics`] the description
//! of a metric, [`text`] what makes others' text safe to show.
//!
//! ```
//! use px_core::{Clock as _, ManualClock, SeededRandom, random};
//!
//! let clock = ManualClock::new("2026-01-01T00:00:00Z".parse()?);
//! clock.advance(chrono::TimeDelta::minutes(5));
//! assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:05:00+00:00");
//!
//! // Two generators of one seed return the same bytes.
//! let token = random::secret(&SeededRandom::new(7));
//! assert_eq!(token, random::secret(&SeededRandom::new(7)));
//! # Ok::<(), chrono::ParseError>(())
//! ```
//!
//! # Features
//!
//! - `clock`, `random` and `http` (all three by default): the ports of the same name. Without
//!   them only [`digest`], [`metrics`] and [`text`] remain, which need no runtime.
//! - `reqwest`: a transport over the network, with rustls.
//!
//! # What this crate does not do
//!
//! It repeats no request, follows no redirect and interprets no response. Retries, tokens and
//! messages are in `px-client`.

#[cfg(feature = "random")]
pub mod backoff;
#[cfg(feature = "clock")]
pub mod clock;
pub mod digest;
#[cfg(feature = "http")]
pub mod http;
pub mod metrics;
#[cfg(feature = "random")]
pub mod random;
pub mod text;

#[cfg(feature = "clock")]
pub use clock::{Clock, LocalClock, ManualClock, SharedClock, SharedClockError, SystemClock};
pub use digest::Digest;
#[cfg(feature = "http")]
pub use http::{
    HttpLimits, HttpTransport, InProcessTransport, TransportError, TransportErrorKind,
    is_loopback_host, is_public, is_unpacked,
};
#[cfg(feature = "reqwest")]
pub use http::{ReqwestTransport, ReqwestTransportBuilder};
#[cfg(feature = "random")]
pub use random::{Random, SeededRandom, SystemRandom};
