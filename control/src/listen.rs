//! The accept loop of a port, with limits on connections and on how long a peer may delay each
//! step.
//!
//! Both ports use it. They differ in their [`Limits`]; TLS is plugged in as [`Secure`]. Nothing
//! here depends on what is served.

mod activity;
mod slots;
mod watched;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use imp_grammar::caps;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use activity::{Overdue, Served};
use slots::{Slot, Slots};
use watched::Watched;

/// How a connection is secured before HTTP begins.
pub trait Secure: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What is known about the peer afterwards; in the extensions of each of its requests.
    type Peer: Clone + Send + Sync + 'static;

    fn accept(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

/// No TLS.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Secure for Plain {
    type Stream = TcpStream;
    type Peer = ();

    async fn accept(&self, stream: TcpStream) -> io::Result<(TcpStream, ())> {
        Ok((stream, ()))
    }
}

/// The address of the peer; in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Limits of a port.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A connection beyond this replaces the one that has been idle longest.
    pub connections: usize,
    /// From connecting to the end of the TLS handshake.
    pub handshake: Duration,
    /// From connecting to the first request; in HTTP/1 also from a head's first byte to its end.
    pub head: Duration,
    /// Longest time without a request; `None` for peers that may stay as long as they answer pings.
    pub idle: Option<Duration>,
    /// Longest time in which the peer takes no byte of what is to be written.
    pub write: Duration,
    /// Whether answers are finite: one of which nothing can be sent for `write` is stuck.
    pub finite_answers: bool,
    /// The largest request head.
    pub head_bytes: usize,
    /// Concurrent requests on an HTTP/2 connection.
    pub streams: u32,
    /// HTTP/2 pings to a silent peer: the interval, and how long until it counts as gone.
    pub ping: (Duration, Duration),
    /// HTTP/2 flow-control windows of a request and of a connection; `None` for hyper's defaults.
    pub windows: Option<(u32, u32)>,
    /// Only HTTP/2, with prior knowledge.
    pub http2_only: bool,
    /// How long open requests may take when the program stops.
    pub last_words: Duration,
}

impl Limits {
    /// The limits of the REST port.
    pub fn rest() -> Self {
        Self {
            connections: slots::affordable(caps::REST_CONNECTIONS.size()),
            handshake: caps::HANDSHAKE_TIME.time(),
            head: caps::HEADER_TIME.time(),
            idle: Some(caps::IDLE_TIME.time()),
            write: caps::WRITE_TIME.time(),
            finite_answers: true,
            head_bytes: caps::REQUEST_HEAD_BYTES.size(),
            streams: u32::try_from(caps::REST_STREAMS.value).unwrap_or(u32::MAX),
            ping: (Duration::from_secs(20), Duration::from_secs(10)),
            windows: None,
            http2_only: false,
            last_words: Duration::from_secs(10),
        }
    }

    /// The limits of the agents' port.
    pub fn agents() -> Self {
        Self {
            connections: slots::affordable(caps::HUB_CONNECTIONS.size()),
            handshake: caps::HANDSHAKE_TIME.time(),
            head: caps::HEADER_TIME.time(),
            idle: Some(caps::HUB_IDLE_TIME.time()),
            write: caps::WRITE_TIME.time(),
            finite_answers: false,
            head_bytes: caps::HUB_HEAD_BYTES.size(),
            streams: u32::try_from(caps::HUB_STREAMS.value).unwrap_or(u32::MAX),
            ping: (Duration::from_secs(10), Duration::from_secs(10)),
            windows: Some((64 << 10, 256 << 10)),
            http2_only: true,
            last_words: Duration::from_secs(5),
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves until stopped, then lets open requests finish.
pub async fn serve<T, S, B>(
    listener: TcpListener,
    secure: T,
    limits: Limits,
    service: S,
    stop: CancellationToken,
) where
    T: Secure,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let slots = Slots::new(limits.connections);
    let limits = Arc::new(limits);
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                after_failure(&error, &slots).await;
                continue;
            }
        };
        let Some(slot) = slots.take() else {
            metrics::counter!("imp_connections_refused_total").increment(1);
            continue;
        };
        let (secure, limits, service) = (secure.clone(), limits.clone(), service.clone());
        let stop = stop.clone();
        open.spawn(async move {
            if let Err(error) = connection(stream, peer, secure, &limits, slot, service, stop).await
            {
                tracing::debug!(%peer, error, "a connection ended");
            }
        });
    }
    open.close();
    if tokio::time::timeout(limits.last_words, open.wait()).await.is_err() {
        tracing::warn!(open = open.len(), "connections were cut");
        slots.cut_all();
        open.wait().await;
    }
}

/// Marks, in its extensions, an answer to an authenticated caller.
#[derive(Clone, Copy, Debug)]
pub struct Welcome;

/// Waits after a failed accept: out of file descriptors, or a peer that left meanwhile.
async fn after_failure(error: &io::Error, slots: &Slots) {
    let peers_fault = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if peers_fault {
        return;
    }
    let gave_way = slots.cut_idlest();
    tracing::error!(%error, gave_way, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn connection<T, S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    secure: T,
    limits: &Limits,
    slot: Slot,
    service: S,
    stop: CancellationToken,
) -> Result<(), String>
where
    T: Secure,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    // Otherwise an answer would wait for the acknowledgement of the previous one.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let secured = tokio::select! {
        () = slot.cut() => return Err("it gave way to another one".to_owned()),
        secured = tokio::time::timeout(limits.handshake, secure.accept(stream)) => secured,
    };
    let (stream, known) = secured
        .map_err(|_| "the handshake took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    let activity = slot.activity().clone();
    let counted = activity.clone();
    let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let served = counted.begin();
        request.extensions_mut().insert(PeerAddr(peer));
        request.extensions_mut().insert(known.clone());
        let (answer, counted) = (service.clone().oneshot(request), counted.clone());
        async move {
            let answer = answer.await?;
            if answer.extensions().get::<Welcome>().is_some() {
                counted.welcome();
            }
            Ok::<_, Infallible>(answer.map(|body| Served::new(body, served)))
        }
    });
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let builder = builder(limits);
    let mut serving = pin!(builder.serve_connection(io, answer));
    loop {
        tokio::select! {
            ended = serving.as_mut() => return ended.map_err(|error| error.to_string()),
            () = slot.cut() => return Err("it gave way to another one".to_owned()),
            () = stop.cancelled(), if !activity.is_closing() => {
                activity.close();
                serving.as_mut().graceful_shutdown();
            }
            overdue = activity.overdue(limits) => match overdue {
                Overdue::Idle if !activity.is_closing() => {
                    activity.close();
                    serving.as_mut().graceful_shutdown();
                }
                overdue => return Err(format!("{overdue:?}")),
            },
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // `activity` enforces the timeout of heads, together with all others.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder.http1().max_buf_size(limits.head_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.ping.0)
        .keep_alive_timeout(limits.ping.1);
    if let Some((request, connection)) = limits.windows {
        let mut http2 = builder.http2();
        http2.initial_stream_window_size(request).initial_connection_window_size(connection);
    }
    if limits.http2_only { builder.http2_only() } else { builder }
}
