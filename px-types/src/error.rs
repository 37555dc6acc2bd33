//! The error responses of a partner.

use crate::{message::message, primitive::date::Timestamp};

message! {
    /// The body of the error responses of a partner.
    ///
    /// Contract: `px.md` section 8.
    pub struct ErrorResponse {
        required {
            /// The error.
            error: ErrorDetail,
        }
        optional {
            /// The id of the request, to be quoted in support.
            request_id: String,
            /// The time at which the institution expects to be available again. Only with status 503.
            retry_at: Timestamp,
        }
    }
}

message! {
    /// The id and the message of an error.
    pub struct ErrorDetail {
        required {
            /// An opaque id, the same for the same cause. See [`error_id`].
            id: String,
            /// A short message that may be shown to the user.
            message: String,
        }
    }
}

message! {
    /// The body of the error responses of the token and revocation endpoints.
    ///
    /// Contract: `px.md` section 4; RFC 6749 section 5.2.
    pub struct OAuthErrorResponse {
        required {
            /// The error code of RFC 6749, such as `invalid_grant`.
            error: String,
        }
        optional {
            /// A description for developers.
            error_description: String,
            /// The address of a page that explains the error.
            error_uri: String,
        }
    }
}

/// The error ids that this SDK itself uses.
///
/// Contract: `px.md` sections 5 and 8.
pub mod error_id {
    /// A parameter or the body is missing, malformed or out of range.
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// The signature of a notification is missing, wrong, too old or over another body.
    pub const INVALID_SIGNATURE: &str = "invalid_signature";
    /// The bearer token is malformed, unknown, expired or revoked.
    pub const INVALID_TOKEN: &str = "invalid_token";
    /// The token lacks a scope.
    pub const INSUFFICIENT_SCOPE: &str = "insufficient_scope";
    /// The token belongs to another principal.
    pub const FORBIDDEN: &str = "forbidden";
    /// The path does not exist.
    pub const NOT_FOUND: &str = "not_found";
    /// The path does not support the method.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// The body is too large.
    pub const PAYLOAD_TOO_LARGE: &str = "payload_too_large";
    /// The media type of the body is not supported.
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "unsupported_media_type";
    /// The path with its query string is too long.
    pub const URI_TOO_LONG: &str = "uri_too_long";
    /// The headers are too large.
    pub const HEADERS_TOO_LARGE: &str = "headers_too_large";
    /// Too many requests. Wait for the time in `Retry-After`.
    pub const TOO_MANY_REQUESTS: &str = "too_many_requests";
    /// The cursor is no longer known. Read the window again from its start.
    pub const CURSOR_EXPIRED: &str = "cursor_expired";
    /// The window is longer than the partner supports. Split it.
    pub const WINDOW_TOO_LONG: &str = "window_too_long";
    /// The partner's own code failed.
    pub const INTERNAL_ERROR: &str = "internal_error";
    /// The institution is temporarily unavailable.
    pub const INSTITUTION_UNAVAILABLE: &str = "institution_unavailable";
    /// The id or the secret of the client is wrong.
    pub const INVALID_CLIENT: &str = "invalid_client";
    /// The username or the password is wrong.
    pub const INVALID_CREDENTIALS: &str = "invalid_credentials";
    /// The answer to a challenge is wrong, or the challenge does not exist.
    pub const INVALID_CHALLENGE: &str = "invalid_challenge";
    /// The user is locked out.
    pub const USER_LOCKED: &str = "user_locked";
}
