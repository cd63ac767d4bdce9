//! Delivers publishes by Gateway API: renders them ([`imp_translate::gateway_api`]), has the objects
//! kept in the API server ([`imp_kube::Keeper`]), and tells the fleet what became of them.
//!
//! Whatever the API server does, what is served stays served: a controller keeps what it has.

mod driver;
mod probe;

use std::path::PathBuf;

use imp_kube::{Access, ConnectError, Reach, Use};
use imp_translate::Upstreams;
use imp_translate::ir::EndpointHost;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{ClassName, Config, HostPort};
use crate::fleet::{Fleet, GatewayApiOrder};
use crate::identity::IdentityFile;
use crate::port::Address;

/// Why nothing can be delivered by Gateway API.
#[derive(Debug, Error)]
pub enum GatewayApiError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "--kube-agent-address needs --xds-listen ADDR:PORT: proxies of the cluster come over TCP"
    )]
    NotTcp,
}

/// What the delivery needs besides the fleet.
pub struct GatewayApi {
    access: Access,
    classes: Vec<ClassName>,
    namespace: String,
    /// Where proxies find this agent.
    agent: Option<HostPort>,
    names: Vec<String>,
    state_dir: PathBuf,
    file: IdentityFile,
    upstreams: Upstreams,
    orders: mpsc::UnboundedReceiver<GatewayApiOrder>,
}

impl GatewayApi {
    /// `None` unless the flags ask for it. From here on the fleet tells what is delivered so.
    pub fn of(
        config: &Config,
        file: &IdentityFile,
        upstreams: &Upstreams,
        fleet: &Fleet,
    ) -> Result<Option<Self>, GatewayApiError> {
        let flags = &config.kube;
        if !flags.is_on() {
            return Ok(None);
        }
        let agent = flags.kube_agent_address.clone();
        if agent.is_some() && !matches!(config.xds(), Address::Tcp(_)) {
            return Err(GatewayApiError::NotTcp);
        }
        let (sender, orders) = mpsc::unbounded_channel();
        let classes = config.gateway_api.gateway_class.iter().map(|it| it.class.word).collect();
        let after = Some(config.gateway_api.fallback_after).filter(|after| !after.is_zero());
        fleet.deliver_by_gateway_api(sender, classes, after);
        let names = config.allow_upstream.iter().map(|entry| entry.trim().to_ascii_lowercase());
        Ok(Some(Self {
            access: match &flags.kubeconfig {
                Some(path) => Access::Kubeconfig(path.clone()),
                None => Access::InCluster,
            },
            classes: config.gateway_api.gateway_class.clone(),
            namespace: config.gateway_api.gateway_api_namespace.clone(),
            agent,
            names: names.filter(|entry| !entry.contains(['/', ':'])).collect(),
            state_dir: config.state_dir.clone(),
            file: file.clone(),
            upstreams: upstreams.clone(),
            orders,
        }))
    }

    /// Makes the client, which sends nothing yet.
    pub async fn start(
        self,
        fleet: Fleet,
        cancel: CancellationToken,
    ) -> Result<impl Future<Output = ()>, GatewayApiError> {
        let cluster = self.access.connect().await?;
        Ok(driver::run(cluster, self, fleet, cancel))
    }
}

impl HostPort {
    fn endpoint(&self) -> EndpointHost {
        match self.host.parse() {
            Ok(address) => EndpointHost::Address(address),
            Err(_) => EndpointHost::Name(self.host.clone()),
        }
    }
}

/// The role and its binding that the delivery needs, in the namespace of its objects.
pub fn role(namespace: &str, account: (&str, &str)) -> String {
    let uses = driver::KINDS.map(|kind| (kind, Use::Keep));
    imp_kube::role("imp-gateway-api", Reach::Namespace(namespace), &uses, account)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_role_that_is_deployed_is_the_one_that_is_needed() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kube/gateway-api-role.yaml");
        let wanted = format!(
            "# Generated: UPDATE_ROLE=1 cargo test -p imp-agent role. For --gateway-api-namespace imp-gateway.\n{}",
            super::role("imp-gateway", ("imp-system", "imp-agent"))
        );
        if std::env::var_os("UPDATE_ROLE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "UPDATE_ROLE=1 cargo test -p imp-agent role writes it");
    }
}
