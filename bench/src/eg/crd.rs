//! Delivery by Gateway API: from the POST to the first answer, and Envoy Gateway's own part of it, which is the time for the same
//! objects when a client applies them.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Plan;
use super::changes::Block;
use super::side::{pid, used};
use super::watch::{milliseconds, surely};
use crate::kube::{Api, ENVOY_GATEWAY, GATEWAYS, Pod, stack, variable};
use crate::ports;
use crate::rest::text;
use crate::sample::Provider;
use crate::stack::{PATIENCE, Stack};
use crate::upstream::Upstream;

/// Where the agent applies what it renders; the stack has it.
const NAMESPACE: &str = "edge";

/// The kinds that a publish may have, in the order in which they are applied: routes last.
const KINDS: [(&str, &str); 5] = [
    (ENVOY_GATEWAY, "backends"),
    (ENVOY_GATEWAY, "httproutefilters"),
    (ENVOY_GATEWAY, "backendtrafficpolicies"),
    (ENVOY_GATEWAY, "securitypolicies"),
    (GATEWAYS, "httproutes"),
];

const PUBLISH: &str = "imp-gateway.io/of-publish";

const WRITERS: usize = 4;

/// Without work for so long a process rests.
const REST: Duration = Duration::from_millis(150);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Crd {
    pub existing: usize,
    /// From the POST; nothing is counted but time.
    pub publish: Block,
    /// The same objects, applied one after another by a client; answered by the last.
    pub applied: Block,
    /// The objects of one publish.
    pub objects: Vec<String>,
}

struct Rig {
    api: Api,
    stack: Stack,
    provider: Provider,
    product: String,
    gateway: SocketAddr,
    eg: u32,
    _upstream: Upstream,
    _pod: Option<Pod>,
}

pub(super) async fn measure(plan: &Plan, say: &impl Fn(&str)) -> Result<Crd> {
    say("by Gateway API: starting");
    let mut rig = Rig::start().await?;
    let first = rig.publish(0).await?;
    rig.stack.publish_reaches(&first, "active", PATIENCE).await?;
    rig._pod = Some(rig.pod().await?);
    say("by Gateway API: loading");
    rig.load(1..plan.crd).await?;
    let model = rig.model(&first).await?;
    let objects = model.iter().map(|(path, _)| path.clone()).collect();
    say("by Gateway API: publishing");
    let (mut publish, mut applied) = (Block::default(), Block::default());
    for index in plan.crd..plan.crd + plan.crd_timed {
        let sent = Instant::now();
        rig.publish(index).await?;
        let answered = Instant::now();
        rig.push(&mut publish, sent, answered, &host(index)).await?;
        let host = format!("direct-{index}.{DOMAIN}");
        let sent = Instant::now();
        rig.apply(&model, &first, index, &host).await?;
        let answered = Instant::now();
        rig.push(&mut applied, sent, answered, &host).await?;
    }
    // The API server and Envoy Gateway are others', too.
    rig.stack.agent.kill();
    rig.api.clear(NAMESPACE).await?;
    Ok(Crd { existing: plan.crd, publish, applied, objects })
}

const DOMAIN: &str = "crd.example.com";

fn host(index: usize) -> String {
    format!("h{index}.{DOMAIN}")
}

impl Rig {
    async fn start() -> Result<Self> {
        let ip = variable("IMP_KUBE_ADDRESS")?;
        let xds = SocketAddr::new(ip.parse()?, ports::free()?);
        let flags = ["ext-authz", "envoy-gateway=eg", NAMESPACE];
        let names = ["door", "gateway-class", "gateway-api-namespace"];
        let flags = names.iter().zip(flags).map(|(name, value)| format!("--{name}={value}"));
        let flags: Vec<_> = flags.collect();
        // Its own role is proven elsewhere.
        let stack = stack(&variable("KUBECONFIG")?, xds, &flags).await?;
        let provider = Provider::create(&stack, "acme").await?;
        let upstream = Upstream::start_at(&ip).await?;
        let at = upstream.address();
        let service = provider
            .service(&json!({
                "name": "echo",
                "backends": [{
                    "name": "upstream",
                    "endpoints": [{"host": at.ip().to_string(), "port": at.port()}],
                }],
                "routes": [{"name": "all", "path": {"prefix": "/"}, "backend_id": "upstream"}],
            }))
            .await?;
        let product = provider.product("echo", &[service]).await?;
        let gateway = ports::local(provider.port);
        let (api, eg) = (Api::new()?, pid("eg")?);
        Ok(Self { api, stack, provider, product, gateway, eg, _upstream: upstream, _pod: None })
    }

