//! Keys in a header and a query parameter that the publish names, from REST to the upstream.

use anyhow::Result;
use imp_bench::sample::{Buyer, Provider};
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::json;

use crate::alone::side_by_side;

const HOST: &str = "keys.example.com";

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_where_the_publish_says_and_never_reach_the_upstream() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let echo = provider.echo(&stack, "echo").await?;
    let plan = provider.plan(&echo.product_id, 1_000).await?;
    let publish = provider.publish(&echo.product_id, HOST, "api_key").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    let key = Buyer::create(&provider, "bank").await?.buy(&echo.product_id, &plan).await?.text;
    let (at, query) = (provider.address(), format!("/pay?a=1&api_key={key}&b=2"));
    stack.answers(at, HOST, "/pay", &[("x-api-key", &key)], 200).await?;
    // Nobody has said so yet.
    let elsewhere = [("apikey", &*key)];
    assert_eq!(stack.answers(at, HOST, "/pay", &elsewhere, 401).await?.status, 401);
    assert_eq!(stack.answers(at, HOST, &query, &[], 401).await?.status, 401);

    let path = format!("/v1/product-publishes/{publish}");
    let both = json!({ "api_key": { "header": "apikey", "query": "api_key" } });
    provider.rest.patch(&path, &both).await?;
    let by_header = stack.answers(at, HOST, "/pay?b=2", &elsewhere, 200).await?;
    let by_query = stack.answers(at, HOST, &query, &[], 200).await?;
    let usual = stack.answers(at, HOST, "/pay", &[("x-api-key", &key)], 200).await?;
    for answer in [by_header, by_query.clone(), usual] {
        assert!(
            !answer.json().to_string().contains(&key),
            "the upstream saw the key: {}",
            answer.json()
        );
    }
    assert_eq!(by_query.json()["path"], "/pay?a=1&b=2");
    let wrong = [("apikey", "imp_wrong"), ("x-other-key", &*key)];
    for header in wrong {
        stack.answers(at, HOST, "/pay", &[header], 401).await?;
    }
    let twice = format!("/pay?api_key={key}&api_key={key}");
    stack.answers(at, HOST, &twice, &[], 401).await?;

    provider.rest.patch(&path, &json!({ "api_key": { "header": "authorization" } })).await?;
    let bearer = format!("Bearer {key}");
    let answer = stack.answers(at, HOST, "/pay", &[("authorization", &bearer)], 200).await?;
    assert!(
        !answer.json().to_string().contains(&key),
        "the upstream saw the key: {}",
        answer.json()
    );
    stack.answers(at, HOST, "/pay", &elsewhere, 401).await?;
    Ok(())
}
