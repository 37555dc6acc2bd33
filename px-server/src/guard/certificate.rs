//! The certificate of a caller, for tokens that are bound to one (RFC 8705).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Extensions;
use px_core::Digest;
use std::{fmt, sync::Arc};

/// The certificate that the peer showed, and that the server verified; a request extension.
///
/// Its thumbprint is what a token that is bound to a certificate names.
/// [`hyper`](crate::hyper) inserts it. A program with a server of its own inserts it together with
/// [`AsksForCertificates`].
/// Contract: [RFC 8705 section 3](https://www.rfc-editor.org/rfc/rfc8705#section-3).
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    der: Arc<[u8]>,
    thumbprint: [u8; 32],
}

impl ClientCertificate {
    /// A certificate that the program's own server verified.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Self {
        Self { der: der.into(), thumbprint: *Digest::of(der).as_bytes() }
    }

    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SHA-256 of the certificate.
    #[must_use]
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// The thumbprint as tokens carry it in `cnf`, base64url without padding.
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

/// Says, as a request extension, that the server asks its peers for certificates.
///
/// Without it a token that is bound to a certificate cannot be checked, and is answered 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsksForCertificates;

/// What is known of the certificate of the peer that sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerCertificate {
    /// The server does not ask for certificates.
    #[default]
    NotRequested,
    /// The server asks, and the peer has none.
    Missing,
    /// The peer's certificate, verified.
    Presented(ClientCertificate),
}

impl PeerCertificate {
    /// What the extensions of a request say.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        match (extensions.get::<ClientCertificate>(), extensions.get::<AsksForCertificates>()) {
            (Some(certificate), _) => Self::Presented(certificate.clone()),
            (None, Some(_)) => Self::Missing,
            (None, None) => Self::NotRequested,
        }
    }

    /// The certificate, if there is one.
    #[must_use]
    pub fn presented(&self) -> Option<&ClientCertificate> {
        match self {
            Self::Presented(certificate) => Some(certificate),
            Self::NotRequested | Self::Missing => None,
        }
    }
}