    async fn pod(&self) -> Result<Pod> {
        let name = format!("imp-{}", self.provider.gateway_id);
        let folder = self.stack.directory();
        let is_there = |bootstrap: &str| !bootstrap.is_empty();
        Pod::start(&self.api, (NAMESPACE, &name), "envoy-crd", folder, is_there).await
    }

    async fn publish(&self, index: usize) -> Result<String> {
        let mut spec = self.provider.publish_spec(&self.product, &host(index), "none");
        spec["delivery"] = "crd".into();
        text(&self.provider.rest.post("/v1/product-publishes", &spec).await?, "id")
    }

    async fn load(&self, range: Range<usize>) -> Result<()> {
        let publishes = stream::iter(range).map(|index| self.publish(index));
        let ids: Vec<String> = publishes.buffered(WRITERS).try_collect().await?;
        for id in &ids {
            self.stack.publish_reaches(id, "active", PATIENCE * 9).await?;
        }
        surely(self.gateway, request(&host(ids.len())), 200).await?;
        self.rests().await
    }

    /// The objects of a publish as a client would write them, with their paths below the namespace.
    async fn model(&self, publish: &str) -> Result<Vec<(String, Value)>> {
        let mut model = Vec::new();
        for (api, kind) in KINDS {
            let list =
                format!("{api}/namespaces/{NAMESPACE}/{kind}?labelSelector={PUBLISH}={publish}");
            for object in self.api.list(&list).await? {
                let name = object.pointer("/metadata/name").and_then(Value::as_str);
                let name = name.context("no name")?.to_owned();
                let (api_version, of) = match api {
                    GATEWAYS => ("gateway.networking.k8s.io/v1", "HTTPRoute"),
                    _ => ("gateway.envoyproxy.io/v1alpha1", kind_of(kind)),
                };
                let written = json!({
                    "apiVersion": api_version, "kind": of,
                    "metadata": {"name": name, "namespace": NAMESPACE}, "spec": object["spec"],
                });
                model.push((format!("{api}/namespaces/{NAMESPACE}/{kind}/{name}"), written));
            }
        }
        ensure!(model.len() > 1, "the objects of {publish} are not all here: {model:?}");
        Ok(model)
    }

    /// Applies the model under another name, at another host.
    async fn apply(
        &self,
        model: &[(String, Value)],
        publish: &str,
        index: usize,
        to: &str,
    ) -> Result<()> {
        for (path, object) in model {
            let renamed = |text: &str| {
                text.replace(publish, &format!("direct-{index}")).replace(&host(0), to)
            };
            let object = serde_json::from_str(&renamed(&object.to_string()))?;
            self.api.apply(&renamed(path), &object).await?;
        }
        Ok(())
    }

    async fn push(
        &self,
        block: &mut Block,
        sent: Instant,
        answered: Instant,
        host: &str,
    ) -> Result<()> {
        let seen = surely(self.gateway, request(host), 200).await?;
        block.seen.0.push(milliseconds(sent, seen));
        block.answered.0.push(milliseconds(sent, answered));
        self.rests().await
    }

    async fn rests(&self) -> Result<()> {
        let pids = [self.eg, self.stack.agent.pid()];
        let mut last = used(&pids)?;
        let deadline = Instant::now() + PATIENCE * 9;
        loop {
            sleep(REST).await;
            let now = used(&pids)?;
            if now.saturating_sub(last) <= Duration::from_millis(20) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "they work on and on");
            last = now;
        }
    }
}

fn request(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

fn kind_of(plural: &str) -> &'static str {
    match plural {
        "backends" => "Backend",
        "httproutefilters" => "HTTPRouteFilter",
        "backendtrafficpolicies" => "BackendTrafficPolicy",
        _ => "SecurityPolicy",
    }
}
