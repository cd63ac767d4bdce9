//! A whole stack for one run. Envoys reach the agent through a gate: while it is closed, they serve
//! what they have, and what is published gathers in the agent.

use std::time::Duration;

use anyhow::Result;

use super::caller::{Caller, Target};
use super::contents::Bulk;
use super::subject::Subject;
use super::{Plan, walk};
use crate::counting::Counting;
use crate::ports;
use crate::process::eventually;
use crate::stack::{Options, Stack};

/// Until the agent has what the control plane has.
const HELD: Duration = Duration::from_secs(600);

/// The stack with its tenants.
pub struct Setup {
    pub plan: Plan,
    pub stack: Stack,
    pub bulk: Bulk,
    pub subject: Subject,
    gate: Option<Counting>,
    port: u16,
}

impl Setup {
    /// Starts everything. Envoys serve the subject's hosts, and the gate is closed.
    pub async fn start(plan: Plan) -> Result<Self> {
        let layout = plan.layout.iter().flat_map(|layout| ["--layout".to_owned(), layout.clone()]);
        let mut options = Options { workers: plan.workers, envoy: false, ..Options::asking() };
        options.agent_flags.extend(layout);
        let (stack, port) = (Stack::start(options).await?, ports::free()?);
        let number = plan.publishes + plan.live;
        let bulk = Bulk::prepare(&stack, port, plan.contents, number).await?;
        let subject = Subject::prepare(&stack, port, &plan).await?;
        let mut setup = Self { plan, stack, bulk, subject, gate: None, port };
        setup.open_gate().await?;
        let socket = setup.gate_socket();
        for _ in 0..setup.plan.envoys {
            setup.stack.add_envoy_through(&socket).await?;
        }
        for target in setup.targets() {
            setup.subject.is_served(&target).await?;
        }
        setup.close_gate();
        setup.agent_reaches("imp_envoys", 0.0).await?;
        Ok(setup)
    }

    /// Publishes the first `publishes` of the plan, and waits until the agent has all. Returns how
    /// many were accepted per second.
    pub async fn load(&self) -> Result<f64> {
        let before = self.stack.agent.metric("imp_publishes").await?;
        let per_second = self.bulk.load(0..self.plan.publishes).await?;
        self.agent_reaches("imp_publishes", before + self.plan.publishes as f64).await?;
        Ok(per_second)
    }

    /// Lets Envoys reach the agent. They try at least once a second.
    pub async fn open_gate(&mut self) -> Result<()> {
        let socket = self.gate_socket();
        self.gate = Some(Counting::between(&socket, &self.stack.agent.xds).await?);
        Ok(())
    }

    /// Cuts Envoys off.
    pub fn close_gate(&mut self) {
        self.gate = None;
    }

    /// Bytes that went through the open gate to Envoys.
    pub fn passed(&self) -> u64 {
        self.gate.as_ref().map_or(0, Counting::down)
    }

    /// Polls a metric of the agent until it has this value.
    pub(super) async fn agent_reaches(&self, metric: &str, value: f64) -> Result<()> {
        let last = std::cell::Cell::new(f64::NAN);
        let reached = eventually(&format!("{metric} is {value}"), HELD, async || {
            last.set(self.stack.agent.metric(metric).await?);
            Ok((last.get() == value).then_some(()))
        })
        .await;
        anyhow::Context::with_context(reached, || format!("last seen: {}", last.get()))
    }

    /// Where each Envoy is called.
    pub(super) fn targets(&self) -> Vec<Target> {
        let gateway = ports::local(self.port);
        let several = self.stack.envoys.len() > 1;
        let target =
            |envoy: &crate::stack::Envoy| Target { gateway, envoy: several.then(|| envoy.admin()) };
        self.stack.envoys.iter().map(target).collect()
    }

    /// A caller of each Envoy.
    pub(super) async fn callers(&self) -> Result<Vec<Caller>> {
        let mut callers = Vec::new();
        for target in self.targets() {
            callers.push(Caller::open(target).await?);
        }
        Ok(callers)
    }

    /// Walks over some of the publishes on each Envoy.
    pub(super) async fn sample(&self, publishes: usize) -> Result<walk::Walk> {
        walk::sample(&self.targets(), publishes, |index| self.bulk.expected(index)).await
    }

    fn gate_socket(&self) -> std::path::PathBuf {
        self.stack.directory().join("gate.sock")
    }
}
