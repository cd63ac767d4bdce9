//! The callers: some connections that call one after another, on a thread of their own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::contents::{HOST, key};
use super::http1::Http1;
use super::tls;
use crate::ports;

/// How calls reach Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Protocol {
    Http1,
    Http2,
    /// HTTP/1.1 over TLS.
    Tls,
}

impl Protocol {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tls => "TLS",
        }
    }
}

/// Connections of HTTP/2; the callers share them.
const HTTP2_CONNECTIONS: usize = 2;

/// What to call.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) path: &'static str,
    pub(super) keys: usize,
    pub(super) callers: usize,
    pub(super) lasts: Duration,
    pub(super) connector: TlsConnector,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Called {
    pub(super) calls: u64,
    pub(super) took: Duration,
    /// Of each call.
    pub(super) microseconds: Vec<f32>,
}

/// Calls until the time is over. Anything but 200 is an error.
pub(super) async fn call(load: Load) -> Result<Called> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(all(load))
    };
    let (done, answer) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("callers".to_owned());
    thread.spawn(move || drop(done.send(work())))?;
    answer.await.context("the callers have ended")?
}

async fn all(load: Load) -> Result<Called> {
    let mut callers = JoinSet::new();
    let mut shared = Vec::new();
    if load.protocol == Protocol::Http2 {
        for _ in 0..HTTP2_CONNECTIONS {
            shared.push(http2_connection(&load).await?);
        }
    }
    let begun = Instant::now();
    for number in 0..load.callers {
        let (load, turn) = (load.clone(), Turn::new(number, load.keys, begun + load.lasts));
        match load.protocol {
            Protocol::Http1 => callers.spawn(async move {
                let stream = connect(load.port).await?;
                http1(Http1::new(stream), load.path, turn).await
            }),
            Protocol::Tls => callers.spawn(async move {
                let stream = tls::connect(&load.connector, connect(load.port).await?).await?;
                http1(Http1::new(stream), load.path, turn).await
            }),
            Protocol::Http2 => {
                let connection = shared.get(number % HTTP2_CONNECTIONS).context("no connection")?;
                callers.spawn(http2(connection.clone(), load.path, turn))
            }
        };
    }
    let mut called = Called::default();
    while let Some(ended) = callers.join_next().await {
        let times = ended??;
        called.calls += times.len() as u64;
        called.microseconds.extend(times);
    }
    called.took = begun.elapsed();
    Ok(called)
}

async fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(ports::local(port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Keys that call, spread over all: with the first call of a consumer in an hour begins a count, which
/// costs more than a call does otherwise.
const ACTIVE: usize = 10_000;

/// Which key comes next, and when to end.
struct Turn {
    state: u64,
    active: u64,
    stride: u64,
    until: Instant,
}

impl Turn {
    fn new(number: usize, keys: usize, until: Instant) -> Self {
        let active = keys.clamp(1, ACTIVE);
        let stride = (keys / active).max(1) as u64;
        Self { state: number as u64 + 1, active: active as u64, stride, until }
    }

    /// Any of the keys: a generator of Lehmer's, the same in every run.
    fn key(&mut self) -> String {
        self.state = self.state.wrapping_mul(0xda94_2042_e4dd_58b5);
        key(((self.state >> 20) % self.active * self.stride) as usize)
    }
}

async fn http1<S>(mut connection: Http1<S>, path: &str, mut turn: Turn) -> Result<Vec<f32>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut times = Vec::new();
    loop {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nx-imp-host: {HOST}\r\nx-api-key: {}\r\n\r\n",
            turn.key()
        );
        let sent = Instant::now();
        let status = connection.ask(request.as_bytes()).await?;
        ensure!(status == 200, "answered {status}");
        let now = Instant::now();
        times.push((now - sent).as_secs_f32() * 1e6);
        if now >= turn.until {
            return Ok(times);
        }
    }
}

type Sender = SendRequest<Empty<bytes::Bytes>>;

async fn http2_connection(load: &Load) -> Result<Sender> {
    let io = TokioIo::new(connect(load.port).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    // Its end is that of the calls on it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn http2(mut sender: Sender, path: &str, mut turn: Turn) -> Result<Vec<f32>> {
    let uri = format!("http://{HOST}{path}").parse::<http::Uri>()?;
    let mut times = Vec::new();
    loop {
        let request = http::Request::get(uri.clone())
            .header("x-imp-host", HOST)
            .header("x-api-key", turn.key())
            .body(Empty::new())?;
        let sent = Instant::now();
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if answer.into_body().collect().await?.to_bytes().is_empty() {
            bail!("an answer without a body: {status}");
        }
        ensure!(status == 200, "answered {status}");
        let now = Instant::now();
        times.push((now - sent).as_secs_f32() * 1e6);
        if now >= turn.until {
            return Ok(times);
        }
    }
}
