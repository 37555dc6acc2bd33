//! Securities: the objects of holdings and investment transactions.
//!
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
    /// A security: the object of a holding or an investment transaction.
    ///
    /// Contract: `px.md` section 3.6.
    pub struct Security {
        required {
            /// The id. It never changes.
            id: SecurityId,
            /// The type.
            #[serde(rename = "type")]
            kind: SecurityType,
        }
        optional {
            /// The name.
            name: String,
            /// The ticker symbol.
            symbol: String,
            /// The ISIN of ISO 6166.
            isin: String,
            /// The CUSIP.
            cusip: String,
            /// The SEDOL.
            sedol: String,
            /// Whether it is equivalent to cash.
            is_cash_equivalent: bool,
            /// The latest price.
            current_price: Amount,
            /// The date or time of the latest price.
            current_as_of: Iso8601,
            /// The closing price.
            close_price: Amount,
            /// The trading day of the closing price.
            close_price_as_of: Date,
        }
        flat {
            /// The unit of the prices.
            unit: Unit,
        }
    }
}

open_enum! {
    /// The type of a security.
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
