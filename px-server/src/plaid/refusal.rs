//! Conversion of requests that are refused before a method runs into Plaid's errors.

use super::Error;
use crate::call::RequestRefusal;
use px_types::{endpoint::codec::Rejection, model::plaid_error::PlaidErrorType::InvalidRequest};

impl From<RequestRefusal> for Error {
    fn from(refusal: RequestRefusal) -> Self {
        if let RequestRefusal::Busy = refusal {
            let busy = Self::unavailable("the limit of request memory or of open calls is reached");
            return busy.with_retry_after(refusal.retry_after().unwrap_or_default());
        }
        let code = match refusal {
            RequestRefusal::NotFound | RequestRefusal::Method { .. } => "NOT_FOUND",
            RequestRefusal::TooLarge { .. } | RequestRefusal::CutOff => "INVALID_BODY",
            RequestRefusal::TargetTooLong { .. } => "INVALID_FIELD",
            RequestRefusal::HeadersTooLarge
            | RequestRefusal::Hosts
            | RequestRefusal::MediaType
                        // Handled above.
            | RequestRefusal::Busy => "INVALID_HEADERS",
        };
        Self::new(InvalidRequest, code, refusal.message()).with_status(refusal.status())
    }
}

/// A body that is not valid for the endpoint. The error names the position and the expectation, and
/// contains no value of the body.
impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let code = match &rejection {
            Rejection::Body(error) if error.reason().starts_with("missing field") => {
                "MISSING_FIELDS"
            }
            // The document as a whole: not JSON, or not an object.
            Rejection::Body(error) if error.path() == "." => "INVALID_BODY",
            _ => "INVALID_FIELD",
        };
        Self::new(InvalidRequest, code, format!("The request is not valid: {rejection}."))
    }
}
