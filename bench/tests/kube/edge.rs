//! Our stack beside Envoy Gateway, and one Gateway that both serve.

use std::net::SocketAddr;

use anyhow::Result;
use imp_bench::ports;
use imp_bench::sample::{Provider, echo_service};
use imp_bench::stack::{Options, Stack};
use imp_bench::upstream::Upstream;
use serde_json::json;

use crate::api::{Api, variable};
use crate::pod::Pod;

/// The namespace in which the agent's user may write objects of Gateway API.
pub(crate) const OURS: &str = "edge";

pub(crate) struct Edge {
    pub(crate) api: Api,
    pub(crate) pod: Option<Pod>,
    pub(crate) stack: Stack,
    pub(crate) provider: Provider,
    pub(crate) namespace: String,
    /// The Gateway's plain listener.
    pub(crate) address: SocketAddr,
    /// The one with TLS.
    pub(crate) secure: SocketAddr,
    _theirs: Upstream,
}

impl Edge {
    /// Everything but the pod. `name` is the namespace.
    pub(crate) async fn prepare(name: &str) -> Result<Self> {
        Self::prepare_with(name, &[]).await
    }

    /// With more flags for the agent.
    pub(crate) async fn prepare_with(name: &str, more: &[&str]) -> Result<Self> {
        let api = Api::new()?;
        let xds = ports::local(ports::free()?);
        let mut flags = vec![
            format!("--xds-listen={xds}"),
            // Its user may do what deploy/kube/role.yaml says and nothing else.
            format!("--kubeconfig={}", variable("IMP_KUBECONFIG")?),
            format!("--kube-agent-address={xds}"),
        ];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let mut options = Options { envoy: false, agent_flags: flags, ..Options::default() };
        let network = format!("{}/32", variable("IMP_KUBE_ADDRESS")?);
        options.control_flags.push(format!("--allow-upstream={network}"));
        options.allow.push(network);
        let stack = Stack::start(options).await?;
        let provider = Provider::create(&stack, "acme").await?;
        let theirs = Upstream::start_at(&variable("IMP_KUBE_ADDRESS")?).await?;
        let listen = [ports::free()?, ports::free()?];
        // Of a caller on loopback Envoy would say another address.
        let ip = variable("IMP_KUBE_ADDRESS")?.parse()?;
        let [address, secure] = listen.map(|port| SocketAddr::new(ip, port));
        let mut edge = Self {
            api,
            pod: None,
            stack,
            provider,
            namespace: name.to_owned(),
            address,
            secure,
            _theirs: theirs,
        };
        edge.api.gateway(name, &edge.provider.gateway_id, listen).await?;
        let at = edge._theirs.address();
        edge.api.service(name, "theirs", &at.ip().to_string(), at.port()).await?;
        edge.api.route(name, "theirs", "theirs.example.com").await?;
        edge.pod = None;
        Ok(edge)
    }

    /// With the pod.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let mut edge = Self::prepare(name).await?;
        edge.pod = Some(edge.add_pod("envoy-a").await?);
        Ok(edge)
    }

    /// Another pod of the Gateway.
    pub(crate) async fn add_pod(&self, name: &str) -> Result<Pod> {
        let knows_us = |bootstrap: &str| bootstrap.contains("internal_listener");
        Pod::start(&self.api, &self.namespace, name, self.stack.directory(), knows_us).await
    }

    /// The pod of the Gateway that the agent makes where it delivers by Gateway API, and its address.
    pub(crate) async fn add_pod_of_ours(&self) -> Result<(Pod, SocketAddr)> {
        let gateway = format!("imp-{}", self.provider.gateway_id);
        let folder = self.stack.directory();
        let is_made = |bootstrap: &str| !bootstrap.is_empty();
        let pod = Pod::of(&self.api, (OURS, &gateway), "envoy-ours", folder, is_made).await?;
        Ok((pod, SocketAddr::new(self.address.ip(), self.provider.port)))
    }

    /// A product whose backend Kubernetes takes: it is not on loopback.
    pub(crate) async fn product(&self, label: &str) -> Result<String> {
        let at = self._theirs.address();
        let mut service = echo_service(&self.stack, label, "/");
        service["backends"][0]["endpoints"] =
            json!([{ "host": at.ip().to_string(), "port": at.port() }]);
        let service = self.provider.service(&service).await?;
        self.provider.product(label, &[service]).await
    }
}
