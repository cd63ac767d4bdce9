//! Tests on the real Envoy, started with the agent's bootstrap.

mod restarts;
mod tables;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use imp_agent::bootstrap;
use imp_agent::config::{Bootstrap, Config, EnvoyAdmin};
use imp_agent::port::Address;
use imp_proto::config as pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::control::Control;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, KEY, credential, entitlement, host, poisoned, publish, quota};
use crate::rig::{self, PATIENCE, active, agent, config, reported};

struct Envoy {
    admin: reqwest::Client,
    child: tokio::process::Child,
    directory: tempfile::TempDir,
}

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

pub(crate) fn binary() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tools/envoy.sh");
    let output = std::process::Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Envoy {
    async fn start(agent: &Address, gateway_id: Option<uuid::Uuid>) -> Self {
        Self::start_with(agent, gateway_id, None).await
    }

    /// Starts with the files of a node certificate.
    async fn start_with(
        agent: &Address,
        gateway_id: Option<uuid::Uuid>,
        node_certificate: Option<PathBuf>,
    ) -> Self {
        Self::start_at(agent, Vec::new(), gateway_id, node_certificate).await
    }

    /// Starts with other agents, too.
    async fn start_at(
        agent: &Address,
        other_agent: Vec<Address>,
        gateway_id: Option<uuid::Uuid>,
        node_certificate: Option<PathBuf>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let options = Bootstrap {
            xds_listen: Some(agent.clone()),
            other_agent,
            state_dir: "unused".into(),
            envoy_admin: EnvoyAdmin::Unix(socket.clone()),
            node_certificate,
            node_id: Some("e1".into()),
            gateway_id,
            max_heap_mib: 2048,
            max_connections: 50_000,
        };
        let file = directory.path().join("envoy.yaml");
        std::fs::write(&file, bootstrap::render(&options).unwrap()).unwrap();
        let log = std::fs::File::create(directory.path().join("envoy.log")).unwrap();
        let child = tokio::process::Command::new(binary())
            .arg("-c")
            .arg(&file)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let admin = reqwest::Client::builder().unix_socket(socket).build().unwrap();
        Self { admin, child, directory }
    }

    async fn stats(&self, filter: &str) -> String {
        let url = format!("http://envoy/stats?filter={filter}");
        self.admin.get(url).send().await.unwrap().text().await.unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("envoy.log")).unwrap_or_default()
    }
}

/// Echoes requests.
async fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut seen, mut buffer) = (Vec::new(), [0_u8; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(buffer.get(..read).unwrap_or_default());
                    if seen.ends_with(b"\r\n\r\n") {
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", seen.len());
                        let _ = stream.write_all(&[head.as_bytes(), &seen].concat()).await;
                        seen.clear();
                    }
                }
            });
        }
    });
    port
}

struct Answer {
    status: u16,
    text: String,
}

/// `None` if nothing listens yet.
async fn call(port: u16, host: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    let mut request = reqwest::Client::new().get(format!("http://127.0.0.1:{port}/x"));
    request = request.header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    Some(Answer { status, text: answer.text().await.ok()? })
}

