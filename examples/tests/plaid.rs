//! Tests of the demo Plaid: its API, its Link pages, the connection from a bank's site, its
//! program.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "plaid/api.rs"]
mod api;
#[path = "plaid/application.rs"]
mod application;
#[path = "plaid/browser.rs"]
mod browser;
#[path = "plaid/credentials.rs"]
mod credentials;
#[path = "plaid/cross_app.rs"]
mod cross_app;
#[path = "plaid/forms.rs"]
mod forms;
#[path = "plaid/link.rs"]
mod link;
#[path = "plaid/ops.rs"]
mod ops;
#[path = "plaid/program.rs"]
mod program;
#[cfg(unix)]
#[path = "plaid/programs.rs"]
mod programs;
#[cfg(unix)]
#[path = "plaid/secrets.rs"]
mod secrets;
#[path = "plaid/security.rs"]
mod security;
#[path = "plaid/shapes.rs"]
mod shapes;
#[path = "plaid/support.rs"]
mod support;
#[cfg(unix)]
#[path = "plaid/wire.rs"]
mod wire;
