//! What the checks of a publish read about its place, asked for together: on SQLite all of it is one
//! message to the database.

use std::collections::HashMap;

use imp_core::ApiServiceId;
use imp_core::api_service::ApiService;
use imp_core::cluster::{AgentStatus, Cluster};
use imp_core::gateway::Gateway;
use imp_core::plan::PlanSpec;
use imp_core::product_publish::{ProductPublish, ProductPublishSpec};
use imp_grammar::hosts::{below_wildcard, is_wildcard};
use imp_store::agent::{self, Able};
use imp_store::domain::{self, Holder};
use imp_store::listener_port::{self, Port};
use imp_store::{Record as _, Soon, api_service, plan, wildcard};

use crate::flows::hostnames::Early;
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
    /// Who claims the hostnames, if that could be asked yet.
    pub(super) claimed: Early,
}

impl Asked {
    /// Asks; what needs a lock is locked first. `former` is the publish as it is served now.
    pub(super) async fn about(
        tx: &mut Transaction<'_>,
        spec: &ProductPublishSpec,
        former: Option<&ProductPublish>,
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
        let claimed = Early::ask(tx, spec, former).await?;
        Ok(Self { cluster, gateway, holders, ports, agents, demanding_terms, claimed })
    }
}

/// The services that a publish may hold: those that it names, otherwise all of the product's.
pub(super) enum AskedServices {
    Named(Vec<Soon<Option<ApiService>>>),
    OfProduct(Soon<Vec<ApiService>>),
}

impl AskedServices {
    /// Asks. Whether the product has those that are named is not judged here.
    pub(super) async fn about(
        tx: &mut Transaction<'_>,
        spec: &ProductPublishSpec,
    ) -> Result<Self, Refusal> {
        if spec.api_services.is_empty() {
            return Ok(Self::OfProduct(api_service::of_product_soon(tx, spec.product_id).await?));
        }
        let mut named = Vec::with_capacity(spec.api_services.len());
        for id in &spec.api_services {
            named.push(tx.ask::<ApiService>(*id).await?);
        }
        Ok(Self::Named(named))
    }

    /// Those that the tenant of the product has.
    pub(super) async fn answered(
        self,
        tx: &mut Transaction<'_>,
    ) -> Result<HashMap<ApiServiceId, ApiService>, Refusal> {
        let services = match self {
            Self::OfProduct(services) => tx.now(services).await?,
            Self::Named(named) => {
                let mut services = Vec::with_capacity(named.len());
                for service in named {
                    services.extend(tx.now(service).await?);
                }
                services
            }
        };
        // They were asked for before the scope was narrowed to that tenant.
        let own = services.into_iter().filter(|it| tx.scope.holds(it.tenant_id));
        Ok(own.map(|it| (it.id, it)).collect())
    }
}
