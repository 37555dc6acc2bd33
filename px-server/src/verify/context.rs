//! The context of a call with a token.

use super::{Misconfiguration, TokenRefusal, VerifyError};
use crate::{
    TokenGrant,
    guard::{CallerAddr, PeerCertificate},
};
use http::Extensions;
use px_core::digest::constant_time_eq;

/// The context of a call with a token: the caller's address, and the certificate of the peer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TokenContext {
    /// The certificate of the peer.
    pub certificate: PeerCertificate,
    /// The address of the caller, if known.
    pub address: Option<CallerAddr>,
}

impl TokenContext {
    /// Returns the context from the extensions of a request.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let address = CallerAddr::of(extensions);
        Self { certificate: PeerCertificate::of(extensions), address }
    }

    /// Checks that the call has the certificate that a token is bound to, if it is bound to one.
    ///
    /// Contract: [RFC 8705 section 3](https://www.rfc-editor.org/rfc/rfc8705#section-3).
    ///
    /// # Errors
    /// - [`VerifyError::Invalid`] if the peer presented another certificate or none.
    /// - [`VerifyError::Misconfigured`] if the server does not request client certificates.
    pub fn check_binding(&self, grant: &TokenGrant) -> Result<(), VerifyError> {
        let Some(bound_to) = &grant.certificate_thumbprint else { return Ok(()) };
        match &self.certificate {
            PeerCertificate::NotRequested => {
                let problem = "the token is bound to a certificate, but the server requests none";
                let setting = "of the server for client certificates";
                Err(VerifyError::Misconfigured(Misconfiguration::new(setting, problem)))
            }
            PeerCertificate::Missing => Err(VerifyError::Invalid(TokenRefusal::Certificate)),
            PeerCertificate::Presented(certificate) => {
                let same = constant_time_eq(certificate.thumbprint(), bound_to);
                if same { Ok(()) } else { Err(VerifyError::Invalid(TokenRefusal::Certificate)) }
            }
        }
    }
}
