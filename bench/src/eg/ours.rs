//! Ours: a publish each, through REST, to the Envoy of their Gateway.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::side::{Place, Shape, Side, received, used};
use crate::kube::{Edge, EdgeOptions, OURS as NAMESPACE};
use crate::rest::text;
use crate::sample::Echo;

/// Hosts below it lead to us before they are published.
const DOMAIN: &str = "ours.example.com";

/// Hosts below it do not.
pub(super) const NEW_DOMAIN: &str = "new.example.com";

/// Publishes that are there before share so many contents at most: a tenant has at most 2,000 services.
const SHARED: usize = 1_000;

/// Indices from here on have a content of their own.
pub(super) const FRESH: usize = 1_000_000;

const WRITERS: usize = 4;

/// How our part of a Gateway is set up.
pub(super) fn options() -> EdgeOptions {
    EdgeOptions {
        hosts: Some(format!("*.{DOMAIN}")),
        // It watches what it has written by Gateway API, too, and may do so there only.
        agent_flags: vec![
            "--door=ext-authz".to_owned(),
            format!("--gateway-api-namespace={NAMESPACE}"),
        ],
        ..EdgeOptions::default()
    }
}

pub(super) struct Ours<'a> {
    edge: &'a Edge,
    shape: Shape,
    domain: &'static str,
    contents: Vec<Echo>,
    shared: usize,
    published: Mutex<HashMap<usize, String>>,
}

impl<'a> Ours<'a> {
    /// Creates services and products, so that a publish is a single POST: for `existing` publishes that are there
    /// before, and so many fresh ones.
    pub(super) async fn start(
        edge: &'a Edge,
        shape: Shape,
        existing: usize,
        fresh: usize,
    ) -> Result<Self> {
        let shared = existing.min(SHARED);
        let contents = stream::iter(0..shared + fresh)
            .map(|index| content(edge, index))
            .buffered(WRITERS)
            .try_collect()
            .await?;
        Ok(Self { edge, shape, domain: DOMAIN, contents, shared, published: Mutex::default() })
    }

    /// The same with hosts below another domain.
    pub(super) fn below(&self, domain: &'static str) -> Self {
        let (contents, published) = (self.contents.clone(), Mutex::default());
        Self {
            edge: self.edge,
            shape: self.shape,
            domain,
            contents,
            shared: self.shared,
            published,
        }
    }

    /// The product of a content.
    pub(super) fn product(&self, index: usize) -> Result<&str> {
        Ok(&self.content(index)?.product_id)
    }

    fn content(&self, index: usize) -> Result<&Echo> {
        let place = match index.checked_sub(FRESH) {
            Some(fresh) => self.shared + fresh,
            None => index % self.shared.max(1),
        };
        self.contents.get(place).with_context(|| format!("{index} is not prepared"))
    }

    fn id(&self, index: usize) -> Result<String> {
        let published = self.published.lock().map_err(|_| anyhow::anyhow!("a writer died"))?;
        published.get(&index).cloned().with_context(|| format!("{index} is not published"))
    }
}

async fn content(edge: &Edge, index: usize) -> Result<Echo> {
    let label = format!("c{index}");
    let service_id = edge.provider.service(&service(edge, &label, index, "v1")).await?;
    let product_id = edge.provider.product(&label, std::slice::from_ref(&service_id)).await?;
    Ok(Echo { service_id, product_id })
}

/// With the upstream that their Services have. Each content has a backend of its own, and so does each edition.
fn service(edge: &Edge, label: &str, index: usize, edition: &str) -> Value {
    let at = edge.theirs.address();
    let timeout = 1_000 + index % 10_000 * 2 + usize::from(edition == "v2");
    json!({
        "name": label,
        "backends": [{
            "name": "upstream",
            "endpoints": [{"host": at.ip().to_string(), "port": at.port()}],
            "connect_timeout_ms": timeout,
        }],
        "routes": [{"name": "all", "path": {"prefix": "/"}, "backend_id": "upstream"}],
        "policies": [{
            "name": "edition",
            "type": "response_headers",
            "config": {"set": [
                {"name": "x-edition", "value": edition}, {"name": "x-content", "value": label},
            ]},
        }],
    })
}

impl Side for Ours<'_> {
    fn edge(&self) -> &Edge {
        self.edge
    }

    fn place(&self, index: usize) -> Place {
        self.shape.place(self.domain, index)
    }

    async fn add(&self, index: usize) -> Result<()> {
        let (place, provider) = (self.place(index), &self.edge.provider);
        let mut spec = provider.publish_spec(self.product(index)?, &place.host, "none");
        if self.shape == Shape::Paths {
            spec["base_path"] = place.path.into();
        }
        let id = text(&provider.rest.post("/v1/product-publishes", &spec).await?, "id")?;
        let mut published = self.published.lock().map_err(|_| anyhow::anyhow!("a writer died"))?;
        published.insert(index, id);
        Ok(())
    }

    async fn edit(&self, index: usize) -> Result<()> {
        let content = self.content(index)?;
        let edited = service(self.edge, "edited", index, "v2");
        let fields = json!({"backends": edited["backends"], "policies": edited["policies"]});
        let rest = &self.edge.provider.rest;
        rest.patch(&format!("/v1/api-services/{}", content.service_id), &fields).await?;
        rest.act(&format!("/v1/product-publishes/{}/redeploy", self.id(index)?)).await?;
        Ok(())
    }

    async fn remove(&self, index: usize) -> Result<()> {
        let path = format!("/v1/product-publishes/{}", self.id(index)?);
        self.edge.provider.rest.delete(&path).await.map(drop)
    }

    fn cpu(&self) -> Result<Duration> {
        used(&[self.edge.stack.control.pid(), self.edge.stack.agent.pid()])
    }

    async fn bytes(&self) -> Result<u64> {
        received(self.edge, "agent").await
    }
}
