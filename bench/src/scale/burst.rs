//! All publishes at once: the agent has them, and connected Envoys have none of them. Meanwhile others
//! publish, keys are revoked, and callers call what was there before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures::try_join;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::traffic::{Calls, Traffic};
use super::{Setup, everywhere, milliseconds};
use crate::process::eventually;
use crate::report::Times;

/// Between two lone publishes.
const LONE_PAUSE: Duration = Duration::from_millis(100);

/// Between two revocations.
const KEY_PAUSE: Duration = Duration::from_millis(20);

/// Envoys try to reach the agent at least once a second.
const RECONNECTED: Duration = Duration::from_secs(10);

/// What happened, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Burst {
    /// From the first byte to an Envoy until every Envoy serves every host.
    pub served: f64,
    /// Publishes that were made meanwhile, from POST to served.
    pub lone: Times,
    /// The same, from POST to answer.
    pub lone_answered: Times,
    /// Keys that were revoked meanwhile, from the answer until a call gets 401.
    pub revoked: Times,
    /// Calls of hosts that were there before.
    pub calls: Calls,
    /// Bytes from the agent to Envoys.
    pub bytes: u64,
}

/// Opens the gate with everything behind it.
pub async fn burst(setup: &mut Setup) -> Result<Burst> {
    let (publishes, rate) = (setup.plan.publishes, setup.plan.calls / 2);
    // Calls that need no decision do not notice that the agent is away.
    let public = Traffic::start(setup, &setup.subject.public_calls(), rate).await?;
    setup.open_gate().await?;
    let setup = &*setup;
    // Its workers' calls may come before its stream, which waits until it tries again.
    eventually("an Envoy comes back", RECONNECTED, async || {
        Ok((setup.stack.agent.metric("imp_envoys").await? > 0.0).then_some(()))
    })
    .await?;
    let (began, over) = (Instant::now(), AtomicBool::new(false));
    let sampled = async {
        let sampled = setup.sample(publishes).await;
        over.store(true, Ordering::Relaxed);
        sampled
    };
    let (sampled, (lone_answered, lone), (revoked, keyed)) =
        try_join!(sampled, lone(setup, &over), revoke(setup, &over, rate))?;
    let bytes = setup.passed();
    let mut calls = public.stop().await?;
    calls.add(keyed);
    let rest = everywhere(setup, publishes, |index| setup.bulk.expected(index)).await?;
    let served = milliseconds(began, rest.waited.unwrap_or(sampled.served()));
    Ok(Burst { served, lone, lone_answered, revoked, calls, bytes })
}

/// Publishes one at a time until all is over, once at least. Returns the times to the answers, and until served.
async fn lone(setup: &Setup, over: &AtomicBool) -> Result<(Times, Times)> {
    let mut callers = setup.callers().await?;
    let (mut answered, mut served) = (Times::default(), Times::default());
    for _ in 0..setup.plan.lone {
        let (answer, last) = setup.subject.lone(&mut callers).await?;
        answered.0.push(answer);
        served.0.push(last);
        if over.load(Ordering::Relaxed) {
            break;
        }
        sleep(LONE_PAUSE).await;
    }
    Ok((answered, served))
}

/// Revokes keys one at a time until all is over, once at least, while others are used.
async fn revoke(setup: &Setup, over: &AtomicBool, rate: u32) -> Result<(Times, Calls)> {
    for target in setup.targets() {
        setup.subject.is_served(&target).await?;
    }
    let traffic = Traffic::start(setup, &setup.subject.keyed_calls(), rate).await?;
    let (mut callers, mut times) = (setup.callers().await?, Times::default());
    while let Some(time) = setup.subject.revoke(&mut callers).await? {
        times.0.push(time);
        if over.load(Ordering::Relaxed) {
            break;
        }
        sleep(KEY_PAUSE).await;
    }
    while !over.load(Ordering::Relaxed) {
        sleep(KEY_PAUSE).await;
    }
    Ok((times, traffic.stop().await?))
}
