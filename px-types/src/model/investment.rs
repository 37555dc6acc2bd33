//! The fields of investment accounts: their holdings.

use crate::{
    message::message,
    model::account_subtype::InvestmentSubtype,
    primitive::{amount::Amount, currency::Unit, date::Iso8601, id::SecurityId},
};

message! {
    /// The fields of an `investment` account.
    ///
    /// Contract: `px.md` section 3.5.
    pub struct Investment {
        required {
            /// The subtype.
            subtype: InvestmentSubtype,
            /// The holdings; may be empty.
            holdings: Vec<Holding>,
        }
    }
}

message! {
    /// A position in one security.
    pub struct Holding {
        required {
            /// The security.
            security_id: SecurityId,
            /// The quantity.
            quantity: Amount,
            /// The price of one unit, according to the institution.
            institution_price: Amount,
            /// The value of the position, according to the institution.
            institution_value: Amount,
        }
        optional {
            /// The date or time of the price.
            institution_price_as_of: Iso8601,
            /// The cost basis.
            cost_basis: Amount,
            /// The vested quantity.
            vested_quantity: Amount,
            /// The value of the vested quantity.
            vested_value: Amount,
        }
        flat {
            /// The unit of price and value.
            unit: Unit,
        }
    }
}
