//! Client certificates, for certificate-bound tokens (RFC 8705).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Extensions;
use px_core::Digest;
use std::{fmt, sync::Arc};

/// The verified TLS certificate of the peer, as a request extension.
///
/// A certificate-bound token names the thumbprint of a certificate. [`hyper`](crate::hyper) inserts
/// this extension. Another server must insert it together with [`ClientCertificatesRequested`].
/// Contract: [RFC 8705 section 3](https://www.rfc-editor.org/rfc/rfc8705#section-3).
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    der: Arc<[u8]>,
    thumbprint: [u8; 32],
}

impl ClientCertificate {
    /// Creates a certificate from DER, after the server has verified it.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Self {
        Self { der: der.into(), thumbprint: *Digest::of(der).as_bytes() }
    }

    /// Returns the certificate as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the SHA-256 of the certificate.
    #[must_use]
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Returns the thumbprint as in the claim `cnf`: base64url without padding.
    #[must_use]
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.thumbprint)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("x5t_s256", &self.x5t_s256())
            .finish_non_exhaustive()
    }
}

/// A request extension that marks a server which requests client certificates.
///
/// Without it, a certificate-bound token cannot be checked, and the response is 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCertificatesRequested;

/// The certificate state of the peer that sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerCertificate {
    /// The server does not request client certificates.
    #[default]
    NotRequested,
    /// The server requested a certificate, and the peer presented none.
    Missing,
    /// The verified certificate of the peer.
    Presented(ClientCertificate),
}

impl PeerCertificate {
    /// Returns the state from the extensions of a request.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        match (
            extensions.get::<ClientCertificate>(),
            extensions.get::<ClientCertificatesRequested>(),
        ) {
            (Some(certificate), _) => Self::Presented(certificate.clone()),
            (None, Some(_)) => Self::Missing,
            (None, None) => Self::NotRequested,
        }
    }

    /// Returns the certificate, if one was presented.
    #[must_use]
    pub fn presented(&self) -> Option<&ClientCertificate> {
        match self {
            Self::Presented(certificate) => Some(certificate),
            Self::NotRequested | Self::Missing => None,
        }
    }
}
