//! Requests to the partner's identity provider.

use super::{VerifierBuildError, refusal::Fault};
use crate::clients::is_secure_url;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use px_core::{HttpLimits, HttpTransport};
use std::{fmt, time::Duration};

/// Maximum size of a response of the identity provider, in bytes.
const MAX_RESPONSE_BYTES: usize = 256 << 10;
/// The setting that is wrong if the provider refuses the client.
const CREDENTIALS: &str = "`id` and `secret` of this client at the identity provider";
/// Time limit of a request, up to the end of the response.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks that an address of the identity provider is https, or http on loopback.
pub(super) fn check_address(address: &Uri) -> Result<(), VerifierBuildError> {
    match is_secure_url(&address.to_string()) {
        true => Ok(()),
        false => Err(VerifierBuildError::InsecureAddress),
    }
}

/// Sends a request and returns the body of its response. `setting` is the setting with the address.
///
/// # Errors
/// If there is no response within 5 s, it exceeds 256 KiB, or its status is not 200. If a retry
/// cannot change the status, the error names the setting that must be corrected.
pub(super) async fn send(
    transport: &dyn HttpTransport,
    request: Request<Bytes>,
    setting: &'static str,
) -> Result<Bytes, Fault> {
    let unavailable = |error: &dyn fmt::Display| {
        Fault::Unavailable(format!("{error}; the address is the setting {setting}").into())
    };
    let mut limits = HttpLimits::default();
    limits.request_timeout = REQUEST_TIMEOUT;
    limits.max_body_bytes = MAX_RESPONSE_BYTES;
    let response = tokio::time::timeout(REQUEST_TIMEOUT, transport.send(request, &limits)).await;
    let response = response
        .map_err(|_| unavailable(&"the identity provider did not respond within 5 s"))?
        .map_err(|error| unavailable(&format_args!("the identity provider: {error}")))?;
    let status = response.status();
    if status != StatusCode::OK {
        let problem = format!("the identity provider responded with status {status}");
        return Err(match status.as_u16() {
            400 | 401 | 403 => Fault::setting(CREDENTIALS, problem),
            300..=399 | 404 | 405 | 410 => Fault::setting(setting, problem),
            _ => unavailable(&problem),
        });
    }
    let body = response.into_body();
    if body.len() > MAX_RESPONSE_BYTES {
        let text = format!("the identity provider's response exceeds {MAX_RESPONSE_BYTES} bytes");
        return Err(unavailable(&text));
    }
    Ok(body)
}
