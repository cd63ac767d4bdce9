//! TLS on both ports, and certificates that change under traffic.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use imp_control::config::Config;
use imp_control::tls::{Files, Tls};
use imp_proto::method;
use imp_xds::testing::FakeClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::agent::{Credential, eventually, registration_token};
use crate::control_plane::{Caller, ControlPlane};

/// A certificate authority and its certificates.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes a new certificate and its key.
    fn write(&self, files: &Files) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::write(&files.cert, cert.pem()).unwrap();
    }

    fn caller(&self, plane: &ControlPlane) -> Caller {
        let root = reqwest::Certificate::from_pem(self.pem().as_bytes()).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([root])
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let base = format!("https://localhost:{}", plane.running.rest_addr.port());
        Caller { http, base, token: plane.admin.token.clone() }
    }

    fn channel(&self, port: u16) -> Channel {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem()));
        let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap();
        endpoint.tls_config(tls).unwrap().connect_lazy()
    }
}

fn files(dir: &Path, name: &str) -> Files {
    let path = |end: &str| -> PathBuf { dir.join(format!("{name}.{end}")) };
    Files { cert: path("crt"), key: path("key") }
}

async fn start(rest: &Files, agents: &Files) -> ControlPlane {
    let (rest, agents) = (rest.clone(), agents.clone());
    ControlPlane::start_with(|config| Config {
        tls_cert: Some(rest.cert),
        tls_key: Some(rest.key),
        agent_tls_cert: Some(agents.cert),
        agent_tls_key: Some(agents.key),
        ..config
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ports_speak_tls_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let (ours, stranger) = (Authority::new(), Authority::new());
    let (rest, agents) = (files(dir.path(), "rest"), files(dir.path(), "agents"));
    ours.write(&rest);
    ours.write(&agents);
    let plane = start(&rest, &agents).await;
    let admin = ours.caller(&plane);
    let made = admin.make("clusters", json!({ "name": "here" })).await;
    let cluster = made["id"].as_str().unwrap();
    // Plain text and other authorities are refused.
    assert!(plane.admin.http.get(format!("{}/healthz", plane.admin.base)).send().await.is_err());
    let strange = stranger.caller(&plane);
    assert!(strange.http.get(format!("{}/healthz", strange.base)).send().await.is_err());

    let token = registration_token(&admin, cluster).await;
    let port = plane.running.agent_addr.port();
    let nobody = Credential::fresh(&plane.now);
    let registered = crate::agent::register_over(ours.channel(port), &nobody, &token).await;
    let credential = nobody.with_jwt(&registered.unwrap().jwt);
    let headers = credential.metadata(method::DELTA);
    let stream = FakeClient::connect_with(ours.channel(port), headers, "agent").await;
    let mut stream = stream.unwrap();
    stream.subscribe("type.test/None", &[]).await.unwrap();
    stream.accept().await.unwrap();
    let strange = crate::agent::register_over(stranger.channel(port), &nobody, &token).await;
    assert_eq!(strange.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_changes_under_traffic_fails_nobody() {
    let dir = TempDir::new().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    let served = files(dir.path(), "served");
    first.write(&served);
    let plane = start(&served, &served).await;
    let port = plane.running.agent_addr.port();
    let made = first.caller(&plane).make("clusters", json!({ "name": "here" })).await;
    let token = registration_token(&first.caller(&plane), made["id"].as_str().unwrap()).await;
    let nobody = Credential::fresh(&plane.now);
    let registered = crate::agent::register_over(first.channel(port), &nobody, &token).await;
    let credential = nobody.with_jwt(&registered.unwrap().jwt);
    let headers = credential.metadata(method::DELTA);
    let stream = FakeClient::connect_with(first.channel(port), headers, "agent").await;
    let mut stream = stream.unwrap();
    stream.subscribe("type.test/None", &[]).await.unwrap();
    stream.accept().await.unwrap();

    // A caller that trusts both, on a new connection each time.
    let both = reqwest::Certificate::from_pem_bundle((first.pem() + &second.pem()).as_bytes());
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only(both.unwrap())
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/healthz", plane.running.rest_addr.port());
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let traffic = tokio::spawn({
        let (stop, calls) = (stop.clone(), calls.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = http.get(&url).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let serves = |authority: Authority| {
        let caller = authority.caller(&plane);
        let authority = authority.channel(port);
        async move {
            eventually("the certificate of this authority", || async {
                let answer = caller.http.get(format!("{}/healthz", caller.base)).send().await;
                answer.ok().map(|_| ())
            })
            .await;
            eventually("the same for agents", || async {
                let nobody = imp_proto::agent::RegisterRequest::default();
                let mut client = imp_proto::agent::agent_service_client::AgentServiceClient::new(
                    authority.clone(),
                );
                let refused = client.register(nobody).await.unwrap_err();
                (refused.code() == tonic::Code::Unauthenticated).then_some(())
            })
            .await;
        }
    };
    // Broken files change nothing.
    let good = std::fs::read(&served.cert).unwrap();
    std::fs::write(&served.cert, "no certificate").unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let still = first.caller(&plane);
    assert_eq!(still.get("/healthz").await.status, 200);
    std::fs::write(&served.cert, good).unwrap();
    second.write(&served);
    serves(second).await;
    assert!(
        first
            .caller(&plane)
            .http
            .get(format!("{}/healthz", first.caller(&plane).base))
            .send()
            .await
            .is_err()
    );
    stream.subscribe("type.test/Other", &[]).await.unwrap();
    stream.accept().await.unwrap();
    stop.store(true, Ordering::Relaxed);
    traffic.await.unwrap();
    assert!(calls.load(Ordering::Relaxed) > 10);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (one, other) = (files(dir.path(), "one"), files(dir.path(), "other"));
    authority.write(&one);
    authority.write(&other);
    assert!(Tls::open(one.clone(), &["h2"]).is_ok());
    let mixed = Files { cert: one.cert.clone(), key: other.key.clone() };
    assert!(Tls::open(mixed, &["h2"]).is_err());
    let absent = Files { cert: dir.path().join("nothing"), key: one.key.clone() };
    let why = Tls::open(absent, &["h2"]).err().unwrap();
    assert!(why.contains("nothing"), "{why}");
    std::fs::write(&one.cert, "").unwrap();
    assert!(Tls::open(one, &["h2"]).is_err());
}
