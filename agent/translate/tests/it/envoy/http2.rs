//! A client that speaks HTTP/2 in plain text.

use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::rig::{Answer, PATIENCE, Rig};

/// Makes one call on a connection of its own; an error is a reset instead of an answer.
pub(super) async fn call(rig: &Rig, request: Request<()>) -> Result<Answer, h2::Error> {
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", rig.port)).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(1 << 20);
        let (mut client, connection) = builder.handshake::<_, bytes::Bytes>(stream).await?;
        tokio::spawn(connection);
        let (response, _) = client.send_request(request, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data?;
            let _ = body.flow_control().release_capacity(data.len());
            bytes.extend_from_slice(&data);
        }
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status: head.status.as_u16(), head: lines(&head.headers), body })
    };
    timeout(PATIENCE, exchange).await.unwrap()
}

/// Formats headers like [`Answer`], with a line in place of the status.
fn lines(headers: &HeaderMap) -> String {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}", value.to_str().unwrap_or_default())
    };
    let lines: Vec<String> = headers.iter().map(line).collect();
    format!("HTTP/2\r\n{}", lines.join("\r\n"))
}

/// A GET with the key that the stub knows; headers may be repeated.
pub(super) fn get(host: &str, path: &str, headers: &[(String, String)]) -> Request<()> {
    let builder = Request::get(format!("http://{host}{path}")).header("x-api-key", "good");
    let all = headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value));
    all.body(()).unwrap()
}
