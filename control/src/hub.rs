//! The agents' side: identities, the delta stream of resources to agents, status and usage from
//! them.
//!
//! One gRPC server on the agents' port. [`calls`] receives every call, [`agent_auth`] authenticates
//! it, [`presence`] finds duplicate processes; [`connected_agents`] holds who is connected and what
//! each reported, [`report_writer`] stores the results.

pub mod agent_auth;
pub mod calls;
pub mod connected_agents;
pub mod deliveries;
mod ending;
pub mod history;
mod hs256;
pub mod identity;
pub mod presence;
pub mod recheck;
mod refusals;
mod renewals;
mod replay;
pub mod report_writer;
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

use crate::compile::{ClusterResources, Watcher};
use crate::listen::{self, Limits, Plain};
use crate::operation::Operation;
use crate::tls::Tls;
use agent_auth::AgentAuth;
use calls::Calls;
use connected_agents::ConnectedAgents;
use deliveries::Deliveries;
use identity::AgentKey;
use presence::{Duplicates, Presence};
use recheck::Recheck;
use refusals::Refusals;
use report_writer::{ReportQueue, ReportWriter, Work};
use service::Agents;
use session::ReportStreams;

/// How often to look for several processes with one identity.
const LOOK: Duration = Duration::from_secs(5);

/// Everything behind the agents' port.
pub struct Hub {
    platform: Operation,
    auth: Arc<AgentAuth>,
    reports: ReportStreams,
    recheck: Arc<Recheck>,
    presence: Arc<Presence>,
    deliveries: Arc<Deliveries>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Starts the hub's background tasks, which act for the platform.
    pub fn start(
        platform: Operation,
        key: AgentKey,
        cluster_resources: ClusterResources,
        duplicates: Duplicates,
        stop: CancellationToken,
    ) -> Self {
        let (store, clock) = (platform.store.clone(), platform.clock.clone());
        let connected = Arc::new(ConnectedAgents::default());
        let recheck = Arc::new(Recheck::default());
        let deliveries = Arc::new(Deliveries::new(clock.clone()));
        let (writer, queue) =
            ReportWriter::new(store.clone(), clock.clone(), connected.clone(), deliveries.clone());
        let rechecks = {
            let (recheck, queue, stop) = (recheck.clone(), queue.clone(), stop.clone());
            let (connected, clock) = (connected.clone(), clock.clone());
            async move { recheck.run(&connected, &clock, queue, stop).await }
        };
        let (presence, noticed) = Presence::new(duplicates);
        let noticing = notice(presence.clone(), noticed, queue.clone(), stop.clone());
        let tasks = vec![
            tokio::spawn(writer.run(stop.clone())),
            tokio::spawn(rechecks),
            tokio::spawn(noticing),
        ];
        let auth = Arc::new(AgentAuth::new(store.clone(), clock.clone(), key, cluster_resources));
        let reports = ReportStreams { store, clock, connected, queue, stop };
        Self { platform, auth, reports, recheck, presence, deliveries, tasks }
    }

    /// The receiver of the tailer's changes.
    pub fn watcher(&self) -> Arc<dyn Watcher> {
        let (auth, connected) = (self.auth.clone(), self.reports.connected.clone());
        let (recheck, deliveries) = (self.recheck.clone(), self.deliveries.clone());
        Arc::new(ChangeListener { auth, connected, recheck, deliveries })
    }

    /// Serves until the program stops.
    pub async fn serve(self, listener: TcpListener, tls: Option<Tls>, limits: Limits) {
        let stop = self.reports.stop.clone();
        let (ads, presence) = (ads(self.auth.clone(), self.deliveries.clone()), self.presence);
        let refusals = Refusals::new(self.reports.queue.clone(), self.reports.clock.clone());
        let agents = Agents::new(self.platform, self.auth.clone(), self.reports);
        let calls = Calls::new(self.auth, agents, ads, presence, refusals, stop.clone());
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

/// Looks for duplicates and has them recorded.
async fn notice(
    presence: Arc<Presence>,
    mut noticed: mpsc::Receiver<AgentId>,
    queue: ReportQueue,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => presence.look(Instant::now()),
            Some(agent) = noticed.recv() => {
                // The writer logs errors.
                let _written = queue.note(Work::Duplicate(agent)).await;
            }
        }
    }
}

/// Sends publishes last, after the gateways, entitlements and keys that they need. No type waits
/// for the acknowledgement of another, removals included, but they are sent in this order.
fn ads(auth: Arc<AgentAuth>, deliveries: Arc<Deliveries>) -> AdsServer {
    let mut types = pb::type_urls();
    types.sort_by_key(|type_url| *type_url == pb::Publish::type_url());
    let rules = types.into_iter().map(|type_url| TypeRules::new(type_url, 0)).collect();
    let config = ServerConfig {
        removal_grace: Duration::ZERO,
        barrier_timeout: Duration::ZERO,
        ..ServerConfig::new(rules)
    };
    AdsServer::new(config, auth, deliveries)
}

struct ChangeListener {
    auth: Arc<AgentAuth>,
    connected: Arc<ConnectedAgents>,
    recheck: Arc<Recheck>,
    deliveries: Arc<Deliveries>,
}

impl Watcher for ChangeListener {
    fn agent(&self, id: AgentId, now: Option<AgentStanding>) {
        self.auth.standing(id, now);
    }

    fn publish(&self, id: ProductPublishId, cluster: Option<ClusterId>) {
        if let Some(cluster) = cluster.filter(|it| self.connected.refuses_any(*it)) {
            self.recheck.gateways_soon(cluster);
        }
        match cluster {
            Some(cluster) if self.connected.knows(cluster, id) => self.recheck.soon(cluster, id),
            Some(_) => {}
            None => self.connected.gone(id, Instant::now()),
        }
    }

    fn compiled(&self, id: ProductPublishId, version: &str, why: &Told) {
        self.deliveries.compiled(id, version, &why.cause, why.at);
    }
}
