//! gRPC's own xDS client, which is not Envoy: state of the world, everything by name.

use std::process::Stdio;

use imp_xds::ResourceSet;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::config::{
    CLUSTER, ENDPOINTS, LISTENER, ROUTES, api_listener, cluster, endpoints, routes,
};
use super::{PATIENCE, put, rules};
use crate::support::Running;

struct Peer {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    ports: [u16; 2],
    _process: Child,
}

impl Peer {
    async fn start(server: u16) -> Self {
        let bootstrap = format!(
            r#"{{"xds_servers": [{{"server_uri": "127.0.0.1:{server}", "channel_creds": [{{"type": "insecure"}}], "server_features": ["xds_v3"]}}], "node": {{"id": "grpc", "cluster": "all"}}}}"#
        );
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/envoy/grpc_peer.py");
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut process = Command::new(python)
            .arg(script)
            .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python");
        let stdin = process.stdin.take().expect("stdin");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let first = lines.next_line().await.expect("a line").expect("the ports: is grpcio there?");
        let ports: Vec<_> = first.split(' ').filter_map(|port| port.parse().ok()).collect();
        Self { stdin, lines, ports: ports.try_into().expect("two ports"), _process: process }
    }

    async fn call(&mut self) -> String {
        self.stdin.write_all(b"\n").await.expect("asked");
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("an answer").expect("a line").expect("it lives")
    }

    async fn until(&mut self, answer: &str) {
        for _ in 0..500 {
            if self.call().await == answer {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never {answer}: {}", self.call().await);
    }
}

#[tokio::test]
#[ignore = "`make test-grpc` installs gRPC and runs it"]
async fn r54_grpc_follows_its_resource_set_over_a_restart() {
    let set = ResourceSet::new();
    set.mark_ready();
    let running = Running::start(set, rules()).await;
    let mut peer = Peer::start(running.address.port()).await;
    put(
        &running.set,
        vec![
            (LISTENER, api_listener("service", "1", "routes")),
            (ROUTES, routes("routes", "1", "up")),
            (CLUSTER, cluster("up", "1", 500)),
            (ENDPOINTS, endpoints("up", "1", peer.ports[0])),
        ],
    );
    peer.until("one").await;
    put(&running.set, vec![(ENDPOINTS, endpoints("up", "2", peer.ports[1]))]);
    peer.until("two").await;
    let (address, set) = (running.address, running.set.clone());
    running.kill();
    assert_eq!(peer.call().await, "two", "without a server");
    let running = Running::restart(address, set, rules()).await;
    assert_eq!(peer.call().await, "two");
    put(
        &running.set,
        vec![
            (CLUSTER, cluster("other", "1", 500)),
            (ENDPOINTS, endpoints("other", "1", peer.ports[0])),
            (ROUTES, routes("routes", "2", "other")),
        ],
    );
    peer.until("one").await;
    let notes = running.notes.all();
    assert!(!notes.iter().any(|note| note.starts_with("nacked")), "{notes:?}");
}
