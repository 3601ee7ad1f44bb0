//! TLS on the client side: certificates by name, read from files, exchanged while connections go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Error;
use crate::snapshot;
use crate::snapshot::{Certificate, TlsVersion};

const HTTP2: &[u8] = b"h2";

/// What a handshake needs. Connections keep the one they began with.
#[derive(Debug)]
pub struct Tls {
    settings: snapshot::Tls,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files, unless `previous` was made from the same ones. Raises an error that names the file.
    pub fn build(settings: snapshot::Tls, previous: Option<&Self>) -> Result<Self, Error> {
        if let Some(previous) = previous.filter(|previous| previous.settings == settings) {
            return Ok(Self { settings, config: Arc::clone(&previous.config) });
        }
        let config = server_config(&settings).map_err(|problem| Error::Snapshot(format!("tls: {problem}")))?;
        Ok(Self { settings, config: Arc::new(config) })
    }

    /// For other protocols than HTTP: `accept_as`.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Where requests in the clear are sent instead.
    pub fn redirect_port(&self) -> Option<u16> {
        self.settings.redirect_port
    }

    pub fn hsts_max_age_s(&self) -> Option<u64> {
        Some(self.settings.hsts_max_age_s).filter(|seconds| *seconds > 0)
    }

    /// Whether both sides have agreed on HTTP/2.
    pub fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
        stream.get_ref().1.alpn_protocol() == Some(HTTP2)
    }

    /// Shakes hands; waits as long as the client takes.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

/// A connection, and the certificate that its client was shown.
pub struct Accepted {
    pub stream: TlsStream<TcpStream>,
    pub certificate: Option<CertificateDer<'static>>,
}

/// Shakes hands for another protocol than HTTP, by its name in TLS (ALPN). Nothing is resumed of an earlier connection, as with
/// PostgreSQL: so every client is shown a certificate, and it is this one.
pub async fn accept_as(config: &ServerConfig, protocol: &[u8], stream: TcpStream) -> std::io::Result<Accepted> {
    let shown = Arc::new(Shown { resolver: Arc::clone(&config.cert_resolver), certificate: Mutex::default() });
    let mut config = ServerConfig::clone(config);
    config.alpn_protocols = vec![protocol.to_vec()];
    config.cert_resolver = Arc::<Shown>::clone(&shown);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(NoTickets);
    config.send_tls13_tickets = 0;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let certificate = shown.certificate.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Accepted { stream, certificate })
}

/// Takes note of which certificate a handshake gets.
#[derive(Debug)]
struct Shown {
    resolver: Arc<dyn ResolvesServerCert>,
    certificate: Mutex<Option<CertificateDer<'static>>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.resolver.resolve(hello)?;
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = found.cert.first().cloned();
        Some(found)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }
}

#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn server_config(settings: &snapshot::Tls) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates::read(&settings.certificates, &provider)?;
    let versions: &[_] = match settings.version_min {
        TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = if settings.client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in chain(&settings.client_ca)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", settings.client_ca))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", settings.client_ca))?)
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    if settings.http2 {
        config.alpn_protocols.push(HTTP2.to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    // Tickets instead of a table of sessions: a returning client costs no memory here.
    config.ticketer = ring::Ticketer::new().map_err(|error| error.to_string())?;
    Ok(config)
}

/// Which certificate a client gets: the one for the name it asks for, else the first.
#[derive(Debug)]
struct Certificates {
    first: Arc<CertifiedKey>,
    /// Names as the certificates have them, in small letters; `*.example.com` stands for one label.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    fn read(files: &[Certificate], provider: &CryptoProvider) -> Result<Self, String> {
        let mut first = None;
        let mut by_name = HashMap::new();
        for file in files {
            let chain = chain(&file.certificate)?;
            let names = names(&chain[0]).map_err(|error| format!("{}: {error}", file.certificate))?;
            let key = PrivateKeyDer::from_pem_file(&file.key).map_err(|error| format!("{}: {error}", file.key))?;
            let certified = CertifiedKey::from_der(chain, key, provider)
                .map_err(|error| format!("{} with {}: {error}", file.certificate, file.key))?;
            let certified = Arc::new(certified);
            first.get_or_insert_with(|| Arc::clone(&certified));
            for name in names {
                // Of two certificates for a name the one that is listed first wins.
                by_name.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
        }
        Ok(Self { first: first.ok_or("no certificate")?, by_name })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, rest)| self.by_name.get(&format!("*.{rest}")));
        self.by_name.get(&name).or_else(wildcard)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(found.unwrap_or(&self.first)))
    }
}

pub(super) fn chain(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!("{file}: no certificate in it")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let parsed = webpki::EndEntityCert::try_from(certificate)?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
