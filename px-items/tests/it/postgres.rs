//! PostgreSQL: the server for tests, and the store on it.

mod server;
