//! Neighbouring publishes: base paths of one host, one host on several gateways, several gateways
//! on one port.

use std::net::SocketAddr;

use anyhow::Result;
use imp_bench::edge::call;
use imp_bench::ports;
use imp_bench::rest::text;
use imp_bench::sample::{Echo, Provider, echo_service};
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::json;

use crate::alone::side_by_side;

const HOST: &str = "api.example.com";

/// Publishes on a gateway, under a base path, and waits until it is served.
async fn serve(
    stack: &Stack,
    provider: &Provider,
    (product, host): (&str, &str),
    (gateway, base_path): (&str, &str),
) -> Result<String> {
    let mut spec = provider.publish_spec(product, host, "none");
    (spec["gateway_id"], spec["base_path"]) = (json!(gateway), json!(base_path));
    let id = text(&provider.rest.post("/v1/product-publishes", &spec).await?, "id")?;
    stack.publish_reaches(&id, "active", PATIENCE).await?;
    Ok(id)
}

/// The publish that answers: its label, or the status.
async fn who(address: SocketAddr, host: &str, path: &str) -> Result<String> {
    let answer = call(address, host, path, &[]).await?;
    let label = answer.header("x-edition").map(str::to_owned);
    Ok(label.unwrap_or_else(|| answer.status.to_string()))
}

async fn a_gateway(provider: &Provider, name: &str, port: u16) -> Result<String> {
    let listeners = json!([{ "name": "http", "port": port, "protocol": "HTTP" }]);
    let body = json!({ "name": name, "listeners": listeners });
    text(&provider.rest.post("/v1/gateways", &body).await?, "id")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_base_path_that_holds_a_call_takes_it() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let site = provider.echo(&stack, "site").await?.product_id;
    let v1 = provider.echo(&stack, "v1").await?.product_id;
    // It has one route, and other paths do not fall through to shorter base paths.
    let narrow = provider.service(&echo_service(&stack, "narrow", "/only")).await?;
    let narrow = provider.product("narrow", &[narrow]).await?;
    let (gateway, at) = (provider.gateway_id.as_str(), provider.address());
    let mut ids = Vec::new();
    // In an order in which each is added beside, above or below existing ones.
    for (product, path) in [(&v1, "/v1"), (&site, "/"), (&narrow, "/v1/x")] {
        ids.push(serve(&stack, &provider, (product, HOST), (gateway, path)).await?);
    }
    for (path, expected) in [
        ("/", "site"),
        ("/v2", "site"),
        ("/v1x", "site"),
        ("/v1", "v1"),
        ("/v1/", "v1"),
        ("/v1/y", "v1"),
        ("/v1/xy", "v1"),
        ("/v1/x/only", "narrow"),
        ("/v1/x/only/more", "narrow"),
        ("/v1/x", "404"),
        ("/v1/x/other", "404"),
    ] {
        assert_eq!(who(at, HOST, path).await?, expected, "{path}");
    }
    // After its removal, calls go to the shorter base path.
    provider.rest.delete(&format!("/v1/product-publishes/{}", ids[0])).await?;
    imp_bench::process::eventually("/v1 goes to the site", PATIENCE, async || {
        Ok((who(at, HOST, "/v1/y").await? == "site").then_some(()))
    })
    .await?;
    assert_eq!(who(at, HOST, "/v1/x/only").await?, "narrow");
    assert_eq!(who(at, HOST, "/v1/x/other").await?, "404");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_is_served_on_an_inner_and_an_outer_gateway() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let inner = provider.echo(&stack, "inner").await?.product_id;
    let outer = provider.echo(&stack, "outer").await?.product_id;
    let port = ports::free()?;
    let second = a_gateway(&provider, "outer", port).await?;
    let there = ports::local(port);
    serve(&stack, &provider, (&inner, HOST), (&provider.gateway_id, "/")).await?;
    let id = serve(&stack, &provider, (&outer, HOST), (&second, "/")).await?;
    assert_eq!(who(provider.address(), HOST, "/a").await?, "inner");
    assert_eq!(who(there, HOST, "/a").await?, "outer");
    // Each on its own.
    provider.rest.post(&format!("/v1/product-publishes/{id}/suspend"), &json!({})).await?;
    stack.answers(there, HOST, "/a", &[], 503).await?;
    assert_eq!(who(provider.address(), HOST, "/a").await?, "inner");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_of_two_tenants_share_a_port_and_hosts_decide() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let acme = Provider::create(&stack, "acme").await?;
    let other = Provider::create(&stack, "other").await?;
    let at = acme.address();
    let own = a_gateway(&acme, "second", acme.port).await?;
    let foreign = a_gateway(&other, "shared", acme.port).await?;
    let label = async |provider: &Provider, name: &str| -> Result<String> {
        let Echo { product_id, .. } = provider.echo(&stack, name).await?;
        Ok(product_id)
    };
    let (one, two) = (label(&acme, "one").await?, label(&acme, "two").await?);
    let three = label(&other, "three").await?;
    let first = serve(&stack, &acme, (&one, "one.example.com"), (&acme.gateway_id, "/")).await?;
    serve(&stack, &acme, (&two, "two.example.com"), (&own, "/")).await?;
    serve(&stack, &other, (&three, "three.example.com"), (&foreign, "/")).await?;
    for name in ["one", "two", "three"] {
        assert_eq!(who(at, &format!("{name}.example.com"), "/a").await?, name);
    }
    // A host belongs to its tenant at every port, and to one gateway at this one.
    let refused = async |provider: &Provider, product: &str, gateway: &str| -> Result<String> {
        let mut spec = provider.publish_spec(product, "one.example.com", "none");
        spec["gateway_id"] = json!(gateway);
        let refused = provider.rest.post("/v1/product-publishes", &spec).await;
        Ok(refused.expect_err("it was accepted").to_string())
    };
    assert!(refused(&acme, &two, &own).await?.contains(&first));
    let told = refused(&other, &three, &foreign).await?;
    assert!(told.contains("hostname_taken") && !told.contains(&first), "{told}");
    // The gateway that opened the port is removed; the port stays open for the others.
    acme.rest.delete(&format!("/v1/product-publishes/{first}")).await?;
    stack.answers(at, "one.example.com", "/a", &[], 404).await?;
    for name in ["two", "three"] {
        assert_eq!(who(at, &format!("{name}.example.com"), "/a").await?, name);
    }
    Ok(())
}
