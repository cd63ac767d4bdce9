//! PRD flows 4.1 (a provider publishes) and 4.2 (a customer buys and calls), on both databases.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use imp_bench::edge::{Answer, Connection, call};
use imp_bench::process::eventually;
use imp_bench::sample::{Buyer, Key, Provider, payment_service};
use imp_bench::stack::{Options, PATIENCE, Stack};
use imp_store::testing::{Database, Kind};
use serde_json::{Value, json};

use crate::alone::side_by_side;

const HOST: &str = "pay.example.com";
const OTHER_HOST: &str = "other.example.com";
const PLAN: u64 = 5;

/// Two published products of one provider, and a customer with a key for the first.
struct Market {
    stack: Stack,
    provider: Provider,
    buyer: Buyer,
    key: Key,
}

async fn market(options: Options) -> Result<Market> {
    let stack = Stack::start(options).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let service = provider.service(&payment_service(&stack)).await?;
    let product = provider.product("Payment API", std::slice::from_ref(&service)).await?;
    let plan = provider.plan(&product, PLAN).await?;
    let publish = provider.publish(&product, HOST, "api_key").await?;
    let other = provider.product("Refund API", &[service]).await?;
    let other_publish = provider.publish(&other, OTHER_HOST, "api_key").await?;

    for id in [&publish, &other_publish] {
        let seen = stack.publish_reaches(id, "active", PATIENCE).await?;
        assert_eq!(seen["nodes"], json!({ "acked": 1, "nacked": 0, "behind": 0 }), "{seen}");
        assert_eq!((&seen["desired_revision"], &seen["acked_revision"]), (&json!(1), &json!(1)));
        assert!(seen["activated_at"].is_string(), "{seen}");
    }
    let buyer = Buyer::create(&provider, "Shop Ltd").await?;
    let key = buyer.buy(&product, &plan).await?;
    Ok(Market { stack, provider, buyer, key })
}

impl Market {
    async fn call(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        call(self.provider.address(), host, path, headers).await
    }

