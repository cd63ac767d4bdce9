//! Policies from REST to a real Envoy: written, published, changed and redeployed.

use anyhow::Result;
use imp_bench::sample::{Provider, echo_service};
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::{Value, json};

use crate::alone::side_by_side;

const HOST: &str = "guarded.example.com";
const ORIGIN: &str = "https://app.example.com";

fn guarded(stack: &Stack, allow: &str) -> Value {
    let mut service = echo_service(stack, "guarded", "/");
    service["policies"] = json!([
        { "name": "from", "type": "ip_access", "config": { "allow": [allow] } },
        { "name": "pages", "type": "cors", "config": { "allow_origins": [ORIGIN] } },
    ]);
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_by_address_and_origin_changes_with_the_next_revision() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let service = provider.service(&guarded(&stack, "10.0.0.0/8")).await?;
    let product = provider.product("guarded", std::slice::from_ref(&service)).await?;
    let publish = provider.publish(&product, HOST, "none").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    let headers = [("origin", ORIGIN)];
    let refused = stack.answers(provider.address(), HOST, "/", &headers, 403).await?;
    assert_eq!(refused.json()["code"], "address_not_allowed");
    assert_eq!(refused.header("access-control-allow-origin"), Some(ORIGIN), "pages may read it");

    let patch = json!({ "policies": guarded(&stack, "127.0.0.0/8")["policies"] });
    provider.rest.patch(&format!("/v1/api-services/{service}"), &patch).await?;
    provider.rest.act(&format!("/v1/product-publishes/{publish}/redeploy")).await?;
    let served = stack.answers(provider.address(), HOST, "/", &headers, 200).await?;
    assert_eq!(served.header("access-control-allow-origin"), Some(ORIGIN));
    let other = [("origin", "https://evil.example")];
    let served = stack.answers(provider.address(), HOST, "/", &other, 200).await?;
    assert_eq!(served.header("access-control-allow-origin"), None);
    Ok(())
}
