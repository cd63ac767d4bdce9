//! Upstreams for what the echo of the stack does not speak, and a client's TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Speaks HTTP/2 without TLS; sends back what it gets while it comes, and trailers as gRPC has them.
pub(crate) async fn grpc(ip: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((ip, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut calls = h2::server::handshake(stream).await?;
                while let Some(call) = calls.accept().await {
                    let (request, answer) = call?;
                    tokio::spawn(echo(request, answer));
                }
                Ok::<_, h2::Error>(())
            });
        }
    });
    Ok(address)
}

async fn echo(
    request: Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
) -> Result<()> {
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut out = answer.send_response(head, false)?;
    let mut stream = request.into_body();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        out.send_data(part, false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-checksum", HeaderValue::from_static("sum"));
    out.send_trailers(trailers)?;
    Ok(())
}

/// Accepts any upgrade and echoes; `/flood` sends without end, `/deaf` reads no body, and everything else is an event each
/// `/<milliseconds>`.
pub(crate) async fn talker(ip: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((ip, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    Ok(address)
}

async fn talk(mut stream: TcpStream) {
    let mut buffer = [0_u8; 4096];
    let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
    let request = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
    if let Some(protocol) = request.lines().find_map(|line| line.strip_prefix("upgrade: ")) {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).await;
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let _ = stream.write_all(&buffer[..length]).await;
        }
        return;
    }
    if request.contains("/deaf ") {
        return std::future::pending().await;
    }
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head).await;
    if request.contains("/flood ") {
        let chunk = [b"4000\r\n".to_vec(), vec![b'x'; 0x4000], b"\r\n".to_vec()].concat();
        while stream.write_all(&chunk).await.is_ok() {}
        return;
    }
    let pause = request.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap_or(100);
    while stream.write_all(b"8\r\ndata: x\n\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// A client's TLS that offers these protocols. Whose certificate it is is not what these tests are about.
pub(crate) fn trusting_anybody(alpn: &[&[u8]]) -> ClientConfig {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
