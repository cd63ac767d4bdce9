//! `/v1/clusters`, their registration tokens and their agents: for operators.

pub mod agents;
pub mod registration_tokens;

use imp_core::ClusterId;
use imp_core::cluster::{AgentStatus, Cluster, ClusterSpec};
use imp_core::scope::TenantScope;
use imp_store::agent;
use imp_store::cluster::ClusterFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::flows::{Created, cluster as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra};
use crate::rest::param::{NAME, Param};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

/// A cluster as callers see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterView {
    #[serde(flatten)]
    pub cluster: Cluster,
    /// The number of its agents; their names and hosts are for operators only. Absent if they could
    /// not be counted after a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCounts>,
}

impl From<Cluster> for ClusterView {
    fn from(cluster: Cluster) -> Self {
        Self { cluster, agents: None }
    }
}

/// Counts of a cluster's agents.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct AgentCounts {
    /// Registered and not revoked.
    pub registered: usize,
    /// Agents with a recent heartbeat.
    pub connected: usize,
    /// Envoys connected to these agents.
    pub envoys: usize,
}

impl AgentCounts {
    async fn of(state: &State, cluster: ClusterId) -> Result<Self, Problem> {
        let mut counts = Self::default();
        for agent in agent::list_by_cluster(&state.store, cluster).await? {
            let agent = agent::refreshed(agent, state.clock.now());
            counts.registered += usize::from(agent.status != AgentStatus::Revoked);
            if agent.status == AgentStatus::Connected {
                counts.connected += 1;
                counts.envoys += agent.nodes.len();
            }
        }
        Ok(counts)
    }
}

impl Entity for Cluster {
    type Spec = ClusterSpec;
    type View = ClusterView;

    const REPORTED: &'static [&'static str] = &["agents"];
    const FILTERS: &'static [Param] = &[NAME];
    const EXTRAS: &'static [Extra] = &[];

    fn spec(&self) -> ClusterSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ClusterFilter, Problem> {
        Ok(ClusterFilter { name: query.take("name")?, ..ClusterFilter::default() })
    }

    fn named(_: &TenantScope, name: &str) -> Option<ClusterFilter> {
        Some(ClusterFilter { name: Some(name.to_owned()), ..ClusterFilter::default() })
    }

    async fn create(call: &Call, body: Json) -> Result<Created<Self>, Problem> {
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, call.operation.scope, spec).await?.into())
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: ClusterSpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }

    async fn views(state: &State, items: Vec<Self>) -> Result<Vec<ClusterView>, Problem> {
        let mut views = Vec::with_capacity(items.len());
        for cluster in items {
            let agents = AgentCounts::of(state, cluster.id).await?;
            views.push(ClusterView { cluster, agents: Some(agents) });
        }
        Ok(views)
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Cluster>(routes);
    registration_tokens::mount(routes);
    agents::mount(routes);
}
