//! Envoy Gateway is replaced by a newer one under calls. It begins with the former one: `make test-kube-upgrade`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use imp_bench::edge::call;
use imp_bench::kube::{ENVOY_GATEWAY, Edge, Pod, has_condition, upgrade};
use imp_bench::ports;
use imp_bench::rest::text;
use imp_bench::stack::PATIENCE;
use serde_json::{Value, json};

use super::callers::Callers;

const OURS: &str = "ours.example.com";
const THEIRS: &str = "theirs.example.com";

/// A Gateway that is dedicated to a second gateway of ours: its id, its address and its pod.
async fn dedicated(edge: &Edge) -> Result<(String, SocketAddr, Pod)> {
    let listener = json!({"name": "http", "port": ports::free()?, "protocol": "HTTP"});
    let gateway = json!({"name": "own", "gateway_class": "envoy-gateway", "listeners": [listener]});
    let gateway = text(&edge.provider.rest.post("/v1/gateways", &gateway).await?, "id")?;
    let listen = [ports::free()?, ports::free()?];
    let mode = [("imp-gateway.io/mode", "dedicated")];
    edge.api.gateway("own", &gateway, &mode, listen).await?;
    let knows_us = |bootstrap: &str| bootstrap.contains("internal_listener");
    let folder = edge.stack.directory();
    let pod = Pod::start(&edge.api, ("own", "gw"), "envoy-own", folder, knows_us).await?;
    Ok((gateway, SocketAddr::new(edge.address.ip(), listen[0]), pod))
}

async fn is_served(
    edge: &Edge,
    (gateway, address): (&str, SocketAddr),
    product: &str,
    host: &str,
) -> Result<()> {
    let mut spec = edge.provider.publish_spec(product, host, "none");
    spec["gateway_id"] = gateway.into();
    let publish = text(&edge.provider.rest.post("/v1/product-publishes", &spec).await?, "id")?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    assert_eq!(call(address, host, "/", &[]).await?.status, 200, "{host}");
    Ok(())
}

/// Once Envoy Gateway has applied them, the patches of a Gateway's policy.
async fn patches(edge: &Edge, namespace: &str) -> Result<Value> {
    let path = format!("{ENVOY_GATEWAY}/namespaces/{namespace}/envoypatchpolicies/imp-gw");
    let mut policy = edge.api.until(&path, |it| has_condition(it, "Programmed", "True")).await?;
    Ok(policy["spec"]["jsonPatches"].take())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the former Envoy Gateway: make test-kube-upgrade"]
async fn no_call_of_ours_or_theirs_fails_while_envoy_gateway_is_upgraded() -> Result<()> {
    let edge = Edge::start("shared").await?;
    let (own, own_address, _own) = dedicated(&edge).await?;
    let product = edge.product("ours").await?;
    let gateways = [(&*edge.provider.gateway_id, edge.address), (&*own, own_address)];
    for at in gateways {
        is_served(&edge, at, &product, OURS).await.context("under the former one")?;
    }
    edge.stack.answers(edge.address, THEIRS, "/", &[], 200).await?;
    let dedicated = patches(&edge, "own").await?;
    patches(&edge, "shared").await?;
    let callers = [
        Callers::start(edge.address, &[(OURS, None), (THEIRS, None), (OURS, None)]),
        Callers::start(own_address, &[(OURS, None), (OURS, None)]),
    ];
    upgrade()?;

    // The new one takes routes, and our policies as they are.
    edge.api.route("shared", "new", "new.example.com").await?;
    edge.stack.answers(edge.address, "new.example.com", "/", &[], 200).await?;
    for at in gateways {
        is_served(&edge, at, &product, "later.example.com").await.context("under the new one")?;
    }
    assert_eq!(patches(&edge, "own").await?, dedicated, "the same patches fit both");
    patches(&edge, "shared").await?;
    // So does a pod with the configuration that the new one gives it.
    let _pod = edge.add_pod("envoy-b").await?;
    for callers in callers {
        callers.end().await?;
    }
    Ok(())
}
