//! When an application last read each kind of data.

use crate::{
    message::message,
    primitive::{date::Timestamp, id::ApplicationId},
};

message! {
    /// When an application last read each kind of data; `None` is never.
    ///
    /// Contract: `px.md` section 6.
    pub struct LastDataAccessTimes {
        required {
            /// The application.
            application_id: ApplicationId,
        }
        optional {
            /// Accounts and balances.
            account_balance_info: Timestamp,
            /// Account and routing numbers.
            account_routing_number: Timestamp,
            /// Who holds the accounts.
            contact_details: Timestamp,
            /// Transactions.
            transactions: Timestamp,
            /// Liabilities.
            credit_and_loans: Timestamp,
            /// Holdings.
            investments: Timestamp,
            /// Payroll.
            payroll_info: Timestamp,
            /// What tells how risky a transaction is.
            transaction_risk_info: Timestamp,
        }
    }
}
