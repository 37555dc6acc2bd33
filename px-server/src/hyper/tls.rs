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

/// What a server shows, and what it asks of its peers.
///
/// TLS 1.2 or newer, HTTP/2 or HTTP/1.1 by ALPN. Contract: `px.md` section 11.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    asks_clients: bool,
}

impl Tls {
    /// Shows a certificate chain (leaf first) with its private key, both PEM.
    ///
    /// # Errors
    /// When either is not PEM, or the key is not the leaf's.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(chain, key, WebPkiClientVerifier::no_client_auth(), false)
    }

    /// The same, and asks peers for a certificate that one of these authorities (PEM) signed.
    ///
    /// A peer without one is let in, without a [`ClientCertificate`]; a wrong one ends the
    /// handshake.
    ///
    /// # Errors
    /// When a part is not PEM, the key is not the leaf's, or there is no authority.
    pub fn with_optional_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| TlsError::new("the authorities of clients cannot be used", e))?;
        Self::build(chain, key, verifier, true)
    }

    /// The same, and ends the handshake with a peer that has no such certificate.
    ///
    /// # Errors
    /// When a part is not PEM, the key is not the leaf's, or there is no authority.
    pub fn with_required_clients(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
    ) -> Result<Self, TlsError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider())
            .build()
            .map_err(|e| TlsError::new("the authorities of clients cannot be used", e))?;
        Self::build(chain, key, verifier, true)
    }

    /// Takes a configuration as it is; HTTP/2 and HTTP/1.1 are offered where it offers nothing.
    ///
    /// If it asks peers for certificates, say so with [`asks_clients`](Self::asks_clients).
    #[must_use]
    pub fn from_config(mut config: ServerConfig) -> Self {
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        Self { config: Arc::new(config), asks_clients: false }
    }

    /// Whether the configuration asks peers for certificates.
    ///
    /// Where it does not, a token that is bound to a certificate is answered 503 and not 401,
    /// because the peer could not have shown one.
    #[must_use]
    pub fn asks_clients(mut self, asks: bool) -> Self {
        self.asks_clients = asks;
        self
    }

    /// Whether peers are asked for certificates.
    pub(super) fn does_ask_clients(&self) -> bool {
        self.asks_clients
    }

    fn build(
        chain: &[u8],
        key: &[u8],
        clients: Arc<dyn ClientCertVerifier>,
        asks_clients: bool,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain, "the certificate chain is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(key)
            // Not as the source: its text could quote the key.
            .map_err(|_| TlsError::plain("the private key is not PEM"))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new("the cryptography offers no TLS version", e))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|e| TlsError::new("the certificate and the key do not go together", e))?;
        Ok(Self::from_config(config).asks_clients(asks_clients))
    }

    /// Does the handshake; gives the stream and what the peer showed.
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
    const REFUSAL: &str = "the authorities of clients are not PEM certificates";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities, REFUSAL)? {
        roots.add(certificate).map_err(|e| TlsError::new(REFUSAL, e))?;
    }
    Ok(Arc::new(roots))
}

/// Why a server cannot speak TLS with what it was given.
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
