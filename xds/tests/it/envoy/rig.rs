//! A real Envoy between clients, our server and two upstreams.

use std::path::Path;
use std::process::Stdio;

use imp_xds::stream::Variant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tower::ServiceExt as _;

pub(crate) struct Envoy {
    pub(crate) admin: u16,
    directory: tempfile::TempDir,
    _process: tokio::process::Child,
}

pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Answers with its name.
pub(crate) async fn upstream(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut buffer = [0_u8; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..read]);
                    if seen.ends_with(b"\r\n\r\n") {
                        let length = name.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                        seen.clear();
                    }
                }
            });
        }
    });
    port
}

fn binary() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tools/envoy.sh");
    let output = std::process::Command::new(script).output().expect("envoy.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

fn bootstrap(server: u16, admin: u16, variant: Variant) -> String {
    let api = match variant {
        Variant::Delta => "DELTA_GRPC",
        Variant::StateOfTheWorld => "GRPC",
    };
    let address =
        |port: u16| format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
    format!(
        r#"
node: {{id: envoy, cluster: all, client_features: [xds.config.supports-resource-ttl, xds.config.supports-resource-in-sotw]}}
admin: {{address: {admin}}}
layered_runtime: {{layers: [{{name: rtds, rtds_layer: {{name: runtime, rtds_config: {{ads: {{}}, resource_api_version: V3}}}}}}]}}
dynamic_resources:
  ads_config: {{api_type: {api}, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{{envoy_grpc: {{cluster_name: server, retry_policy: {{retry_back_off: {{base_interval: 0.05s, max_interval: 0.2s}}}}}}}}]}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: server
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}
    load_assignment: {{cluster_name: server, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {server}}}}}]}}]}}
"#,
        admin = address(admin),
        server = address(server),
    )
}

impl Envoy {
    pub(crate) async fn start(server: u16, variant: Variant) -> Self {
        let admin = free_port().await;
        let directory = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let process = tokio::process::Command::new(binary())
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"])
            .args(["--config-yaml", &bootstrap(server, admin, variant)])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Envoy");
        Self { admin, directory, _process: process }
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// One counter or gauge.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let path = format!("/stats?filter=^{name}$");
        let text = get(self.admin, &path, "").await.unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}

/// The whole answer to a GET, if there is one.
pub(crate) async fn get(port: u16, path: &str, header: &str) -> Option<String> {
    get_of(port, path, &format!("host: h\r\n{header}")).await
}

/// The same with a `Host` header among the headers.
pub(crate) async fn get_of(port: u16, path: &str, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    // After an answer of its own Envoy keeps the connection open for a second.
    let mut bytes = Vec::new();
    while !is_whole(&bytes) && stream.read_buf(&mut bytes).await.ok()? > 0 {}
    String::from_utf8(bytes).ok()
}

/// Whether an answer has as many bytes as its head says.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| body.len() >= length)
}

/// The status of a GET over TLS, if the certificate is this one.
pub(crate) async fn get_tls(port: u16, pem: &str) -> Option<u16> {
    let tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name("test.local");
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).ok()?;
    let channel = endpoint.tls_config(tls).ok()?.connect().await.ok()?;
    let request = http::Request::get(format!("https://127.0.0.1:{port}/"));
    let request = request.body(tonic::body::Body::empty()).ok()?;
    Some(channel.oneshot(request).await.ok()?.status().as_u16())
}
