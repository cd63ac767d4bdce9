//! What the checks of a publish read about its place, asked for together: on SQLite all of it is one
//! message to the database.

use imp_core::cluster::{AgentStatus, Cluster};
use imp_core::gateway::Gateway;
use imp_core::plan::PlanSpec;
use imp_core::product_publish::ProductPublishSpec;
use imp_grammar::hosts::{below_wildcard, is_wildcard};
use imp_store::agent::{self, Able};
use imp_store::domain::{self, Holder};
use imp_store::listener_port::{self, Port};
use imp_store::{Record as _, Soon, plan, wildcard};

use crate::operation::Transaction;
use crate::refusal::Refusal;

/// Answers about the cluster, the gateway and the hostnames of a publish.
pub(super) struct Asked {
    pub(super) cluster: Soon<Option<Cluster>>,
    pub(super) gateway: Soon<Option<Gateway>>,
    /// Who holds the domain above each hostname.
    pub(super) holders: Vec<Soon<Option<Holder>>>,
    /// The ports that the gateway claims in the cluster.
    pub(super) ports: Soon<Vec<Port>>,
    /// What the cluster's connected agents support.
    pub(super) agents: Soon<Vec<Able>>,
    /// The terms of the product that need a feature of agents.
    pub(super) demanding_terms: Soon<Vec<PlanSpec>>,
}

impl Asked {
    /// Asks; what needs a lock is locked first.
    pub(super) async fn about(
        tx: &mut Transaction<'_>,
        spec: &ProductPublishSpec,
    ) -> Result<Self, Refusal> {
        if spec.hostnames.iter().any(|hostname| is_wildcard(hostname)) {
            wildcard::hold_all(tx).await?;
        }
        let (scope, since) = (tx.scope, tx.now - AgentStatus::STALE_AFTER);
        let cluster = Cluster::get_soon(tx, &scope, spec.cluster_id).await?;
        listener_port::keep_listeners(tx, spec.gateway_id).await?;
        let gateway = Gateway::get_soon(tx, &scope, spec.gateway_id).await?;
        let mut holders = Vec::with_capacity(spec.hostnames.len());
        for hostname in &spec.hostnames {
            // A wildcard takes what is below this name.
            let name = below_wildcard(hostname).unwrap_or(hostname);
            holders.push(domain::holder_above_soon(tx, name).await?);
        }
        let ports = listener_port::claimed_by_soon(tx, spec.gateway_id, spec.cluster_id).await?;
        let agents = agent::able_since_soon(tx, spec.cluster_id, since).await?;
        let demanding_terms = plan::demanding_soon(tx, spec.product_id).await?;
        Ok(Self { cluster, gateway, holders, ports, agents, demanding_terms })
    }
}
