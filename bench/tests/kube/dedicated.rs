//! A Gateway whose listeners are ours alone.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use imp_bench::edge::call;
use imp_bench::kube::{Down, ENVOY_GATEWAY, Edge, EdgeOptions, GATEWAYS, has_condition};
use imp_bench::ports;
use imp_bench::process::eventually;
use imp_bench::sample::Buyer;
use imp_bench::stack::PATIENCE;
use serde_json::{Value, json};

use super::callers::Callers;

const OPEN: &str = "open.example.com";
const KEYS: &str = "keys.example.com";
const MODE: &str = "imp-gateway.io/mode";

async fn becomes(address: SocketAddr, host: &str, wanted: u16) -> Result<()> {
    eventually(&format!("{host} {wanted}"), PATIENCE, async || {
        let status = call(address, host, "/", &[]).await.ok().map(|answer| answer.status);
        Ok((status == Some(wanted)).then_some(()))
    })
    .await
}

/// How many calls the Envoy has taken at its own listeners with our connection manager, and how many behind them.
async fn taken(edge: &Edge) -> Result<(u64, u64)> {
    let stats = edge.pod()?.admin()?.stats("downstream_rq_total$").await?;
    let of = |prefix: &str| {
        stats.get(&format!("http.{prefix}_{}.downstream_rq_total", edge.provider.port)).copied()
    };
    Ok((of("port").unwrap_or_default(), of("inner").unwrap_or_default()))
}

/// Waits until Envoy Gateway has applied a policy that takes the listeners over, or none.
async fn is_dedicated(edge: &Edge, wanted: bool) -> Result<()> {
    let policy = format!("{ENVOY_GATEWAY}/namespaces/{}/envoypatchpolicies/imp-gw", edge.namespace);
    let fulfils = |it: &Value| {
        let patches = it["spec"]["jsonPatches"].as_array().into_iter().flatten();
        let replaces = patches.filter(|patch| patch["operation"]["op"] == "replace").count();
        let observed = it.pointer("/status/ancestors/0/conditions/0/observedGeneration");
        (replaces > 0) == wanted
            && observed == it.pointer("/metadata/generation")
            && has_condition(it, "Programmed", "True")
    };
    edge.api.until(&policy, fulfils).await.map(drop)
}

