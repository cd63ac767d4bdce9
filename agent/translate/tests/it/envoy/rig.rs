//! A real Envoy between a client, the stub and an upstream that echoes the request.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use imp_translate::{Assembly, Blame, Delta, Layout, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::stub::{Stub, Verdict};
use crate::fixtures;

pub(crate) struct Rig {
    pub(crate) stub: Stub,
    pub(crate) assembly: Assembly,
    pub(crate) port: u16,
    pub(crate) upstream: u16,
    admin: u16,
    verdicts: mpsc::UnboundedReceiver<Verdict>,
    /// Envoy's rejections, with its messages.
    pub(crate) refusals: Vec<(String, String)>,
    pub(crate) blames: Vec<Blame>,
    /// The versions that Envoy accepted last.
    accepted: HashMap<(String, String), String>,
    _envoy: tokio::process::Child,
    _directory: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Status, code and request id of a problem document. The header has the same id.
    pub(crate) fn told(&self) -> (u16, String) {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let id = body["request_id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}"));
        assert_eq!(self.header("x-request-id"), Some(id), "{self:?}");
        assert!(id.len() == 36 && body["status"] == self.status, "{self:?}");
        (self.status, self.problem().unwrap_or_else(|| panic!("no code: {self:?}")))
    }

    /// The body's problem code, if it is a problem document.
    pub(crate) fn problem(&self) -> Option<String> {
        let json = self.header("content-type")?.starts_with("application/problem+json");
        let body: serde_json::Value = serde_json::from_str(&self.body).ok().filter(|_| json)?;
        body["code"].as_str().map(str::to_owned)
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A port below the kernel's range for outgoing connections, so that nothing takes it before Envoy
/// binds it; never the same one twice.
async fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 200) as u16 * 100;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + start.wrapping_add(step) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
}

fn envoy_binary() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/tools/envoy.sh");
    let output = std::process::Command::new(script).output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn bootstrap(agent: u16, admin: u16) -> String {
    let address =
        |port: u16| format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
    format!(
        r#"
node: {{id: test, cluster: all}}
admin: {{address: {admin}}}
layered_runtime: {{layers: [{{name: expressions, static_layer: {{re2.max_program_size.error_level: {program}}}}}, {{name: admin, admin_layer: {{}}}}]}}
cluster_manager: {{enable_deferred_cluster_creation: true}}
deferred_stat_options: {{enable_deferred_creation_stats: true}}
dynamic_resources:
  ads_config: {{api_type: DELTA_GRPC, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{{envoy_grpc: {{cluster_name: agent}}}}]}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: agent
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}
    load_assignment: {{cluster_name: agent, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {agent}}}}}]}}]}}
"#,
        program = imp_grammar::caps::ENVOY_REGEX_PROGRAM.value,
        admin = address(admin),
        agent = address(agent),
    )
}

/// Answers every request with its request line and headers in lower case.
async fn serve_upstream(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        // Head and body are two writes, of which the second would wait 40 ms for an acknowledgement.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut buffer = [0u8; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                seen.extend_from_slice(&buffer[..read]);
                if seen.ends_with(b"\r\n\r\n") {
                    let length = seen.len();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nx-upstream: yes\r\nserver: up\r\ncontent-length: {length}\r\n\r\n"
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    if !seen.starts_with(b"HEAD ") {
                        let _ = stream.write_all(&seen).await;
                    }
                    seen.clear();
                }
            }
        });
    }
}

