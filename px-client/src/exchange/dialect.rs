//! The error bodies of each side, and the advice for each error. Pure.

use http::StatusCode;
use px_types::model::plaid_error::PlaidError;
use px_types::{ErrorResponse, Timestamp, error_id, model::plaid_error::PlaidErrorType, wire};

/// The side that serves an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A partner: error bodies of `px.md` section 8, and those of RFC 6749.
    Partner,
    /// Plaid: `PlaidError`, `px.md` section 6.
    Plaid,
}

/// The fields of an error body, before secrets are removed from them.
#[derive(Default)]
pub(super) struct ErrorBody {
    pub(super) error_type: Option<PlaidErrorType>,
    pub(super) id: Option<String>,
    pub(super) message: Option<String>,
    pub(super) display_message: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) retry_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl ErrorBody {
    /// Returns the index of the batch entry that the error is about.
    ///
    /// Plaid writes `notifications[7].access_token …`. Returns `None` if the message names two different
    /// entries.
    pub(super) fn entry(&self) -> Option<usize> {
        const MARK: &str = "notifications[";
        let mut found = None;
        for (at, _) in self.message.as_deref()?.match_indices(MARK) {
            let rest = &self.message.as_deref()?[at + MARK.len()..];
            let index: usize = rest.split_once(']')?.0.parse().ok()?;
            if found.is_some_and(|found| found != index) {
                return None;
            }
            found = Some(index);
        }
        found
    }
}

impl Dialect {
    /// Returns a name of the other side, for a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Partner => "a partner",
            Self::Plaid => "Plaid",
        }
    }

    pub(super) fn example_of_a_base_url(self) -> &'static str {
        match self {
            Self::Partner => "write it as https://bank.example/px",
            Self::Plaid => "write it as https://production.plaid.com",
        }
    }

    /// Returns the advice if the other side breaks the contract.
    pub(super) fn fault_advice(self) -> &'static str {
        match self {
            Self::Partner => "this is a fault of the partner; report it to them",
            Self::Plaid => "this is a fault of Plaid's side; report it to them",
        }
    }

    pub(super) fn connect_advice(self) -> &'static str {
        match self {
            Self::Partner => "check the address and that the partner is running",
            Self::Plaid => "check the address and that Plaid can be reached",
        }
    }

    pub(super) fn base_url_advice(self) -> &'static str {
        match self {
            Self::Partner => "check that the base URL is the partner's API",
            Self::Plaid => "check that the base URL is Plaid's API",
        }
    }

    /// Reads an error body leniently.
    pub(super) fn read(self, body: &[u8]) -> ErrorBody {
        match self {
            Self::Partner => partner(body),
            Self::Plaid => plaid(body),
        }
    }

    /// Returns whether advice or callers depend on an error id. Such an id is never removed as a secret: a
    /// user may be named `user_locked`.
    pub(super) fn knows(self, id: &str) -> bool {
        match self {
            Self::Partner => PARTNER_IDS.contains(&id),
            Self::Plaid => PLAID_CODES.contains(&id),
        }
    }

    /// Returns the advice for an error.
    pub(super) fn advice(self, status: StatusCode, id: Option<&str>, bearer: bool) -> &'static str {
        const LATER: &str = "try again later";
        const CLIENT: &str = "check the client id and secret";
        const REDIRECT: &str = "redirects are never followed; check the base URL";
        const REQUEST: &str = "the request is wrong; correct it before it is sent again";
        match self {
            Self::Partner => match (status.as_u16(), id) {
                (_, Some(error_id::INVALID_CREDENTIALS)) => "check the user's name and password",
                (_, Some(error_id::INVALID_CHALLENGE)) => {
                    "check the response to the challenge, or sign in again"
                }
                (_, Some(error_id::USER_LOCKED)) => {
                    "the user must ask the institution to unlock the access"
                }
                (_, Some(error_id::INVALID_CLIENT)) => CLIENT,
                (_, Some("invalid_grant")) => "get a new authorization from the user",
                (401, _) if bearer => "the token has ended; get a new authorization from the user",
                (401, _) => CLIENT,
                (403, _) => "the token does not allow this; check the user id and the scopes",
                (404, _) => "check the base URL; the partner may not offer this",
                (300..=399, _) => REDIRECT,
                (408 | 429 | 500..=599, _) => LATER,
                _ => REQUEST,
            },
            Self::Plaid => match (status.as_u16(), id) {
                (401, _) | (_, Some("INVALID_API_KEYS")) => CLIENT,
                (_, Some("INVALID_ACCESS_TOKEN")) => {
                    "the access token has ended or belongs to another client; get a new one"
                }
                (_, Some("ITEM_LOGIN_REQUIRED")) => "the user must authorize Plaid again",
                (_, Some("PRODUCT_NOT_READY")) => LATER,
                (404, _) => "check the base URL; Plaid may not offer this",
                (300..=399, _) => REDIRECT,
                (408 | 429 | 500..=599, _) => LATER,
                _ => REQUEST,
            },
        }
    }
}

