//! The agent starts again, and an Envoy that has nothing connects to it.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{Setup, milliseconds};
use crate::process::Memory;

/// After this time an agent has sent what it has to send to an Envoy that came back.
const SETTLED: Duration = Duration::from_secs(2);

/// What happened, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Restart {
    /// From the agent's start until it is ready.
    pub ready: f64,
    /// From the start of a new Envoy until it serves every host.
    pub fresh: f64,
    /// The agent's memory after both.
    pub agent: Memory,
}

/// Starts the agent from its disk, without a control plane, and new Envoys. These reach it without
/// the gate from here on. Then the control plane starts again.
pub async fn from_disk(setup: &mut Setup) -> Result<Restart> {
    setup.agent_reaches("imp_lkg_behind_rows", 0.0).await?;
    setup.stack.envoys.clear();
    setup.close_gate();
    // Its address is in Envoys' configuration, so it stays.
    setup.stack.control.kill();
    let began = Instant::now();
    setup.stack.restart_agent().await?;
    let ready = milliseconds(began, Instant::now());
    let began = Instant::now();
    for _ in 0..setup.plan.envoys {
        setup.stack.add_envoy().await?;
    }
    let walk = setup.sample(setup.plan.publishes).await?;
    let fresh = milliseconds(began, walk.served());
    let agent = Memory::of(setup.stack.agent.pid())?;
    setup.stack.control.revive().await?;
    Ok(Restart { ready, fresh, agent })
}

/// Starts the agent again, with a control plane. Returns the bytes that it sent to Envoys, which have
/// everything.
pub async fn reconnected(setup: &mut Setup) -> Result<f64> {
    setup.stack.restart_agent().await?;
    setup.agent_reaches("imp_envoys", f64::from(setup.plan.envoys)).await?;
    setup.agent_reaches("imp_link_connected", 1.0).await?;
    sleep(SETTLED).await;
    setup.stack.agent.metric("xds_sent_bytes_total").await
}
