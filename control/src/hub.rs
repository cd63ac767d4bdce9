//! The agents' side: identities, the delta stream of resources down, status and usage up.
//!
//! One gRPC server on the agents' port. [`gate`] says who comes in, [`board`] remembers who is
//! connected and what each said, [`scribe`] stores what follows from it.

pub mod board;
pub mod gate;
pub mod guard;
pub mod history;
mod hs256;
pub mod identity;
pub mod recheck;
pub mod scribe;
pub mod service;
pub mod session;
pub mod settle;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use imp_core::{AgentId, ClusterId, ProductPublishId};
use imp_proto::agent::agent_service_server::AgentServiceServer;
use imp_proto::config as pb;
use imp_store::Store;
use imp_store::compile::AgentStanding;
use imp_xds::{AdsServer, KeepAlive, NoObserver, ServerConfig, TypeRules};
use prost::Name as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::compile::{Watcher, Worlds};
use crate::state::Clock;
use board::Board;
use gate::Gate;
use guard::Guard;
use identity::AgentKey;
use recheck::Recheck;
use scribe::Scribe;
use service::Agents;
use session::Desk;

/// A silent connection is asked for a sign of life, and dropped without one.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// An agent needs two; more leave room for renewals and reconnects.
const STREAMS_PER_CONNECTION: u32 = 64;
/// Every publish of a large cluster in one report.
const MAX_MESSAGE: usize = 16 << 20;
/// How long streams have to end when the program stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Everything behind the agents' port.
pub struct Hub {
    gate: Arc<Gate>,
    desk: Desk,
    recheck: Arc<Recheck>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Starts what works behind the port.
    pub fn start(
        store: Store,
        clock: Clock,
        key: AgentKey,
        worlds: Worlds,
        stop: CancellationToken,
    ) -> Self {
        let board = Arc::new(Board::default());
        let recheck = Arc::new(Recheck::default());
        let (scribe, pen) = Scribe::new(store.clone(), clock.clone(), board.clone());
        let rechecks = {
            let (recheck, pen, stop) = (recheck.clone(), pen.clone(), stop.clone());
            async move { recheck.run(pen, stop).await }
        };
        let tasks = vec![tokio::spawn(scribe.run(stop.clone())), tokio::spawn(rechecks)];
        let gate = Arc::new(Gate::new(store.clone(), clock.clone(), key, worlds));
        Self { gate, desk: Desk { store, clock, board, pen, stop }, recheck, tasks }
    }

    /// What the tailer tells.
    pub fn watcher(&self) -> Arc<dyn Watcher> {
        let (gate, board) = (self.gate.clone(), self.desk.board.clone());
        Arc::new(Ears { gate, board, recheck: self.recheck.clone() })
    }

    /// Serves until the program stops.
    pub async fn serve(self, listener: TcpListener) {
        let stop = self.desk.stop.clone();
        let guard =
            Guard { ads: ads(self.gate.clone()), gate: self.gate.clone(), stop: stop.clone() };
        let agents = Agents::new(self.gate, self.desk);
        let agents = AgentServiceServer::new(agents).max_decoding_message_size(MAX_MESSAGE);
        let alive = KeepAlive { interval: KEEPALIVE, timeout: KEEPALIVE };
        let server = alive
            .on_server(Server::builder())
            .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
            .add_service(agents)
            .add_service(guard);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!(%error, "the agents' port stopped");
            },
            () = overdue => tracing::warn!("connections of agents were cut"),
        }
        stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the agents' side ended badly");
            }
        }
    }
}

/// Publishes last, behind the gateways, entitlements and keys that they need. All in one phase: none
/// waits for the acknowledgement of another, but they leave in this order.
fn ads(gate: Arc<Gate>) -> AdsServer {
    let mut types = pb::type_urls();
    types.sort_by_key(|type_url| *type_url == pb::Publish::type_url());
    let rules = types.into_iter().map(|type_url| TypeRules::new(type_url, 0)).collect();
    let config = ServerConfig { removal_grace: Duration::ZERO, ..ServerConfig::new(rules) };
    AdsServer::new(config, gate, Arc::new(NoObserver))
}

struct Ears {
    gate: Arc<Gate>,
    board: Arc<Board>,
    recheck: Arc<Recheck>,
}

impl Watcher for Ears {
    fn agent(&self, id: AgentId, now: Option<AgentStanding>) {
        self.gate.standing(id, now);
    }

    fn publish(&self, id: ProductPublishId, cluster: Option<ClusterId>) {
        match cluster {
            Some(cluster) if self.board.knows(cluster, id) => self.recheck.soon(cluster, id),
            Some(_) => {}
            None => self.board.gone(id, Instant::now()),
        }
    }
}
