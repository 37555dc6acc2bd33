//! A transaction: money that entered or left an account, pending or posted.

use crate::{
    message::message,
    model::{account::AccountType, location::GeoLocation},
    primitive::{
        amount::Amount,
        currency::Unit,
        date::{Date, Iso8601},
        id::{AccountId, SecurityId, TransactionId},
        open_enum::open_enum,
    },
};

message! {
    /// Money that entered or left an account.
    ///
    /// The sign is that of the account holder's spending: **positive, money leaves the
    /// account**; negative, money enters it. Contract: `px.md` section 3.7.
    pub struct Transaction {
        required {
            /// The same while pending and after it posted.
            id: TransactionId,
            /// The account.
            account_id: AccountId,
            /// Positive: money leaves the account.
            amount: Amount,
            /// When it was made or authorized.
            transacted_at: Iso8601,
            /// The type of the account.
            #[serde(rename = "type")]
            kind: AccountType,
        }
        nullable {
            /// The institution's own text.
            description: String,
            /// When it posted; `None` while it is pending.
            settled_at: Iso8601,
        }
        optional {
            /// What it is, in the terms of a bank statement.
            code: TransactionCode,
            /// Who was paid.
            merchant: Merchant,
            /// The number of the cheque.
            check_number: String,
            /// The details of a payment.
            payment: Payment,
            /// The details of an investment transaction.
            investment: InvestmentDetails,
        }
        flat {
            /// What the amount is counted in.
            unit: Unit,
        }
    }
}

impl Transaction {
    /// Whether it has not posted yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.settled_at.is_none()
    }

    /// The date by which windows and pages sort it: that of `settled_at`, or of
    /// `transacted_at` while it is pending.
    #[must_use]
    pub fn date(&self) -> Date {
        self.settled_at.unwrap_or(self.transacted_at).date()
    }
}

message! {
    /// Who was paid.
    pub struct Merchant {
        optional {
            /// The name.
            name: String,
            /// The merchant category code of ISO 18245, four digits.
            mcc: String,
            /// The website.
            website: String,
            /// Where it was.
            location: GeoLocation,
        }
    }
}

message! {
    /// The details of a payment.
    pub struct Payment {
        optional {
            /// The reference that the payer gave.
            reference_number: String,
            /// The ACH PPD id of the payer.
            ppd_id: String,
            /// Who was paid.
            payee: String,
            /// Who paid.
            payer: String,
            /// On whose order.
            by_order_of: String,
            /// How it was paid.
            payment_method: String,
            /// Who processed it.
            payment_processor: String,
            /// What it was for.
            reason: String,
        }
    }
}

message! {
    /// The details of an investment transaction.
    pub struct InvestmentDetails {
        required {
            /// What it is.
            #[serde(rename = "type")]
            kind: InvestmentTransactionType,
            /// How much of the security.
            quantity: Amount,
        }
        optional {
            /// What it is, in detail.
            subtype: InvestmentTransactionSubtype,
            /// The security.
            security_id: SecurityId,
            /// The price of one unit.
            price: Amount,
            /// The fees.
            fees: Amount,
        }
    }
}

open_enum! {
    /// What a transaction is, in the terms of a bank statement.
    pub enum TransactionCode {
        Adjustment = "adjustment",
        Atm = "atm",
        BankCharge = "bank charge",
        BillPayment = "bill payment",
        Cash = "cash",
        Cashback = "cashback",
        Cheque = "cheque",
        DirectDebit = "direct debit",
        Interest = "interest",
        Payment = "payment",
        Purchase = "purchase",
        Refund = "refund",
        StandingOrder = "standing order",
        Transfer = "transfer",
    }
}

open_enum! {
    /// What an investment transaction is.
    pub enum InvestmentTransactionType {
        Buy = "buy",
        Sell = "sell",
        Cancel = "cancel",
        Cash = "cash",
        Fee = "fee",
        Transfer = "transfer",
    }
}

open_enum! {
    /// What an investment transaction is, in detail.
    pub enum InvestmentTransactionSubtype {
        AccountFee = "account fee",
        Adjustment = "adjustment",
        Assignment = "assignment",
        Buy = "buy",
        BuyToCover = "buy to cover",
        Contribution = "contribution",
        Deposit = "deposit",
        Distribution = "distribution",
        Dividend = "dividend",
        DividendReinvestment = "dividend reinvestment",
        Exercise = "exercise",
        Expire = "expire",
        FundFee = "fund fee",
        Interest = "interest",
        InterestReceivable = "interest receivable",
        InterestReinvestment = "interest reinvestment",
        LegalFee = "legal fee",
        LoanPayment = "loan payment",
        LongTermCapitalGain = "long-term capital gain",
        LongTermCapitalGainReinvestment = "long-term capital gain reinvestment",
        ManagementFee = "management fee",
        MarginExpense = "margin expense",
        Merger = "merger",
        MiscellaneousFee = "miscellaneous fee",
        NonQualifiedDividend = "non-qualified dividend",
        NonResidentTax = "non-resident tax",
        PendingCredit = "pending credit",
        PendingDebit = "pending debit",
        QualifiedDividend = "qualified dividend",
        Rebalance = "rebalance",
        ReturnOfPrincipal = "return of principal",
        Request = "request",
        Sell = "sell",
        SellShort = "sell short",
        Send = "send",
        ShortTermCapitalGain = "short-term capital gain",
        ShortTermCapitalGainReinvestment = "short-term capital gain reinvestment",
        SpinOff = "spin off",
        Split = "split",
        StockDistribution = "stock distribution",
        Tax = "tax",
        TaxWithheld = "tax withheld",
        Trade = "trade",
        Transfer = "transfer",
        TransferFee = "transfer fee",
        TrustFee = "trust fee",
        UnqualifiedGain = "unqualified gain",
        Withdrawal = "withdrawal",
    }
}
