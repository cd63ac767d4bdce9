//! Publishes one after another, each timed until every worker serves it.

use anyhow::Result;

use super::Setup;
use crate::ports;
use crate::publish::{Probes, Timings, timed_post};

/// Makes and times them.
pub async fn timed(setup: &Setup) -> Result<Timings> {
    let provider = &setup.subject.provider;
    let mut probes = Vec::new();
    for envoy in &setup.stack.envoys {
        let gateway = ports::local(provider.port);
        probes.push(Probes::open(&envoy.admin(), gateway, setup.plan.workers).await?);
    }
    let mut timings = Timings::default();
    for _ in 0..setup.plan.timed {
        let (spec, expected) = setup.subject.next_publish()?;
        timings.push(timed_post(&provider.rest, &spec, &expected.host, &probes).await?);
    }
    Ok(timings)
}
