//! An agent with an API server, Envoy Gateway, and Envoy as its proxy.

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
use crate::fixtures::{self, credential, entitlement, host, id};
use crate::rig::{self, config, control_with};

const SERVER: &str = "https://127.0.0.1:6443";

pub(super) struct Rig {
    pub(super) control: Control,
    agent: Running,
    kube: PathBuf,
    address: String,
    pub(super) port: u16,
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
    pub(super) async fn start() -> Self {
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

    pub(super) fn publish(&self, number: usize, revision: u64, auth_mode: AuthMode) -> pb::Publish {
        let mut publish = fixtures::publish(number, self.upstream);
        publish.api_services[0].backends[0].endpoints[0].host = self.address.clone();
        publish.revision = revision;
        publish.auth_mode = auth_mode.into();
        publish.delivery = Delivery::Crd.into();
        publish
    }

    pub(super) async fn call(&self, number: usize, path: &str, key: Option<&str>) -> (u16, String) {
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

    pub(super) async fn until(
        &self,
        number: usize,
        path: &str,
        key: Option<&str>,
        status: u16,
    ) -> String {
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
    pub(super) async fn kubectl(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let pki = self.kube.join("pki");
        let mut curl = tokio::process::Command::new("curl");
        let kind =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        curl.args(["-sk", "-X", method, "-H", &format!("content-type: {kind}")])
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

    /// Gives the Gateway an address, as a load balancer does.
    pub(super) async fn gets_an_address(&self) {
        let services = "/api/v1/namespaces/envoy-gateway-system/services";
        let owner = format!("gateway.envoyproxy.io/owning-gateway-name=imp-{}", fixtures::GATEWAY);
        let deadline = Instant::now() + Duration::from_secs(10);
        let name = loop {
            let path = format!("{services}?labelSelector={owner}");
            let list = self.kubectl("GET", &path, None).await;
            if let Some(name) = list["items"][0]["metadata"]["name"].as_str() {
                break name.to_owned();
            }
            assert!(Instant::now() < deadline, "{list}");
            sleep(Duration::from_millis(20)).await;
        };
        let balanced =
            json!({ "status": { "loadBalancer": { "ingress": [{ "ip": self.address }] } } });
        self.kubectl("PATCH", &format!("{services}/{name}/status"), Some(balanced)).await;
        let gateway = format!(
            "/apis/gateway.networking.k8s.io/v1/namespaces/edge/gateways/imp-{}",
            fixtures::GATEWAY
        );
        loop {
            let found = self.kubectl("GET", &gateway, None).await;
            if found["status"]["addresses"][0]["value"] == self.address.as_str() {
                return;
            }
            assert!(Instant::now() < deadline, "{found}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn routes(&self) -> Vec<String> {
        let path = "/apis/gateway.networking.k8s.io/v1/namespaces/edge/httproutes?labelSelector=app.kubernetes.io/managed-by=imp-gateway";
        let list = self.kubectl("GET", path, None).await;
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect()
    }

    /// Removes publishes until no object of ours is left.
    pub(super) async fn removes(&self, publishes: &[usize]) {
        for number in publishes {
            self.control.state.remove::<pb::Publish>(&id(1, *number));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.routes().await.is_empty() {
            assert!(Instant::now() < deadline, "{:?}", self.routes().await);
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn stop(mut self) {
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
