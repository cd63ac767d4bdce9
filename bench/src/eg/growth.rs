//! Changes beside few and many routes, in turns.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Plan;
use super::bad::{self, Bad};
use super::changes::{Block, Changes, changes, timed};
use super::churn::{self, Churn};
use super::ours::{self, FRESH, NEW_DOMAIN, Ours};
use super::side::{Shape, Side, pid};
use super::theirs::Theirs;
use crate::kube::Edge;
use crate::process::Memory;

/// Turns of theirs and ours at each size.
const ROUNDS: usize = 3;

/// What was measured at one size.
#[derive(Debug, Serialize)]
pub struct Size {
    /// Routes of theirs, and publishes of ours.
    pub existing: usize,
    pub theirs: Changes,
    pub ours: Changes,
    /// Publishes at hosts that Envoy Gateway must lead to us first.
    pub new_hosts: Option<Block>,
    /// RSS in MB: Envoy Gateway, control plane, agent, Envoy.
    pub memory: [f64; 4],
}

/// All sizes of one shape, and what was tried at the last.
#[derive(Debug, Serialize)]
pub struct Sizes {
    pub shape: Shape,
    pub sizes: Vec<Size>,
    pub churn: Churn,
    pub bad: Bad,
}

pub(super) async fn measure(plan: &Plan, shape: Shape, say: &impl Fn(&str)) -> Result<Sizes> {
    let words = shape.words();
    say(&format!("{words}: starting"));
    let options = ours::options();
    let name = words.replace(' ', "-");
    let edge = Edge::start_with(&name, &options).await?;
    let largest = plan.sizes.iter().copied().max().context("no sizes")?;
    let timed_ours = plan.sizes.len() * plan.ours;
    let fresh = timed_ours + plan.churned + plan.others;
    let theirs = Theirs::start(&edge, shape).await?;
    let ours = Ours::start(&edge, shape, largest, fresh).await?;
    let (mut sizes, mut there) = (Vec::new(), 0);
    for (number, &existing) in plan.sizes.iter().enumerate() {
        say(&format!("{words}: loading up to {existing}"));
        ours.load(there..existing).await?;
        theirs.load(there..existing).await?;
        there = existing;
        say(&format!("{words}: changes beside {existing}"));
        sizes.push(size(plan, existing, &theirs, &ours, FRESH + number * plan.ours).await?);
    }
    let from = FRESH + timed_ours;
    say(&format!("{words}: changes under load"));
    let churn = churn::churn(&theirs, &ours, there, from..from + plan.churned).await?;
    say(&format!("{words}: a bad value"));
    let from = from + plan.churned;
    let bad = bad::bad(&theirs, &ours, from..from + plan.others).await?;
    edge.api.clear(&name).await?;
    theirs.rests().await?;
    Ok(Sizes { shape, sizes, churn, bad })
}

async fn size(
    plan: &Plan,
    existing: usize,
    theirs: &Theirs<'_>,
    ours: &Ours<'_>,
    from: usize,
) -> Result<Size> {
    let (mut of_theirs, mut of_ours) = (Changes::default(), Changes::default());
    for round in 0..ROUNDS {
        let part = |all: usize| from + all * round / ROUNDS..from + all * (round + 1) / ROUNDS;
        of_theirs = of_theirs.and(changes(theirs, part(plan.theirs)).await?);
        of_ours = of_ours.and(changes(ours, part(plan.ours)).await?);
    }
    // One host leads to us already.
    let new_hosts = match ours.edge().namespace == Shape::Hosts.words().replace(' ', "-") {
        true => Some(new_hosts(plan, ours, from).await?),
        false => None,
    };
    let edge = ours.edge();
    let envoy = edge.pod.as_ref().context("no pod")?.pid();
    let pids = [pid("eg")?, edge.stack.control.pid(), edge.stack.agent.pid(), envoy];
    let mut memory = [0.0; 4];
    for (resident, pid) in memory.iter_mut().zip(pids) {
        *resident = Memory::of(pid)?.resident;
    }
    Ok(Size { existing, theirs: of_theirs, ours: of_ours, new_hosts, memory })
}

/// Publishes at hosts that do not lead to us yet, and their end.
async fn new_hosts(plan: &Plan, ours: &Ours<'_>, from: usize) -> Result<Block> {
    let (new, range) = (ours.below(NEW_DOMAIN), from..from + plan.theirs.min(plan.ours));
    let added = timed(&new, range.clone(), 200, async |index| new.add(index).await).await?;
    for index in range {
        new.remove(index).await?;
    }
    new.rests().await?;
    Ok(added)
}
