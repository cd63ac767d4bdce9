//! Slow peers are cut off, and nobody keeps others out.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use imp_control::listen::{self, Limits, Plain, Secure};
use imp_grammar::caps;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Allows for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(400);

fn short() -> Limits {
    Limits { head: SHORT, ..Limits::rest() }
}

struct Port {
    at: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve<T: Secure>(secure: T, limits: Limits) -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let big = || async { vec![b'a'; 64 << 20] };
    let service = Router::new()
        .route("/", get(async || "ok"))
        .route("/big", get(big))
        .route("/never", get(async || pending::<&str>().await))
        .route("/body", post(async |body: String| body.len().to_string()));
    tokio::spawn(listen::serve(listener, secure, limits, service, stop.clone()));
    Port { at, stop }
}

/// Reads until the peer closes; returns what arrived.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    match read.unwrap_or_else(|_| panic!("it stays open")) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn ask(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    let mut buffer = [0; 1024];
    let length = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap()?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn the_rest_port_has_the_limits_of_the_table() {
    let limits = Limits::rest();
    assert_eq!(limits.handshake, caps::HANDSHAKE_TIME.time());
    assert_eq!(limits.head, caps::HEADER_TIME.time());
    assert_eq!(limits.idle, Some(caps::IDLE_TIME.time()));
    assert_eq!(limits.write, caps::WRITE_TIME.time());
    assert_eq!(limits.head_bytes, caps::REQUEST_HEAD_BYTES.size());
    assert_eq!(u64::from(limits.streams), caps::REST_STREAMS.value);
    assert!(limits.connections <= caps::REST_CONNECTIONS.size() && limits.connections >= 8);
}

#[tokio::test]
async fn slow_heads_and_silent_connections_are_closed() {
    let port = serve(Plain, short()).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(port.at).await.unwrap();
    let mut half = TcpStream::connect(port.at).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let mut preface = TcpStream::connect(port.at).await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM").await.unwrap();
    let mut settled = TcpStream::connect(port.at).await.unwrap();
    settled.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    for stream in [&mut silent, &mut half, &mut preface, &mut settled] {
        until_closed(stream).await;
        assert!(began.elapsed() >= SHORT, "closed too early");
    }
    // Later heads of a connection are timed as well.
    let mut later = TcpStream::connect(port.at).await.unwrap();
    assert!(ask(&mut later).await.unwrap().starts_with("HTTP/1.1 200"));
    later.write_all(b"GET / HT").await.unwrap();
    until_closed(&mut later).await;
}

#[tokio::test]
async fn a_head_that_trickles_in_is_closed_at_its_time() {
    let port = serve(Plain, short()).await;
    let mut stream = TcpStream::connect(port.at).await.unwrap();
    let began = Instant::now();
    let trickled = timeout(PATIENCE, async {
        stream.write_all(b"GET / HTTP/1.1\r\n").await?;
        loop {
            stream.write_all(b"a: b\r\n").await?;
            tokio::time::sleep(SHORT / 10).await;
        }
    });
    let ended: io::Result<()> = trickled.await.expect("it may go on for as long as it likes");
    assert!(ended.is_err() && began.elapsed() >= SHORT);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = Limits { idle: Some(2 * SHORT), ..short() };
    let port = serve(Plain, limits).await;
    let mut stream = TcpStream::connect(port.at).await.unwrap();
    ask(&mut stream).await.unwrap();
    let began = Instant::now();
    assert_eq!(until_closed(&mut stream).await, "");
    assert!(began.elapsed() >= SHORT, "the time of heads does not count between requests");
}

