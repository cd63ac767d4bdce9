//! Calls without a total time limit, and upgrades.

use std::time::{Duration, Instant};

use imp_proto::config as pb;
use imp_translate::Layout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::HOST;
use super::rewrites::serve;
use super::rig::Rig;
use crate::fixtures::{self, prefix, route};

/// Sends something every `/<milliseconds>`, or accepts any upgrade and echoes.
async fn talkative() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    port
}

async fn talk(mut stream: TcpStream) {
    let mut buffer = [0_u8; 4096];
    let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
    let request = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
    let upgrade = request.lines().find_map(|line| line.strip_prefix("upgrade: "));
    if let Some(protocol) = upgrade {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).await;
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let _ = stream.write_all(&buffer[..length]).await;
        }
        return;
    }
    let pause = request.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap_or(100);
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head).await;
    while stream.write_all(b"3\r\n:\n\n\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn rig(backend: impl FnOnce(pb::Backend) -> pb::Backend) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let backend = backend(fixtures::backend("b1", "127.0.0.1", talkative().await));
    let stream = |id: &str, idle: u32| pb::Route {
        stream: true,
        idle_timeout_ms: idle,
        ..route(id, prefix(&format!("/{id}")))
    };
    let routes = vec![
        stream("stream", 0),
        stream("idle", 1_000),
        pb::Route { upgrades: vec!["spdy/3.1".into()], ..stream("exec", 0) },
        pb::Route { timeout_ms: 700, ..route("call", prefix("/call")) },
    ];
    serve(&mut rig, "/", backend, routes).await;
    rig
}

/// How long a call lasts, up to `most`.
async fn lasts(rig: &Rig, path: &str, most: Duration) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: good\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let start = Instant::now();
    let mut seen = Vec::new();
    let whole = async {
        loop {
            match stream.read_buf(&mut seen).await {
                Ok(1..) if !seen.ends_with(b"0\r\n\r\n") => {}
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(most, whole).await;
    assert!(seen.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&seen));
    start.elapsed()
}

#[tokio::test]
async fn a_stream_ends_by_silence_and_not_by_its_age() {
    let rig = rig(|backend| backend).await;
    // Longer than the default limit of a call.
    let most = Duration::from_millis(16_000);
    let (long, cut, silent, busy) = tokio::join!(
        lasts(&rig, "/stream/100", most),
        lasts(&rig, "/call/100", most),
        lasts(&rig, "/idle/5000", most),
        lasts(&rig, "/idle/300", Duration::from_secs(4)),
    );
    assert!(long >= most, "{long:?}");
    assert!(busy >= Duration::from_secs(4), "{busy:?}");
    assert!(cut < Duration::from_secs(3), "{cut:?}");
    assert!((900..4_000).contains(&silent.as_millis()), "{silent:?}");
}

async fn upgrade(rig: &Rig, path: &str, protocol: &str, key: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{key}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read_buf(&mut head).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&head));
    }
    let head = String::from_utf8(head).unwrap();
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), stream)
}

const KEY: &str = "x-api-key: good\r\n";

#[tokio::test]
async fn a_stream_may_upgrade_once_its_key_is_good() {
    let rig = rig(|backend| backend).await;
    for (path, protocol) in
        [("/stream", "websocket"), ("/stream", "WebSocket"), ("/exec", "SPDY/3.1")]
    {
        let (status, mut stream) = upgrade(&rig, path, protocol, KEY).await;
        assert_eq!(status, "101", "{path} {protocol}");
        for text in [&b"hello"[..], &[0x81, 0x80, 0, 1, 2, 3]] {
            stream.write_all(text).await.unwrap();
            let mut echo = vec![0; text.len()];
            stream.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, text);
        }
    }
    for (path, protocol, key, expected) in [
        ("/stream", "websocket", "", "401"),
        ("/stream", "spdy/3.1", KEY, "403"),
        ("/exec", "websocket", KEY, "403"),
        ("/call", "websocket", KEY, "403"),
    ] {
        assert_eq!(upgrade(&rig, path, protocol, key).await.0, expected, "{path} {protocol} {key}");
    }
}

/// HTTP/2 backends have no upgrades, so none is begun.
#[tokio::test]
async fn a_stream_to_an_http2_backend_does_not_upgrade() {
    let http2 = pb::backend::Protocol::Http2.into();
    let rig = rig(|backend| pb::Backend { protocol: http2, ..backend }).await;
    assert_eq!(upgrade(&rig, "/stream", "websocket", KEY).await.0, "403");
}
