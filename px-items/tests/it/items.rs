//! The facade for applications and partners, over a store in memory that is filled by hand.

mod access;
mod health;
mod life;
mod notify;
mod partner;
mod reading;
mod remap;
mod secrets;
mod sync;
mod world;
