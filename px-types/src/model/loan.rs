//! What only a loan account has.

use crate::{
    message::message,
    model::{account_subtype::LoanSubtype, location::Address, student::Student},
    primitive::{
        amount::{Amount, Rate},
        date::Date,
        open_enum::open_enum,
    },
};

message! {
    /// The fields of a `loan` account.
    ///
    /// Contract: `px.md` section 3.4.
    pub struct Loan {
        required {
            /// What kind of account it is.
            subtype: LoanSubtype,
        }
        optional {
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
            /// The rate of interest.
            interest_rate: InterestRate,
            /// When the loan began.
            origination_date: Date,
            /// When it is to be paid off.
            maturity_date: Date,
            /// What was lent.
            origination_principal_amount: Amount,
            /// The interest that is owed.
            outstanding_interest_amount: Amount,
            /// The interest paid this year.
            ytd_interest_paid: Amount,
            /// The principal paid this year.
            ytd_principal_paid: Amount,
            /// What is overdue.
            past_due_amount: Amount,
            /// What is held for taxes and insurance.
            escrow_balance: Amount,
            /// What only a loan of subtype `mortgage` has.
            mortgage: Mortgage,
            /// What only a loan of subtype `student` has.
            student: Student,
        }
    }
}

message! {
    /// A rate of interest.
    pub struct InterestRate {
        required {
            /// The rate as a percentage, `4.25`.
            percentage: Rate,
        }
        optional {
            /// Whether it can change.
            #[serde(rename = "type")]
            kind: InterestRateType,
        }
    }
}

open_enum! {
    /// Whether a rate of interest can change.
    pub enum InterestRateType {
        Fixed = "fixed",
        Variable = "variable",
    }
}

message! {
    /// The fields of a mortgage.
    pub struct Mortgage {
        optional {
            /// What kind of mortgage it is, in words.
            loan_type_description: String,
            /// How long it runs, `30 year`.
            loan_term: String,
            /// Whether it has private mortgage insurance.
            has_pmi: bool,
            /// Whether paying it off early costs a fee.
            has_prepayment_penalty: bool,
            /// The fee for being late.
            current_late_fee: Amount,
            /// The mortgaged property.
            property_address: Address,
        }
    }
}
