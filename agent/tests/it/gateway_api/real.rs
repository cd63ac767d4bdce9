//! Delivery by Gateway API, on a real API server with Envoy Gateway and Envoy as its proxy.
//!
//! `IMP_TEST_KUBE` names a folder with `kubeconfig`, `pki/admin.{crt,key}` and `envoy-certs` of a
//! stack whose GatewayClass is `eg` and that has a namespace `edge`; `IMP_TEST_ADDRESS` an address
//! of this machine that is not loopback, which Envoy Gateway refuses.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use imp_agent::app::Running;
use imp_agent::config::{Config, GatewayApiFlags, KubeFlags};
use imp_proto::config as pb;
use pb::publish::{AuthMode, Delivery};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::control::{Control, TOKEN};
use crate::fixtures::{self, KEY, credential, entitlement, host, id};
use crate::rig::{self, active, config, control_with, reported};

const SERVER: &str = "https://127.0.0.1:6443";

struct Rig {
    control: Control,
    agent: Running,
    kube: PathBuf,
    address: String,
    port: u16,
    upstream: u16,
    proxy: tokio::process::Child,
    _state: tempfile::TempDir,
}

/// A port that nothing has.
async fn free(address: &str) -> u16 {
    TcpListener::bind((address, 0)).await.unwrap().local_addr().unwrap().port()
}

/// Answers each call with what it was sent.
async fn echo(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut part = [0; 4_096];
                while let Ok(read @ 1..) = stream.read(&mut part).await {
                    head.extend_from_slice(&part[..read]);
                    if head.windows(4).any(|end| end == b"\r\n\r\n") {
                        let length = format!("content-length: {}\r\n\r\n", head.len());
                        let answer = [b"HTTP/1.1 200 OK\r\n", length.as_bytes(), &head].concat();
                        let _gone = stream.write_all(&answer).await;
                        head.clear();
                    }
                }
            });
        }
    });
    port
}

impl Rig {
    async fn start() -> Self {
        let kube = PathBuf::from(std::env::var("IMP_TEST_KUBE").unwrap());
        let address = std::env::var("IMP_TEST_ADDRESS").unwrap();
        let (port, xds) = (free("127.0.0.1").await, free(&address).await);
        let upstream = echo(&address).await;
        let control = control_with(0).await;
        control
            .state
            .set(&pb::Gateway { gateway_class: "envoy-gateway".into(), ..fixtures::gateway(port) });
        control.state.set(&credential());
        control.state.set(&entitlement(vec![]));
        let state = tempfile::tempdir().unwrap();
        let config = Config {
            registration_token: Some(TOKEN.into()),
            xds_listen: Some(format!("{address}:{xds}").parse().unwrap()),
            allow_upstream: vec!["10.0.0.0/8".into()],
            kube: KubeFlags {
                kubeconfig: Some(kube.join("kubeconfig")),
                kube_agent_address: Some(format!("{address}:{xds}").parse().unwrap()),
                ..KubeFlags::default()
            },
            gateway_api: GatewayApiFlags {
                gateway_class: vec!["envoy-gateway=eg".parse().unwrap()],
                gateway_api_namespace: "edge".into(),
                ..GatewayApiFlags::default()
            },
            ..config(&control.url(), state.path())
        };
        let agent = rig::start(config).await.unwrap();
        rig::ready(&agent).await;
        let proxy = proxy(&kube, state.path());
        Self { control, agent, kube, address, port, upstream, proxy, _state: state }
    }

    fn publish(&self, number: usize, revision: u64, auth_mode: AuthMode) -> pb::Publish {
        let mut publish = fixtures::publish(number, self.upstream);
        publish.api_services[0].backends[0].endpoints[0].host = self.address.clone();
        publish.revision = revision;
        publish.auth_mode = auth_mode.into();
        publish.delivery = Delivery::Crd.into();
        publish
    }

