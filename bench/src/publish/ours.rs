//! Ours: REST, database, outbox, compile, hub, agent, Envoy. The usual layout is the same stack
//! with a flag for the agent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::{Bytes, Probes, Timing, host};
use crate::counting::Counting;
use crate::rest::{Rest, text};
use crate::sample::{Provider, echo_service};
use crate::stack::{Options, Stack};

/// Concurrent writers while objects are prepared, outside of the measurement.
const WRITERS: usize = 4;

/// Longer than the slowest layout takes to load 3,000 publishes.
const LOADED: Duration = Duration::from_secs(300);

/// A stack with one provider, and one product per publish.
pub struct Ours {
    stack: Stack,
    provider: Provider,
    products: Vec<String>,
    probes: Option<Probes>,
    workers: u32,
}

impl Ours {
    /// Starts everything but Envoy; `agent_flags` choose the layout.
    pub async fn start(agent_flags: &[&str], workers: u32) -> Result<Self> {
        let mut options = Options { workers, envoy: false, ..Options::asking() };
        options.agent_flags.extend(agent_flags.iter().map(|flag| (*flag).to_owned()));
        let stack = Stack::start(options).await?;
        let provider = Provider::create(&stack, "bench").await?;
        Ok(Self { stack, provider, products: vec![], probes: None, workers })
    }

    /// Creates services and products, so that each publish is a single POST. Each service has a
    /// backend of its own, so that each publish adds a cluster as well as a scope.
    pub async fn prepare(&mut self, publishes: usize) -> Result<()> {
        let from = self.products.len();
        let made: Vec<String> = stream::iter(from..publishes)
            .map(|index| self.product(index))
            .buffered(WRITERS)
            .try_collect()
            .await?;
        self.products.extend(made);
        Ok(())
    }

    async fn product(&self, index: usize) -> Result<String> {
        let label = format!("p{index}");
        let mut service = echo_service(&self.stack, &label, "/");
        service["backends"][0]["connect_timeout_ms"] = json!(connect_timeout_ms(index));
        let service = self.provider.service(&service).await?;
        self.provider.product(&label, &[service]).await
    }

    /// Publishes all of these without measuring; needs no Envoy.
    pub async fn load(&self, range: std::ops::Range<usize>) -> Result<()> {
        stream::iter(range)
            .map(async |index| self.post(index).await.map(drop))
            .buffered(WRITERS)
            .try_collect()
            .await
    }

    async fn post(&self, index: usize) -> Result<String> {
        let product = self.products.get(index).context("not prepared")?;
        self.provider.publish(product, &host(index), "none").await
    }

    /// Starts a new Envoy, which serves `publishes` already; `probed` also opens the probes.
    pub async fn attach(&mut self, publishes: usize) -> Result<()> {
        self.probes = None;
        self.stack.envoys.clear();
        self.stack.add_envoy().await?;
        let gateway = self.provider.address();
        let last = publishes.checked_sub(1).context("publish something first")?;
        crate::process::eventually("the last publish", LOADED, async || {
            let answer = crate::edge::call(gateway, &host(last), "/", &[]).await.ok();
            Ok(answer.filter(|answer| answer.status == 200))
        })
        .await?;
        let envoy = self.stack.envoys.last().context("no Envoy")?;
        self.probes = Some(Probes::open(&envoy.admin(), gateway, self.workers).await?);
        Ok(())
    }

    /// Makes a publish and measures it.
    pub async fn publish(&self, index: usize) -> Result<Timing> {
        let probes = self.probes.as_ref().context("no Envoy is attached")?;
        let product = self.products.get(index).context("not prepared")?;
        let spec = self.provider.publish_spec(product, &host(index), "none");
        timed_post(&self.provider.rest, &spec, &host(index), std::slice::from_ref(probes)).await
    }

    /// Counts the bytes of one publish on each hop: agent and Envoy are restarted behind counting
    /// proxies, without calls.
    pub async fn bytes(&mut self, range: std::ops::Range<usize>) -> Result<Bytes> {
        let count = range.len().max(1) as f64;
        let to_agent = Counting::start(self.stack.control.agent_listen).await?;
        let socket = self.stack.directory().join("counting.sock");
        let to_envoy = Counting::between(&socket, &self.stack.agent.xds).await?;
        self.probes = None;
        self.stack.envoys.clear();
        self.stack.agent.look_for_control_at(to_agent.address()?);
        self.stack.restart_agent().await?;
        self.stack.add_envoy_through(&socket).await?;
        // One publish to know that both are up to date.
        let mut rest = range.clone();
        let first = rest.next().context("an empty range")?;
        self.active(first).await?;
        let before = (to_agent.down(), to_envoy.down());
        for index in rest {
            self.active(index).await?;
        }
        let measured = (count - 1.0).max(1.0);
        Ok(Bytes {
            to_agent: (to_agent.down() - before.0) as f64 / measured,
            to_envoy: (to_envoy.down() - before.1) as f64 / measured,
        })
    }

    async fn active(&self, index: usize) -> Result<()> {
        let id = self.post(index).await?;
        self.stack.publish_reaches(&id, "active", LOADED).await.map(drop)
    }
}

/// Makes a publish of this host and measures it, on every Envoy that has probes.
pub async fn timed_post(
    rest: &Rest,
    spec: &Value,
    host: &str,
    probes: &[Probes],
) -> Result<Timing> {
    let sent = Instant::now();
    let answer = rest.post("/v1/product-publishes", spec).await?;
    let committed = Instant::now();
    // Not sooner: two polling threads take most of one of two cores.
    let watches: Vec<_> = probes.iter().map(|probes| probes.watch(host)).collect();
    let mut served = committed;
    for watch in watches {
        served = served.max(watch.served().await?);
    }
    text(&answer, "id")?;
    Ok(Timing {
        from_post: milliseconds(served.saturating_duration_since(sent)),
        from_commit: milliseconds(served.saturating_duration_since(committed)),
        to_commit: milliseconds(committed.saturating_duration_since(sent)),
    })
}

/// Distinct for each publish, so that its cluster is, too.
pub(super) fn connect_timeout_ms(index: usize) -> u32 {
    1_000 + u32::try_from(index % 50_000).unwrap_or_default()
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
