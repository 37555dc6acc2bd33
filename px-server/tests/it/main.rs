//! Integration tests of px-server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[cfg(all(feature = "hyper", feature = "jwt"))]
mod attack;
mod bank;
mod client_endpoints;
mod credentials;
mod grant;
mod guard;
#[cfg(feature = "hyper")]
mod hyper;
mod log;
#[cfg(feature = "jwt")]
mod notifications;
mod oauth;
mod plaid;
mod scope_projection;
mod service;
#[cfg(feature = "jwt")]
mod verify;
