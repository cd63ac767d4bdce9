//! The agent's port to Envoys: configuration and decisions about calls, for known nodes only.
//!
//! Who connects is known before a byte is read: on the Unix socket by the kernel (the agent's own
//! user, or one that the operator names), over TCP by the certificate that this agent issued. The
//! identity travels with each request as a [`Caller`].

mod address;
mod bounded;
mod caller;
mod connection;
mod socket;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imp_grammar::caps::{NODE_CONNECTIONS, NODE_GREETING_TIME};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use caller::Callers;
use connection::Io;
use socket::Socket;

pub use address::Address;
pub use bounded::Bounded;
pub use caller::{Caller, Who};
pub use connection::Connection;
pub use socket::SocketError;

/// After a failure to accept (too many open files), which passes by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// The bound port.
#[derive(Debug)]
pub struct Port {
    socket: Socket,
    users: Vec<u32>,
    address: Address,
}

impl Port {
    /// Binds. `users` may connect to a Unix socket besides the agent's own user; `state_dir` is
    /// closed to them.
    pub fn bind(address: &Address, users: &[u32], state_dir: &Path) -> Result<Self, SocketError> {
        let Address::Unix(path) = address else {
            let why = io::Error::other("not served without certificates");
            return Err(SocketError::Io { path: address.to_string(), why });
        };
        let own = std::fs::metadata(state_dir).map(|directory| directory.uid()).ok();
        let users: Vec<u32> = users.iter().copied().filter(|uid| Some(*uid) != own).collect();
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_default();
        if !users.is_empty() && absolute(path).starts_with(absolute(state_dir)) {
            return Err(SocketError::Closed);
        }
        let socket = socket::bind(path, !users.is_empty())?;
        Ok(Self { socket, users, address: address.clone() })
    }

    /// Where it is: with the port that the system chose, if it was asked to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connections of known callers, until cancelled.
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
            match self.socket.listener.accept().await {
                Ok((stream, _)) => self.admit(stream, entrance).await,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn admit(&self, stream: UnixStream, entrance: &Entrance) {
        let Some(place) = entrance.place() else { return };
        let uid = match stream.peer_cred() {
            Ok(peer) => peer.uid(),
            Err(error) => return refuse("unknown", &error.to_string()),
        };
        if uid != self.socket.uid && !self.users.contains(&uid) {
            let why = format!("user {uid} connects; --envoy-uid lets others than the agent's in");
            return refuse("user", &why);
        }
        entrance.enter(Io::Unix(stream), Who::Local { uid }, place).await;
    }
}

/// What everybody comes through.
#[derive(Clone)]
struct Entrance {
    callers: Callers,
    places: Arc<Semaphore>,
    sender: mpsc::Sender<io::Result<Connection>>,
}

impl Entrance {
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none() {
            refuse("full", "there are too many connections");
        }
        place
    }

    async fn enter(&self, io: Io, who: Who, place: OwnedSemaphorePermit) {
        let Some((caller, own)) = self.callers.come(who) else {
            return refuse("full", "one node has too many connections");
        };
        let connection = Connection::new(io, caller, (own, place), NODE_GREETING_TIME.time());
        // The server ends only when the agent does.
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
