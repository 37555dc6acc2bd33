//! A security: what a holding or an investment transaction is in.

use crate::{
    message::message,
    primitive::{
        amount::Amount,
        currency::Unit,
        date::{Date, Iso8601},
        id::SecurityId,
        open_enum::open_enum,
    },
};

message! {
    /// A security: what a holding or an investment transaction is in.
    ///
    /// Contract: `px.md` section 3.6.
    pub struct Security {
        required {
            /// Stable for the life of the security.
            id: SecurityId,
            /// What it is.
            #[serde(rename = "type")]
            kind: SecurityType,
        }
        optional {
            /// Its name.
            name: String,
            /// Its symbol on an exchange.
            symbol: String,
            /// The ISIN of ISO 6166.
            isin: String,
            /// The CUSIP.
            cusip: String,
            /// The SEDOL.
            sedol: String,
            /// Whether it counts as cash.
            is_cash_equivalent: bool,
            /// Its latest price.
            current_price: Amount,
            /// When that price was current.
            current_as_of: Iso8601,
            /// Its price at the close of a trading day.
            close_price: Amount,
            /// The trading day.
            close_price_as_of: Date,
        }
        flat {
            /// What the prices are counted in.
            unit: Unit,
        }
    }
}

open_enum! {
    /// What a security is.
    pub enum SecurityType {
        Cash = "cash",
        Cryptocurrency = "cryptocurrency",
        Derivative = "derivative",
        Equity = "equity",
        Etf = "etf",
        FixedIncome = "fixed income",
        Loan = "loan",
        MutualFund = "mutual fund",
        Other = "other",
    }
}
