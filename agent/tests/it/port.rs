//! Tests of the agent's port to Envoys: who may connect, and what a connection may cost.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use imp_agent::app::Running;
use imp_agent::config::Config;
use imp_agent::port::Address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::control::{Control, TOKEN};
use crate::door::{ask, knock};
use crate::fixtures::{self, id};
use crate::rig::{self, PATIENCE, agent, config};

/// A public publish, and its agent.
async fn public() -> (Control, tempfile::TempDir, Running) {
    let control = rig::control_with(1).await;
    let mut open = fixtures::publish(1, 9_000);
    open.auth_mode = imp_proto::config::publish::AuthMode::None.into();
    control.state.set(&open);
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    (control, state, agent)
}

fn socket(agent: &Running) -> PathBuf {
    match &agent.xds {
        Address::Unix(path) => path.clone(),
        Address::Tcp(address) => panic!("{address}"),
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

/// Waits until the peer closes; returns whether it did.
async fn is_closed(stream: &mut UnixStream) -> bool {
    let mut rest = [0; 256];
    let end = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, end).await.is_ok()
}

#[tokio::test]
async fn the_port_is_a_socket_of_the_agents_own_user() {
    let (_control, state, agent) = public().await;
    let path = socket(&agent);
    assert_eq!(path, state.path().join("xds.sock"));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(knock(&agent.xds, &id(1, 1), None).await.status, 200);
    agent.shutdown().await;
    assert!(!path.exists(), "it is gone with the agent");
}

/// Connects as this user this many times; returns how many connections received any byte.
async fn served(path: &Path, uid: u32, connections: usize) -> usize {
    let script = "
import os, socket, sys
os.setuid(int(sys.argv[2]))
served = 0
for _ in range(int(sys.argv[3])):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    try:
        s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        served += len(s.recv(1)) > 0
    except OSError:
        pass
print(served)
";
    let mut python = tokio::process::Command::new("python3");
    python.args(["-c", script]).arg(path).args([uid.to_string(), connections.to_string()]);
    let output = python.stderr(Stdio::inherit()).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn of_other_users_only_the_named_one_is_served_and_strangers_bill_nothing() {
    let state = tempfile::tempdir().unwrap();
    if std::fs::metadata(state.path()).unwrap().uid() != 0 {
        eprintln!("not shown: only root can become other users");
        return;
    }
    let control = rig::control_with(1).await;
    let run = tempfile::tempdir().unwrap();
    std::fs::set_permissions(run.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let path = run.path().join("xds.sock");
    let config = Config {
        registration_token: Some(TOKEN.into()),
        xds_listen: Some(Address::Unix(path.clone())),
        envoy_uid: vec![4_711],
        ..config(&control.url(), state.path())
    };
    let agent = rig::start(config).await.unwrap();
    rig::ready(&agent).await;
    assert_eq!(served(&path, 4_712, 500).await, 0, "500 strangers");
    assert_eq!(served(&path, 4_711, 3).await, 3);
    assert!(agent.fleet.nodes().is_empty());
    assert!(control.state.with(|shared| shared.usage.is_empty()), "nothing was billed");
    agent.shutdown().await;
}

#[tokio::test]
async fn who_does_not_begin_to_speak_is_let_go() {
    let (_control, _state, agent) = public().await;
    let path = socket(&agent);
    let mut streams = Vec::new();
    for number in 0..300 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"PRI * HTTP/2.0\r\n",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0",
        };
        stream.write_all(said).await.unwrap();
        streams.push(stream);
    }
    let started = Instant::now();
    for stream in &mut streams {
        assert!(is_closed(stream).await, "still open after {:?}", started.elapsed());
    }
    assert_eq!(knock(&agent.xds, &id(1, 1), None).await.status, 200);
    agent.shutdown().await;
}

/// Sends this many unfinished calls on one connection: the code of each, or `None` after some
/// seconds.
async fn unfinished(path: &Path, count: usize, announced: u32, sent: usize) -> Vec<Option<String>> {
    let stream = UnixStream::connect(path).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..count {
        let request = http::Request::post("http://agent/envoy.service.auth.v3.Authorization/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut client = client.clone().ready().await.unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        let mut message = vec![0; sent + 5];
        message[1..5].copy_from_slice(&announced.to_be_bytes());
        body.send_data(Bytes::from(message), false).unwrap();
        answers.push(tokio::spawn(async move {
            let _body = body;
            let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.ok()?;
            let headers = answer.ok()?.headers().clone();
            Some(headers.get("grpc-status")?.to_str().unwrap().to_owned())
        }));
    }
    let mut codes = Vec::new();
    for answer in answers {
        codes.push(answer.await.unwrap());
    }
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_questions_hold_a_bounded_amount() {
    const RESOURCE_EXHAUSTED: &str = "8";
    const OUT_OF_RANGE: &str = "11";
    let (_control, _state, agent) = public().await;
    let path = socket(&agent);
    // Larger than any call: refused when its length is read.
    let codes = unfinished(&path, 400, 4 << 20, 16 << 10).await;
    assert!(codes.iter().all(|code| code.as_deref() == Some(OUT_OF_RANGE)), "{codes:?}");
    // Of the largest size and never finished: some wait, the rest is refused.
    let codes = unfinished(&path, 600, 64 << 10, 60 << 10).await;
    let waiting = codes.iter().filter(|code| code.is_none()).count();
    let refused = codes.iter().filter(|code| code.as_deref() == Some(RESOURCE_EXHAUSTED)).count();
    assert_eq!(waiting + refused, 600, "{codes:?}");
    assert!(waiting * (60 << 10) <= 16 << 20 && waiting > 200, "{waiting} wait");
    // They timed out, or their connection is gone; their memory is released.
    let deadline = Instant::now() + PATIENCE;
    let context = [("publish", &*id(1, 1)), ("route", "r")];
    while ask(&agent.xds, &context, &[]).await.is_err() {
        assert!(Instant::now() < deadline, "the room was not given back");
    }
    agent.shutdown().await;
}

#[tokio::test]
async fn a_connection_has_so_many_calls() {
    let (_control, _state, agent) = public().await;
    let stream = UnixStream::connect(socket(&agent)).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let client = client.ready().await.unwrap();
    rig::eventually("the settings", || (client.current_max_send_streams() == 10_000).then_some(()))
        .await;
    agent.shutdown().await;
}

#[tokio::test]
async fn a_question_of_the_most_bytes_is_answered_and_one_more_is_refused() {
    let (_control, _state, agent) = public().await;
    let ask_with = async |padding: usize| {
        let padding = "x".repeat(padding);
        let context = [("publish", &*id(1, 1)), ("route", "r"), ("padding", &*padding)];
        ask(&agent.xds, &context, &[]).await.map(|answer| answer.status)
    };
    let most = imp_grammar::caps::NODE_QUESTION_BYTES.size();
    let mut padding = most - 200;
    while ask_with(padding + 1).await.is_ok() {
        padding += 1;
    }
    assert!(padding > most - 200, "there is room for what Envoy sends");
    assert_eq!(ask_with(padding).await.unwrap(), 200);
    let refused = ask_with(padding + 1).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
    agent.shutdown().await;
}
