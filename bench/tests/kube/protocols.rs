//! What is not one call and one answer, through Envoy Gateway's listener and ours behind it: HTTP/2, gRPC with its
//! trailers, WebSocket and other upgrades, streams of events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use imp_bench::kube::{Edge, variable};
use imp_bench::process::eventually;
use imp_bench::stack::PATIENCE;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::upstreams;

const HOST: &str = "all.example.com";

/// One host: `/grpc` over HTTP/2 to its backend, `/events` and `/exec` streams, and echoes of the headers.
pub(crate) async fn publish(edge: &Edge, auth_mode: &str) -> Result<()> {
    let ip = variable("IMP_KUBE_ADDRESS")?;
    let (grpc, talker) = (upstreams::grpc(&ip).await?, upstreams::talker(&ip).await?);
    let backend = |name: &str, protocol: &str, at: SocketAddr| {
        json!({ "name": name, "protocol": protocol,
            "endpoints": [{ "host": at.ip().to_string(), "port": at.port() }] })
    };
    let service = json!({
        "name": "all",
        "backends": [
            backend("grpc", "http2", grpc),
            backend("talker", "http1", talker),
            backend("echo", "http1", edge.theirs.address()),
        ],
        "routes": [
            { "name": "grpc", "path": { "prefix": "/grpc" }, "backend_id": "grpc", "stream": true },
            { "name": "events", "path": { "prefix": "/events" }, "backend_id": "talker", "stream": true },
            { "name": "exec", "path": { "prefix": "/exec" }, "backend_id": "talker", "stream": true,
                "upgrades": ["spdy/3.1", "websocket"] },
            { "name": "echo", "path": { "prefix": "/" }, "backend_id": "echo" },
        ],
    });
    let service = edge.provider.service(&service).await?;
    let product = edge.provider.product("all", &[service]).await?;
    let publish = edge.provider.publish(&product, HOST, auth_mode).await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    Ok(())
}

pub(crate) type Caller = h2::client::SendRequest<Bytes>;

/// HTTP/2 without TLS, by prior knowledge.
pub(crate) async fn plain(address: SocketAddr) -> Result<Caller> {
    over(TcpStream::connect(address).await?).await
}

/// HTTP/2 by ALPN.
pub(crate) async fn secure(address: SocketAddr) -> Result<Caller> {
    let config = upstreams::trusting_anybody(&[b"h2"]);
    let name = ServerName::try_from(HOST)?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "their listener offers no HTTP/2");
    over(stream).await
}

