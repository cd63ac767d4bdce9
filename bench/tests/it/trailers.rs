//! Trailers come after all checks: trailers that only the gateway may send are removed, in both
//! directions.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use imp_bench::ports;
use imp_bench::process::eventually;
use imp_bench::rest::text;
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::alone::side_by_side;

/// An upstream that speaks HTTP/2 without TLS, echoes requests in its body, and adds trailers.
async fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind(ports::local(0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut calls = h2::server::handshake(stream).await?;
                while let Some(call) = calls.accept().await {
                    let (request, answer) = call?;
                    tokio::spawn(tell(request, answer));
                }
                Ok::<_, h2::Error>(())
            });
        }
    });
    Ok(address)
}

async fn tell(
    request: Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
) -> Result<()> {
    let (body, trailers) = whole(request.into_body()).await?;
    let seen = json!({
        "body": String::from_utf8_lossy(&body),
        "trailers": trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
    });
    let mut stream = answer.send_response(Response::new(()), false)?;
    stream.send_data(seen.to_string().into(), false)?;
    stream.send_trailers(named(&["x-imp-consumer", "x-envoy-decorated", "x-checksum"]))?;
    Ok(())
}

/// Everything that arrives on a stream.
async fn whole(mut stream: h2::RecvStream) -> Result<(Vec<u8>, HeaderMap)> {
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    Ok((body, stream.trailers().await?.unwrap_or_default()))
}

fn named(names: &[&'static str]) -> HeaderMap {
    names
        .iter()
        .map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("forged")))
        .collect()
}

/// Sends a POST with a body and trailers; returns what the upstream saw, and the answer's trailers.
async fn post(address: SocketAddr, host: &str, trailers: HeaderMap) -> Result<(Value, HeaderMap)> {
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await?).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://{host}/")).header("te", "trailers").body(())?;
    let (answer, mut stream) = client.ready().await?.send_request(request, false)?;
    stream.send_data(Bytes::from_static(b"content"), false)?;
    stream.send_trailers(trailers)?;
    let (body, trailers) = whole(answer.await?.into_body()).await?;
    Ok((serde_json::from_slice(&body).context("no JSON")?, trailers))
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_in_the_gateways_name_reach_neither_upstream_nor_caller() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "trailers").await?;
    let upstream = upstream().await?;
    let service = json!({
        "name": "trailers",
        "backends": [{
            "name": "b",
            "protocol": "http2",
            "endpoints": [{ "host": upstream.ip().to_string(), "port": upstream.port() }],
        }],
        "routes": [{ "name": "all", "path": { "prefix": "/" }, "backend_id": "b" }],
    });
    let service = text(&provider.rest.post("/v1/api-services", &service).await?, "id")?;
    let product = provider.product("trailers", &[service]).await?;
    let host = "trailers.example.com";
    let publish = provider.publish(&product, host, "none").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;

    let forged = ["x-imp-consumer", "x-api-key", "authorization", "x-anything"];
    let (seen, behind) = eventually("the host is served", PATIENCE, async || {
        Ok(post(provider.address(), host, named(&forged)).await.ok())
    })
    .await?;
    assert_eq!(seen, json!({ "body": "content", "trailers": [] }));
    assert_eq!(behind, named(&["x-checksum"]), "an upstream's own trailers pass");
    Ok(())
}
