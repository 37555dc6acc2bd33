//! One test for each case in which others lost or doubled data; the name begins with its number.
//!
//! Those that the merge settles. The others stand beside what settles them.

mod accounts;
mod money;
mod transactions;
