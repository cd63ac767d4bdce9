//! The agents' side: identities, the delta stream of resources down, status and usage up.
//!
//! One gRPC server on the agents' port. [`calls`] is where every call arrives, [`gate`] says who comes
//! in, [`presence`] who is there twice; [`board`] remembers who is connected and what each said,
//! [`scribe`] stores what follows from it.

pub mod board;
pub mod calls;
pub mod deliveries;
mod ending;
pub mod gate;
pub mod history;
mod hs256;
pub mod identity;
pub mod presence;
pub mod recheck;
mod refusals;
mod replay;
pub mod scribe;
pub mod service;
pub mod session;
pub mod settle;
pub mod usage;

use std::sync::Arc;
use std::time::Duration;

use imp_core::{AgentId, ClusterId, ProductPublishId};
use imp_proto::config as pb;
use imp_store::compile::AgentStanding;
use imp_store::outbox::Told;
use imp_xds::{AdsServer, ServerConfig, TypeRules};
use prost::Name as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::compile::{Watcher, Worlds};
use crate::listen::{self, Limits, Plain};
use crate::operation::Operation;
use crate::tls::Tls;
use board::Board;
use calls::Calls;
use deliveries::Deliveries;
use gate::Gate;
use identity::AgentKey;
use presence::{Duplicates, Presence};
use recheck::Recheck;
use refusals::Refusals;
use scribe::{Pen, Scribe, Work};
use service::Agents;
use session::Desk;

/// How often processes of one identity are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Everything behind the agents' port.
pub struct Hub {
    platform: Operation,
    gate: Arc<Gate>,
    desk: Desk,
    recheck: Arc<Recheck>,
    presence: Arc<Presence>,
    deliveries: Arc<Deliveries>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Starts what works behind the port, on behalf of the platform.
    pub fn start(
        platform: Operation,
        key: AgentKey,
        worlds: Worlds,
        duplicates: Duplicates,
        stop: CancellationToken,
    ) -> Self {
        let (store, clock) = (platform.store.clone(), platform.clock.clone());
        let board = Arc::new(Board::default());
        let recheck = Arc::new(Recheck::default());
        let deliveries = Arc::new(Deliveries::new(clock.clone()));
        let (scribe, pen) =
            Scribe::new(store.clone(), clock.clone(), board.clone(), deliveries.clone());
        let rechecks = {
            let (recheck, pen, stop) = (recheck.clone(), pen.clone(), stop.clone());
            async move { recheck.run(pen, stop).await }
        };
        let (presence, noticed) = Presence::new(duplicates);
        let noticing = notice(presence.clone(), noticed, pen.clone(), stop.clone());
        let tasks = vec![
            tokio::spawn(scribe.run(stop.clone())),
            tokio::spawn(rechecks),
            tokio::spawn(noticing),
        ];
        let gate = Arc::new(Gate::new(store.clone(), clock.clone(), key, worlds));
        let desk = Desk { store, clock, board, pen, stop };
        Self { platform, gate, desk, recheck, presence, deliveries, tasks }
    }

    /// What the tailer tells.
    pub fn watcher(&self) -> Arc<dyn Watcher> {
        let (gate, board) = (self.gate.clone(), self.desk.board.clone());
        let (recheck, deliveries) = (self.recheck.clone(), self.deliveries.clone());
        Arc::new(Ears { gate, board, recheck, deliveries })
    }

    /// Serves until the program stops.
    pub async fn serve(self, listener: TcpListener, tls: Option<Tls>, limits: Limits) {
        let stop = self.desk.stop.clone();
        let (ads, presence) = (ads(self.gate.clone(), self.deliveries.clone()), self.presence);
        let refusals = Refusals::new(self.desk.pen.clone(), self.desk.clock.clone());
        let agents = Agents::new(self.platform, self.gate.clone(), self.desk);
        let calls = Calls::new(self.gate, agents, ads, presence, refusals, stop.clone());
        match tls {
            Some(tls) => listen::serve(listener, tls, limits, calls, stop.clone()).await,
            None => listen::serve(listener, Plain, limits, calls, stop.clone()).await,
        }
        stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the agents' side ended badly");
            }
        }
    }
}

/// Looks for duplicates, and has them written down.
async fn notice(
    presence: Arc<Presence>,
    mut noticed: mpsc::Receiver<AgentId>,
    pen: Pen,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => presence.look(Instant::now()),
            Some(agent) = noticed.recv() => {
                // The writer logs what goes wrong.
                let _written = pen.note(Work::Duplicate(agent)).await;
            }
        }
    }
}

/// Publishes last, behind the gateways, entitlements and keys that they need. None waits for the
/// acknowledgement of another, removals included, but they leave in this order.
fn ads(gate: Arc<Gate>, deliveries: Arc<Deliveries>) -> AdsServer {
    let mut types = pb::type_urls();
    types.sort_by_key(|type_url| *type_url == pb::Publish::type_url());
    let rules = types.into_iter().map(|type_url| TypeRules::new(type_url, 0)).collect();
    let config = ServerConfig {
        removal_grace: Duration::ZERO,
        barrier_timeout: Duration::ZERO,
        ..ServerConfig::new(rules)
    };
    AdsServer::new(config, gate, deliveries)
}

struct Ears {
    gate: Arc<Gate>,
    board: Arc<Board>,
    recheck: Arc<Recheck>,
    deliveries: Arc<Deliveries>,
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

    fn compiled(&self, id: ProductPublishId, version: &str, why: &Told) {
        self.deliveries.compiled(id, version, &why.cause, why.at);
    }
}
