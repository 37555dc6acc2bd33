//! What only a credit account has.

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
            /// What kind of account it is.
            subtype: CreditSubtype,
        }
        optional {
            /// The most that may be owed.
            credit_limit: Amount,
            /// Whether a payment is overdue.
            is_overdue: bool,
            /// The amount of the last payment.
            last_payment_amount: Amount,
            /// The date of the last payment.
            last_payment_date: Date,
            /// The date of the last statement.
            last_statement_issue_date: Date,
            /// What was owed at the last statement.
            last_statement_balance: Amount,
            /// The least that is due.
            minimum_payment_amount: Amount,
            /// When it is due.
            next_payment_due_date: Date,
        }
        lists {
            /// The rates that apply.
            aprs: Apr,
        }
    }
}

message! {
    /// An annual percentage rate.
    pub struct Apr {
        required {
            /// The rate as a percentage, `19.99`.
            percentage: Rate,
            /// What it applies to.
            #[serde(rename = "type")]
            kind: AprType,
        }
        optional {
            /// The balance that it applies to.
            balance_subject_to_apr: Amount,
            /// The interest charged on that balance.
            interest_charge_amount: Amount,
        }
    }
}

open_enum! {
    /// What an annual percentage rate applies to.
    pub enum AprType {
        BalanceTransferApr = "balance_transfer_apr",
        CashApr = "cash_apr",
        PurchaseApr = "purchase_apr",
        Special = "special",
    }
}
