//! Ports and utilities of the Plaid Exchange crates that are independent of the protocol.
//!
//! Every crate of the project gets time, randomness and HTTP through the traits defined here. One
//! object can therefore serve a server and a client in the same process, and a test can run a whole
//! system under its own clock and seed.
//!
//! | to get | trait | implementations |
//! |---|---|---|
//! | the time, and a way to wait | [`Clock`] | [`SystemClock`], [`ManualClock`] |
//! | the time of a database that several machines share | [`SharedClock`] | [`LocalClock`], those of the stores |
//! | random bytes | [`Random`] | [`SystemRandom`], [`SeededRandom`] |
//! | an HTTP response | [`HttpTransport`] | `ReqwestTransport` (feature `reqwest`), [`InProcessTransport`] |
//!
//! [`digest`] has SHA-256 digests and constant-time comparison, [`metrics`] has descriptions of
//! metrics, and [`text`] makes untrusted text safe to display.
//! [`backoff`] computes the delay before something that failed is tried again, and [`circuit`] stops
//! calls to what keeps failing.
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
//! - `clock`, `random` and `http` (all enabled by default): the modules of the same name;
//!   [`backoff`] comes with `random`, and [`circuit`] with `clock`. Without them only [`digest`], [`metrics`] and [`text`] remain,
//!   which need no async runtime.
//! - `reqwest`: a transport over the network, with rustls.
//!
//! # What this crate does not do
//!
//! It does not retry requests, follow redirects or interpret responses. Retries and tokens are in
//! `px-client`, messages are in `px-types`.

#[cfg(feature = "random")]
pub mod backoff;
#[cfg(feature = "clock")]
pub mod circuit;
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
    is_identity_encoding, is_loopback_host, is_public,
};
#[cfg(feature = "reqwest")]
pub use http::{ReqwestTransport, ReqwestTransportBuilder};
#[cfg(feature = "random")]
pub use random::{Random, SeededRandom, SystemRandom};
