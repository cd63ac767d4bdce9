//! Customers get what they bought, whatever they try: on a real Envoy.

use anyhow::{Result, ensure};
use imp_bench::edge::call;
use imp_bench::rest::{Rest, text};
use imp_bench::sample::{Buyer, Provider};
use imp_bench::stack::{Options, PATIENCE, Stack};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::alone::side_by_side;

const HOST: &str = "q.example.com";
const QUOTA: usize = 20;

/// How many of slightly more calls than the quota pass, once Envoy accepts the key.
async fn passed(stack: &Stack, provider: &Provider, key: &str, first: u16) -> Result<usize> {
    let headers = [("x-api-key", key)];
    stack.answers(provider.address(), HOST, "/", &headers, first).await?;
    let mut passed = usize::from(first == 200);
    for _ in 0..QUOTA + 5 {
        let answer = call(provider.address(), HOST, "/", &headers).await?;
        ensure!([200, 429].contains(&answer.status), "{answer:?}");
        passed += usize::from(answer.status == 200);
    }
    Ok(passed)
}

async fn plan(provider: &Provider, product: &str, name: &str, limit: Value) -> Result<String> {
    let mut spec = json!({ "product_id": product, "name": name, "auto_approve": true });
    if let (Some(fields), Some(limit)) = (spec.as_object_mut(), limit.as_object()) {
        fields.extend(limit.clone());
    }
    text(&provider.rest.post("/v1/plans", &spec).await?, "id")
}

async fn refused(rest: &Rest, body: &Value, code: &str) -> Result<()> {
    let (status, answer) = rest.send(Method::POST, "/v1/subscriptions", Some(body)).await?;
    ensure!(status == StatusCode::CONFLICT && answer["code"] == code, "{status} {answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_had_once_whatever_is_cancelled_bought_or_changed() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let product = provider.echo(&stack, "public").await?.product_id;
    let publish = provider.publish(&product, HOST, "api_key").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    let short = json!({ "quota": { "requests": QUOTA, "per": "month" } });
    let long = json!({ "limits": [{ "name": "mine", "amount": QUOTA, "window": "month" }] });
    let one = plan(&provider, &product, "one", short).await?;
    let two = plan(&provider, &product, "two", long).await?;
    let buyer = Buyer::create(&provider, "Shop Ltd").await?;
    let key = buyer.buy(&product, &one).await?;
    assert_eq!(passed(&stack, &provider, &key.text, 200).await?, QUOTA);

    // Another plan with limits of other names.
    let subscription = format!("/v1/subscriptions/{}", key.subscription_id);
    let moved = buyer.rest.patch(&subscription, &json!({ "plan_id": two })).await?;
    assert_eq!(moved["plan_id"], json!(two), "it gives as much, so it holds at once");
    assert_eq!(passed(&stack, &provider, &key.text, 429).await?, 0);

    // Another subscription beside it, or after it.
    let again = json!({
        "customer_id": buyer.customer_id, "product_id": product, "environment": "prod",
        "plan_id": one,
    });
    refused(&buyer.rest, &again, "already_subscribed").await?;
    buyer.rest.act(&format!("{subscription}/cancel")).await?;
    let key = buyer.buy(&product, &one).await?;
    assert_eq!(passed(&stack, &provider, &key.text, 429).await?, 0);

    // Suspended: neither the old key nor a new one works.
    let subscription = format!("/v1/subscriptions/{}", key.subscription_id);
    let why = json!({ "reason": "unpaid" });
    provider.rest.post(&format!("{subscription}/suspend"), &why).await?;
    let headers = [("x-api-key", key.text.as_str())];
    stack.answers(provider.address(), HOST, "/", &headers, 403).await?;
    refused(&buyer.rest, &again, "already_subscribed").await?;
    let (status, _) = buyer.rest.send(Method::DELETE, &subscription, None).await?;
    assert_eq!(status, StatusCode::FORBIDDEN);

    // A leaked key: the provider revokes it.
    provider.rest.act(&format!("{subscription}/resume")).await?;
    stack.answers(provider.address(), HOST, "/", &headers, 429).await?;
    provider.rest.act(&format!("/v1/credentials/{}/revoke", key.credential_id)).await?;
    stack.answers(provider.address(), HOST, "/", &headers, 401).await?;
    Ok(())
}

/// Seconds until 00:00 of the day that is so much later in a zone, by another implementation.
fn until(zone: &str, later: jiff::Span) -> Result<i64> {
    let now = jiff::Timestamp::now().in_tz(zone)?;
    let end = now.date().checked_add(later)?.to_zoned(now.time_zone().clone())?;
    Ok(end.timestamp().as_second() - now.timestamp().as_second())
}

/// Uses a quota of two calls up, and returns what the answer to a third says.
async fn wait_after(
    stack: &Stack,
    provider: &Provider,
    product: &str,
    quota: Value,
) -> Result<i64> {
    let [per, zone] = ["per", "time_zone"].map(|field| quota[field].as_str().unwrap_or_default());
    let name = format!("{per}-{zone}").to_lowercase().replace(['/', '_'], "-");
    let plan = plan(provider, product, &name, json!({ "quota": quota })).await?;
    let buyer = Buyer::create(provider, &name).await?;
    let key = buyer.buy(product, &plan).await?;
    let headers = [("x-api-key", key.text.as_str())];
    stack.answers(provider.address(), HOST, "/", &headers, 200).await?;
    stack.answers(provider.address(), HOST, "/", &headers, 429).await?;
    let answer = call(provider.address(), HOST, "/", &headers).await?;
    Ok(answer.header("retry-after").unwrap_or_default().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_in_a_time_zone_ends_at_its_midnight() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let product = provider.echo(&stack, "public").await?.product_id;
    let publish = provider.publish(&product, HOST, "api_key").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    // Hours apart, so that 00:00 of at most one is a moment away.
    for zone in ["Pacific/Kiritimati", "Europe/Berlin", "America/St_Johns"] {
        let day = json!({ "requests": 2, "per": "day", "time_zone": zone });
        let month =
            json!({ "requests": 2, "per": "month", "time_zone": zone, "anchor": "subscription" });
        let spans = [jiff::Span::new().days(1), jiff::Span::new().months(1)];
        for (quota, length) in [day, month].into_iter().zip(spans) {
            let before = until(zone, length)?;
            let wait = wait_after(&stack, &provider, &product, quota).await?;
            let after = until(zone, length)?;
            // The agent rounds up.
            ensure!((after..=before + 1).contains(&wait), "{zone}: {after} {wait} {before}");
        }
    }
    Ok(())
}
