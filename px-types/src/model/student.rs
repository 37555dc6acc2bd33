//! The fields of student loans.

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
            /// The repayment plan.
            repayment_plan: StudentRepaymentPlan,
            /// The guarantor.
            guarantor: String,
            /// The expected date of full repayment.
            expected_payoff_date: Date,
            /// The sequence number of the loan within its account.
            sequence_number: String,
            /// The reference number for payments.
            payment_reference_number: String,
            /// The address of the servicer.
            servicer_address: Address,
            /// The status of Public Service Loan Forgiveness.
            pslf_status: PslfStatus,
        }
        lists {
            /// The dates of disbursement.
            disbursement_dates: Date,
        }
    }
}

message! {
    /// The status of a student loan.
    pub struct StudentLoanStatus {
        required {
            /// The type of the status.
            #[serde(rename = "type")]
            kind: StudentLoanStatusType,
        }
        optional {
            /// The date on which the status ends.
            end_date: Date,
        }
    }
}

message! {
    /// The repayment plan of a student loan.
    pub struct StudentRepaymentPlan {
        required {
            /// The type of the plan.
            #[serde(rename = "type")]
            kind: StudentRepaymentPlanType,
        }
        optional {
            /// A description of the plan.
            description: String,
        }
    }
}

message! {
    /// The progress of a student loan towards Public Service Loan Forgiveness.
    pub struct PslfStatus {
        optional {
            /// The estimated date of eligibility.
            estimated_eligibility_date: Date,
            /// The number of qualifying payments made.
            payments_made: u64,
            /// The number of qualifying payments that remain.
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
