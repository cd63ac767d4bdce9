//! Two hundred changes during an open keep-alive connection and a slow request: no caller notices,
//! and the listener never changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use imp_bench::edge::Connection;
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::alone::side_by_side;

const STEADY: &str = "steady.example.com";
const ADDS: usize = 80;
const EDITS: usize = 60;
const DELETES: usize = 60;

fn host(index: usize) -> String {
    format!("h{index}.example.com")
}

/// Makes calls on one connection until told to stop; returns their number.
fn caller(
    provider: &Provider,
    slow_ms: &'static str,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Result<u64>> {
    let address = provider.address();
    tokio::spawn(async move {
        let mut connection = Connection::open(address).await?;
        let mut calls = 0;
        while !stop.load(Ordering::Relaxed) {
            let answer = connection.get(STEADY, "/", &[("x-slow-ms", slow_ms)]).await?;
            anyhow::ensure!(answer.status == 200, "call {calls}: {answer:?}");
            anyhow::ensure!(!connection.is_closing(), "call {calls}: the connection is closed");
            calls += 1;
        }
        Ok(calls)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_changes_drop_nothing_and_leave_the_listener_alone() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let echo = provider.echo(&stack, "steady").await?;
    let first = provider.publish(&echo.product_id, STEADY, "none").await?;
    stack.publish_reaches(&first, "active", PATIENCE).await?;
    stack.answers(provider.address(), STEADY, "/", &[], 200).await?;

    let envoy = stack.envoys.first().context("no Envoy")?;
    let before = envoy.listener_counters().await?;
    assert_eq!(before.get("listener_manager.listener_added"), Some(&1), "{before:?}");
    let stop = Arc::new(AtomicBool::new(false));
    let quick = caller(&provider, "5", stop.clone());
    let slow = caller(&provider, "1500", stop.clone());

    changes(&stack, &provider, &echo.product_id).await?;

    stop.store(true, Ordering::Relaxed);
    let (quick, slow) = (quick.await??, slow.await??);
    assert!(quick > 50 && slow >= 1, "too few calls to prove anything: {quick}, {slow}");
    assert_eq!(envoy.listener_counters().await?, before, "the listener moved");
    Ok(())
}

async fn changes(stack: &Stack, provider: &Provider, product_id: &str) -> Result<()> {
    let gateway = provider.address();
    let mut publishes = Vec::new();
    for index in 0..ADDS {
        publishes.push(provider.publish(product_id, &host(index), "none").await?);
        stack.answers(gateway, &host(index), "/", &[], 200).await?;
    }
    for (index, id) in publishes.iter().enumerate().take(EDITS) {
        let path = format!("/v1/product-publishes/{id}");
        provider.rest.patch(&path, &json!({ "base_path": "/v2" })).await?;
        stack.answers(gateway, &host(index), "/other", &[], 404).await?;
        stack.answers(gateway, &host(index), "/v2/x", &[], 200).await?;
    }
    for (index, id) in publishes.iter().enumerate().skip(ADDS - DELETES) {
        provider.rest.delete(&format!("/v1/product-publishes/{id}")).await?;
        stack.answers(gateway, &host(index), "/v2/x", &[], 404).await?;
    }
    // One that was not deleted is still there.
    stack.answers(gateway, &host(0), "/v2/x", &[], 200).await?;
    Ok(())
}
