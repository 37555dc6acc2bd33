//! What only a student loan has.

use crate::{
    message::message,
    model::location::Address,
    primitive::{date::Date, open_enum::open_enum},
};

message! {
    /// The fields of a student loan.
    ///
    /// Contract: `px.md` section 3.4.
    pub struct Student {
        optional {
            /// The name of the loan.
            loan_name: String,
            /// The status of the loan.
            loan_status: StudentLoanStatus,
            /// The plan by which it is repaid.
            repayment_plan: StudentRepaymentPlan,
            /// Who guarantees it.
            guarantor: String,
            /// When it is expected to be paid off.
            expected_payoff_date: Date,
            /// The number of the loan within its account.
            sequence_number: String,
            /// The reference for payments.
            payment_reference_number: String,
            /// Where the servicer is.
            servicer_address: Address,
            /// Public Service Loan Forgiveness.
            pslf_status: PslfStatus,
        }
        lists {
            /// When it was paid out.
            disbursement_dates: Date,
        }
    }
}

message! {
    /// The status of a student loan.
    pub struct StudentLoanStatus {
        required {
            /// The status.
            #[serde(rename = "type")]
            kind: StudentLoanStatusType,
        }
        optional {
            /// When the status ends.
            end_date: Date,
        }
    }
}

message! {
    /// The plan by which a student loan is repaid.
    pub struct StudentRepaymentPlan {
        required {
            /// The plan.
            #[serde(rename = "type")]
            kind: StudentRepaymentPlanType,
        }
        optional {
            /// The plan in words.
            description: String,
        }
    }
}

message! {
    /// How far a student loan is from Public Service Loan Forgiveness.
    pub struct PslfStatus {
        optional {
            /// When it is expected to be forgiven.
            estimated_eligibility_date: Date,
            /// Payments that count, made.
            payments_made: u64,
            /// Payments that count, still to be made.
            payments_remaining: u64,
        }
    }
}

open_enum! {
    /// The status of a student loan.
    pub enum StudentLoanStatusType {
        Cancelled = "cancelled",
        ChargedOff = "charged off",
        Claim = "claim",
        Consolidated = "consolidated",
        Deferment = "deferment",
        Delinquent = "delinquent",
        Discharged = "discharged",
        Extension = "extension",
        Forbearance = "forbearance",
        InGrace = "in grace",
        InMilitary = "in military",
        InSchool = "in school",
        NotFullyDisbursed = "not fully disbursed",
        Other = "other",
        PaidInFull = "paid in full",
        Refunded = "refunded",
        Repayment = "repayment",
        Transferred = "transferred",
        PendingIdr = "pending idr",
    }
}

open_enum! {
    /// The repayment plan of a student loan.
    pub enum StudentRepaymentPlanType {
        ExtendedGraduated = "extended graduated",
        ExtendedStandard = "extended standard",
        Graduated = "graduated",
        IncomeContingentRepayment = "income-contingent repayment",
        IncomeBasedRepayment = "income-based repayment",
        IncomeSensitiveRepayment = "income-sensitive repayment",
        InterestOnly = "interest-only",
        Other = "other",
        PayAsYouEarn = "pay as you earn",
        RevisedPayAsYouEarn = "revised pay as you earn",
        Standard = "standard",
        SavingOnAValuableEducation = "saving on a valuable education",
    }
}
