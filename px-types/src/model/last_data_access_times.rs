//! The times of an application's last accesses.
//!
use crate::{
    message::message,
    primitive::{date::Timestamp, id::ApplicationId},
};

message! {
    /// The time at which an application last read each kind of data; `None` if never.
    ///
    /// Contract: `px.md` section 6.
    pub struct LastDataAccessTimes {
        required {
            /// The id of the application.
            application_id: ApplicationId,
        }
        optional {
            /// Accounts and balances.
            account_balance_info: Timestamp,
            /// Account and routing numbers.
            account_routing_number: Timestamp,
            /// The account holders.
            contact_details: Timestamp,
            /// Transactions.
            transactions: Timestamp,
            /// Liabilities.
            credit_and_loans: Timestamp,
            /// Holdings.
            investments: Timestamp,
            /// Payroll data.
            payroll_info: Timestamp,
            /// Data about the risk of transactions.
            transaction_risk_info: Timestamp,
        }
    }
}