/// The error ids of the contract and of RFC 6749.
const PARTNER_IDS: [&str; 23] = [
    error_id::INVALID_REQUEST,
    error_id::INVALID_TOKEN,
    error_id::INSUFFICIENT_SCOPE,
    error_id::FORBIDDEN,
    error_id::NOT_FOUND,
    error_id::METHOD_NOT_ALLOWED,
    error_id::PAYLOAD_TOO_LARGE,
    error_id::UNSUPPORTED_MEDIA_TYPE,
    error_id::HEADERS_TOO_LARGE,
    error_id::TOO_MANY_REQUESTS,
    error_id::CURSOR_EXPIRED,
    error_id::WINDOW_TOO_LONG,
    error_id::INTERNAL_ERROR,
    error_id::INSTITUTION_UNAVAILABLE,
    error_id::INVALID_CLIENT,
    error_id::INVALID_CREDENTIALS,
    error_id::INVALID_CHALLENGE,
    error_id::USER_LOCKED,
    "invalid_grant",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

/// The error codes of Plaid that partners and applications receive.
const PLAID_CODES: [&str; 23] = [
    "INVALID_ACCESS_TOKEN",
    "INVALID_ACCOUNT_ID",
    "INVALID_API_KEYS",
    "INVALID_BODY",
    "INVALID_FIELD",
    "INVALID_LINK_TOKEN",
    "INVALID_PRODUCT",
    "INVALID_PUBLIC_TOKEN",
    "INVALID_APPLICATION_ID",
    "MISSING_FIELDS",
    "UNKNOWN_FIELDS",
    "NOT_FOUND",
    "UNAUTHORIZED_ENVIRONMENT",
    "ITEM_NOT_FOUND",
    "ITEM_LOGIN_REQUIRED",
    "ITEM_NOT_SUPPORTED",
    "ACCESS_NOT_GRANTED",
    "PRODUCT_NOT_READY",
    "RATE_LIMIT",
    "RATE_LIMIT_EXCEEDED",
    "INSTITUTION_DOWN",
    "INTERNAL_SERVER_ERROR",
    "PLANNED_MAINTENANCE",
];

/// Reads an error body of the contract, or of RFC 6749.
fn partner(body: &[u8]) -> ErrorBody {
    if let Ok(read) = wire::decode::<ErrorResponse>(body) {
        return ErrorBody {
            id: Some(read.error.id),
            message: Some(read.error.message),
            request_id: read.request_id,
            retry_at: read.retry_at.map(Timestamp::utc),
            ..ErrorBody::default()
        };
    }
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return ErrorBody::default();
    };
    let error = &body["error"];
    ErrorBody {
        id: text(error).or_else(|| text(&error["id"])),
        message: text(&body["error_description"]).or_else(|| text(&error["message"])),
        request_id: text(&body["request_id"]),
        retry_at: body["retry_at"]
            .as_str()
            .and_then(|at| at.parse::<Timestamp>().ok())
            .map(Timestamp::utc),
        ..ErrorBody::default()
    }
}

/// Reads a `PlaidError`, or the fields of an incomplete one.
fn plaid(body: &[u8]) -> ErrorBody {
    if let Ok(read) = wire::decode::<PlaidError>(body) {
        return ErrorBody {
            error_type: Some(read.error_type),
            id: Some(read.error_code),
            message: Some(read.error_message),
            display_message: read.display_message,
            request_id: read.request_id,
            retry_at: None,
        };
    }
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return ErrorBody::default();
    };
    ErrorBody {
        error_type: body["error_type"].as_str().map(PlaidErrorType::from),
        id: text(&body["error_code"]),
        message: text(&body["error_message"]),
        display_message: text(&body["display_message"]),
        request_id: text(&body["request_id"]),
        retry_at: None,
    }
}

fn text(value: &serde_json::Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_a_batch_is_read_from_the_message() {
        for (message, entry) in [
            ("notifications[7].access_token names no Item; nothing was updated", Some(7)),
            ("the field notifications[1999].action (notifications[1999]) is not known", Some(1999)),
            ("notifications[1] and notifications[2]", None),
            ("notifications[]", None),
            ("notifications[x]", None),
            ("notifications[-1]", None),
            ("notifications[99999999999999999999999]", None),
            ("notifications[3", None),
            ("a token is not known", None),
        ] {
            let body = ErrorBody { message: Some(message.into()), ..ErrorBody::default() };
            assert_eq!(body.entry(), entry, "{message}");
        }
        assert_eq!(ErrorBody::default().entry(), None);
    }

    #[test]
    fn half_an_error_is_read_as_far_as_it_goes() {
        let body = Dialect::Plaid.read(br#"{"error_code":"RATE_LIMIT","error_message":""}"#);
        assert_eq!((body.id.as_deref(), body.message), (Some("RATE_LIMIT"), None));
        assert!(Dialect::Plaid.read(b"[1]").id.is_none());
        assert!(Dialect::Plaid.read(b"\xff").id.is_none());
    }
}
