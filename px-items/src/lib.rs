//! The Item: one user's connection at one institution, kept true for years.
//!
//! - [`item`]: the state machine, pure; [`life`]: what an Item remembers between updates;
//! - [`plan`]: which windows of dates are read; [`merge`]: what an answer changes. Both pure;
//! - [`connection`]: applications that share an Item, and what each may see;
//! - [`items`]: how a Plaid service serves applications and partners;
//! - [`partners`]: the banks; [`random`]: randomness, handed in;
//! - [`vault`]: how tokens are sealed at rest;
//! - [`webhook`]: what tells applications: signed, sent until it arrives, and checked;
//! - [`store`]: where Items are kept, with SQLite, PostgreSQL and memory behind one trait;
//! - `testing` (feature): what tests need.

pub mod connection;
pub mod engine;
pub mod item;
pub mod items;
pub mod life;
pub mod merge;
mod metrics;
pub mod news;
pub mod partners;
pub mod plan;
pub mod random;
pub mod schedule;
pub mod store;
pub mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vault;
pub mod webhook;
