//! The engine over a store in memory and a bank that does what a test wants.

mod bank;
mod initial;
mod world;
