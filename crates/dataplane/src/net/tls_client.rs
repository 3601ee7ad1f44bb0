//! TLS towards servers, with as much trust in their certificates as is asked for.

use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::tls::chain;

/// What a server's certificate must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: this keeps out those who only listen.
    Any,
    /// That an authority of ours has signed it, for whatever name.
    Authority,
    /// That an authority of ours has signed it for the server's name.
    Name,
}

/// How to speak TLS to one server.
#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// `authorities` is a PEM file, needed unless any certificate will do; `name` is a host name or an IP address; `alpn`
    /// is the protocol's name in TLS, if it has one. The error names the file or the name that is wrong.
    pub fn new(trust: Trust, authorities: Option<&str>, name: &str, alpn: Option<&[u8]>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("server name {name:?}: expected a host name or an IP address"))?;
        let verifier: Arc<dyn ServerCertVerifier> = match (trust, authorities) {
            (Trust::Any, _) => Arc::new(Lenient { inner: None, provider: Arc::clone(&provider) }),
            (_, None) => return Err("a file of certificate authorities is needed to check the server's".into()),
            (trust, Some(file)) => {
                let mut roots = RootCertStore::empty();
                for certificate in chain(file)? {
                    roots.add(certificate).map_err(|error| format!("{file}: {error}"))?;
                }
                let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| format!("{file}: {error}"))?;
                match trust {
                    Trust::Name => inner,
                    _ => Arc::new(Lenient { inner: Some(inner), provider: Arc::clone(&provider) }),
                }
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
        Ok(Self { config: Arc::new(config), name })
    }

    /// Shakes hands; waits as long as the server takes.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(self.name.clone(), stream).await.map(TlsStream::Client)
    }
}

/// Checks less than the name: only the chain to an authority, or nothing. The server must always show that it has the key
/// of the certificate.
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when the chain is known to be good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
