//! Integration tests of px-server.

mod bank;
mod service;