    fn with_key(&self) -> [(&str, &str); 1] {
        [("x-api-key", &self.key.text)]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_publishes_and_a_customer_calls() -> Result<()> {
    let _turn = side_by_side().await;
    published_and_called(Options::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_postgresql() -> Result<()> {
    let _turn = side_by_side().await;
    imp_bench::install_crypto();
    let database = Database::fresh(Kind::Postgres).await?;
    let database_url = Some(database.url().to_owned());
    published_and_called(Options { database_url, ..Options::default() }).await
}

async fn published_and_called(options: Options) -> Result<()> {
    let market = market(options).await?;
    let gateway = market.provider.address();
    let first =
        market.stack.answers(gateway, HOST, "/payments/7?a=b", &market.with_key(), 200).await?;
    sees_the_caller_and_not_the_key(&market, &first);
    without_a_good_key_it_is_401_and_says_no_more(&market).await?;
    a_known_key_of_another_product_is_403(&market).await?;
    what_no_route_matches_is_404_or_405(&market).await?;
    beyond_the_plan_it_is_429(&market).await?;
    a_suspended_subscription_is_403(&market).await?;
    a_revoked_key_is_401(&market).await
}

fn sees_the_caller_and_not_the_key(market: &Market, answer: &Answer) {
    let seen = answer.json();
    assert_eq!((&seen["method"], &seen["path"]), (&json!("GET"), &json!("/payments/7?a=b")));
    assert_eq!(seen["headers"].get("x-api-key"), None, "the key reached the upstream: {seen}");
    let headers = seen["headers"].as_object().map(|map| map.iter().collect::<Vec<_>>());
    let identity =
        headers.unwrap_or_default().into_iter().filter(|(name, _)| name.starts_with("x-imp-"));
    let values: BTreeSet<&str> = identity.filter_map(|(_, value)| value.as_str()).collect();
    for id in [&market.key.subscription_id, &market.buyer.customer_id] {
        assert!(values.contains(id.as_str()), "{id} is not among the identity headers: {seen}");
    }
    assert!(answer.header("ratelimit-policy").is_some(), "{answer:?}");
}

async fn without_a_good_key_it_is_401_and_says_no_more(market: &Market) -> Result<()> {
    let mut changed = market.key.text.clone();
    let last = changed.pop().context("an empty key")?;
    changed.push(if last == '0' { '1' } else { '0' });
    let mut bodies = BTreeSet::new();
    for headers in [
        vec![],
        vec![("x-api-key", "")],
        vec![("x-api-key", "nonsense")],
        vec![("x-api-key", changed.as_str())],
        vec![("x-imp-subscription", market.key.subscription_id.as_str())],
    ] {
        let answer = market.call(HOST, "/payments", &headers).await?;
        assert_eq!(answer.status, 401, "{headers:?}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let mut body = answer.json();
        let id = body.as_object_mut().and_then(|fields| fields.remove("request_id"));
        assert!(id.as_ref().and_then(Value::as_str).is_some_and(|id| !id.is_empty()), "{answer:?}");
        bodies.insert(body.to_string());
    }
    assert_eq!(bodies.len(), 1, "the refusals differ: {bodies:?}");
    Ok(())
}

async fn a_known_key_of_another_product_is_403(market: &Market) -> Result<()> {
    let answer = market.call(OTHER_HOST, "/payments", &market.with_key()).await?;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.json()["reason"].is_string() || answer.json()["code"].is_string());
    Ok(())
}

async fn what_no_route_matches_is_404_or_405(market: &Market) -> Result<()> {
    for (method, host, path, status) in [
        ("GET", HOST, "/nothing", 404),
        ("GET", HOST, "/paymentsx", 404),
        ("DELETE", HOST, "/refunds/1", 405),
        ("GET", HOST, "/refunds/1/more", 404),
        ("GET", "unknown.example.com", "/payments", 404),
    ] {
        let mut connection = Connection::open(market.provider.address()).await?;
        let answer = connection.send(method, host, path, &market.with_key()).await?;
        assert_eq!(answer.status, status, "{method} {host}{path}: {answer:?}");
        let allow = (status == 405).then_some("GET, HEAD, POST");
        assert_eq!(answer.header("allow"), allow, "{method} {host}{path}");
    }
    Ok(())
}

async fn beyond_the_plan_it_is_429(market: &Market) -> Result<()> {
    let before = market.stack.upstream.calls();
    let mut limited = None;
    for _ in 0..PLAN + 2 {
        let answer = market.call(HOST, "/payments", &market.with_key()).await?;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let limited = limited.context("never limited")?;
    let wait: u64 = limited.header("retry-after").context("no Retry-After")?.parse()?;
    assert!((1..=60).contains(&wait), "Retry-After: {wait}");
    for name in ["ratelimit-policy", "ratelimit"] {
        assert!(limited.header(name).is_some(), "no {name} in {limited:?}");
    }
    assert!(market.stack.upstream.calls() - before <= PLAN, "a limited call reached the upstream");
    Ok(())
}

async fn a_suspended_subscription_is_403(market: &Market) -> Result<()> {
    let path = format!("/v1/subscriptions/{}", market.key.subscription_id);
    let reason = json!({ "reason": "unpaid" });
    market.provider.rest.post(&format!("{path}/suspend"), &reason).await?;
    let gateway = market.provider.address();
    market.stack.answers(gateway, HOST, "/payments", &market.with_key(), 403).await?;
    market.provider.rest.act(&format!("{path}/resume")).await?;
    eventually("not 403 after resuming", PATIENCE, async || {
        let answer = market.call(HOST, "/payments", &market.with_key()).await?;
        Ok((answer.status != 403).then_some(()))
    })
    .await
}

async fn a_revoked_key_is_401(market: &Market) -> Result<()> {
    let path = format!("/v1/credentials/{}/revoke", market.key.credential_id);
    market.buyer.rest.act(&path).await?;
    eventually("a revoked key refused", Duration::from_secs(2), async || {
        let answer = market.call(HOST, "/payments", &market.with_key()).await?;
        Ok((answer.status == 401).then_some(()))
    })
    .await?;
    for _ in 0..20 {
        assert_eq!(market.call(HOST, "/payments", &market.with_key()).await?.status, 401);
    }
    Ok(())
}
