//! A counting proxy: all bytes of one hop, in front of a TCP port or a Unix socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// Runs until dropped.
pub struct Counting {
    address: Option<SocketAddr>,
    counts: Counts,
    task: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Counts {
    down: Arc<AtomicU64>,
    up: Arc<AtomicU64>,
}

impl Counting {
    /// Listens on a free port in front of this one.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(crate::ports::local(0)).await?;
        let (address, counts) = (Some(listener.local_addr()?), Counts::default());
        let counted = counts.clone();
        let task = tokio::spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                counted.pump(&mut pumps, client.into_split(), server.into_split());
            }
        });
        Ok(Self { address, counts, task })
    }

    /// Listens on the socket `path` in front of the socket `target`.
    pub async fn between(path: &Path, target: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(path);
        let (listener, counts) = (UnixListener::bind(path)?, Counts::default());
        let (counted, target) = (counts.clone(), target.to_owned());
        let task = tokio::spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&target).await else { continue };
                counted.pump(&mut pumps, client.into_split(), server.into_split());
            }
        });
        Ok(Self { address: None, counts, task })
    }

    /// The address for clients, if it is a port.
    pub fn address(&self) -> Result<SocketAddr> {
        self.address.context("it listens on a socket")
    }

    /// Bytes from the server to its clients so far.
    pub fn down(&self) -> u64 {
        self.counts.down.load(Ordering::Relaxed)
    }

    /// Bytes from the clients to the server so far.
    pub fn up(&self) -> u64 {
        self.counts.up.load(Ordering::Relaxed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counts {
    fn pump<R, W>(&self, pumps: &mut JoinSet<()>, client: (R, W), server: (R, W))
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        pumps.spawn(pump(server.0, client.1, self.down.clone()));
        pumps.spawn(pump(client.0, server.1, self.up.clone()));
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { return };
        count.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