async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Caller> {
    let (caller, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(caller.ready().await?)
}

pub(crate) fn request(scheme: &str, path: &str) -> http::request::Builder {
    Request::builder().version(Version::HTTP_2).uri(format!("{scheme}://{HOST}{path}"))
}

/// Everything that arrives on a stream.
pub(crate) async fn whole(mut stream: h2::RecvStream) -> Result<(Vec<u8>, HeaderMap)> {
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    Ok((body, stream.trailers().await?.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn a_caller_over_http2_is_known_and_grpc_has_its_trailers() -> Result<()> {
    let edge = Edge::start("http2").await?;
    publish(&edge, "none").await?;
    for (scheme, mut caller) in
        [("http", plain(edge.address).await?), ("https", secure(edge.secure).await?)]
    {
        let forged = request(scheme, "/who")
            .header("x-forwarded-for", "203.0.113.7")
            .header("x-forwarded-proto", "gopher")
            .header("x-imp-plan", "gold");
        let (answer, _) = caller.send_request(forged.body(())?, true)?;
        let answer = answer.await?;
        assert_eq!(answer.status(), 200, "{scheme}");
        let id = answer.headers().get("x-request-id").context("no id")?.to_str()?.to_owned();
        let (body, _) = whole(answer.into_body()).await?;
        let seen: Value = serde_json::from_slice(&body)?;
        let header = |name: &str| seen["headers"].get(name).and_then(Value::as_str);
        assert_eq!(header("x-forwarded-for"), Some(&*edge.address.ip().to_string()), "{seen}");
        assert_eq!(header("x-forwarded-proto"), Some(scheme), "{seen}");
        assert_eq!(header("x-request-id"), Some(&*id), "{seen}");
        assert_eq!(header("x-imp-plan"), None, "{seen}");

        // Both directions at once, as gRPC's bidirectional streams are, with the status at the end.
        caller = caller.ready().await?;
        assert!(!caller.is_extended_connect_protocol_enabled(), "then WebSocket must pass, too");
        let call = request(scheme, "/grpc/Echo/Talk").method("POST");
        let call = call.header("content-type", "application/grpc").header("te", "trailers");
        let (answer, mut stream) = caller.send_request(call.body(())?, false)?;
        let mut answer = answer.await?.into_body();
        for message in ["first", "second", "third"] {
            stream.send_data(Bytes::from(message), false)?;
            let part =
                tokio::time::timeout(PATIENCE, answer.data()).await?.context("no answer")??;
            answer.flow_control().release_capacity(part.len())?;
            assert_eq!(&*part, message.as_bytes(), "{scheme}: before the caller has ended");
        }
        stream.send_data(Bytes::new(), true)?;
        let (_, trailers) = whole(answer).await?;
        assert_eq!(trailers.get("grpc-status").context("no status")?, "0", "{scheme}");
        assert_eq!(trailers.get("x-checksum").context("no trailer")?, "sum", "{scheme}");
    }
    Ok(())
}

/// A refusal of a gRPC call is one that gRPC's libraries read, from either listener.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn a_grpc_call_without_a_key_is_unauthenticated() -> Result<()> {
    let edge = Edge::start("grpckey").await?;
    publish(&edge, "api_key").await?;
    let mut caller = secure(edge.secure).await?;
    let call = request("https", "/grpc/Echo/Talk").method("POST");
    let call = call.header("content-type", "application/grpc").header("te", "trailers").body(())?;
    let (answer, _) = caller.send_request(call, true)?;
    let answer = answer.await?;
    assert_eq!(answer.status(), 200, "gRPC says it in its own header");
    assert_eq!(answer.headers().get("grpc-status").context("no status")?, "16");
    Ok(())
}

/// Asks for an upgrade; the status, and the connection.
async fn upgrade(edge: &Edge, path: &str, protocol: &str) -> Result<(String, TcpStream)> {
    let mut stream = TcpStream::connect(edge.address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut head).await? > 0, "{}", String::from_utf8_lossy(&head));
    }
    let head = String::from_utf8(head)?;
    Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), stream))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn upgrades_of_a_route_pass_and_no_others() -> Result<()> {
    let edge = Edge::start("upgrades").await?;
    publish(&edge, "none").await?;
    for (path, protocol) in
        [("/events", "websocket"), ("/exec", "websocket"), ("/exec", "SPDY/3.1")]
    {
        // A protocol that is new to the Gateway is there once Envoy Gateway has applied it.
        let mut stream = eventually(&format!("{path} {protocol}"), PATIENCE, async || {
            let (status, stream) = upgrade(&edge, path, protocol).await?;
            Ok((status == "101").then_some(stream))
        })
        .await?;
        for text in [&b"hello"[..], &[0x81, 0x80, 0, 1, 2, 3]] {
            stream.write_all(text).await?;
            let mut echo = vec![0; text.len()];
            stream.read_exact(&mut echo).await?;
            assert_eq!(echo, text, "{path} {protocol}");
        }
    }
    for (path, protocol) in [("/events", "spdy/3.1"), ("/exec", "tcp"), ("/", "websocket")] {
        assert_eq!(upgrade(&edge, path, protocol).await?.0, "403", "{path} {protocol}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn events_come_one_by_one_for_longer_than_a_call_may_take() -> Result<()> {
    let edge = Edge::start("events").await?;
    publish(&edge, "none").await?;
    let mut plain = TcpStream::connect(edge.address).await?;
    let call = format!("GET /events/500 HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    plain.write_all(call.as_bytes()).await?;
    let mut caller = secure(edge.secure).await?;
    let (answer, _) = caller.send_request(request("https", "/events/500").body(())?, true)?;
    let mut events = answer.await?.into_body();
    // Envoy's and Envoy Gateway's own limit of a call is 15 s.
    let begun = tokio::time::Instant::now();
    let mut buffer = [0; 4096];
    while begun.elapsed() < Duration::from_secs(17) {
        let read = tokio::time::timeout(PATIENCE, plain.read(&mut buffer)).await??;
        assert!(read > 0 && read < 1_000, "HTTP/1.1: {read} bytes at once");
        let event =
            tokio::time::timeout(PATIENCE, events.data()).await?.context("it has ended")??;
        events.flow_control().release_capacity(event.len())?;
        assert!(event.len() < 100, "HTTP/2: {} bytes at once", event.len());
    }
    Ok(())
}
