//! A key is asked for from the first moment on, also on connections that are there.

use std::time::Duration;

use imp_proto::config as pb;
use pb::publish::AuthMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::rig::Rig;
use crate::fixtures::{KEY, host, id};

/// Connections that stay open: each is asked again and again.
struct Kept {
    connections: Vec<TcpStream>,
    port: u16,
}

impl Kept {
    async fn open(port: u16, number: usize) -> Self {
        let mut connections = Vec::new();
        for _ in 0..number {
            connections.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        Self { connections, port }
    }

    /// What each connection is answered; one that was closed is opened again, and is new.
    async fn ask(&mut self, host: &str, path: &str) -> Vec<u16> {
        let mut seen = Vec::new();
        for stream in &mut self.connections {
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            match answer(stream).await {
                Some(status) => seen.push(status),
                None => *stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap(),
            }
        }
        seen
    }

    /// Asks without a key until all are refused, five times; nobody may be served before.
    async fn until_guarded(&mut self, host: &str, path: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut guarded = 0;
        while guarded < 5 {
            let seen = self.ask(host, path).await;
            // 403 and 503 while Envoy does not have all of it: closed, too.
            assert!(seen.iter().all(|it| [401, 403, 404, 503].contains(it)), "{seen:?}");
            guarded += usize::from(seen == [401; 30]);
            assert!(Instant::now() < deadline, "never guarded: {seen:?}");
        }
    }
}

/// The status of the next answer, whose body is read; none if the connection ends.
async fn answer(stream: &mut TcpStream) -> Option<u16> {
    let (mut head, mut part) = (Vec::new(), [0; 4_096]);
    let end = loop {
        if let Some(end) = head.windows(4).position(|it| it == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut part).await {
            Ok(read @ 1..) => head.extend_from_slice(&part[..read]),
            _ => return None,
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut left = (end + length.unwrap_or(0)).saturating_sub(head.len());
    while left > 0 {
        match stream.read(&mut part).await {
            Ok(read @ 1..) => left = left.saturating_sub(read),
            _ => return None,
        }
    }
    text.split(' ').nth(1)?.parse().ok()
}

#[ignore = "needs an API server with Envoy Gateway: IMP_TEST_KUBE"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_key_of_a_gateway_opens_no_window_for_connections_that_are_there() {
    let rig = Rig::start().await;
    let mut first = rig.publish(1, 1, AuthMode::None);
    first.base_path = "/v1".into();
    rig.control.state.set(&first);
    rig.until(1, "/v1/a", None, 200).await;
    let mut kept = Kept::open(rig.port, 30).await;
    assert_eq!(kept.ask(&host(1), "/v1/a").await, [200; 30]);

    rig.control.state.set(&rig.publish(2, 1, AuthMode::ApiKey));
    kept.until_guarded(&host(2), "/a").await;
    rig.until(2, "/a", Some(KEY), 200).await;
    assert_eq!(kept.ask(&host(1), "/v1/a").await, [200; 30], "the same connections");

    // What was open and asks for a key in another place is never open there.
    let mut second = rig.publish(1, 2, AuthMode::ApiKey);
    second.base_path = "/v2".into();
    rig.control.state.set(&second);
    kept.until_guarded(&host(1), "/v2/a").await;
    rig.until(1, "/v2/a", Some(KEY), 200).await;

    // What is removed is served, or gone, also while Envoy still has its routes.
    rig.control.state.remove::<pb::Publish>(&id(1, 2));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, body) = rig.call(2, "/a", Some(KEY)).await;
        assert!([200, 404].contains(&status), "{status}: {body}");
        if status == 404 && rig.routes().await.iter().all(|name| !name.contains(&id(1, 2))) {
            break;
        }
        assert!(Instant::now() < deadline, "never gone");
    }
    rig.removes(&[1]).await;
    rig.stop().await;
}
