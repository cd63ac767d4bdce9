//! A caller of a published API: one keep-alive HTTP/1.1 connection on raw bytes, so that a test can
//! tell a dropped connection from an answer, and a benchmark has no other overhead.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An open connection to a gateway.
pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    buffer: BytesMut,
    closing: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream, buffer: BytesMut::with_capacity(4096), closing: false })
    }

    /// Sends a GET on this connection.
    pub async fn get(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        self.send("GET", host, path, headers).await
    }

    /// Sends a request without a body and reads the whole answer. A lost connection is an error.
    pub async fn send(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.send_raw(request.as_bytes()).await
    }

    /// Sends the prepared bytes of one request.
    pub async fn send_raw(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await.context("sending")?;
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head = self.buffer.split_to(head_end);
        let mut answer = parse_head(&head)?;
        let length = body_length(&answer)?;
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        answer.body = self.buffer.copy_to_bytes(length).to_vec();
        self.closing = answer.header("connection") == Some("close");
        Ok(answer)
    }

    /// Like [`Self::send_raw`], on a new connection if the gateway announced to close this one.
    pub async fn send_again(&mut self, request: &[u8]) -> Result<Answer> {
        if self.closing {
            *self = Self::open(self.address).await?;
        }
        self.send_raw(request).await
    }

    /// Whether the gateway announced that it closes this connection.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await.context("receiving")? == 0 {
            bail!("the gateway closed the connection");
        }
        Ok(())
    }
}

pub(crate) fn parse_head(head: &[u8]) -> Result<Answer> {
    let text = std::str::from_utf8(head)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Answer { status: status.parse()?, headers, body: vec![] })
}

pub(crate) fn body_length(answer: &Answer) -> Result<usize> {
    if answer.header("transfer-encoding").is_some() {
        bail!("a chunked answer");
    }
    answer.header("content-length").map_or(Ok(0), |length| Ok(length.parse()?))
}

/// Makes one request on a connection of its own.
pub async fn call(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer> {
    Connection::open(address).await?.get(host, path, headers).await
}
