//! The models that messages share, one file per model.

pub mod account;
pub mod account_subtype;
pub mod application;
pub mod credit;
pub mod depository;
pub mod identity;
pub mod investment;
pub mod loan;
pub mod location;
pub mod product;
pub mod scopes;
pub mod security;
pub mod sign_in;
pub mod student;
pub mod transaction;
