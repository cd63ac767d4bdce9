//! A certificate for the run, and a caller that trusts it.

use std::sync::Arc;

use anyhow::Result;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::contents::HOST;

/// The certificate of the listeners with TLS.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
    connector: TlsConnector,
}

impl Identity {
    pub(super) fn new() -> Result<Self> {
        let own = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.cert.der().clone())?;
        let config = rustls::ClientConfig::builder();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        Ok(Self { certificate, key, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(super) fn connector(&self) -> TlsConnector {
        self.connector.clone()
    }
}

pub(super) async fn connect(
    connector: &TlsConnector,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>> {
    Ok(connector.connect(ServerName::try_from(HOST)?, stream).await?)
}
