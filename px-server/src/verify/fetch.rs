//! How a verifier asks others: one HTTP exchange, handed in.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use std::{error::Error as StdError, time::Duration};

/// The most bytes of an answer that a verifier reads.
pub const MAX_ANSWER: usize = 256 * 1024;
/// How long an exchange may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// One HTTP exchange with the partner's identity provider.
///
/// An implementation goes over TLS, follows no redirect and stops reading after
/// [`MAX_ANSWER`] bytes. It needs no time limit: verifiers wait 5 s and no longer.
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer.
    async fn fetch(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Box<dyn StdError + Send + Sync>>;
}

/// What an exchange gave that is of use: the body of a 200 within bounds and in time.
pub(super) async fn fetch(
    fetch: &dyn Fetch,
    request: Request<Bytes>,
) -> Result<Bytes, Box<dyn StdError + Send + Sync>> {
    let answer = tokio::time::timeout(TIMEOUT, fetch.fetch(request))
        .await
        .map_err(|_| "the identity provider did not answer within 5 s")??;
    let status = answer.status();
    if status != http::StatusCode::OK {
        return Err(format!("the identity provider answered {status}").into());
    }
    let body = answer.into_body();
    if body.len() > MAX_ANSWER {
        return Err(format!("the identity provider answered more than {MAX_ANSWER} bytes").into());
    }
    Ok(body)
}
