//! Delivery by Gateway API: what a class cannot do is refused when it is published.

use imp_grammar::features;
use serde_json::{Value, json};

use crate::agent::{Agent, shows};
use crate::control_plane::{ControlPlane, Shop, payment_service};

const CLASSES: [&str; 2] = ["envoy-gateway", "traefik"];

/// A shop whose only route is public and needs nothing.
async fn open(plane: &ControlPlane) -> Shop {
    let shop = Shop::open(plane, "acme").await;
    let mut service = payment_service();
    service["routes"] = json!([{ "name": "all", "path": { "prefix": "/" }, "backend_id": "svc" }]);
    service["backends"] =
        json!([{ "name": "svc", "endpoints": [{ "host": "1.1.1.1", "port": 80 }] }]);
    service["policies"] = json!([]);
    shop.provider.put(&shop.path("api-services"), service).await.ok();
    shop
}

async fn with_class(shop: &Shop, class: &str) {
    let change = json!({ "gateway_class": class });
    shop.provider.patch(&shop.path("gateways"), change).await.ok();
}

fn delivered(by: &str) -> Value {
    json!({ "delivery": by, "auth_mode": "none" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_without_xds_is_served_by_gateway_api_and_only_with_what_it_can_do() {
    let plane = ControlPlane::start().await;
    let shop = open(&plane).await;
    let publish = shop.path("product-publishes");
    with_class(&shop, "traefik").await;
    let edit = async |change: Value| shop.provider.patch(&publish, change).await;
    edit(delivered("xds")).await.refused(422, "unsupported_delivery", "/delivery");
    edit(json!({ "auth_mode": "api_key", "delivery": "crd" })).await.refused(
        422,
        "unsupported_by_class",
        "/auth_mode",
    );
    edit(delivered("auto")).await.ok();
    edit(delivered("crd")).await.ok();
    let mut service = payment_service();
    service["backends"] =
        json!([{ "name": "svc", "endpoints": [{ "host": "1.1.1.1", "port": 80 }] }]);
    service["policies"] = json!([]);
    let template = json!({ "template": "/a/{id}" });
    service["routes"] = json!([{ "name": "r", "path": template, "backend_id": "svc" }]);
    shop.provider.put(&shop.path("api-services"), service).await.ok();
    let answer = shop.provider.step(&format!("{publish}/redeploy")).await;
    let detail = answer.body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
    answer.refused(422, "unsupported_by_class", "/api_services");
    assert!(detail.contains("'expression_paths'") && detail.contains("'traefik'"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_say_which_classes_they_serve_and_whether_by_gateway_api() {
    let plane = ControlPlane::start().await;
    let shop = open(&plane).await;
    let publish = shop.path("product-publishes");
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    let seen_at = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let says = async |version: &str, classes: &[&str], features: &[&str]| {
        report.serves(version, &["rate_limit"], classes, features, &[]).await;
        shows(&plane.admin, &seen_at, |seen| seen["agent_version"] == *version).await;
    };
    let edit = async |change: Value| shop.provider.patch(&publish, change).await;
    says("without", &["envoy-gateway"], &features::ALL).await;
    edit(delivered("crd")).await.refused(422, "unsupported_by_agents", "/delivery");
    edit(delivered("auto")).await.ok();
    let with = [&features::ALL[..], &[features::GATEWAY_API]].concat();
    says("with", &CLASSES, &with).await;
    edit(delivered("crd")).await.ok();
    with_class(&shop, "kong").await;
    edit(delivered("auto")).await.refused(422, "unsupported_by_agents", "/gateway_id");
    with_class(&shop, "traefik").await;
    edit(delivered("auto")).await.ok();
}