async fn answers(
    envoy: &Envoy,
    port: u16,
    host: &str,
    headers: &[(&str, &str)],
    status: u16,
) -> Answer {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut last = None;
    while tokio::time::Instant::now() < deadline {
        if let Some(answer) = call(port, host, headers).await {
            if answer.status == status {
                return answer;
            }
            last = Some((answer.status, answer.text));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{host}: never {status}, last {last:?}\n{}", envoy.log())
}

/// One gateway on a free port, this many publishes with keys, a subscription and its key.
async fn shop(publishes: usize, limits: Vec<pb::Limit>) -> (Control, u16, u16) {
    let (port, upstream) = (free_port().await, upstream().await);
    let control = Control::start().await;
    control.state.set(&fixtures::gateway(port));
    for number in 0..publishes {
        control.state.set(&publish(number, upstream));
    }
    control.state.set(&entitlement(limits));
    control.state.set(&credential());
    (control, port, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_through_a_real_envoy() {
    let (control, port, _) = shop(3, vec![quota(2)]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&agent.xds, None).await;
    for number in 0..3 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    let headers = [("x-api-key", KEY), ("x-imp-consumer", "spoofed"), ("x-imp-other", "spoofed")];
    let seen = answers(&envoy, port, &host(0), &headers, 200).await.text;
    assert!(seen.contains("x-imp-consumer: consumer"), "{seen}");
    assert!(!seen.contains("spoofed") && !seen.contains(KEY), "{seen}");
    let refused = answers(&envoy, port, &host(0), &[], 401).await.text;
    assert!(refused.contains(r#""code":"unauthenticated""#), "{refused}");
    // Two header lines with one key each are refused.
    answers(&envoy, port, &host(0), &[("x-api-key", KEY), ("x-api-key", KEY)], 401).await;
    answers(&envoy, port, "unknown.example.com", &[], 404).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    let limited = answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 429).await.text;
    assert!(limited.contains("quota_exceeded"), "{limited}");
    let grpc = [("content-type", "application/grpc+proto"), ("x-api-key", KEY)];
    let said = async |headers: &[(&str, &str)]| {
        let url = format!("http://127.0.0.1:{port}/x");
        let request = reqwest::Client::new().post(url).header("host", host(0));
        let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        let answer = request.send().await.unwrap();
        let said = |name| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
        (answer.status().as_u16(), said("grpc-status"), said("grpc-message"))
    };
    assert_eq!(said(&grpc).await, (200, "8".into(), "quota_exceeded: The quota is used up".into()));
    let (_, status, message) = said(&grpc[..1]).await;
    assert_eq!((&*status, &*message), ("16", "unauthenticated: A valid API key is required"));
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_headers_that_envoy_takes_are_no_too_large_question() {
    let (control, port, _) = shop(1, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&agent.xds, None).await;
    reported(&control, 0, "is active", active(1, 1)).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    // The agent gets the path twice, and this header; 64 KB is the most for all together.
    for (length, most) in [(30 << 10, 30 << 10), (30 << 10, 40 << 10), (62 << 10, 1)] {
        let (path, token) = ("p".repeat(length), "t".repeat(most));
        let request = reqwest::Client::new()
            .get(format!("http://127.0.0.1:{port}/{path}"))
            .header("host", host(0))
            .header("x-api-key", KEY)
            .header("authorization", token);
        let status = request.send().await.unwrap().status().as_u16();
        let expected = if length + most < 63 << 10 { 200 } else { 431 };
        assert_eq!(status, expected, "{}", envoy.log());
    }
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_keeps_its_connections_and_its_listener_over_a_restart_from_disk() {
    let (control, port, _) = shop(20, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let (xds, admin) = (&first.xds.clone(), first.admin_addr);
    let envoy = Envoy::start(xds, None).await;
    for number in 0..20 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    answers(&envoy, port, &host(19), &[("x-api-key", KEY)], 200).await;
    let control_url = control.url();
    drop(control);
    first.shutdown().await;
    answers(&envoy, port, &host(19), &[("x-api-key", KEY)], 503).await;

    // The listener closes the agent's port to backends: another port is another listener.
    let config = Config {
        xds_listen: Some(xds.clone()),
        admin_listen: admin.to_string(),
        control: control_url,
        ..config("", state.path())
    };
    let again = rig::start(config).await.unwrap();
    answers(&envoy, port, &host(19), &[("x-api-key", KEY)], 200).await;
    rig::eventually("all acknowledged by what Envoy holds", || {
        again.fleet.statuses().iter().all(|status| active(1, 1)(status)).then_some(())
    })
    .await;
    let stats = envoy
        .stats("listener_manager.(lds.update_success|listener_modified|lds.update_rejected)")
        .await;
    assert!(
        stats.contains("listener_modified: 0") && stats.contains("update_rejected: 0"),
        "{stats}"
    );
    let scopes = envoy.stats("scoped_rds.imp.(update_success|update_rejected|active_scopes)").await;
    assert!(scopes.contains("update_rejected: 0"), "{scopes}");

    let mut old = envoy;
    old.child.kill().await.unwrap();
    let fresh = Envoy::start(xds, Some(fixtures::GATEWAY.parse().unwrap())).await;
    for number in 0..20 {
        answers(&fresh, port, &host(number), &[("x-api-key", KEY)], 200).await;
    }
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_envoy_refuses_fails_in_its_words_and_stays_so_over_restarts() {
    let (control, port, upstream) = shop(3, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let xds = &first.xds.clone();
    let envoy = Envoy::start(xds, None).await;
    let key = [("x-api-key", KEY)];
    for number in 0..3 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    control.state.set(&poisoned(publish(1, upstream), 2));
    let failed = reported(&control, 1, "failed", |status| status.error.is_some()).await;
    let words = failed.error.unwrap().envoy_message;
    assert!(words.contains(fixtures::POISON_WORDS), "Envoy's own words: {words}");
    for number in 0..3 {
        answers(&envoy, port, &host(number), &key, 200).await;
    }

    // If the same bytes were sent again, Envoy would consider them known and acknowledge.
    let admin_listen = first.admin_addr.to_string();
    first.shutdown().await;
    control.state.with(|shared| shared.statuses.clear());
    let config = Config {
        xds_listen: Some(xds.clone()),
        admin_listen,
        ..config(&control.url(), state.path())
    };
    let again = rig::start(config).await.unwrap();
    reported(&control, 0, "is active again", active(1, 1)).await;
    let failed = reported(&control, 1, "is still failed", |s| s.acked_revision == 1).await;
    assert!(failed.error.is_some_and(|error| error.envoy_message == words));
    answers(&envoy, port, &host(1), &key, 200).await;
    control.state.set(&fixtures::at_revision(publish(1, upstream), 3));
    reported(&control, 1, "is mended", active(3, 1)).await;
    answers(&envoy, port, &host(1), &key, 200).await;
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looser_rules_count_for_the_routes_that_come_with_them_and_for_no_others() {
    let (control, port, upstream) = shop(1, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&agent.xds, None).await;
    reported(&control, 0, "is active", active(1, 1)).await;
    let open = |publish: pb::Publish| pb::Publish {
        auth_mode: pb::publish::AuthMode::None.into(),
        ..publish
    };
    control.state.set(&open(poisoned(publish(0, upstream), 2)));
    // Another Envoy accepts it, so the wanted rules apply, and stay.
    let lenient = FakeEnvoy::start(&agent.xds, "e2");
    let partly = |s: &imp_proto::agent::PublishStatus| {
        (s.revision, s.acked_revision, s.nodes_acked, s.nodes_nacked) == (2, 2, 1, 1)
    };
    reported(&control, 0, "is with the other", partly).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    for _ in 0..20 {
        assert_eq!(call(port, &host(0), &[]).await.unwrap().status, 401);
    }
    drop(lenient);
    control.state.set(&open(fixtures::at_revision(publish(0, upstream), 3)));
    answers(&envoy, port, &host(0), &[], 200).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_on_every_publish_of_the_gateway_and_served_once_it_is_free() {
    let (control, port, _) = shop(1, vec![]).await;
    let taken = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&agent.xds, None).await;
    let failed = reported(&control, 0, "failed", |status| status.error.is_some()).await;
    let error = failed.error.unwrap();
    assert!(error.hint.contains("port"), "{error:?}\n{}", envoy.log());
    assert!(error.envoy_message.contains("in use"), "Envoy's own words: {error:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(taken);
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    reported(&control, 0, "is active, and nobody did anything", active(1, 1)).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_envoy_refuses_and_another_takes_is_active_and_the_one_stays_at_its_former() {
    let (control, port, upstream) = shop(1, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&agent.xds, None).await;
    let key = [("x-api-key", KEY)];
    reported(&control, 0, "is active", active(1, 1)).await;
    control.state.set(&poisoned(publish(0, upstream), 2));
    reported(&control, 0, "failed", |s| s.error.is_some() && s.nodes_acked == 0).await;
    // Another one accepts everything: it is asked, and so is the first one again. The real one
    // would acknowledge bytes that it knows.
    let lenient = FakeEnvoy::start(&agent.xds, "e2");
    let partly = |s: &imp_proto::agent::PublishStatus| {
        (s.revision, s.acked_revision, s.nodes_acked, s.nodes_nacked) == (2, 2, 1, 1)
    };
    let status = reported(&control, 0, "is with the other", partly).await;
    assert!(status.error.unwrap().envoy_message.contains(fixtures::POISON_WORDS));
    assert_eq!(lenient.scopes().len(), 1);
    answers(&envoy, port, &host(0), &key, 200).await;
    control.state.set(&fixtures::at_revision(publish(0, upstream), 3));
    reported(&control, 0, "is mended on both", active(3, 2)).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_an_envoy_with_a_certificate_is_served_and_takes_a_renewed_one() {
    let (control, port, _) = shop(1, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let config = Config {
        registration_token: Some(crate::control::TOKEN.into()),
        xds_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..config(&control.url(), state.path())
    };
    let agent = rig::start(config).await.unwrap();
    rig::ready(&agent).await;
    let gateway: uuid::Uuid = fixtures::GATEWAY.parse().unwrap();
    let files = tempfile::tempdir().unwrap();
    let issue = || imp_agent::port::issue(state.path(), Some(gateway), "e1", 30, files.path());
    issue().unwrap();
    let certificate = Some(files.path().to_owned());
    let envoy = Envoy::start_with(&agent.xds, Some(gateway), certificate).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    reported(&control, 0, "is active", active(1, 1)).await;
    assert_eq!(agent.fleet.nodes().len(), 1);
    issue().unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !renewed(&envoy).await {
        assert!(tokio::time::Instant::now() < deadline, "not renewed: {}", envoy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    agent.shutdown().await;
}

/// Whether Envoy has read its certificate more than once.
async fn renewed(envoy: &Envoy) -> bool {
    let stats = envoy.stats("sds.node.update_success").await;
    let count = stats.lines().find_map(|line| line.rsplit_once("update_success: "));
    count.is_some_and(|(_, count)| count.trim().parse::<u64>().is_ok_and(|count| count >= 2))
}
