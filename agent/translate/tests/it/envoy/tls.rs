//! TLS to upstreams: verified by default.

use std::sync::Arc;

use imp_proto::config as pb;
use imp_translate::{Layout, Options, Upstreams};
use pb::backend::Protocol;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::HOST;
use super::rewrites::serve;
use super::rig::Rig;
use crate::fixtures::{self, prefix, route};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Answers with the name that it was asked for; its certificate has these names.
async fn upstream(authority: &Authority, names: &[&str]) -> u16 {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(async move {
                let mut buffer = [0_u8; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let name = stream.get_ref().1.server_name().unwrap_or("-").to_owned();
                    let length = name.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}

async fn answer(
    port: u16,
    host: &str,
    tls: pb::UpstreamTls,
    system: Option<String>,
) -> (u16, String) {
    let upstreams = Upstreams { authorities: system, ..fixtures::loopback() };
    let options = Options { upstreams, ..fixtures::options(Layout::ScopedRoutes) };
    let mut rig = Rig::start_with(options).await;
    let backend = pb::Backend {
        protocol: Protocol::Http1Tls.into(),
        tls: Some(tls),
        ..fixtures::backend("b1", host, port)
    };
    serve(&mut rig, "/", backend, vec![route("r1", prefix("/"))]).await;
    let answer = rig.with_key(HOST, "GET /").await;
    let body = if answer.status == 200 { answer.body } else { answer.problem().unwrap() };
    (answer.status, body)
}

#[tokio::test]
async fn an_upstream_is_who_it_says_it_is() {
    let (ours, other) = (authority(), authority());
    let port = upstream(&ours, &["up.internal", "*.wild.internal", "localhost"]).await;
    let with = |sni: &str, authority: &Authority| pb::UpstreamTls {
        sni: sni.into(),
        ca_pem: authority.pem(),
        ..Default::default()
    };
    let good = |name: &str| (200, name.to_owned());
    let bad = || (503, "upstream_unavailable".to_owned());
    assert_eq!(
        answer(port, "127.0.0.1", with("up.internal", &ours), None).await,
        good("up.internal")
    );
    let wild = with("a.wild.internal", &ours);
    assert_eq!(answer(port, "127.0.0.1", wild, None).await, good("a.wild.internal"));
    assert_eq!(answer(port, "localhost", with("", &ours), None).await, good("localhost"));
    assert_eq!(answer(port, "127.0.0.1", with("down.internal", &ours), None).await, bad());
    assert_eq!(
        answer(port, "127.0.0.1", with("", &ours), None).await,
        bad(),
        "an address is no name"
    );
    assert_eq!(answer(port, "127.0.0.1", with("up.internal", &other), None).await, bad());
    let insecure = pb::UpstreamTls { insecure: true, ..Default::default() };
    assert_eq!(answer(port, "127.0.0.1", insecure, None).await.0, 200);
}

#[tokio::test]
async fn an_address_can_be_certified_and_the_systems_authorities_are_believed() {
    let ours = authority();
    let port = upstream(&ours, &["127.0.0.1"]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authorities.pem");
    std::fs::write(&file, ours.pem()).unwrap();
    let system = Some(file.display().to_string());
    let default = pb::UpstreamTls::default;
    assert_eq!(answer(port, "127.0.0.1", default(), system).await.0, 200);
    let another = directory.path().join("others.pem");
    std::fs::write(&another, authority().pem()).unwrap();
    let system = Some(another.display().to_string());
    assert_eq!(answer(port, "127.0.0.1", default(), system).await.0, 503);
}
