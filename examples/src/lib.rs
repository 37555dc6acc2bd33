//! The demo bank: a partner on `px-server`, made the way a bank would.

pub mod ledger;
pub mod password;
pub mod scenario;
pub mod seed;
