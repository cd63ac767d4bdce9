//! Raw HTTP/1.1: no request is corrected on its way.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest acceptable wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// An answer. Status 0: the connection was closed without one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as text, names in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(key, value)| (key, value.trim())).find(|(key, _)| *key == name).map(|(_, v)| v)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A description for error messages.
    pub(crate) fn shown(&self) -> String {
        let body: String = self.body.chars().take(900).collect();
        format!("{} {body}", self.status)
    }
}

/// Sends the bytes on a new connection and reads the first answer. An error: no answer and no close
/// within [`PATIENCE`].
pub(crate) async fn send(address: SocketAddr, request: &[u8]) -> Result<Answer, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let (mut reading, mut writing) = stream.split();
        // A server may answer before it has read everything.
        let write = async {
            let _ = writing.write_all(request).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = read(&mut reading) => Ok(answer),
            () = write => Err("never".to_owned()),
        }
    };
    let answered = timeout(PATIENCE, exchange).await;
    answered.unwrap_or_else(|_| Err(format!("neither answer nor close in {PATIENCE:?}")))
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let mut answer = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 4);
            break parse(&head);
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return Answer::default();
        }
    };
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    let chunked = answer.header("transfer-encoding").is_some();
    while length.map_or(chunked && !bytes.ends_with(b"0\r\n\r\n"), |length| bytes.len() < length) {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    if chunked {
        bytes = joined(&bytes);
    }
    answer.body = String::from_utf8_lossy(&bytes).into_owned();
    answer
}

/// The content of the chunks, as far as they are valid.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&chunks[..end]);
        let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else { break };
        let rest = &chunks[end + 2..];
        body.extend(rest.iter().take(size));
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    body
}

fn parse(head: &str) -> Answer {
    let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    };
    let head = rest.lines().map(lower).collect::<Vec<_>>().join("\n");
    Answer { status, head, body: String::new() }
}

/// A request with this line, these headers and this body; `content-length` unless a header frames it.
pub(crate) fn request(line: &str, headers: &[(String, String)], body: Option<&[u8]>) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed = |(name, _): &(String, String)| {
        ["content-length", "transfer-encoding"].contains(&name.trim().to_ascii_lowercase().as_str())
    };
    if let Some(body) = body.filter(|_| !headers.iter().any(framed)) {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body.unwrap_or_default()].concat()
}

/// Pairs of hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks_exact(2).filter_map(|pair| byte(pair).ok()).collect()
}
