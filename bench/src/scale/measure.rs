//! Everything about one number of publishes.

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;

use super::{Burst, Edit, Plan, Restart, Setup, burst, edit, from_disk, milliseconds};
use super::{everywhere, reconnected, timed};
use crate::process::Memory;
use crate::report::Times;

/// The figures of one run; times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub plan: Plan,
    /// Publishes accepted per second while Envoys are cut off.
    pub accepted: f64,
    pub burst: Burst,
    /// After the burst: agent, control plane, the first Envoy.
    pub agent: Memory,
    pub control: Memory,
    pub envoy: Memory,
    pub restart: Restart,
    /// Bytes that a restarted agent sent to Envoys that had everything.
    pub sent_again: f64,
    pub post_to_serve: Times,
    pub post_to_answer: Times,
    pub answer_to_serve: Times,
    /// Publishes accepted per second while Envoys are connected.
    pub accepted_live: f64,
    /// From the answer to the last of these until every Envoy serves all of them.
    pub behind: f64,
    pub edit: Edit,
}

impl Measured {
    /// Answers that callers should not have got.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.burst.calls.faults.iter().chain(&self.edit.calls.faults)
    }
}

/// Runs a plan; `say` tells how far it is.
pub async fn measure(plan: &Plan, say: impl Fn(&str)) -> Result<Measured> {
    say("tenants and products");
    let mut setup = Setup::start(plan.clone()).await?;
    say("loading, Envoys cut off");
    let accepted = setup.load().await?;
    say(&format!("{accepted:.0} accepted per second; burst"));
    let burst = burst(&mut setup).await?;
    say(&format!("burst served in {:.0} ms; restart from disk", burst.served));
    let agent = Memory::of(setup.stack.agent.pid())?;
    let control = Memory::of(setup.stack.control.pid())?;
    let envoy = anyhow::Context::context(setup.stack.envoys.first(), "no Envoy")?;
    let envoy = Memory::of(envoy.pid())?;
    let restart = from_disk(&mut setup).await?;
    let sent_again = reconnected(&mut setup).await?;
    say(&format!("ready in {:.0} ms, a new Envoy in {:.0}", restart.ready, restart.fresh));
    let timings = timed(&setup).await?;
    let p50 = timings.from_post.percentile(0.5);
    say(&format!("POST to serve {p50:.1} ms; loading with Envoys connected"));
    let (accepted_live, behind) = live(&setup).await?;
    say(&format!("{accepted_live:.0} accepted per second; a service is edited"));
    let edit = edit(&setup).await?;
    say(&format!("its {} publishes were served in {:.0} ms", plan.edited, edit.served));
    Ok(Measured {
        plan: plan.clone(),
        accepted,
        burst,
        agent,
        control,
        envoy,
        restart,
        sent_again,
        post_to_serve: timings.from_post,
        post_to_answer: timings.to_commit,
        answer_to_serve: timings.from_commit,
        accepted_live,
        behind,
        edit,
    })
}

/// Loads more publishes with Envoys connected. Returns how many were accepted per second, and by how
/// many milliseconds Envoys were behind.
async fn live(setup: &Setup) -> Result<(f64, f64)> {
    let (first, number) = (setup.plan.publishes, setup.plan.live);
    let per_second = setup.bulk.load(first..first + number).await?;
    let answered = Instant::now();
    // The last ones first.
    let expected = |index| setup.bulk.expected(first + number - 1 - index);
    let walk = everywhere(setup, number, expected).await?;
    Ok((per_second, walk.waited.map_or(0.0, |served| milliseconds(answered, served))))
}
