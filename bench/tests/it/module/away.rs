//! Agents and Envoys that die under load: no call is answered wrongly, and none is counted wrongly.

use anyhow::{Result, ensure};
use imp_bench::process::eventually;
use imp_bench::stack::{PATIENCE, Stack};

use super::load::Load;
use super::{KEYED, exactly, shop, with_module};
use crate::alone::alone;

const AGENTS: u64 = 10;
const ENVOYS: u64 = 6;

/// What one death may cut: of each of the two callers with the key the call in flight, and one in the queue of
/// each of the two workers' listening sockets, which the kernel closes one after the other.
const CUT: u64 = 2 * (1 + 2);

/// Waits for so many more answers.
async fn more(load: &Load, calls: u64) -> Result<()> {
    let from = load.answered();
    let enough = async || Ok((load.answered() >= from + calls).then_some(()));
    eventually("calls", PATIENCE, enough).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a target of its own: make test-doors"]
async fn ten_deaths_of_the_agent_fail_no_call_and_lose_no_count() -> Result<()> {
    let _turn = alone().await;
    let mut stack = Stack::start(with_module()).await?;
    let shop = shop(&stack).await?;
    let (key, at) = (shop.buy().await?, shop.provider.address());
    stack.answers(at, KEYED, "/pay", &[("x-api-key", &key.text)], 200).await?;
    let load = Load::start(at, &key.text);
    for _ in 0..AGENTS {
        more(&load, 100).await?;
        stack.agent.kill();
        more(&load, 100).await?;
        stack.restart_agent().await?;
    }
    more(&load, 100).await?;
    let made = load.end().await?;
    assert!(made.wrong.is_empty() && made.cut == 0, "{made:?}");
    ensure!(made.passed > AGENTS * 50, "{made:?}");
    exactly(&shop, &key, made.passed + 1).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a target of its own: make test-doors"]
async fn six_deaths_of_envoy_lose_no_count_beyond_answers_in_flight() -> Result<()> {
    let _turn = alone().await;
    let mut stack = Stack::start(with_module()).await?;
    let shop = shop(&stack).await?;
    let (key, at) = (shop.buy().await?, shop.provider.address());
    stack.answers(at, KEYED, "/pay", &[("x-api-key", &key.text)], 200).await?;
    let load = Load::start(at, &key.text);
    for _ in 0..ENVOYS {
        more(&load, 100).await?;
        // Killed, as by `kill -9`; the next one has another name.
        stack.envoys.clear();
        stack.add_envoy().await?;
    }
    more(&load, 100).await?;
    let made = load.end().await?;
    assert!(made.wrong.is_empty(), "{made:?}");
    let passed = made.passed + 1;
    let told = async || Ok((shop.used(&key).await? >= passed).then_some(()));
    eventually("all calls are reported", PATIENCE, told).await?;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    let used = shop.used(&key).await?;
    assert!((passed..=passed + made.cut).contains(&used), "{used} of {passed} passed, {made:?}");
    assert!(made.cut <= CUT * ENVOYS, "{made:?}");
    Ok(())
}
