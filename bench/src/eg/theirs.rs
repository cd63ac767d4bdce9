//! Envoy Gateway: an HTTPRoute each, applied by a client without delays of its own.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::side::{Place, Shape, Side, pid, received, used};
use crate::kube::{Edge, GATEWAYS};

const DOMAIN: &str = "theirs.example.com";

/// The Services of both editions have the same upstream behind them.
pub(super) const SERVICES: [&str; 2] = ["theirs", "theirs-too"];

pub(super) struct Theirs<'a> {
    edge: &'a Edge,
    shape: Shape,
    pid: u32,
}

impl<'a> Theirs<'a> {
    pub(super) async fn start(edge: &'a Edge, shape: Shape) -> Result<Self> {
        let at = edge.theirs.address();
        let [_, second] = SERVICES;
        edge.api.service(&edge.namespace, second, &at.ip().to_string(), at.port()).await?;
        Ok(Self { edge, shape, pid: pid("eg")? })
    }

    /// Applies a route whose answers say `edition`.
    pub(super) async fn apply(&self, index: usize, edition: &str, service: &str) -> Result<()> {
        let Place { host, path } = self.place(index);
        let (name, namespace) = (name(index), &self.edge.namespace);
        let header = json!({"set": [{"name": "x-edition", "value": edition}]});
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "parentRefs": [{"name": "gw", "sectionName": "http"}],
                "hostnames": [host],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                    "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": header}],
                    "backendRefs": [{"name": service, "port": 80}],
                }],
            },
        });
        self.edge.api.apply(&self.path(index), &route).await?;
        Ok(())
    }

    fn path(&self, index: usize) -> String {
        format!("{GATEWAYS}/namespaces/{}/httproutes/{}", self.edge.namespace, name(index))
    }
}

fn name(index: usize) -> String {
    format!("r{index}")
}

impl Side for Theirs<'_> {
    fn edge(&self) -> &Edge {
        self.edge
    }

    fn place(&self, index: usize) -> Place {
        self.shape.place(DOMAIN, index)
    }

    async fn add(&self, index: usize) -> Result<()> {
        self.apply(index, "v1", SERVICES[0]).await
    }

    async fn edit(&self, index: usize) -> Result<()> {
        self.apply(index, "v2", SERVICES[1]).await
    }

    async fn remove(&self, index: usize) -> Result<()> {
        self.edge.api.delete(&self.path(index)).await
    }

    fn cpu(&self) -> Result<Duration> {
        used(&[self.pid])
    }

    async fn bytes(&self) -> Result<u64> {
        received(self.edge, "xds_cluster").await
    }
}
