//! The engine over a store in memory and a bank that does what a test wants.

pub(crate) mod bank;
pub(crate) mod clock;
mod damage;
mod faults;
mod initial;
mod partner;
mod reading;
mod review;
mod tokens;
mod workers;
pub(crate) mod world;
