//! Tests for the cases in which other integrations lost or duplicated data. The number of the case
//! begins the name of its test.
//!
//! These are the cases that the merge handles. The others are tested next to the code that handles
//! them.

mod accounts;
mod money;
mod transactions;
