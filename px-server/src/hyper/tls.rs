//! TLS 1.2 and 1.3 by rustls, with or without client certificates.

use crate::guard::ClientCertificate;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{error::Error as StdError, fmt, io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The TLS configuration of a server: its certificate, and whether it requests client certificates.
///
/// Supports TLS 1.2 and newer, with HTTP/2 or HTTP/1.1 by ALPN. Contract: `px.md` section 11.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    requests_client_certificates: bool,
}

impl Tls {
    /// Creates a configuration from a certificate chain (leaf first) and its private key, both PEM.
    ///
    /// # Errors
    /// If either is not PEM, or the key does not belong to the leaf.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(chain, key, WebPkiClientVerifier::no_client_auth(), false)
    }

    /// Like [`from_pem`](Self::from_pem), and requests client certificates signed by one of these
    /// authorities (PEM).
    ///
    /// A peer without a certificate is accepted, without a [`ClientCertificate`]; an invalid
    /// certificate ends the handshake.
    ///
    /// # Errors
    /// If a part is not PEM, the key does not belong to the leaf, or there is no authority.
    pub fn with_optional_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| {
                TlsError::new("the certificate authorities of clients cannot be used", e)
            })?;
        Self::build(chain, key, verifier, true)
    }

    /// Like [`with_optional_clients`](Self::with_optional_clients), but ends the handshake with a
    /// peer without a certificate.
    ///
    /// # Errors
    /// If a part is not PEM, the key does not belong to the leaf, or there is no authority.
    pub fn with_required_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider())
            .build()
            .map_err(|e| {
                TlsError::new("the certificate authorities of clients cannot be used", e)
            })?;
        Self::build(chain, key, verifier, true)
    }

    /// Creates a configuration from one of rustls. If it has no ALPN protocols, HTTP/2 and HTTP/1.1
    /// are offered.
    ///
    /// If it requests client certificates, call
    /// [`requests_client_certificates`](Self::requests_client_certificates) too.
    #[must_use]
    pub fn from_config(mut config: ServerConfig) -> Self {
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Self { config: Arc::new(config), requests_client_certificates: false }
    }

    /// Sets whether the configuration requests client certificates; `false` by default.
    ///
    /// If it does not, the response to a certificate-bound token is 503 instead of 401, because the
    /// peer could not present a certificate.
    #[must_use]
    pub fn requests_client_certificates(mut self, is_requested: bool) -> Self {
        self.requests_client_certificates = is_requested;
        self
    }

    /// Returns whether client certificates are requested.
    pub(super) fn is_client_certificate_requested(&self) -> bool {
        self.requests_client_certificates
    }

    fn build(
        chain: &[u8],
        key: &[u8],
        clients: Arc<dyn ClientCertVerifier>,
        requests_client_certificates: bool,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain, "the certificate chain is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            // The error is not the source, because its text could quote the key.
            .map_err(|_| TlsError::plain("the private key is not PEM"))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new("the crypto provider supports no TLS version", e))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|e| TlsError::new("the certificate and the private key do not match", e))?;
        Ok(Self::from_config(config).requests_client_certificates(requests_client_certificates))
    }

    /// Performs the handshake. Returns the stream and the certificate of the peer.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let certificate =
            shown.and_then(<[_]>::first).map(|leaf| ClientCertificate::from_der(leaf));
        Ok((stream, certificate))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(
    pem: &[u8],
    refusal: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::plain(refusal)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::new(refusal, error)),
    }
}

fn roots(authorities: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    const REFUSAL: &str = "the certificate authorities of clients are not PEM certificates";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities, REFUSAL)? {
        roots.add(certificate).map_err(|e| TlsError::new(REFUSAL, e))?;
    }
    Ok(Arc::new(roots))
}

/// Error of a TLS configuration.
#[derive(Debug)]
pub struct TlsError {
    message: &'static str,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TlsError {
    fn plain(message: &'static str) -> Self {
        Self { message, source: None }
    }

    fn new(message: &'static str, source: impl StdError + Send + Sync + 'static) -> Self {
        Self { message, source: Some(Box::new(source)) }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
