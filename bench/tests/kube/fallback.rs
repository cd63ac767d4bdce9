//! `delivery: auto` while the Gateway's Envoys are away, under the roles that are deployed.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use imp_bench::edge::call;
use imp_bench::kube::{ENVOY_GATEWAY, Edge, EdgeOptions, GATEWAYS, OURS, has_condition};
use imp_bench::process::eventually;
use imp_bench::stack::PATIENCE;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const HOST: &str = "auto.example.com";

async fn is_served(address: SocketAddr) -> bool {
    call(address, HOST, "/", &[])
        .await
        .is_ok_and(|answer| answer.status == 200 && answer.header("x-edition") == Some("auto"))
}

/// A caller that knows both addresses: calls succeed where either answers.
async fn ask([first, second]: [SocketAddr; 2], until: CancellationToken) -> (u64, u64) {
    let (mut good, mut bad) = (0, 0);
    while !until.is_cancelled() {
        match is_served(first).await || is_served(second).await {
            true => good += 1,
            false => bad += 1,
        }
    }
    (good, bad)
}

/// Waits until the publish is active and says this of its delivery.
async fn says(edge: &Edge, publish: &str, reason: Option<&str>) -> Result<Value> {
    let mut last = Value::Null;
    let found = eventually(&format!("{reason:?}"), PATIENCE, async || {
        last = edge.provider.rest.get(&format!("/v1/product-publishes/{publish}")).await?;
        let conditions = last["conditions"].as_array().into_iter().flatten();
        let said =
            conditions.filter(|it| it["type"] == "delivery").find_map(|it| it["reason"].as_str());
        Ok((last["status"] == "active" && said == reason).then(|| last.clone()))
    })
    .await;
    found.with_context(|| format!("last seen: {last:#}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn without_an_envoy_gateway_api_serves_and_no_call_fails_while_it_comes_back() -> Result<()> {
    let namespace = format!("--gateway-api-namespace={OURS}");
    let flags = ["--gateway-class=envoy-gateway=eg", &namespace, "--fallback-after=3"];
    let agent_flags = flags.map(str::to_owned).into();
    let edge =
        Edge::prepare("auto", &EdgeOptions { agent_flags, ..EdgeOptions::default() }).await?;
    let mut pod = edge.add_pod("envoy-a").await?;
    let product = edge.product("auto").await?;
    let publish = edge.provider.publish(&product, HOST, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    says(&edge, &publish, None).await?;
    assert!(is_served(edge.address).await);
    let route = format!("{GATEWAYS}/namespaces/{OURS}/httproutes/imp-{publish}-r0");
    assert!(edge.api.get(&route).await?.is_null(), "an Envoy is there");

    // The Envoy is away: after the grace Envoy Gateway serves it, at the address of our own Gateway.
    pod.stop();
    let fallen = says(&edge, &publish, Some("no_envoy")).await?;
    assert_eq!(fallen["acked_revision"], 1, "{fallen:#}");
    let (_ours, fallback) = edge.add_pod_of_ours().await?;
    eventually("served", PATIENCE, async || Ok(is_served(fallback).await.then_some(()))).await?;
    let later = edge.provider.publish(&product, "later.example.com", "none").await?;
    says(&edge, &later, Some("no_envoy")).await?;
    // The host is not taken by ourselves.
    let policy = format!("{ENVOY_GATEWAY}/namespaces/auto/envoypatchpolicies/imp-gw");
    let policy = edge.api.get(&policy).await?;
    assert!(has_condition(&policy, "Programmed", "True"), "{policy:#}");

    // The Envoy is back: both serve until it has everything.
    let stop = CancellationToken::new();
    let callers = [(); 3].map(|()| tokio::spawn(ask([edge.address, fallback], stop.clone())));
    pod.restart().await?;
    for publish in [&publish, &later] {
        says(&edge, publish, None).await?;
    }
    edge.api.until(&route, Value::is_null).await?;
    assert!(is_served(edge.address).await, "the Envoy alone");
    let gateway = format!("{GATEWAYS}/namespaces/{OURS}/gateways/imp-{}", edge.provider.gateway_id);
    edge.api.until(&gateway, Value::is_null).await?;
    stop.cancel();
    for caller in callers {
        let (good, bad) = caller.await?;
        assert!(good > 50 && bad == 0, "{good} good, {bad} bad");
    }
    Ok(())
}
