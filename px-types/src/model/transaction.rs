//! Transactions of accounts, pending or posted.

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
    /// A transaction of an account.
    ///
    /// A positive amount means that **money leaves the account**, a negative amount that money enters it.
    ///
    /// Contract: `px.md` section 3.7.
    pub struct Transaction {
        required {
            /// The id. It is the same while the transaction is pending and after it has posted.
            id: TransactionId,
            /// The id of the account.
            account_id: AccountId,
            /// The amount. Positive if money leaves the account.
            amount: Amount,
            /// The date or time at which the transaction was made or authorized.
            transacted_at: Iso8601,
            /// The type of the account.
            #[serde(rename = "type")]
            kind: AccountType,
        }
        nullable {
            /// The description by the institution.
            description: String,
            /// The date or time at which the transaction posted; `None` while it is pending.
            settled_at: Iso8601,
        }
        optional {
            /// The transaction code.
            code: TransactionCode,
            /// The merchant.
            merchant: Merchant,
            /// The cheque number.
            check_number: String,
            /// The details of a payment.
            payment: Payment,
            /// The details of an investment transaction.
            investment: InvestmentDetails,
        }
        flat {
            /// The unit of the amount.
            unit: Unit,
        }
    }
}

impl Transaction {
    /// Returns whether the transaction has not posted yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.settled_at.is_none()
    }

    /// Returns the date of the transaction for windows and sorting: the date of `settled_at`, or of
    /// `transacted_at` while it is pending.
    #[must_use]
    pub fn date(&self) -> Date {
        self.settled_at.unwrap_or(self.transacted_at).date()
    }
}

message! {
    /// A merchant.
    pub struct Merchant {
        optional {
            /// The name.
            name: String,
            /// The merchant category code of ISO 18245, four digits.
            mcc: String,
            /// The website.
            website: String,
            /// The location.
            location: GeoLocation,
        }
    }
}

message! {
    /// The details of a payment.
    pub struct Payment {
        optional {
            /// The reference number given by the payer.
            reference_number: String,
            /// The ACH PPD id of the payer.
            ppd_id: String,
            /// The payee.
            payee: String,
            /// The payer.
            payer: String,
            /// The party that ordered the payment.
            by_order_of: String,
            /// The payment method.
            payment_method: String,
            /// The payment processor.
            payment_processor: String,
            /// The reason for the payment.
            reason: String,
        }
    }
}

message! {
    /// The details of an investment transaction.
    pub struct InvestmentDetails {
        required {
            /// The type.
            #[serde(rename = "type")]
            kind: InvestmentTransactionType,
            /// The quantity of the security.
            quantity: Amount,
        }
        optional {
            /// The subtype.
            subtype: InvestmentTransactionSubtype,
            /// The id of the security.
            security_id: SecurityId,
            /// The price of one unit.
            price: Amount,
            /// The fees.
            fees: Amount,
        }
    }
}

open_enum! {
    /// The code of a transaction on a bank statement.
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
    /// The type of an investment transaction.
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
    /// The subtype of an investment transaction.
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
