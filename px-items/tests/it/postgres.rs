//! PostgreSQL: the server for tests, and the store on it.

mod machines;
mod server;
mod store;
