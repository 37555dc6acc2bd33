//! The fields of loan accounts.

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
            /// The subtype.
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
            /// The amount owed at the last statement.
            last_statement_balance: Amount,
            /// The minimum payment that is due.
            minimum_payment_amount: Amount,
            /// The date on which the next payment is due.
            next_payment_due_date: Date,
            /// The interest rate.
            interest_rate: InterestRate,
            /// The date of origination.
            origination_date: Date,
            /// The date of maturity.
            maturity_date: Date,
            /// The original principal.
            origination_principal_amount: Amount,
            /// The outstanding interest.
            outstanding_interest_amount: Amount,
            /// The interest paid this year.
            ytd_interest_paid: Amount,
            /// The principal paid this year.
            ytd_principal_paid: Amount,
            /// The overdue amount.
            past_due_amount: Amount,
            /// The escrow balance for taxes and insurance.
            escrow_balance: Amount,
            /// The fields of a loan of subtype `mortgage`.
            mortgage: Mortgage,
            /// The fields of a loan of subtype `student`.
            student: Student,
        }
    }
}

message! {
    /// An interest rate.
    pub struct InterestRate {
        required {
            /// The rate in percent, such as `4.25`.
            percentage: Rate,
        }
        optional {
            /// Whether the rate is fixed or variable.
            #[serde(rename = "type")]
            kind: InterestRateType,
        }
    }
}

open_enum! {
    /// Whether an interest rate is fixed or variable.
    pub enum InterestRateType {
        Fixed = "fixed",
        Variable = "variable",
    }
}

message! {
    /// The fields of a mortgage.
    pub struct Mortgage {
        optional {
            /// A description of the type of mortgage.
            loan_type_description: String,
            /// The term, such as `30 year`.
            loan_term: String,
            /// Whether there is private mortgage insurance.
            has_pmi: bool,
            /// Whether early repayment costs a fee.
            has_prepayment_penalty: bool,
            /// The current fee for late payment.
            current_late_fee: Amount,
            /// The mortgaged property.
            property_address: Address,
        }
    }
}
