//! Call Plaid Exchange.
