//! The well-behaved tenant: its REST calls and keys.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;

use crate::edge::Connection;
use crate::report::Times;
use crate::rest::{Rest, text};
use crate::sample::{Buyer, Provider};
use crate::stack::{PATIENCE, Stack};

const HOST: &str = "quiet.example.com";

/// A provider with one API, and a customer with keys to it.
pub struct Quiet {
    provider: Provider,
    /// Acts for the customer, who may revoke its own keys.
    customer: Rest,
    keys: Vec<Key>,
}

struct Key {
    id: String,
    text: String,
}

impl Quiet {
    /// Publishes, waits until it is served, and issues this many keys.
    pub async fn start(stack: &Stack, keys: usize) -> Result<Self> {
        let provider = Provider::create(stack, "quiet").await?;
        let echo = provider.echo(stack, "quiet").await?;
        let publish = provider.publish(&echo.product_id, HOST, "api_key").await?;
        let plan = provider.plan(&echo.product_id, 1_000_000).await?;
        for path in [format!("/v1/products/{}", echo.product_id), format!("/v1/plans/{plan}")] {
            // Already active if it is on sale.
            let _status =
                provider.rest.send(Method::POST, &format!("{path}/activate"), None).await?;
        }
        let buyer = Buyer::create(&provider, "buyer").await?;
        let first = buyer.buy(&echo.product_id, &plan).await?;
        let known = buyer.rest.get(&format!("/v1/credentials/{}", first.credential_id)).await?;
        let consumer = json!({ "consumer_id": text(&known, "consumer_id")? });
        let mut all = vec![Key { id: first.credential_id, text: first.text }];
        while all.len() < keys {
            let made = buyer.rest.post("/v1/credentials", &consumer).await?;
            all.push(Key { id: text(&made, "id")?, text: text(&made, "api_key")? });
        }
        stack.publish_reaches(&publish, "active", PATIENCE).await?;
        let quiet = Self { provider, customer: buyer.rest, keys: all };
        quiet.is_served(stack).await?;
        Ok(quiet)
    }

    /// Waits until a call with its last key is answered.
    pub async fn is_served(&self, stack: &Stack) -> Result<()> {
        let key = self.keys.last().context("no key")?;
        let headers = [("x-api-key", key.text.as_str())];
        stack.answers(self.provider.address(), HOST, "/", &headers, 200).await.map(drop)
    }

    /// Reads and writes for this long, one at a time with a pause; each call must succeed.
    pub async fn rest(&self, seconds: u64) -> Result<(Times, Times)> {
        let (mut reads, mut writes) = (Times::default(), Times::default());
        let began = imp_process::clock::now().timestamp_micros();
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut round = 0;
        while Instant::now() < end {
            round += 1;
            for path in ["/v1/me", "/v1/products", "/v1/product-publishes"] {
                reads.0.push(timed(&self.provider.rest, Method::GET, path, None).await?);
            }
            let body = json!({ "name": format!("customer {began} {round}") });
            let write = timed(&self.provider.rest, Method::POST, "/v1/customers", Some(&body));
            writes.0.push(write.await?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok((reads, writes))
    }

    /// Revokes every key but the last. Measures from the answer after the commit until the gateway
    /// refuses the key.
    pub async fn revocations(&self) -> Result<Times> {
        let mut times = Times::default();
        for key in self.keys.iter().rev().skip(1) {
            let mut connection = Connection::open(self.provider.address()).await?;
            let headers = [("x-api-key", key.text.as_str())];
            let before = connection.get(HOST, "/", &headers).await?.status;
            ensure!(before == 200, "a good key: {before}");
            self.customer.act(&format!("/v1/credentials/{}/revoke", key.id)).await?;
            let committed = Instant::now();
            loop {
                let status = connection.get(HOST, "/", &headers).await?.status;
                if status == 401 {
                    break;
                }
                ensure!(status == 200, "neither good nor revoked: {status}");
                ensure!(committed.elapsed() < Duration::from_secs(120), "still good");
            }
            times.0.push(committed.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(times)
    }
}

async fn timed(
    rest: &Rest,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Result<f64> {
    let began = Instant::now();
    let (status, answer) = rest.send(method.clone(), path, body).await?;
    ensure!(status.is_success(), "{method} {path}: {status} {answer}");
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
