//! The upstream of the calls: the same short answer to everything, on a thread of its own.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::ports;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Runs until the process ends. Its address.
pub(super) fn start() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(ports::local(0))?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).context("no upstream")?;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
            Ok::<_, anyhow::Error>(())
        })
    };
    std::thread::Builder::new().name("upstream".to_owned()).spawn(serve)?;
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut seen = Vec::with_capacity(4_096);
    while stream.read_buf(&mut seen).await? > 0 {
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            stream.write_all(ANSWER).await?;
        }
    }
    Ok(())
}
