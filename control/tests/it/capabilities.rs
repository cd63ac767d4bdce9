//! Capabilities of agents, and publishes that need more.

use chrono::TimeDelta;
use imp_core::cluster::Capabilities;
use imp_proto::policies;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, Report, shows};
use crate::control_plane::{ControlPlane, Shop, payment_service};

/// Sends a heartbeat and waits until these types are shown.
async fn knows(
    plane: &ControlPlane,
    shop: &Shop,
    agent: &Agent,
    version: &str,
    types: &[&str],
) -> Report {
    let report = agent.report().await;
    report.knows(version, types).await;
    let path = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let good = |seen: &Value| {
        seen["agent_version"] == version
            && seen["capabilities"]["policy_types"] == json!(types)
            && seen["status"] == "connected"
    };
    shows(&plane.admin, &path, good).await;
    report
}

/// Adds a policy of this type to the shop's service.
async fn write_policy(shop: &Shop, kind: &str, config: Value) {
    let mut service = payment_service();
    let policy = json!({ "name": "pages", "type": kind, "config": config, "route": "refunds" });
    service["policies"].as_array_mut().unwrap().push(policy);
    shop.provider.put(&shop.path("api-services"), service).await.ok();
}

const CODE: &str = "unsupported_by_agents";

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_a_connected_agent_could_not_serve_is_refused(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    // No agent is connected, so nothing is checked.
    write_policy(&shop, "cors", json!({ "allow_origins": ["https://a.example"] })).await;
    provider.step(&format!("{path}/redeploy")).await.ok();

    let able = Agent::start(&plane, shop.id("clusters")).await;
    let old = Agent::start(&plane, shop.id("clusters")).await;
    let _able = knows(&plane, &shop, &able, "2.0.0", &["cors", "rate_limit"]).await;
    let old_report = knows(&plane, &shop, &old, "1.0.0", &["rate_limit"]).await;
    let refused = async |answer: crate::control_plane::Answer, pointer: &str| {
        let detail = answer.body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
        answer.refused(422, CODE, pointer);
        for part in ["'cors'", "policy 'pages'", "payment-service", &*old.id, "1.0.0"] {
            assert!(detail.contains(part), "{part}: {detail}");
        }
    };
    // Every way to make a new revision.
    let before = provider.get(&path).await.ok();
    let mut spec = shop.publish("second.example.com");
    refused(provider.post("/v1/product-publishes", spec.clone()).await, "/api_services").await;
    spec["api_services"] = json!([shop.id("api-services")]);
    refused(provider.post("/v1/product-publishes", spec.clone()).await, "/api_services/0").await;
    refused(provider.step(&format!("{path}/redeploy")).await, "/api_services").await;
    let edit = json!({ "hostnames": [shop.host, "third.example.com"] });
    refused(provider.patch(&path, edit).await, "/api_services").await;
    let rollback = format!("{path}/rollback");
    refused(provider.post(&rollback, json!({ "revision": 2 })).await, "/revision").await;
    assert_eq!(provider.get(&path).await.ok(), before, "nothing was written");
    // The first revision needs only what that agent knows.
    provider.post(&rollback, json!({ "revision": 1 })).await.ok();

    // Another cluster's agents do not matter.
    let other = plane.admin.make("clusters", json!({ "name": "other" })).await;
    spec["cluster_id"] = other["id"].clone();
    provider.make("product-publishes", spec).await;
    // Nor does an agent without a recent heartbeat, nor a revoked one.
    plane.now.advance(TimeDelta::seconds(31));
    provider.step(&format!("{path}/redeploy")).await.ok();
    old_report.knows("1.0.1", &["rate_limit"]).await;
    let agents = format!("{}/agents/{}", shop.path("clusters"), old.id);
    shows(&plane.admin, &agents, |seen| seen["agent_version"] == "1.0.1").await;
    provider.step(&format!("{path}/redeploy")).await.refused(422, CODE, "/api_services");
    assert_eq!(plane.admin.delete(&agents).await.status, 204);
    provider.step(&format!("{path}/redeploy")).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_on_a_gateway_of_a_class_that_an_agent_does_not_serve_is_refused(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    // No agent is connected, so nothing is checked.
    provider.step(&format!("{path}/redeploy")).await.ok();
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    let agents = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    report.can("1.0.0", &["rate_limit"], &["nginx", "kong"]).await;
    shows(&plane.admin, &agents, |seen| seen["agent_version"] == "1.0.0").await;
    let before = provider.get(&path).await.ok();
    let refused = |answer: crate::control_plane::Answer, pointer: &str| {
        let detail = answer.body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
        answer.refused(422, CODE, pointer);
        assert!(detail.contains("'envoy-gateway'") && detail.contains(&*agent.id), "{detail}");
    };
    let spec = shop.publish("second.example.com");
    refused(provider.post("/v1/product-publishes", spec).await, "/gateway_id");
    refused(provider.step(&format!("{path}/redeploy")).await, "/gateway_id");
    let rollback = json!({ "revision": 1 });
    refused(provider.post(&format!("{path}/rollback"), rollback).await, "/revision");
    assert_eq!(provider.get(&path).await.ok(), before, "nothing was written");
    report.can("1.0.1", &["rate_limit"], &["nginx", "envoy-gateway"]).await;
    shows(&plane.admin, &agents, |seen| seen["agent_version"] == "1.0.1").await;
    provider.step(&format!("{path}/redeploy")).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_a_connected_agent_does_not_know_is_refused(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, gateway) = (&shop.provider, shop.path("gateways"));
    let defaults = json!({
        "escaped_slash": "refuse", "underscore_headers": "allow", "http10": true, "trusted_hops": 0
    });
    assert_eq!(provider.get(&gateway).await.ok()["settings"], defaults);
    // Where a gateway may have settings of its own.
    shop.listen_on(8082).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = knows(&plane, &shop, &agent, "1.0.0", &["rate_limit"]).await;
    let change = json!({ "settings": { "escaped_slash": "keep", "trusted_hops": 2 } });
    let answer = provider.patch(&gateway, change.clone()).await;
    answer.refused(422, CODE, "/settings/escaped_slash");
    assert_eq!(answer.body["errors"][1]["pointer"], "/settings/trusted_hops", "{answer:?}");
    // Default settings need no support.
    let same = json!({ "settings": defaults, "description": "of the shop" });
    provider.patch(&gateway, same).await.ok();
    // An unpublished gateway is not checked; a published one is.
    let listeners = json!([{ "name": "http", "port": 8081, "protocol": "HTTP" }]);
    let mut body = json!({ "name": "behind", "listeners": listeners });
    body["settings"] = change["settings"].clone();
    let behind = provider.make("gateways", body).await;
    let mut publish = shop.publish("second.example.com");
    publish["gateway_id"] = behind["id"].clone();
    let refused = provider.post("/v1/product-publishes", publish.clone()).await;
    refused.refused(422, CODE, "/gateway_id");

    let all = ["escaped_slash", "underscore_headers", "http10", "trusted_hops"];
    report.serves("2.0.0", &["rate_limit"], &["envoy-gateway"], &[], &all).await;
    let agents = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let seen = shows(&plane.admin, &agents, |seen| seen["agent_version"] == "2.0.0").await;
    assert_eq!(seen["capabilities"]["gateway_settings"], json!(all));
    let changed = provider.patch(&gateway, change).await.ok();
    let expected = json!({
        "escaped_slash": "keep", "underscore_headers": "allow", "http10": true, "trusted_hops": 2
    });
    assert_eq!(changed["settings"], expected);
    assert_eq!(provider.get(&gateway).await.ok()["settings"], expected, "it is stored");
    provider.make("product-publishes", publish).await;
    let bad = json!({ "settings": { "escaped_slash": "maybe" } });
    assert_eq!(provider.patch(&gateway, bad).await.status, 400);
}

/// Their heartbeats have no capabilities.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_the_former_release_knows_what_that_release_knew(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&[]).await;
    let agents = format!("{}/agents", shop.path("clusters"));
    let seen = shows(&plane.admin, &agents, |seen| seen["items"][0]["status"] == "connected").await;
    assert_eq!(seen["items"][0]["capabilities"], Value::Null);
    write_policy(&shop, "cors", json!({ "allow_origins": ["https://a.example"] })).await;
    let redeploy = format!("{}/redeploy", shop.path("product-publishes"));
    shop.provider.step(&redeploy).await.ok();
    // An agent that reports fewer types supports fewer, and its upgrade more.
    report.knows("1.0.0", &["rate_limit"]).await;
    let known = |seen: &Value| seen["items"][0]["capabilities"]["policy_types"][0] == "rate_limit";
    shows(&plane.admin, &agents, known).await;
    shop.provider.step(&redeploy).await.refused(422, CODE, "/api_services");
    report.beat(&[]).await;
    shows(&plane.admin, &agents, |seen| seen["items"][0]["capabilities"].is_null()).await;
    shop.provider.step(&redeploy).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_says_is_bounded() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    let long = "x".repeat(1_000);
    report.knows("1.0.0", &vec![long.as_str(); 300]).await;
    let path = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let seen = shows(&plane.admin, &path, |seen| seen["agent_version"] == "1.0.0").await;
    let types = seen["capabilities"]["policy_types"].as_array().unwrap();
    assert_eq!((types.len(), types[0].as_str().unwrap().len()), (256, 64));
}

/// The contract and the API use the same words.
#[test]
fn every_type_of_policy_has_one_name() {
    let mut ours: Vec<_> = imp_core::policy::TYPES.iter().map(|it| it.name).collect();
    let mut theirs = policies::TYPES.to_vec();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    let unsaid = Capabilities::unsaid();
    assert!(unsaid.policy_types.iter().all(|word| ours.contains(&&**word)), "{unsaid:?}");
}
