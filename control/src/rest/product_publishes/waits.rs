//! Explains in words what a publish waits for.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use imp_core::cluster::{Agent, AgentStatus};
use imp_core::gateway::GatewayCondition;
use imp_core::product_publish::{ProductPublish, PublishStatus};
use imp_core::{ClusterId, GatewayId};
use imp_store::{agent, gateway_condition};

use super::ProductPublishView;
use crate::problem::Problem;
use crate::state::State;

/// The agents and Envoys that could serve publishes now, and what prevents it.
pub(super) struct Waits {
    fleets: HashMap<ClusterId, Fleet>,
    refused: HashMap<(GatewayId, ClusterId), GatewayCondition>,
}

/// The agents of a cluster.
#[derive(Default)]
struct Fleet {
    /// Whether any agent is registered.
    exists: bool,
    connected: Vec<Agent>,
}

impl Fleet {
    async fn look(state: &State, cluster: ClusterId) -> Result<Self, Problem> {
        let now = state.clock.now();
        let agents = agent::list_by_cluster(&state.store, cluster).await?;
        Ok(Self::of(agents, now))
    }

    fn of(agents: Vec<Agent>, now: DateTime<Utc>) -> Self {
        let agents: Vec<Agent> = agents.into_iter().map(|it| agent::refreshed(it, now)).collect();
        let exists = agents.iter().any(|agent| agent.status != AgentStatus::Revoked);
        let is_connected = |agent: &Agent| agent.status == AgentStatus::Connected;
        Self { exists, connected: agents.into_iter().filter(is_connected).collect() }
    }

    /// Whether a connected Envoy serves the gateway.
    fn serves(&self, gateway: GatewayId) -> bool {
        let id = gateway.to_string();
        let mut nodes = self.connected.iter().flat_map(|agent| &agent.nodes);
        nodes.any(|node| node.gateway_id.as_ref().is_none_or(|own| *own == id))
    }
}

impl Waits {
    /// Reads the state for these publishes.
    pub(super) async fn look(state: &State, publishes: &[ProductPublish]) -> Result<Self, Problem> {
        if let [one] = publishes {
            return Self::look_for(state, one).await;
        }
        let clusters: HashSet<ClusterId> = publishes.iter().map(|it| it.spec.cluster_id).collect();
        let mut fleets = HashMap::new();
        for cluster in clusters {
            fleets.insert(cluster, Fleet::look(state, cluster).await?);
        }
        let gateways: HashSet<GatewayId> = publishes.iter().map(|it| it.spec.gateway_id).collect();
        let gateways: Vec<GatewayId> = gateways.into_iter().collect();
        let conditions = gateway_condition::of_gateways(&state.store, &gateways).await?;
        let named =
            |(id, condition): (_, GatewayCondition)| ((id, condition.cluster_id), condition);
        Ok(Self { fleets, refused: conditions.into_iter().map(named).collect() })
    }

    async fn look_for(state: &State, publish: &ProductPublish) -> Result<Self, Problem> {
        let (gateway, cluster) = (publish.spec.gateway_id, publish.spec.cluster_id);
        let (agents, condition) =
            gateway_condition::with_agents(&state.store, gateway, cluster).await?;
        let fleet = Fleet::of(agents, state.clock.now());
        let refused = condition.map(|condition| ((gateway, cluster), condition));
        Ok(Self { fleets: [(cluster, fleet)].into(), refused: refused.into_iter().collect() })
    }

    /// `active` describes the present: while no agent is connected, it is unknown.
    pub(super) fn view(&self, mut publish: ProductPublish) -> ProductPublishView {
        let message = self.message(&publish);
        let is_silent = self.fleet(&publish).is_some_and(|fleet| fleet.connected.is_empty());
        if publish.status == PublishStatus::Active && is_silent {
            publish.status = PublishStatus::Unknown;
        }
        ProductPublishView { publish, message }
    }

    fn fleet(&self, publish: &ProductPublish) -> Option<&Fleet> {
        self.fleets.get(&publish.spec.cluster_id)
    }

    fn message(&self, publish: &ProductPublish) -> Option<String> {
        use PublishStatus::{Active, Deploying, Failed, Pending};
        let fleet = self.fleet(publish)?;
        let (revision, nodes) = (publish.desired_revision, publish.nodes);
        let envoys = nodes.acked.saturating_add(nodes.nacked).saturating_add(nodes.behind);
        Some(match publish.status {
            Active if fleet.connected.is_empty() => {
                "no agent of the cluster has been heard of lately; its Envoys serve on".to_owned()
            }
            Pending | Deploying if !fleet.exists => {
                "the cluster has no agent; create a registration token and start one".to_owned()
            }
            Pending | Deploying if fleet.connected.is_empty() => {
                "no agent of the cluster is connected".to_owned()
            }
            Pending | Deploying | Failed if self.refusal(publish).is_some() => {
                self.refusal(publish)?
            }
            Pending | Deploying if !fleet.serves(publish.spec.gateway_id) => {
                "no Envoy of its gateway is connected to the cluster's agents".to_owned()
            }
            Pending => format!("no agent of the cluster has taken revision {revision} yet"),
            Deploying if envoys > 0 => {
                let acked = nodes.acked;
                format!("{acked} of {envoys} Envoys have acknowledged revision {revision}")
            }
            Deploying => format!("revision {revision} is on its way to the Envoys"),
            _ => return None,
        })
    }

    fn refusal(&self, publish: &ProductPublish) -> Option<String> {
        let (gateway, cluster) = (publish.spec.gateway_id, publish.spec.cluster_id);
        let error = &self.refused.get(&(gateway, cluster))?.last_error;
        let words = if error.envoy_message.is_empty() { &error.hint } else { &error.envoy_message };
        Some(format!("its gateway {gateway} is not accepted in the cluster: {words}"))
    }
}
