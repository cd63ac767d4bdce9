//! One bad publish among a hundred: refused early if possible; otherwise it fails alone, with
//! Envoy's message, while the others are still updated.

use std::time::Duration;

use anyhow::Result;
use imp_bench::edge::call;
use imp_bench::sample::{Echo, Provider, backend, echo_service};
use imp_bench::stack::{Options, PATIENCE, Stack};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::alone::alone;

/// Valid and small for Rust's regex; RE2 does not know this escape.
const ONLY_ENVOY_REFUSES: &str = r"/\u{0061}";

fn host(index: usize) -> String {
    format!("h{index}.example.com")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_known_beforehand_is_refused_by_the_api() -> Result<()> {
    let _turn = alone().await;
    let stack = Stack::start(Options { envoy: false, ..Options::default() }).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let echo = provider.echo(&stack, "good").await?;
    provider.publish(&echo.product_id, "taken.example.com", "none").await?;

    let taken = provider.publish_spec(&echo.product_id, "TAKEN.example.com.", "none");
    refused(&provider, "/v1/product-publishes", &taken, StatusCode::CONFLICT, "/hostnames").await?;
    for (name, value, at) in [
        ("x bad", "1", "/policies/0/config/set/0/name"),
        ("x-good", "100%", "/policies/0/config/set/0/value"),
    ] {
        let mut service = echo_service(&stack, "poison", "/");
        service["policies"][0]["config"]["set"] = json!([{ "name": name, "value": value }]);
        refused(&provider, "/v1/api-services", &service, StatusCode::UNPROCESSABLE_ENTITY, at)
            .await?;
    }
    let mut service = echo_service(&stack, "poison", "/");
    service["routes"][0]["path"] = json!({ "regex": "/(" });
    let at = "/routes/0/path/regex";
    refused(&provider, "/v1/api-services", &service, StatusCode::UNPROCESSABLE_ENTITY, at).await?;
    let services = provider.rest.get("/v1/api-services").await?;
    assert_eq!(services["items"].as_array().map(Vec::len), Some(1), "half-written: {services}");
    Ok(())
}

async fn refused(
    provider: &Provider,
    path: &str,
    body: &Value,
    status: StatusCode,
    pointer: &str,
) -> Result<()> {
    let (code, problem) = provider.rest.send(Method::POST, path, Some(body)).await?;
    assert_eq!(code, status, "{problem}");
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .map(|errors| errors.iter().filter_map(|error| error["pointer"].as_str()).collect())
        .unwrap_or_default();
    assert!(pointers.iter().any(|found| found.starts_with(pointer)), "{pointer}: {problem}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_envoy_refuses_fails_alone_and_in_envoys_words() -> Result<()> {
    let _turn = alone().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let good = provider.echo(&stack, "good").await?;
    let mut publishes = Vec::new();
    for index in 0..99 {
        publishes.push(provider.publish(&good.product_id, &host(index), "none").await?);
    }
    for index in 0..99 {
        stack.answers(provider.address(), &host(index), "/", &[], 200).await?;
    }

    let poison = poisoned(&stack, &provider).await?;
    let bad = provider.publish(&poison.product_id, "poison.example.com", "none").await?;
    let failed = stack.publish_reaches(&bad, "failed", Duration::from_secs(2)).await?;
    let words = failed["last_error"]["envoy_message"].as_str().unwrap_or_default();
    assert!(words.contains("invalid escape sequence"), "not Envoy's words: {failed}");
    assert_eq!(failed["last_error"]["code"], "envoy_nack");

    // The others continue: one edit reaches all of them.
    let service = echo_service(&stack, "better", "/");
    let patch = json!({ "policies": service["policies"] });
    provider.rest.patch(&format!("/v1/api-services/{}", good.service_id), &patch).await?;
    for (index, id) in publishes.iter().enumerate() {
        provider.rest.act(&format!("/v1/product-publishes/{id}/redeploy")).await?;
        if index % 10 == 0 {
            edition_is(&provider, &host(index), "better").await?;
        }
    }
    for (index, id) in publishes.iter().enumerate() {
        edition_is(&provider, &host(index), "better").await?;
        stack.publish_reaches(id, "active", PATIENCE).await?;
    }
    let still = stack.admin.get(&format!("/v1/product-publishes/{bad}")).await?;
    assert_eq!(still["status"], "failed");
    mended(&stack, &provider, &poison, &bad).await
}

async fn poisoned(stack: &Stack, provider: &Provider) -> Result<Echo> {
    let service_id = provider.service(&with_regex(stack, ONLY_ENVOY_REFUSES)).await?;
    let product_id = provider.product("poison", std::slice::from_ref(&service_id)).await?;
    Ok(Echo { service_id, product_id })
}

fn with_regex(stack: &Stack, regex: &str) -> Value {
    json!({
        "name": "poison",
        "backends": [backend(stack)],
        "routes": [{ "name": "all", "path": { "regex": regex }, "backend_id": "upstream" }],
    })
}

async fn edition_is(provider: &Provider, host: &str, edition: &str) -> Result<()> {
    imp_bench::process::eventually(&format!("{host} serves {edition}"), PATIENCE, async || {
        let answer = call(provider.address(), host, "/", &[]).await?;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        Ok((answer.header("x-edition") == Some(edition)).then_some(()))
    })
    .await
}

/// The same publish becomes active once its service is corrected; broken again, it keeps serving
/// the revision that Envoy accepted.
async fn mended(stack: &Stack, provider: &Provider, poison: &Echo, publish: &str) -> Result<()> {
    let service = format!("/v1/api-services/{}", poison.service_id);
    let redeploy = format!("/v1/product-publishes/{publish}/redeploy");
    let edit = async |regex: &str| -> Result<()> {
        let routes = with_regex(stack, regex)["routes"].clone();
        provider.rest.patch(&service, &json!({ "routes": routes })).await?;
        provider.rest.act(&redeploy).await?;
        Ok(())
    };
    edit("/a+").await?;
    stack.publish_reaches(publish, "active", PATIENCE).await?;
    let gateway = provider.address();
    stack.answers(gateway, "poison.example.com", "/aaa", &[], 200).await?;

    edit(ONLY_ENVOY_REFUSES).await?;
    stack.publish_reaches(publish, "failed", Duration::from_secs(2)).await?;
    for _ in 0..20 {
        let answer = call(gateway, "poison.example.com", "/aaa", &[]).await?;
        assert_eq!(answer.status, 200, "the former revision is gone: {answer:?}");
    }
    Ok(())
}
