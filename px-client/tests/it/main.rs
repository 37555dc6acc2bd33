//! The client against correct and faulty partners. Only the few tests that need a socket wait in real time.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod bad_days;
mod bad_server;
mod credentials;
mod history;
mod identity_provider;
mod notifier;
mod oauth;
mod oauth_server;
#[cfg(feature = "bank")]
mod oauth_tokens;
mod plaid;
mod plaid_world;
mod portal;
mod round_trip;
mod scripted;
mod tolerant;
