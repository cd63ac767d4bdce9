//! Attaches gateways to Gateways of Envoy Gateway.
//!
//! The cluster's operator labels a Gateway with the id of a gateway of ours. From then on the agent keeps a
//! certificate, the bootstrap of its Envoys and a policy there, and everything else goes to those Envoys directly
//! (`imp_translate::envoy_gateway`). `seen` is what the API server tells, `plan` what follows of it (both
//! pure), `driver` does it. Whatever the API server does, what is served stays served.

mod attached;
mod certificate;
mod driver;
mod kept;
mod plan;
mod rules;
mod seen;
mod trouble;

use std::path::PathBuf;

use imp_kube::{Access, ConnectError};
use imp_translate::Options;
use imp_translate::envoy_gateway::Agent;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::bootstrap::AGENT_CLUSTER;
use crate::config::{Config, KubeFlags};
use crate::fleet::Fleet;
use crate::port::{AGENT_URI, Address};

/// Why gateways cannot be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "--kube-agent-address needs --xds-listen ADDR:PORT: Envoys of the cluster come over TCP"
    )]
    NotTcp,
    #[error("--kube-agent-address needs --layout scoped")]
    Layout,
}

/// What attaching needs besides the fleet.
pub struct Attaching {
    access: Access,
    agent: Agent,
    envoys: String,
    namespaces: Vec<String>,
    state_dir: PathBuf,
    options: Options,
}

impl Attaching {
    /// `None` unless the flags ask for it: without an address no Envoy of the cluster finds this agent.
    pub fn of(config: &Config, options: &Options) -> Result<Option<Self>, AttachError> {
        let flags: &KubeFlags = &config.kube;
        let Some(address) = flags.kube_agent_address.clone().filter(|_| flags.is_on()) else {
            return Ok(None);
        };
        if !matches!(config.xds(), Address::Tcp(_)) {
            return Err(AttachError::NotTcp);
        }
        if config.layout == crate::config::Layout::WholeRds {
            return Err(AttachError::Layout);
        }
        let agent = Agent {
            cluster: AGENT_CLUSTER.to_owned(),
            host: address.host,
            port: address.port,
            uri: AGENT_URI.to_owned(),
        };
        Ok(Some(Self {
            access: match &flags.kubeconfig {
                Some(path) => Access::Kubeconfig(path.clone()),
                None => Access::InCluster,
            },
            agent,
            envoys: flags.kube_envoy_namespace.clone(),
            namespaces: flags.kube_namespace.clone(),
            state_dir: config.state_dir.clone(),
            options: options.clone(),
        }))
    }

    /// Makes the client, which sends nothing yet.
    pub async fn start(
        self,
        fleet: Fleet,
        cancel: CancellationToken,
    ) -> Result<impl Future<Output = ()>, AttachError> {
        let cluster = self.access.connect().await?;
        Ok(driver::run(cluster, self, fleet, cancel))
    }
}