impl Rig {
    pub(crate) async fn start(layout: Layout) -> Self {
        Self::start_with(fixtures::options(layout)).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let (stub, verdicts) = Stub::new();
        let incoming = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = incoming.local_addr().unwrap().port();
        let server = tonic::transport::Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(stub.clone()))
            .add_service(AuthorizationServer::new(stub.clone()))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(incoming));
        tokio::spawn(server);
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream_port = upstream.local_addr().unwrap().port();
        tokio::spawn(serve_upstream(upstream));
        let (port, admin) = (free_port().await, free_port().await);
        let directory = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(directory.path().join("envoy.log")).unwrap();
        let envoy = tokio::process::Command::new(envoy_binary())
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"])
            .args(["--config-yaml", &bootstrap(agent, admin)])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stub,
            assembly: Assembly::new(options),
            port,
            upstream: upstream_port,
            admin,
            verdicts,
            refusals: Vec::new(),
            blames: Vec::new(),
            accepted: HashMap::new(),
            _envoy: envoy,
            _directory: directory,
        }
    }

    pub(crate) fn apply(&mut self, delta: &Delta) {
        self.stub.apply(&delta.all);
    }

    /// Passes on verdicts until `done`.
    pub(crate) async fn until(&mut self, done: impl Fn(&Verdict, &Assembly) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let verdict = timeout(deadline - Instant::now(), self.verdicts.recv());
            let verdict = verdict.await.unwrap_or_else(|_| {
                let log = std::fs::read_to_string(self._directory.path().join("envoy.log"));
                panic!("no verdict; refused: {:?}\n{}", self.refusals, log.unwrap_or_default())
            });
            let verdict = verdict.unwrap();
            if let Some(version) = &verdict.version {
                let (url, name) = (&verdict.type_url, &verdict.name);
                if verdict.refused.is_none() {
                    self.accepted.insert((url.clone(), name.clone()), version.clone());
                }
                let delta = match &verdict.refused {
                    None => self.assembly.accepted(url, name, version),
                    Some(words) => {
                        self.refusals.push((name.clone(), words.clone()));
                        let (delta, blames) = self.assembly.nacked("", url, name, version);
                        self.blames.extend(blames);
                        delta
                    }
                };
                self.apply(&delta);
            }
            if done(&verdict, &self.assembly) {
                return;
            }
        }
    }

    /// Waits until Envoy has accepted the current version of a publish's last resource.
    pub(crate) async fn active(&mut self, id: &str) {
        let id = id.to_owned();
        self.until(move |verdict, assembly| {
            let Some((_, needs)) = assembly.requirements(&id) else { return false };
            needs.last().is_some_and(|(url, name, version)| {
                *url == verdict.type_url
                    && **name == *verdict.name
                    && verdict.version.as_deref() == Some(&**version)
                    && verdict.refused.is_none()
            })
        })
        .await;
    }

    /// Waits until Envoy has all that a publish needs, if it has not already.
    pub(crate) async fn has_all(&mut self, id: &str) {
        let has = |rig: &Self| {
            let Some((_, needs)) = rig.assembly.requirements(id) else { return false };
            needs.iter().all(|(url, name, version)| {
                let known = rig.accepted.get(&((*url).to_owned(), name.to_string()));
                known.is_some_and(|known| **known == **version)
            })
        };
        while !has(self) {
            self.until(|_, _| true).await;
        }
    }

    /// Makes one call; `head` is the request line without the version, then further headers.
    pub(crate) async fn call(&self, host: &str, head: &str) -> Answer {
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let headers: String = headers.lines().map(|line| format!("{}\r\n", line.trim())).collect();
        let request =
            format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
        raw(self.port, &request).await
    }

    /// Makes a call with the key that the stub knows.
    pub(crate) async fn with_key(&self, host: &str, head: &str) -> Answer {
        self.call(host, &format!("{head}\nx-api-key: good")).await
    }

    /// Waits until Envoy has opened the port.
    pub(crate) async fn opens(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < deadline, "the port stays closed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends these bytes.
    pub(crate) async fn raw(&self, request: &str) -> Answer {
        raw(self.port, request).await
    }

    /// Sets a key of Envoy's runtime.
    pub(crate) async fn set_runtime(&self, key: &str, value: u64) {
        let request = format!(
            "POST /runtime_modify?{key}={value} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(raw(self.admin, &request).await.status, 200);
    }

    /// The number of connections that Envoy opened to upstreams of publishes.
    pub(crate) async fn connections(&self) -> u64 {
        self.of_upstreams("upstream_cx_total").await
    }

    /// A counter, summed over all clusters of publishes.
    pub(crate) async fn of_upstreams(&self, name: &str) -> u64 {
        let request = format!(
            "GET /stats?filter=^cluster\\.c-.*\\.{name}$ HTTP/1.1\r\n\
             host: admin\r\nconnection: close\r\n\r\n"
        );
        let body = raw(self.admin, &request).await.body;
        let values = body.lines().filter_map(|line| line.rsplit_once(": "));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let request = format!(
            "GET /stats?filter=^{name}$ HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
        );
        let body = raw(self.admin, &request).await.body;
        let value = body.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

/// These very bytes, to a port.
pub(crate) async fn raw(port: u16, request: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut bytes = Vec::new();
        // A caller that is refused in the middle of a request may see a reset after the answer.
        // After an answer of its own Envoy keeps the connection open for a second.
        while !is_whole(&bytes) && matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {}
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = timeout(PATIENCE, exchange).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Whether the answer is as long as its head announces.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}
