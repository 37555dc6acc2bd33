//! What is known of the call that carries a token.

use super::{Misconfiguration, Refusal, VerifyError};
use crate::{
    TokenGrant,
    guard::{CallerAddr, PeerCertificate},
};
use http::Extensions;
use px_core::digest::constant_time_eq;

/// The call that carries a token: where it comes from, and the certificate that its peer showed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TokenContext {
    /// What is known of the peer's certificate.
    pub certificate: PeerCertificate,
    /// The address of the caller, where it is known.
    pub address: Option<CallerAddr>,
}

impl TokenContext {
    /// What the extensions of a request say.
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
    /// [`VerifyError::Invalid`] if the peer showed another certificate or none;
    /// [`VerifyError::Misconfigured`] if the server asks for none, which is a fault of its set-up.
    pub fn check_binding(&self, grant: &TokenGrant) -> Result<(), VerifyError> {
        let Some(bound_to) = &grant.certificate_thumbprint else { return Ok(()) };
        match &self.certificate {
            PeerCertificate::NotRequested => {
                let problem = "the token is bound to a certificate, and the server asks for none";
                let setting = "of the server for client certificates";
                Err(VerifyError::Misconfigured(Misconfiguration::new(setting, problem)))
            }
            PeerCertificate::Missing => Err(VerifyError::Invalid(Refusal::Certificate)),
            PeerCertificate::Presented(certificate) => {
                let same = constant_time_eq(certificate.thumbprint(), bound_to);
                if same { Ok(()) } else { Err(VerifyError::Invalid(Refusal::Certificate)) }
            }
        }
    }
}