#[tokio::test]
async fn a_request_in_service_is_not_idle() {
    let limits = Limits { idle: Some(SHORT), ..short() };
    let port = serve(Plain, limits).await;
    let mut stream = TcpStream::connect(port.at).await.unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let read = timeout(4 * SHORT, stream.read_u8()).await;
    assert!(read.is_err(), "closed while its request was worked on");
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_off() {
    let limits = Limits { write: SHORT, ..short() };
    let port = serve(Plain, limits).await;
    let mut stream = TcpStream::connect(port.at).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // Waits for the end of the connection without reading any data.
    let cut = timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(SHORT / 4).await;
            if stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    cut.await.expect("it stays open");
    let taken = until_closed(&mut stream).await.len();
    assert!(taken < 64 << 20, "all of it went into buffers");
}

#[tokio::test]
async fn the_connection_that_is_idle_longest_gives_way() {
    let limits = Limits { connections: 3, ..Limits::rest() };
    let port = serve(Plain, limits).await;
    let mut busy = TcpStream::connect(port.at).await.unwrap();
    busy.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut first = TcpStream::connect(port.at).await.unwrap();
    ask(&mut first).await.unwrap();
    let mut second = TcpStream::connect(port.at).await.unwrap();
    ask(&mut second).await.unwrap();
    // Idle times are measured in milliseconds.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(ask(&mut second).await.unwrap().starts_with("HTTP/1.1 200"), "three have a place");
    let mut third = TcpStream::connect(port.at).await.unwrap();
    assert!(ask(&mut third).await.unwrap().starts_with("HTTP/1.1 200"), "a fourth is let in");
    assert_eq!(until_closed(&mut first).await, "");
    assert!(ask(&mut second).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(timeout(SHORT, busy.read_u8()).await.is_err(), "a busy one was cut");
}

#[tokio::test]
async fn silent_crowds_keep_nobody_out() {
    let limits = Limits { connections: 50, ..Limits::rest() };
    let port = serve(Plain, limits).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(port.at).await.unwrap();
        // Some of the former are closed by now.
        let _closed = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        crowd.push(stream);
    }
    for _ in 0..20 {
        let mut caller = TcpStream::connect(port.at).await.unwrap();
        assert!(ask(&mut caller).await.unwrap().starts_with("HTTP/1.1 200"));
    }
}

/// A handshake that never ends.
#[derive(Clone)]
struct Stuck;

impl Secure for Stuck {
    type Stream = TcpStream;
    type Peer = ();

    async fn accept(&self, _stream: TcpStream) -> io::Result<(TcpStream, ())> {
        pending().await
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let port = serve(Stuck, Limits { handshake: SHORT, ..Limits::rest() }).await;
    let began = Instant::now();
    let mut stream = TcpStream::connect(port.at).await.unwrap();
    until_closed(&mut stream).await;
    assert!(began.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_head_of_too_many_bytes_is_refused() {
    let port = serve(Plain, Limits::rest()).await;
    for (bytes, status) in
        [(8 << 10, "HTTP/1.1 200"), (caps::REQUEST_HEAD_BYTES.size(), "HTTP/1.1 431")]
    {
        let mut stream = TcpStream::connect(port.at).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(bytes));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut start)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&start), status, "{bytes}");
    }
}

#[tokio::test]
async fn streams_of_a_connection_are_bounded() {
    let limits = Limits { streams: 2, ..Limits::rest() };
    let port = serve(Plain, limits).await;
    let stream = TcpStream::connect(port.at).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let get = |path: &str| {
        let mut sender = sender.clone();
        let request = http::Request::get(format!("http://a{path}"));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        tokio::spawn(async move {
            sender.ready().await.unwrap();
            let answer = sender.send_request(request).await?;
            answer.into_body().collect().await.map(|body| body.to_bytes())
        })
    };
    // Completes the exchange of settings.
    assert_eq!(get("/").await.unwrap().unwrap(), "ok");
    let stuck = [get("/never"), get("/never")];
    tokio::time::sleep(SHORT).await;
    let mut third = get("/");
    assert!(timeout(SHORT, &mut third).await.is_err(), "a third stream was served");
    stuck.iter().for_each(|stream| stream.abort());
    assert_eq!(timeout(PATIENCE, third).await.unwrap().unwrap().unwrap(), "ok");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_waits_for_the_others() {
    let port = serve(Plain, Limits { last_words: PATIENCE, ..Limits::rest() }).await;
    let mut idle = TcpStream::connect(port.at).await.unwrap();
    ask(&mut idle).await.unwrap();
    let mut busy = TcpStream::connect(port.at).await.unwrap();
    busy.write_all(b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    tokio::time::sleep(SHORT).await;
    port.stop.cancel();
    assert_eq!(until_closed(&mut idle).await, "");
    busy.write_all(b"cd").await.unwrap();
    assert!(until_closed(&mut busy).await.starts_with("HTTP/1.1 200"));
}