    async fn call(&self, number: usize, path: &str, key: Option<&str>) -> (u16, String) {
        let mut call = reqwest::Client::new()
            .get(format!("http://127.0.0.1:{}{path}", self.port))
            .header("host", host(number))
            .header("x-imp-consumer", "forged");
        if let Some(key) = key {
            call = call.header("x-api-key", key);
        }
        match call.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap()),
            Err(_) => (0, String::new()),
        }
    }

    async fn until(&self, number: usize, path: &str, key: Option<&str>, status: u16) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (last, body) = self.call(number, path, key).await;
            if last == status {
                return body;
            }
            assert!(Instant::now() < deadline, "never {status}, at last {last}: {body}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// A request of an administrator with another tool.
    async fn kubectl(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let pki = self.kube.join("pki");
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sk", "-X", method, "-H", "content-type: application/merge-patch+json"])
            .arg("--cert")
            .arg(pki.join("admin.crt"))
            .arg("--key")
            .arg(pki.join("admin.key"))
            .arg(format!("{SERVER}{path}"));
        if let Some(body) = body {
            curl.arg("-d").arg(body.to_string());
        }
        let output = curl.output().await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn routes(&self) -> Vec<String> {
        let path = "/apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes?labelSelector=app.kubernetes.io/managed-by=imp-gateway";
        let list = self.kubectl("GET", path, None).await;
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect()
    }

    async fn stop(mut self) {
        self.proxy.kill().await.unwrap();
        self.agent.shutdown().await;
    }
}

/// Envoy as Envoy Gateway starts it.
fn proxy(kube: &Path, state: &Path) -> tokio::process::Child {
    let certs = kube.join("envoy-certs").display().to_string();
    let gateway = format!("edge/imp-{}", fixtures::GATEWAY);
    let file = |name: &str| json!({ "filename": format!("{certs}/{name}") });
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "envoy-gateway",
        "common_tls_context": {
            "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{
                "certificate_chain": file("tls.crt"), "private_key": file("tls.key"),
            }],
            "validation_context": { "trusted_ca": file("ca.crt") },
        },
    });
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    });
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 18_000 } });
    let ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let bootstrap = json!({
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds_cluster" } }],
            },
            "lds_config": ads,
            "cds_config": ads,
        },
        "static_resources": { "clusters": [{
            "name": "xds_cluster",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2,
            },
            "load_assignment": { "cluster_name": "xds_cluster", "endpoints": [{
                "lb_endpoints": [{ "endpoint": { "address": address } }],
            }]},
            "transport_socket": { "name": "envoy.transport_sockets.tls", "typed_config": tls },
        }]},
    });
    let file = state.join("proxy.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let log = std::fs::File::create(kube.join("proxy.log")).unwrap();
    tokio::process::Command::new(crate::envoy::binary())
        .arg("-c")
        .arg(&file)
        .args(["--service-cluster", &gateway, "--service-node", "proxy-1", "--concurrency", "1"])
        .args(["--use-dynamic-base-id", "--log-level", "warning"])
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_served_guarded_corrected_and_removed() {
    let rig = Rig::start().await;
    rig.control.state.set(&rig.publish(1, 1, AuthMode::ApiKey));
    rig.control.state.set(&rig.publish(2, 1, AuthMode::None));
    reported(&rig.control, 1, "active", active(1, 1)).await;
    reported(&rig.control, 2, "active", active(1, 1)).await;
    // The agent decides, and says who calls; nobody else can.
    rig.until(1, "/a", None, 401).await;
    let seen = rig.until(1, "/a", Some(KEY), 200).await;
    assert!(seen.contains("x-imp-consumer: consumer") && !seen.contains("forged"), "{seen}");
    assert!(!seen.contains(KEY), "{seen}");
    rig.until(1, "/a", Some("wrong"), 401).await;
    let seen = rig.until(2, "/a", None, 200).await;
    assert!(!seen.contains("x-imp-"), "{seen}");

    // A revocation needs no object.
    let mut revoked = credential();
    revoked.state = pb::credential::State::Revoked.into();
    rig.control.state.set(&revoked);
    rig.until(1, "/a", Some(KEY), 401).await;
    rig.control.state.set(&credential());
    rig.until(1, "/a", Some(KEY), 200).await;

    // Somebody edits and deletes.
    let route = format!(
        "/apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes/imp-{}-r0",
        id(1, 1)
    );
    let policy = format!(
        "/apis/gateway.envoyproxy.io/v1alpha1/namespaces/edge/securitypolicies/imp-{}-r0",
        id(1, 1)
    );
    let edit = json!({ "spec": { "hostnames": ["theirs.example.com"] } });
    let before = Instant::now();
    rig.kubectl("PATCH", &format!("{route}?fieldManager=somebody"), Some(edit)).await;
    loop {
        let now = rig.kubectl("GET", &route, None).await;
        if now["spec"]["hostnames"] == json!([host(1)]) {
            break;
        }
        assert!(before.elapsed() < Duration::from_secs(10), "{now}");
        sleep(Duration::from_millis(5)).await;
    }
    println!("an edit was corrected after {:?}", before.elapsed());
    rig.kubectl("DELETE", &policy, None).await;
    let before = Instant::now();
    while rig.kubectl("GET", &policy, None).await["kind"] != "SecurityPolicy" {
        assert!(before.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(5)).await;
    }
    println!("a deletion was corrected after {:?}", before.elapsed());
    rig.until(1, "/a", None, 401).await;

    // A new revision, a suspension, the end.
    let mut second = rig.publish(1, 2, AuthMode::ApiKey);
    second.base_path = "/v2".into();
    rig.control.state.set(&second);
    reported(&rig.control, 1, "active at 2", active(2, 1)).await;
    rig.until(1, "/v2/a", Some(KEY), 200).await;
    rig.until(1, "/a", Some(KEY), 404).await;
    rig.control.state.set(&pb::Publish { suspended: true, revision: 2, ..second.clone() });
    let body = rig.until(1, "/v2/a", Some(KEY), 503).await;
    assert!(body.contains("publish_suspended"), "{body}");
    for number in [1, 2] {
        rig.control.state.remove::<pb::Publish>(&id(1, number));
    }
    let before = Instant::now();
    while !rig.routes().await.is_empty() {
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", rig.routes().await);
        sleep(Duration::from_millis(20)).await;
    }
    rig.stop().await;
}

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_publish_takes() {
    let rig = Rig::start().await;
    rig.control.state.set(&rig.publish(0, 1, AuthMode::None));
    rig.until(0, "/a", None, 200).await;
    let mut times = Vec::new();
    for number in 1..=20 {
        let before = Instant::now();
        rig.control.state.set(&rig.publish(number, 1, AuthMode::None));
        rig.until(number, "/a", None, 200).await;
        times.push(before.elapsed());
    }
    times.sort();
    println!("publish to the first 200: p50 {:?}, most {:?}", times[10], times[19]);
    // Few at a time: many at once would be held back.
    for number in 0..=20 {
        rig.control.state.remove::<pb::Publish>(&id(1, number));
        let left = 20 - number;
        while number % 7 == 6 && rig.routes().await.len() > 2 * left + 1 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    rig.stop().await;
}
