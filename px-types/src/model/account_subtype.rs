//! The subtypes of each account type.
//!
//! The values are those of `enums.json` of the contract, from Plaid's public API description.

use crate::primitive::open_enum::{OpenEnum, open_enum};

open_enum! {
    /// The subtypes of a `depository` account.
    pub enum DepositorySubtype {
        Checking = "checking",
        Savings = "savings",
        Hsa = "hsa",
        Cd = "cd",
        MoneyMarket = "money market",
        Paypal = "paypal",
        Prepaid = "prepaid",
        CashManagement = "cash management",
        Ebt = "ebt",
        LimitedPurposeChecking = "limited purpose checking",
    }
}

open_enum! {
    /// The subtypes of a `credit` account.
    pub enum CreditSubtype {
        CreditCard = "credit card",
        Paypal = "paypal",
    }
}

open_enum! {
    /// The subtypes of a `loan` account.
    pub enum LoanSubtype {
        Auto = "auto",
        Business = "business",
        Commercial = "commercial",
        Construction = "construction",
        Consumer = "consumer",
        HomeEquity = "home equity",
        Loan = "loan",
        Mortgage = "mortgage",
        Overdraft = "overdraft",
        LineOfCredit = "line of credit",
        Student = "student",
        Other = "other",
    }
}

open_enum! {
    /// The subtypes of an `investment` account.
    pub enum InvestmentSubtype {
        Plan529 = "529",
        Plan401a = "401a",
        Plan401k = "401k",
        Plan403b = "403B",
        Plan457b = "457b",
        Brokerage = "brokerage",
        CashIsa = "cash isa",
        CryptoExchange = "crypto exchange",
        EducationSavingsAccount = "education savings account",
        Fhsa = "fhsa",
        FixedAnnuity = "fixed annuity",
        Gic = "gic",
        HealthReimbursementArrangement = "health reimbursement arrangement",
        Hsa = "hsa",
        Ira = "ira",
        Isa = "isa",
        Keogh = "keogh",
        Lif = "lif",
        LifeInsurance = "life insurance",
        LineOfCredit = "line of credit",
        Lira = "lira",
        Lrif = "lrif",
        Lrsp = "lrsp",
        MutualFund = "mutual fund",
        NonCustodialWallet = "non-custodial wallet",
        NonTaxableBrokerageAccount = "non-taxable brokerage account",
        Other = "other",
        OtherAnnuity = "other annuity",
        OtherInsurance = "other insurance",
        Pension = "pension",
        Prif = "prif",
        ProfitSharingPlan = "profit sharing plan",
        Qshr = "qshr",
        Rdsp = "rdsp",
        Resp = "resp",
        Retirement = "retirement",
        Rlif = "rlif",
        Roth = "roth",
        Roth401k = "roth 401k",
        Roth403b = "roth 403B",
        Roth457b = "roth 457b",
        RothPension = "roth pension",
        RothProfitSharingPlan = "roth profit sharing plan",
        RothThriftSavingsPlan = "roth thrift savings plan",
        Rrif = "rrif",
        Rrsp = "rrsp",
        Sarsep = "sarsep",
        SepIra = "sep ira",
        SimpleIra = "simple ira",
        Sipp = "sipp",
        StockPlan = "stock plan",
        ThriftSavingsPlan = "thrift savings plan",
        Tfsa = "tfsa",
        Trust = "trust",
        Ugma = "ugma",
        Utma = "utma",
        VariableAnnuity = "variable annuity",
    }
}

open_enum! {
    /// The subtypes of an `other` account.
    pub enum OtherSubtype {
        Other = "other",
    }
}

/// Returns the account types that have a subtype with this name. Empty if no type has one.
#[must_use]
pub fn types_of_subtype(subtype: &str) -> Vec<&'static str> {
    [
        ("depository", <DepositorySubtype as OpenEnum>::KNOWN),
        ("credit", <CreditSubtype as OpenEnum>::KNOWN),
        ("loan", <LoanSubtype as OpenEnum>::KNOWN),
        ("investment", <InvestmentSubtype as OpenEnum>::KNOWN),
        ("other", <OtherSubtype as OpenEnum>::KNOWN),
    ]
    .into_iter()
    .filter(|(_, known)| known.contains(&subtype))
    .map(|(name, _)| name)
    .collect()
}
