//! What only an investment account has: its holdings.

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
            /// What kind of account it is.
            subtype: InvestmentSubtype,
            /// What the account holds; may be empty.
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
            /// How much of it.
            quantity: Amount,
            /// Its price by the institution.
            institution_price: Amount,
            /// Its value by the institution.
            institution_value: Amount,
        }
        optional {
            /// When that price was current.
            institution_price_as_of: Iso8601,
            /// What was paid for it.
            cost_basis: Amount,
            /// How much of it is vested.
            vested_quantity: Amount,
            /// What the vested part is worth.
            vested_value: Amount,
        }
        flat {
            /// What price and value are counted in.
            unit: Unit,
        }
    }
}
