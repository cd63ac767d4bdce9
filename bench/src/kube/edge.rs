//! Our stack beside Envoy Gateway, and one Gateway that both serve.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::api::{Api, variable};
use super::pod::Pod;
use crate::ports;
use crate::sample::{Provider, echo_service};
use crate::stack::{Options, Stack};
use crate::upstream::Upstream;

/// The namespace in which the agent's user may write objects of Gateway API.
pub const OURS: &str = "edge";

/// What is not the same for all.
#[derive(Clone, Debug, Default)]
pub struct EdgeOptions {
    /// Hosts that lead to us before they are published: the annotation `imp-gateway.io/hosts`.
    pub hosts: Option<String>,
    /// The Gateway is ours alone: the annotation `imp-gateway.io/mode`. It has no route of theirs.
    pub dedicated: bool,
    /// More flags for the agent.
    pub agent_flags: Vec<String>,
}

/// Dropped in this order: Envoy first.
pub struct Edge {
    pub api: Api,
    pub pod: Option<Pod>,
    pub stack: Stack,
    pub provider: Provider,
    pub namespace: String,
    /// The Gateway's plain listener.
    pub address: SocketAddr,
    /// The one with TLS.
    pub secure: SocketAddr,
    /// The upstream of their routes.
    pub theirs: Upstream,
}

impl Edge {
    /// Everything but the pod. `name` is the namespace.
    pub async fn prepare(name: &str, options: &EdgeOptions) -> Result<Self> {
        let api = Api::new()?;
        // Envoy Gateway takes no backend on loopback, and the agent is one where it delivers by Gateway API.
        let ip = variable("IMP_KUBE_ADDRESS")?.parse()?;
        let xds = SocketAddr::new(ip, ports::free()?);
        let stack = stack(xds, &options.agent_flags).await?;
        let provider = Provider::create(&stack, "acme").await?;
        let theirs = Upstream::start_at(&variable("IMP_KUBE_ADDRESS")?).await?;
        let listen = [ports::free()?, ports::free()?];
        // Of a caller on loopback Envoy would say another address.
        let [address, secure] = listen.map(|port| SocketAddr::new(ip, port));
        let namespace = name.to_owned();
        let edge = Self { api, pod: None, stack, provider, namespace, address, secure, theirs };
        let hosts = options.hosts.as_deref().map(|hosts| ("imp-gateway.io/hosts", hosts));
        let mode = options.dedicated.then_some(("imp-gateway.io/mode", "dedicated"));
        let annotations: Vec<_> = hosts.into_iter().chain(mode).collect();
        edge.api.gateway(name, &edge.provider.gateway_id, &annotations, listen).await?;
        let at = edge.theirs.address();
        edge.api.service(name, "theirs", &at.ip().to_string(), at.port()).await?;
        if !options.dedicated {
            edge.api.route(name, "theirs", "theirs.example.com").await?;
        }
        Ok(edge)
    }

    /// With the pod.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, &EdgeOptions::default()).await
    }

    /// The same, with options.
    pub async fn start_with(name: &str, options: &EdgeOptions) -> Result<Self> {
        let mut edge = Self::prepare(name, options).await?;
        edge.pod = Some(edge.add_pod("envoy-a").await?);
        Ok(edge)
    }

    /// The first pod.
    pub fn pod(&self) -> Result<&Pod> {
        self.pod.as_ref().context("no pod")
    }

    /// Another pod of the Gateway.
    pub async fn add_pod(&self, name: &str) -> Result<Pod> {
        let knows_us = |bootstrap: &str| bootstrap.contains("internal_listener");
        let gateway = (&*self.namespace, "gw");
        Pod::start(&self.api, gateway, name, self.stack.directory(), knows_us).await
    }

    /// The pod of the Gateway that the agent makes where it delivers by Gateway API, and its address.
    pub async fn add_pod_of_ours(&self) -> Result<(Pod, SocketAddr)> {
        let pod = pod_of_ours(&self.api, &self.stack, &self.provider).await?;
        Ok((pod, SocketAddr::new(self.address.ip(), self.provider.port)))
    }

    /// A product whose backend Kubernetes takes: it is not on loopback.
    pub async fn product(&self, label: &str) -> Result<String> {
        let at = self.theirs.address();
        let mut service = echo_service(&self.stack, label, "/");
        service["backends"][0]["endpoints"] =
            json!([{ "host": at.ip().to_string(), "port": at.port() }]);
        let service = self.provider.service(&service).await?;
        self.provider.product(label, &[service]).await
    }
}

/// The pod of the Gateway that the agent makes of a provider's gateway.
pub async fn pod_of_ours(api: &Api, stack: &Stack, provider: &Provider) -> Result<Pod> {
    let gateway = format!("imp-{}", provider.gateway_id);
    let is_made = |bootstrap: &str| !bootstrap.is_empty();
    Pod::start(api, (OURS, &gateway), "envoy-ours", stack.directory(), is_made).await
}

/// A control plane, and an agent that Envoys find at `xds`. Backends may be where Envoy Gateway's are.
pub async fn stack(xds: SocketAddr, flags: &[String]) -> Result<Stack> {
    // Its user may do what the roles in deploy/kube say and nothing else.
    let kubeconfig = variable("IMP_KUBECONFIG")?;
    let backends = format!("{}/32", variable("IMP_KUBE_ADDRESS")?);
    let mut options = Options { envoy: false, ..Options::default() };
    options.agent_flags = vec![
        format!("--xds-listen={xds}"),
        format!("--kubeconfig={kubeconfig}"),
        format!("--kube-agent-address={xds}"),
    ];
    options.agent_flags.extend(flags.iter().cloned());
    options.control_flags.push(format!("--allow-upstream={backends}"));
    options.allow.push(backends);
    Stack::start(options).await
}
