//! The control plane is down and the agent is restarted: callers do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use imp_bench::edge::{Connection, call};
use imp_bench::sample::{Buyer, Key, Provider};
use imp_bench::stack::{Options, PATIENCE, Stack};

use crate::alone::alone;

const HOSTS: usize = 20;

fn host(index: usize) -> String {
    format!("h{index}.example.com")
}

async fn many_publishes(stack: &Stack) -> Result<(Provider, Key)> {
    let provider = Provider::create(stack, "acme").await?;
    let echo = provider.echo(stack, "public").await?;
    for index in 1..HOSTS {
        provider.publish(&echo.product_id, &host(index), "none").await?;
    }
    let plan = provider.plan(&echo.product_id, 100_000).await?;
    let keyed = provider.publish(&echo.product_id, &host(0), "api_key").await?;
    stack.publish_reaches(&keyed, "active", PATIENCE).await?;
    let key = Buyer::create(&provider, "Shop Ltd").await?.buy(&echo.product_id, &plan).await?;
    all_answer(stack, &provider, &key).await?;
    Ok((provider, key))
}

async fn all_answer(stack: &Stack, provider: &Provider, key: &Key) -> Result<()> {
    for index in 0..HOSTS {
        let headers = [("x-api-key", key.text.as_str())];
        stack.answers(provider.address(), &host(index), "/", &headers, 200).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_restarts_from_disk_while_the_control_plane_is_down() -> Result<()> {
    let _turn = alone().await;
    let mut stack = Stack::start(Options::asking()).await?;
    let (provider, key) = many_publishes(&stack).await?;
    let headers = [("x-api-key", key.text.as_str())];
    // The agent writes in the background; a second is more than enough.
    tokio::time::sleep(Duration::from_secs(1)).await;

    stack.control.kill();
    let mut open = Connection::open(provider.address()).await?;
    assert_eq!(open.get(&host(0), "/", &headers).await?.status, 200, "the control plane is needed");

    let before = stack.envoys.first().context("no Envoy")?.listener_counters().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn(call_on(open, key.text.clone(), stop.clone()));
    stack.agent.kill();
    // Calls without a decision need no agent.
    for index in 1..HOSTS {
        let answer = call(provider.address(), &host(index), "/", &[]).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    stack.restart_agent().await?;
    let ready = started.elapsed();
    assert!(ready < Duration::from_secs(1), "serving from disk took {ready:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let longest = caller.await??;
    assert!(longest > Duration::from_millis(200), "no call was held: {longest:?}");
    assert!(
        longest < Duration::from_millis(2_300),
        "Envoy was back in step only after {longest:?}"
    );
    all_answer(&stack, &provider, &key).await?;
    let after = stack.envoys.first().context("no Envoy")?.listener_counters().await?;
    let changed = |name: &str| after.get(name) != before.get(name);
    for name in ["listener_manager.listener_modified", "listener_manager.listener_removed"] {
        assert!(!changed(name), "{name} moved: {before:?} {after:?}");
    }

    // A new Envoy gets everything from the agent's disk.
    stack.envoys.clear();
    stack.add_envoy().await?;
    all_answer(&stack, &provider, &key).await?;
    let refused = call(provider.address(), &host(0), "/", &[]).await?;
    assert_eq!(refused.status, 401, "{refused:?}");

    // The control plane returns and changes continue.
    stack.control.revive().await?;
    let echo = provider.echo(&stack, "later").await?;
    provider.publish(&echo.product_id, "later.example.com", "none").await?;
    stack.answers(provider.address(), "later.example.com", "/", &[], 200).await?;
    Ok(())
}

/// Makes calls on one connection over the restart. Without its agent a gateway decides nothing, so
/// a call waits for the restarted one: none is refused or dropped, or loses its route. Returns the
/// longest wait.
async fn call_on(mut open: Connection, key: String, stop: Arc<AtomicBool>) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = open.get(&host(0), "/", &[("x-api-key", &key)]).await?;
        anyhow::ensure!(!open.is_closing(), "the restart closed a caller's connection");
        anyhow::ensure!(answer.status == 200, "the restart is seen: {answer:?}");
        longest = longest.max(asked.elapsed());
    }
    Ok(longest)
}