async fn start(name: &str) -> Result<(Edge, String)> {
    let options = EdgeOptions { dedicated: true, ..EdgeOptions::default() };
    let edge = Edge::start_with(name, &options).await?;
    let product = edge.product("ours").await?;
    let open = edge.provider.publish(&product, OPEN, "none").await?;
    edge.stack.publish_reaches(&open, "active", PATIENCE).await?;
    Ok((edge, product))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn a_dedicated_gateway_serves_us_without_a_second_listener() -> Result<()> {
    let (edge, product) = start("own").await?;
    // Active means that calls come.
    assert_eq!(call(edge.address, OPEN, "/", &[]).await?.status, 200);
    let keys = edge.provider.publish(&product, KEYS, "api_key").await?;
    edge.stack.publish_reaches(&keys, "active", PATIENCE).await?;
    let refused = call(edge.address, KEYS, "/", &[]).await?;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let plan = edge.provider.plan(&product, 100_000).await?;
    let key = Buyer::create(&edge.provider, "shop").await?.buy(&product, &plan).await?.text;
    edge.stack.answers(edge.address, KEYS, "/", &[("x-api-key", &key)], 200).await?;

    // The listener is as strict as our own ones.
    let forged = [("x-forwarded-for", "203.0.113.7"), ("x-imp-plan", "gold")];
    let seen = call(edge.address, OPEN, "/", &forged).await?.json();
    assert_eq!(seen["headers"]["x-forwarded-for"], edge.address.ip().to_string(), "{seen}");
    assert_eq!(seen["headers"]["x-forwarded-proto"], "http", "{seen}");
    assert_eq!(seen["headers"].get("x-imp-plan"), None, "{seen}");
    let nobodys = call(edge.address, "nobodys.example.com", "/", &[]).await?;
    assert_eq!((nobodys.status, &nobodys.json()["code"]), (404, &json!("no_route")));
    // Their certificates.
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .resolve(OPEN, edge.secure)
        .build()?;
    let answer = client.get(format!("https://{OPEN}:{}/", edge.secure.port())).send().await?;
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    let seen: Value = answer.json().await?;
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https", "{seen}");
    let (own, behind) = taken(&edge).await?;
    assert!(own > 5 && behind == 0, "{own} calls at the listeners, {behind} behind them");

    // A new host needs nobody but the agent.
    let down = Down::take("eg")?;
    let more = edge.provider.publish(&product, "more.example.com", "none").await?;
    edge.stack.publish_reaches(&more, "active", PATIENCE).await?;
    assert_eq!(call(edge.address, "more.example.com", "/", &[]).await?.status, 200);
    drop(down);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn a_listener_that_comes_later_is_ours_and_goes_without_a_failed_call() -> Result<()> {
    let (mut edge, _) = start("grows").await?;
    let callers = Callers::start(edge.address, &[(OPEN, None), (OPEN, None)]);
    let path = format!("{GATEWAYS}/namespaces/grows/gateways/gw");
    let before = edge.api.get(&path).await?["spec"]["listeners"].clone();
    let later = SocketAddr::new(edge.address.ip(), ports::free()?);
    let mut listeners = before.clone();
    let listener = json!({"name": "later", "port": later.port(), "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "All"}}});
    listeners.as_array_mut().context("no listeners")?.push(listener);
    edge.api.patch(&path, &json!({"spec": {"listeners": listeners}})).await?;
    becomes(later, OPEN, 200).await?;
    let nobodys = call(later, "nobodys.example.com", "/", &[]).await?;
    assert_eq!(nobodys.json()["code"], "no_route", "our own answer");

    edge.stack.restart_agent().await?;
    becomes(later, OPEN, 200).await?;
    edge.api.patch(&path, &json!({"spec": {"listeners": before}})).await?;
    eventually("it is closed", PATIENCE, async || {
        Ok(call(later, OPEN, "/", &[]).await.is_err().then_some(()))
    })
    .await?;
    is_dedicated(&edge, true).await?;
    callers.end().await?;

    // A pod that starts without the agent is not ready before it is back.
    let mut pod = edge.pod.take().context("no pod")?;
    edge.stack.agent.kill();
    pod.begin_again()?;
    tokio::time::timeout(std::time::Duration::from_secs(4), becomes(edge.address, OPEN, 200))
        .await
        .expect_err("nobody tells it what is served");
    edge.stack.restart_agent().await?;
    becomes(edge.address, OPEN, 200).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn no_call_fails_while_it_is_dedicated_and_shared_in_turn() -> Result<()> {
    let (edge, _) = start("turns").await?;
    is_dedicated(&edge, true).await?;
    let callers = Callers::start(edge.address, &[(OPEN, None), (OPEN, None), (OPEN, None)]);

    // Somebody has a route there: it must be served, so the Gateway is shared.
    edge.api.route("turns", "theirs", "theirs.example.com").await?;
    is_dedicated(&edge, false).await?;
    becomes(edge.address, "theirs.example.com", 200).await?;
    edge.api.delete(&format!("{GATEWAYS}/namespaces/turns/httproutes/theirs")).await?;
    is_dedicated(&edge, true).await?;
    becomes(edge.address, "theirs.example.com", 404).await?;

    // Its owner changes his mind.
    edge.api.annotate("turns", MODE, Value::Null).await?;
    is_dedicated(&edge, false).await?;
    let (_, before) = taken(&edge).await?;
    becomes(edge.address, OPEN, 200).await?;
    eventually("calls go through the second listener", PATIENCE, async || {
        Ok((taken(&edge).await?.1 > before).then_some(()))
    })
    .await?;
    edge.api.annotate("turns", MODE, "dedicated".into()).await?;
    is_dedicated(&edge, true).await?;
    // Words that nobody knows change nothing for callers.
    edge.api.annotate("turns", MODE, "mine".into()).await?;
    is_dedicated(&edge, false).await?;
    becomes(edge.address, OPEN, 200).await?;
    callers.end().await?;

    // With the last publish goes the policy: the listeners are Envoy Gateway's again.
    edge.api.annotate("turns", MODE, "dedicated".into()).await?;
    is_dedicated(&edge, true).await?;
    let publishes = edge.stack.admin.get("/v1/product-publishes").await?;
    let id = publishes["items"][0]["id"].as_str().context("no publish")?;
    edge.stack.admin.delete(&format!("/v1/product-publishes/{id}")).await?;
    let policy = format!("{ENVOY_GATEWAY}/namespaces/turns/envoypatchpolicies/imp-gw");
    edge.api.until(&policy, Value::is_null).await?;
    edge.api.route("turns", "theirs", "theirs.example.com").await?;
    becomes(edge.address, "theirs.example.com", 200).await
}
