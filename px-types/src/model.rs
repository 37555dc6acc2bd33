//! The objects that messages share, one module per object.

pub mod account;
pub mod account_subtype;
pub mod activity;
pub mod application;
pub mod application_details;
pub mod credit;
pub mod cross_app_item_add;
pub mod depository;
pub mod identity;
pub mod investment;
pub mod item;
pub mod item_health;
pub mod item_status;
pub mod last_data_access_times;
pub mod link_token_user;
pub mod loan;
pub mod location;
pub mod plaid_error;
pub mod product;
pub mod scopes;
pub mod security;
pub mod sign_in;
pub mod student;
pub mod transaction;
pub mod verification_key;
