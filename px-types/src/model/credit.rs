//! The fields of credit accounts.

use crate::{
    message::message,
    model::account_subtype::CreditSubtype,
    primitive::{
        amount::{Amount, Rate},
        date::Date,
        open_enum::open_enum,
    },
};

message! {
    /// The fields of a `credit` account.
    ///
    /// Contract: `px.md` section 3.4.
    pub struct Credit {
        required {
            /// The subtype.
            subtype: CreditSubtype,
        }
        optional {
            /// The credit limit.
            credit_limit: Amount,
            /// Whether a payment is overdue.
            is_overdue: bool,
            /// The amount of the last payment.
            last_payment_amount: Amount,
            /// The date of the last payment.
            last_payment_date: Date,
            /// The date of the last statement.
            last_statement_issue_date: Date,
            /// The amount owed at the last statement.
            last_statement_balance: Amount,
            /// The minimum payment that is due.
            minimum_payment_amount: Amount,
            /// The date on which the next payment is due.
            next_payment_due_date: Date,
        }
        lists {
            /// The annual percentage rates.
            aprs: Apr,
        }
    }
}

message! {
    /// An annual percentage rate.
    pub struct Apr {
        required {
            /// The rate in percent, such as `19.99`.
            percentage: Rate,
            /// The type of balance to which the rate applies.
            #[serde(rename = "type")]
            kind: AprType,
        }
        optional {
            /// The balance to which the rate applies.
            balance_subject_to_apr: Amount,
            /// The interest charged on that balance.
            interest_charge_amount: Amount,
        }
    }
}

open_enum! {
    /// The type of balance to which an annual percentage rate applies.
    pub enum AprType {
        BalanceTransferApr = "balance_transfer_apr",
        CashApr = "cash_apr",
        PurchaseApr = "purchase_apr",
        Special = "special",
    }
}
