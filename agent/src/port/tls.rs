//! TLS for Envoys on other machines: both sides show a certificate of the agent's authority.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::{Authority, NodeName};
use super::caller::Who;

/// Refuses peers without a certificate of `authority` in the handshake.
pub(super) fn acceptor(authority: &Authority) -> Result<TlsAcceptor, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let ca = authority.certificate().map_err(|error| text(&error))?;
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|error| text(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| text(&error))?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let own = authority.for_agent().map_err(|error| text(&error))?;
    let chain = CertificateDer::from_pem_slice(own.certificate.as_bytes());
    let key = PrivateKeyDer::try_from(own.key.serialize_der())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| text(&error))?
        .with_client_cert_verifier(verifier.map_err(|error| text(&error))?)
        .with_single_cert(vec![chain.map_err(|error| text(&error))?], key)
        .map_err(|error| text(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The peer's identity, from its certificate.
pub(super) fn who(stream: &TlsStream<TcpStream>) -> Option<Who> {
    let (_, session) = stream.get_ref();
    let certificate =
        webpki::EndEntityCert::try_from(session.peer_certificates()?.first()?).ok()?;
    let NodeName { gateway, id, .. } = certificate.valid_uri_names().find_map(NodeName::parse)?;
    match id {
        Some(id) => Some(Who::Node { gateway, id }),
        None => Some(Who::Attached { gateway: gateway? }),
    }
}
