//! The errors that travel: what a partner answers when it refuses or cannot.

use crate::{message::message, primitive::date::Timestamp};

message! {
    /// The body of every refusal of a partner.
    ///
    /// Contract: `px.md` section 8.
    pub struct ErrorResponse {
        required {
            /// What went wrong.
            error: ErrorDetail,
        }
        optional {
            /// The id of the request, to be quoted in support.
            request_id: String,
            /// When the institution expects to answer again. Only with status 503.
            retry_at: Timestamp,
        }
    }
}

message! {
    /// What went wrong.
    pub struct ErrorDetail {
        required {
            /// An opaque id, the same for the same cause.
            id: String,
            /// A short text that may be shown to the user.
            message: String,
        }
    }
}

message! {
    /// The body of a refusal of the token and revocation endpoints.
    ///
    /// Contract: `px.md` section 4; RFC 6749 section 5.2.
    pub struct OAuthErrorResponse {
        required {
            /// Why, in the words of RFC 6749: `invalid_grant`.
            error: String,
        }
        optional {
            /// What led to it, for developers.
            error_description: String,
            /// Where it is explained.
            error_uri: String,
        }
    }
}

/// The ids of the refusals that this SDK makes itself.
///
/// Contract: `px.md` sections 5 and 8.
pub mod error_id {
    /// A parameter or a body is missing, malformed or out of range.
    pub const INVALID_REQUEST: &str = "invalid_request";
    /// The signature of a notification is missing, wrong, too old or of another body.
    pub const INVALID_SIGNATURE: &str = "invalid_signature";
    /// The bearer token is malformed, unknown, expired or revoked.
    pub const INVALID_TOKEN: &str = "invalid_token";
    /// The token lacks a scope.
    pub const INSUFFICIENT_SCOPE: &str = "insufficient_scope";
    /// The token belongs to another principal.
    pub const FORBIDDEN: &str = "forbidden";
    /// There is no such path.
    pub const NOT_FOUND: &str = "not_found";
    /// The path has other methods.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// The body is too large.
    pub const PAYLOAD_TOO_LARGE: &str = "payload_too_large";
    /// The body is of another media type.
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "unsupported_media_type";
    /// The path with its query is too long.
    pub const URI_TOO_LONG: &str = "uri_too_long";
    /// The headers are too large.
    pub const HEADERS_TOO_LARGE: &str = "headers_too_large";
    /// Too many requests; wait as `Retry-After` says.
    pub const TOO_MANY_REQUESTS: &str = "too_many_requests";
    /// The cursor is no longer known; begin the window again.
    pub const CURSOR_EXPIRED: &str = "cursor_expired";
    /// The window is longer than the partner serves; split it.
    pub const WINDOW_TOO_LONG: &str = "window_too_long";
    /// The partner's own code failed.
    pub const INTERNAL_ERROR: &str = "internal_error";
    /// The institution cannot answer now.
    pub const INSTITUTION_UNAVAILABLE: &str = "institution_unavailable";
    /// The client's own id or secret is wrong.
    pub const INVALID_CLIENT: &str = "invalid_client";
    /// The user's name or password is wrong.
    pub const INVALID_CREDENTIALS: &str = "invalid_credentials";
    /// The answer to a challenge is wrong, or there is no such challenge.
    pub const INVALID_CHALLENGE: &str = "invalid_challenge";
    /// The user is locked out.
    pub const USER_LOCKED: &str = "user_locked";
}
