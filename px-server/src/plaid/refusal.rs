//! The refusals that both services share, in Plaid's words.

use super::Error;
use crate::service::answer::{Answer, Body};
use px_types::{
    endpoint::codec::Rejection,
    error_id,
    model::plaid_error::PlaidErrorType::{ApiError, InvalidRequest},
};

/// What the common plumbing refused. Its texts name no value.
pub(super) fn translate(answer: Answer) -> (Error, Answer) {
    let (id, message) = match &answer.body {
        Body::Error { id, message, .. } => (id.as_str(), message.clone()),
        Body::Bytes(_) => (error_id::INTERNAL_ERROR, String::new()),
    };
    let (kind, code) = match id {
        error_id::NOT_FOUND | error_id::METHOD_NOT_ALLOWED => (InvalidRequest, "NOT_FOUND"),
        error_id::PAYLOAD_TOO_LARGE | error_id::INVALID_REQUEST => (InvalidRequest, "INVALID_BODY"),
        error_id::UNSUPPORTED_MEDIA_TYPE | error_id::HEADERS_TOO_LARGE => {
            (InvalidRequest, "INVALID_HEADERS")
        }
        _ => (ApiError, "INTERNAL_SERVER_ERROR"),
    };
    let message = match kind {
        ApiError => "something went wrong on this side; try again later".to_owned(),
        _ => message,
    };
    (Error::new(kind, code, message).with_status(answer.status), answer)
}

/// A body that is not the endpoint's. What is wrong is named, what was found is not.
pub(super) fn rejected(rejection: &Rejection) -> Error {
    let code = match rejection {
        Rejection::Body(error) if error.reason().starts_with("missing field") => "MISSING_FIELDS",
        // The whole of it: no JSON, or no object.
        Rejection::Body(error) if error.path() == "." => "INVALID_BODY",
        _ => "INVALID_FIELD",
    };
    Error::new(InvalidRequest, code, format!("the request is not valid: {rejection}"))
}
