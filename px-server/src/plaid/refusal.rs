//! What was refused before a method ran, in Plaid's words.

use super::Error;
use crate::call::Refusal;
use px_types::{endpoint::codec::Rejection, model::plaid_error::PlaidErrorType::InvalidRequest};

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Busy = refusal {
            let busy = Self::unavailable("the memory for requests, or the number of open calls");
            return busy.with_retry_after(refusal.retry_after().unwrap_or_default());
        }
        let code = match refusal {
            Refusal::NotFound | Refusal::Method { .. } => "NOT_FOUND",
            Refusal::TooLarge { .. } | Refusal::CutOff => "INVALID_BODY",
            Refusal::TargetTooLong { .. } => "INVALID_FIELD",
            Refusal::HeadersTooLarge
            | Refusal::Hosts
            | Refusal::MediaType
            // Handled above.
            | Refusal::Busy => "INVALID_HEADERS",
        };
        Self::new(InvalidRequest, code, refusal.message()).with_status(refusal.status())
    }
}

/// A body that is not the endpoint's. What is wrong is named, what was found is not.
impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let code = match &rejection {
            Rejection::Body(error) if error.reason().starts_with("missing field") => {
                "MISSING_FIELDS"
            }
            // The whole of it: no JSON, or no object.
            Rejection::Body(error) if error.path() == "." => "INVALID_BODY",
            _ => "INVALID_FIELD",
        };
        Self::new(InvalidRequest, code, format!("The request is not valid: {rejection}."))
    }
}
