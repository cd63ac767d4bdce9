//! TLS of the ports: certificate and key from PEM files, reloaded when they change. If new files
//! are broken, the old certificate stays in use and the error is logged.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use imp_process::file::{self, FileFault};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, crypto, version};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::listen::Secure;

/// How often the files are checked.
const LOOK: Duration = Duration::from_secs(2);

/// The TLS versions offered.
const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// The files of certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// PEM, the server's own certificate first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// A port's TLS. Clones share it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// The current certificate.
#[derive(Debug)]
struct Current {
    files: Files,
    key: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads the files. `protocols` are the ALPN protocols, the preferred one first.
    pub fn open(files: Files, protocols: &[&str]) -> Result<Self, String> {
        let key = load(&files)?;
        let current = Arc::new(Current { files, key: RwLock::new(Arc::new(key)) });
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)
            .map_err(|error| error.to_string())?;
        let mut config = config.with_no_client_auth().with_cert_resolver(current.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current })
    }

    /// Reloads the files when they change, until cancelled.
    pub async fn follow(self, cancel: CancellationToken) {
        let mut tried = fingerprint(&self.current.files);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let files = self.current.files.clone();
            let read = tokio::task::spawn_blocking(move || {
                let now = fingerprint(&files);
                (now != tried).then(|| (now, load(&files)))
            });
            let Ok(Some((now, loaded))) = read.await else { continue };
            tried = now;
            self.current.take(loaded);
        }
    }
}

impl Current {
    fn take(&self, loaded: Result<CertifiedKey, String>) {
        let cert = self.files.cert.display();
        match loaded {
            Ok(key) => {
                *self.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                metrics::counter!("imp_tls_reloads_total", "outcome" => "taken").increment(1);
                tracing::info!(%cert, "new connections are shown the new certificate");
            }
            Err(why) => {
                metrics::counter!("imp_tls_reloads_total", "outcome" => "refused").increment(1);
                tracing::error!(%cert, why, "the new certificate is not usable; the former one stays");
            }
        }
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Secure for Tls {
    type Stream = TlsStream<TcpStream>;
    type Peer = ();

    async fn accept(&self, stream: TcpStream) -> io::Result<(Self::Stream, ())> {
        Ok((self.acceptor.accept(stream).await?, ()))
    }
}

/// What the certificate file must contain, for error messages.
const CERTIFICATES: &str = "certificates in PEM, the server's own first";
const PRIVATE_KEY: &str = "the private key of that certificate in PEM";

/// A chain of certificates is a few thousand bytes.
const MOST: u64 = 1024 * 1024;

/// Loads both files and checks that they belong together.
fn load(files: &Files) -> Result<CertifiedKey, String> {
    let unfit = |fault: FileFault| fault.to_string();
    let pem = file::read(&files.cert, CERTIFICATES, MOST).map_err(unfit)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| unfit(FileFault::unfit(&files.cert, CERTIFICATES, &pem)))?;
    let pem = file::read(&files.key, PRIVATE_KEY, MOST).map_err(unfit)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unfit(FileFault::unfit(&files.key, PRIVATE_KEY, &pem)))?;
    let provider = crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            let found = format!("it holds the key of another one than {}", files.cert.display());
            unfit(FileFault::new(&files.key, PRIVATE_KEY, found))
        }
        why => unfit(FileFault::new(&files.cert, CERTIFICATES, format!("cannot be used: {why}"))),
    })
}

/// Hashes the files' content; an unreadable file has a hash of its own.
fn fingerprint(files: &Files) -> [u8; 32] {
    let mut hash = Sha256::new();
    for path in [&files.cert, &files.key] {
        hash.update(std::fs::read(path).unwrap_or_default());
        hash.update([0]);
    }
    hash.finalize().into()
}
