//! What Plaid answers when it refuses or cannot, and why an Item cannot be updated.

use crate::{message::message, primitive::open_enum::open_enum};

message! {
    /// An error of Plaid: the body of its refusals, and the fault of an Item.
    ///
    /// Contract: `px.md` section 6.
    pub struct PlaidError {
        required {
            /// The broad kind.
            error_type: PlaidErrorType,
            /// The exact kind, `ITEM_LOGIN_REQUIRED`.
            error_code: String,
            /// A text for developers.
            error_message: String,
        }
        nullable {
            /// A text for the user; `None` where the user can do nothing.
            display_message: String,
        }
        optional {
            /// The id of the request; the error of an Item or a webhook has none.
            request_id: String,
            /// Where the error is explained.
            documentation_url: String,
            /// What to do about it.
            suggested_action: String,
            /// The HTTP status.
            status: u64,
        }
    }
}

open_enum! {
    /// The broad kind of an error of Plaid.
    pub enum PlaidErrorType {
        InvalidRequest = "INVALID_REQUEST",
        InvalidResult = "INVALID_RESULT",
        InvalidInput = "INVALID_INPUT",
        InstitutionError = "INSTITUTION_ERROR",
        RateLimitExceeded = "RATE_LIMIT_EXCEEDED",
        ApiError = "API_ERROR",
        ItemError = "ITEM_ERROR",
        AssetReportError = "ASSET_REPORT_ERROR",
        BaseReportError = "BASE_REPORT_ERROR",
        RecaptchaError = "RECAPTCHA_ERROR",
        OauthError = "OAUTH_ERROR",
        PaymentError = "PAYMENT_ERROR",
        BankTransferError = "BANK_TRANSFER_ERROR",
        IncomeVerificationError = "INCOME_VERIFICATION_ERROR",
        MicrodepositsError = "MICRODEPOSITS_ERROR",
        SandboxError = "SANDBOX_ERROR",
        PartnerError = "PARTNER_ERROR",
        SignalError = "SIGNAL_ERROR",
        TransactionsError = "TRANSACTIONS_ERROR",
        TransactionError = "TRANSACTION_ERROR",
        TransferError = "TRANSFER_ERROR",
        CheckReportError = "CHECK_REPORT_ERROR",
        ConsumerReportError = "CONSUMER_REPORT_ERROR",
        UserError = "USER_ERROR",
    }
}
