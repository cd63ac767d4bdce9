//! Raw gRPC calls: headers, framing, endless bodies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// The address of a gRPC server.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A call.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ends after these bytes.
    pub(crate) ends: bool,
    /// The timeout for the start of an answer, and for a stream.
    pub(crate) wait: Duration,
}

/// How it ended: a gRPC code in lower case (`unauthenticated`), `http 404`, `closed`, or `open`
/// after the timeout.
pub(crate) struct Said {
    pub(crate) outcome: String,
    /// The message.
    pub(crate) why: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) async fn call(place: &Place, call: Call) -> Said {
    match place {
        Place::Tcp(address) => match TcpStream::connect(address).await {
            Ok(stream) => on(stream, call).await,
            Err(_) => ended("closed"),
        },
        Place::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => on(stream, call).await,
            Err(_) => ended("closed"),
        },
    }
}

fn ended(outcome: &str) -> Said {
    Said { outcome: outcome.to_owned(), why: String::new(), body: Vec::new() }
}

async fn on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, call: Call) -> Said {
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let Ok((mut sender, connection)) = handshake.await else { return ended("closed") };
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://server{}", call.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let chunks: Vec<Bytes> = call.body.chunks(16_384).map(Bytes::copy_from_slice).collect();
    let body = futures::stream::iter(chunks);
    let never = futures::stream::pending().take(usize::from(!call.ends));
    let frames = body.chain(never).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let Ok(request) = request.body(StreamBody::new(frames)) else {
        return ended("not a request");
    };
    let said = match timeout(call.wait, sender.send_request(request)).await {
        Err(_) => ended("open"),
        Ok(Err(_)) => ended("closed"),
        Ok(Ok(answer)) => read(answer, call.wait).await,
    };
    connection.abort();
    said
}

async fn read(answer: http::Response<hyper::body::Incoming>, wait: Duration) -> Said {
    let mut why = String::new();
    let mut code = |headers: &http::HeaderMap| {
        let status = tonic::Status::from_header_map(headers)?;
        status.message().clone_into(&mut why);
        Some(format!("{:?}", status.code()).to_ascii_lowercase())
    };
    if answer.status() != http::StatusCode::OK {
        return ended(&format!("http {}", answer.status().as_u16()));
    }
    let mut outcome = code(answer.headers());
    let (mut incoming, mut body) = (answer.into_body(), Vec::new());
    while outcome.is_none() {
        match timeout(wait, incoming.frame()).await {
            Err(_) => outcome = Some("open".to_owned()),
            Ok(None | Some(Err(_))) => outcome = Some("closed".to_owned()),
            Ok(Some(Ok(frame))) => {
                outcome = frame.trailers_ref().and_then(&mut code);
                body.extend(frame.into_data().unwrap_or_default());
            }
        }
    }
    Said { outcome: outcome.unwrap_or_default(), why, body }
}

/// A message with gRPC's five-byte header.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}
