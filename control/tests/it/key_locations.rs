//! Where callers may send their key besides the usual places.

use imp_grammar::features;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, shows};
use crate::control_plane::{ControlPlane, Shop};

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_names_a_header_and_a_query_parameter_for_keys(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    assert_eq!(provider.get(&path).await.ok().get("api_key"), None);

    let both = json!({ "header": "ApiKey", "query": "api_key" });
    let edited = provider.patch(&path, json!({ "api_key": both })).await.ok();
    let canonical = json!({ "header": "apikey", "query": "api_key" });
    assert_eq!(edited["api_key"], canonical);
    assert_eq!(edited["desired_revision"], 2);
    assert_eq!(provider.get(&path).await.ok()["api_key"], canonical);
    // The same in another spelling changes nothing.
    let same = provider.patch(&path, json!({ "api_key": both })).await.ok();
    assert_eq!(same["desired_revision"], 2);
    let rollback = provider.post(&format!("{path}/rollback"), json!({ "revision": 1 })).await.ok();
    assert_eq!(rollback.get("api_key"), None);
    let removed = provider.patch(&path, json!({ "api_key": { "query": "k" } })).await.ok();
    assert_eq!(removed["api_key"], json!({ "query": "k" }));
    assert_eq!(provider.patch(&path, json!({ "api_key": null })).await.ok().get("api_key"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_have_keys_is_pointed_at() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let header = |name: &str| json!({ "header": name });
    let query = |name: &str| json!({ "query": name });
    let wrong: [(Value, &str, &str); 12] = [
        (json!({}), "required", "/api_key"),
        (header("x-api-key"), "invalid_key_header", "/api_key/header"),
        (header("x-imp-key"), "invalid_key_header", "/api_key/header"),
        (header("x-forwarded-key"), "invalid_key_header", "/api_key/header"),
        (header("proxy-authorization-key:"), "invalid_key_header", "/api_key/header"),
        (header("x_api_key"), "invalid_key_header", "/api_key/header"),
        (header("key:"), "invalid_key_header", "/api_key/header"),
        (header(&format!("{}-key", "x".repeat(64))), "invalid_key_header", "/api_key/header"),
        (query(""), "invalid_key_parameter", "/api_key/query"),
        (query("a&b"), "invalid_key_parameter", "/api_key/query"),
        (query("%6bey"), "invalid_key_parameter", "/api_key/query"),
        (query(&"k".repeat(65)), "invalid_key_parameter", "/api_key/query"),
    ];
    for (number, (locations, code, pointer)) in wrong.into_iter().enumerate() {
        let mut spec = shop.publish(&format!("n{number}.example.com"));
        spec["api_key"] = locations;
        shop.provider.post("/v1/product-publishes", spec).await.refused(422, code, pointer);
    }
    let mut public = shop.publish("public.example.com");
    public["auth_mode"] = json!("none");
    public["api_key"] = query("key");
    let answer = shop.provider.post("/v1/product-publishes", public).await;
    answer.refused(422, "no_effect", "/api_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_would_not_look_there_is_not_given_such_a_publish() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    let seen_at = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let lesser: Vec<_> =
        features::ALL.into_iter().filter(|it| *it != features::KEY_LOCATIONS).collect();
    let edit = || json!({ "api_key": { "header": "apikey" } });
    for (version, known) in [("old", &lesser[..]), ("new", &features::ALL)] {
        report.serves(version, &["rate_limit"], &["envoy-gateway"], known, &[]).await;
        shows(&plane.admin, &seen_at, |seen| seen["agent_version"] == version).await;
        let answer = provider.patch(&path, edit()).await;
        if version == "new" {
            answer.ok();
        } else {
            answer.refused(422, "unsupported_by_agents", "/api_key");
        }
    }
}
