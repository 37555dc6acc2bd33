//! The errors of Plaid's API, of Items and of webhooks.

use crate::{message::message, primitive::open_enum::open_enum};

message! {
    /// An error of Plaid: the body of its error responses, and the error of an Item.
    ///
    /// Contract: `px.md` section 6.
    pub struct PlaidError {
        required {
            /// The general type of the error.
            error_type: PlaidErrorType,
            /// The error code, such as `ITEM_LOGIN_REQUIRED`.
            error_code: String,
            /// A message for developers.
            error_message: String,
        }
        nullable {
            /// A message for the user; `None` if the user cannot do anything about the error.
            display_message: String,
        }
        optional {
            /// The id of the request; `None` for the error of an Item or a webhook.
            request_id: String,
            /// The URL of the documentation of the error.
            documentation_url: String,
            /// The suggested action.
            suggested_action: String,
            /// The HTTP status.
            status: u64,
        }
    }
}

open_enum! {
    /// The general type of an error of Plaid.
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
