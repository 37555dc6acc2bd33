//! Requests to the partner's identity provider.

use super::VerifierBuildError;
use crate::clients::is_secure_url;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use px_core::{HttpLimits, HttpTransport};
use std::{error::Error as StdError, time::Duration};

/// Maximum size of a response of the identity provider, in bytes.
const MAX_RESPONSE_BYTES: usize = 256 << 10;
/// Time to the end of a response.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks that an address of the identity provider is https, or http on loopback.
pub(super) fn check_address(address: &Uri) -> Result<(), VerifierBuildError> {
    match is_secure_url(&address.to_string()) {
        true => Ok(()),
        false => Err(VerifierBuildError::InsecureAddress),
    }
}

/// Sends a request and returns the body of its response.
///
/// # Errors
/// If there is no response within 5 s and 256 KiB, or its status is not 200.
pub(super) async fn send(
    transport: &dyn HttpTransport,
    request: Request<Bytes>,
) -> Result<Bytes, Box<dyn StdError + Send + Sync>> {
    let mut limits = HttpLimits::default();
    limits.request_timeout = REQUEST_TIMEOUT;
    limits.max_body_bytes = MAX_RESPONSE_BYTES;
    let response = tokio::time::timeout(REQUEST_TIMEOUT, transport.send(request, &limits))
        .await
        .map_err(|_| "the identity provider did not respond within 5 s")??;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("the identity provider responded with status {status}").into());
    }
    let body = response.into_body();
    if body.len() > MAX_RESPONSE_BYTES {
        let text = format!("the identity provider's response exceeds {MAX_RESPONSE_BYTES} bytes");
        return Err(text.into());
    }
    Ok(body)
}
