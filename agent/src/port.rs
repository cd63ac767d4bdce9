//! The agent's port to Envoys: configuration and decisions, for authenticated nodes only.
//!
//! Peers are authenticated before a byte is read: on the Unix socket by the kernel (the agent's own
//! user, or one that the operator names), over TCP by the certificate that this agent issued. The
//! identity travels with each request as a [`Caller`].

mod address;
mod authority;
mod bounded;
mod caller;
mod connection;
mod issue;
mod socket;
mod tls;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imp_grammar::caps::{HANDSHAKE_TIME, NODE_CONNECTIONS, NODE_GREETING_TIME};
use thiserror::Error;
use tokio::net::unix::SocketAddr;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use authority::Authority;
use caller::Callers;
use connection::Io;
use socket::Socket;

pub use address::Address;
pub use authority::{AGENT_NAME, AGENT_URI, AuthorityError};
pub use bounded::Bounded;
pub use caller::{Caller, Who};
pub use connection::Connection;
pub(crate) use issue::issue_for_controller;
pub use issue::{IssueError, authority_key, issue, issue_for_gateway};
pub use socket::SocketError;

pub(crate) use authority::quoted;

/// Stands for all gateways in place of a gateway's name: in `node.cluster` and in a node's
/// certificate.
pub const ALL_GATEWAYS: &str = "all";

/// The delay after a failed accept (too many open files), which is temporary.
const PAUSE: Duration = Duration::from_millis(50);

/// The reason why the port is not served.
#[derive(Debug, Error)]
pub enum PortError {
    /// The Unix socket cannot be served.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The TCP port cannot be bound.
    #[error("cannot listen on {address} (--xds-listen): {why}")]
    Tcp {
        /// The address as configured.
        address: String,
        why: io::Error,
    },
    /// The certificates cannot be loaded or made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS could not be set up.
    #[error("TLS cannot be set up for --xds-listen: {0}")]
    Tls(String),
}

/// A bound port.
pub struct Port {
    listener: Listener,
    address: Address,
}

enum Listener {
    Unix(Socket, Vec<u32>),
    Tcp(TcpListener, TlsAcceptor),
}

impl Port {
    /// Binds the port. `users` may connect to a Unix socket besides the agent's own user;
    /// `state_dir` is closed to them, and has the key that authenticates TCP clients.
    pub async fn bind(
        address: &Address,
        users: &[u32],
        state_dir: &Path,
    ) -> Result<Self, PortError> {
        match address {
            Address::Unix(path) => {
                let own = std::fs::metadata(state_dir).map(|directory| directory.uid()).ok();
                let others = users.iter().copied().filter(|uid| Some(*uid) != own);
                let users: Vec<u32> = others.collect();
                let absolute = |path: &Path| std::path::absolute(path).unwrap_or_default();
                if !users.is_empty() && absolute(path).starts_with(absolute(state_dir)) {
                    return Err(SocketError::Closed.into());
                }
                let socket = socket::bind(path, !users.is_empty())?;
                Ok(Self { listener: Listener::Unix(socket, users), address: address.clone() })
            }
            Address::Tcp(given) => {
                let failed = |why| PortError::Tcp { address: given.to_string(), why };
                let acceptor = tls::acceptor(&Authority::open(state_dir)?);
                let acceptor = acceptor.map_err(PortError::Tls)?;
                let listener = TcpListener::bind(given).await.map_err(failed)?;
                let address = Address::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { listener: Listener::Tcp(listener, acceptor), address })
            }
        }
    }

    /// The address, with the port that the system chose if it was asked to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Yields connections of authenticated callers, until cancelled.
    pub fn serve(self, cancel: CancellationToken) -> ReceiverStream<io::Result<Connection>> {
        let (sender, connections) = mpsc::channel(16);
        let places = Arc::new(Semaphore::new(NODE_CONNECTIONS.size()));
        let entrance = Entrance { callers: Callers::default(), places, sender };
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(&entrance) => {}
                () = cancel.cancelled() => {}
            }
        });
        ReceiverStream::new(connections)
    }

    async fn accept(&self, entrance: &Entrance) {
        loop {
            let accepted = match &self.listener {
                Listener::Unix(socket, users) => {
                    let accepted = socket.listener.accept().await;
                    entrance.local(accepted, socket.uid, users).await
                }
                Listener::Tcp(listener, acceptor) => {
                    entrance.remote(listener.accept().await, acceptor.clone())
                }
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Authenticates and limits all connections.
#[derive(Clone)]
struct Entrance {
    callers: Callers,
    places: Arc<Semaphore>,
    sender: mpsc::Sender<io::Result<Connection>>,
}

impl Entrance {
    /// Admits a peer of the Unix socket, identified by the kernel.
    async fn local(
        &self,
        accepted: io::Result<(UnixStream, SocketAddr)>,
        own: u32,
        users: &[u32],
    ) -> io::Result<()> {
        let (stream, _) = accepted?;
        let Some(place) = self.place() else { return Ok(()) };
        let peer = stream.peer_cred()?;
        let uid = peer.uid();
        if uid == own || users.contains(&uid) {
            self.enter(Io::Unix(stream), Who::Local { uid }, peer.pid(), place).await;
        } else {
            let why = format!("user {uid} connects; --envoy-uid lets others than the agent's in");
            refuse("user", &why);
        }
        Ok(())
    }

    /// Admits a TCP peer, identified by its certificate.
    fn remote(
        &self,
        accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
        acceptor: TlsAcceptor,
    ) -> io::Result<()> {
        let (stream, _) = accepted?;
        let (Some(place), entrance) = (self.place(), self.clone()) else { return Ok(()) };
        // Otherwise an answer would wait for the acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIME.time(), acceptor.accept(stream)).await;
            let stream = match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return refuse("certificate", &error.to_string()),
                Err(_) => return refuse("certificate", "the TLS handshake did not end in time"),
            };
            match tls::who(&stream) {
                Some(who) => entrance.enter(Io::Tls(Box::new(stream)), who, None, place).await,
                None => refuse("certificate", "its certificate names no node"),
            }
        });
        Ok(())
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none() {
            refuse("full", "there are too many connections");
        }
        place
    }

    async fn enter(&self, io: Io, who: Who, process: Option<i32>, place: OwnedSemaphorePermit) {
        let Some((caller, own)) = self.callers.come(who) else {
            return refuse("full", "one node has too many connections");
        };
        let caller = caller.with_process(process);
        let connection = Connection::new(io, caller, (own, place), NODE_GREETING_TIME.time());
        // The server ends only with the agent.
        let _ = self.sender.send(Ok(connection)).await;
    }
}

fn refuse(reason: &'static str, why: &str) {
    metrics::counter!("imp_xds_refused_connections_total", "reason" => reason).increment(1);
    tracing::warn!(reason, why, "a connection of no known Envoy was refused");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_connections_and_no_more() {
        let (sender, _connections) = mpsc::channel(1);
        let places = Arc::new(Semaphore::new(NODE_CONNECTIONS.size()));
        let entrance = Entrance { callers: Callers::default(), places, sender };
        let held: Vec<_> = (0..NODE_CONNECTIONS.size()).map(|_| entrance.place()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(entrance.place().is_none());
        drop(held);
        assert!(entrance.place().is_some());
    }
}
