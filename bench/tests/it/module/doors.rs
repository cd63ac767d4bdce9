//! Which filter an Envoy gets: the agent chooses, says why, and changes it under load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use imp_bench::process::eventually;
use imp_bench::sample::Key;
use imp_bench::stack::{Envoy, Options, PATIENCE, Stack};
use serde_json::Value;

use super::load::Load;
use super::{KEYED, Shop, library, shop, with_module};
use crate::alone::{alone, side_by_side};

/// On a machine that does other things, too.
const A_FLIP: Duration = Duration::from_secs(120);

/// Waits until the agent says that the only Envoy has this filter. Returns why.
async fn has(stack: &Stack, door: &str) -> Result<String> {
    let url = format!("http://{}/status", stack.agent.admin);
    let mut last = Value::Null;
    let found = eventually(door, PATIENCE, async || {
        let status: Value = serde_json::from_str(&reqwest::get(&url).await?.text().await?)?;
        last = status["envoys"].clone();
        let only = last.as_array().filter(|all| all.len() == 1).map(|all| &all[0]);
        let text = |name: &str| only.and_then(|envoy| envoy[name].as_str()).map(str::to_owned);
        Ok(text("door").filter(|said| said == door).and_then(|_| text("door_reason")))
    })
    .await;
    found.with_context(|| format!("last said: {last}"))
}

async fn tell(stack: &Stack, door: &str) -> Result<u16> {
    let url = format!("http://{}/door", stack.agent.admin);
    let body = format!("{{\"door\": \"{door}\"}}");
    let request = reqwest::Client::new().post(url).header("content-type", "application/json");
    Ok(request.body(body).send().await?.status().as_u16())
}

/// Every kind of caller gets the answer that it should.
async fn right(stack: &Stack, shop: &Shop, key: &Key) -> Result<()> {
    let at = shop.provider.address();
    stack.answers(at, KEYED, "/pay", &[("x-api-key", &key.text)], 200).await?;
    stack.answers(at, KEYED, "/pay", &[("x-api-key", "imp_wrong")], 401).await?;
    stack.answers(at, super::PUBLIC, "/pay", &[], 200).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tested_envoy_gets_the_module_by_itself() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(with_module()).await?;
    has(&stack, "module").await?;
    let shop = shop(&stack).await?;
    right(&stack, &shop, &shop.buy().await?).await?;
    assert_eq!(stack.agent.metric("imp_door_calls_total").await?, 0.0, "the agent was asked");
    assert_eq!(stack.agent.metric("imp_door_envoys{door=\"module\"}").await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_damaged_file_the_agent_decides_and_says_why() -> Result<()> {
    let _turn = side_by_side().await;
    let folder = tempfile::tempdir()?;
    // Its name says another content.
    let damaged = folder.path().join(format!("libimp-{}.so", "0".repeat(64)));
    std::fs::copy(library()?, &damaged)?;
    let flag = format!("--module={}", damaged.display());
    let stack = Stack::start(Options { agent_flags: vec![flag], ..with_module() }).await?;
    let why = has(&stack, "ext-authz").await?;
    assert!(why.contains("has another content than its name says"), "{why}");
    let shop = shop(&stack).await?;
    right(&stack, &shop, &shop.buy().await?).await?;
    assert!(stack.agent.metric("imp_door_calls_total").await? > 0.0);
    assert_eq!(tell(&stack, "auto").await?, 409);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_dies_twice_within_a_minute_with_the_module_asks_the_agent() -> Result<()> {
    let _turn = alone().await;
    let mut stack = Stack::start(with_module()).await?;
    let shop = shop(&stack).await?;
    let key = shop.buy().await?;
    for _ in 0..2 {
        has(&stack, "module").await?;
        right(&stack, &shop, &key).await?;
        stack.envoys.clear();
        // Who restarts it gives it the same name.
        let again = Envoy::start(stack.directory(), "envoy-1", &stack.agent.xds, 2).await?;
        stack.envoys.push(again);
    }
    let why = has(&stack, "ext-authz").await?;
    assert!(why.contains("twice within a minute"), "{why}");
    right(&stack, &shop, &key).await?;
    assert!(stack.agent.metric("imp_door_calls_total").await? > 0.0);
    let fell = stack.agent.metric("imp_door_fallbacks_total{reason=\"crashed\"}").await?;
    assert_eq!(fell, 1.0);
    // Publishes go on to be active there.
    let more = shop.provider.publish(&shop.product, "more.example.com", "none").await?;
    stack.publish_reaches(&more, "active", PATIENCE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_of_the_filter_under_load_give_no_wrong_answer() -> Result<()> {
    flips(2, 400).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a target of its own: make test-doors"]
async fn ten_changes_of_the_filter_under_fifty_thousand_calls_give_no_wrong_answer() -> Result<()> {
    flips(10, 50_000).await
}

/// Changes the filter so often while calls are made, at least so many.
async fn flips(flips: u64, calls: u64) -> Result<()> {
    let _turn = alone().await;
    let stack = Stack::start(with_module()).await?;
    let shop = shop(&stack).await?;
    let (key, at) = (shop.buy().await?, shop.provider.address());
    stack.answers(at, KEYED, "/pay", &[("x-api-key", &key.text)], 200).await?;
    let envoy = stack.envoys.first().context("no Envoy")?;
    let counted = async |filter: &str| {
        let stats = envoy.stats(filter).await?;
        Ok::<u64, anyhow::Error>(stats.values().sum())
    };
    let reloads = async || counted("extension_config_discovery.*config_reload$").await;
    let updates = async || counted("^listener_manager.listener_in_place_updated$").await;
    let (first, updated, load) = (reloads().await?, updates().await?, Load::start(at, &key.text));
    for flip in 1..=flips {
        let door = if flip % 2 == 1 { "ext-authz" } else { "auto" };
        ensure!(tell(&stack, door).await? == 202, "{door}");
        let changed = async || {
            let both = reloads().await? == first + flip && updates().await? == updated + flip;
            Ok(both.then_some(()))
        };
        eventually("filter and listener have changed", A_FLIP, changed).await?;
        let from = load.answered();
        let made = async || Ok((load.answered() >= from + calls / flips).then_some(()));
        eventually("calls", A_FLIP, made).await?;
    }
    let made = load.end().await?;
    assert!(made.wrong.is_empty() && made.cut == 0, "{made:?}");
    assert!(made.answered >= calls, "{made:?}");
    assert_eq!(reloads().await?, first + flips, "a filter was changed without need");
    assert_eq!(counted("^listener_manager.listener_removed$").await?, 0);
    assert!(stack.agent.metric("imp_door_calls_total").await? > 100.0, "the agent was asked");
    super::exactly(&shop, &key, made.passed + 1).await
}
