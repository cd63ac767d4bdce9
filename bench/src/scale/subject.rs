//! The tenant on which is measured: hosts that are served before all others, keys that are revoked,
//! and products whose publishes are timed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::caller::{Caller, Target};
use super::contents::{Contents, by_callers, product};
use super::traffic::Call;
use super::walk::{Expected, walk};
use super::{Plan, milliseconds};
use crate::rest::{Rest, text};
use crate::sample::{Buyer, Provider};
use crate::stack::{PATIENCE, Stack};

/// Hosts of each kind that are there before.
const STEADY: usize = 10;

/// Products of the timed publishes, if contents are shared.
const SHARED: usize = 4;

/// Between two calls with a key that is revoked, or of a host that is published.
const POLL: Duration = Duration::from_millis(1);

/// The tenant's objects.
pub struct Subject {
    pub provider: Provider,
    customer: Rest,
    /// Revoked one after another; the last one stays.
    keys: Vec<Key>,
    revoked: AtomicUsize,
    products: Vec<String>,
    published: AtomicUsize,
}

struct Key {
    id: String,
    text: String,
}

impl Subject {
    /// Creates everything, and publishes what is there before.
    pub(super) async fn prepare(stack: &Stack, port: u16, plan: &Plan) -> Result<Self> {
        let provider = Provider::create_at(stack, "subject", port).await?;
        let steady = product(stack, &provider, "steady").await?;
        let terms = provider.plan(&steady, 1_000_000_000).await?;
        for index in 0..STEADY {
            provider.publish(&steady, &open(index), "none").await?;
            provider.publish(&steady, &keyed(index), "api_key").await?;
        }
        let buyer = Buyer::create(&provider, "buyer").await?;
        let first = buyer.buy(&steady, &terms).await?;
        let known = buyer.rest.get(&format!("/v1/credentials/{}", first.credential_id)).await?;
        let consumer = json!({ "consumer_id": text(&known, "consumer_id")? });
        let mut keys = vec![Key { id: first.credential_id, text: first.text }];
        while keys.len() <= plan.keys {
            let made = buyer.rest.post("/v1/credentials", &consumer).await?;
            keys.push(Key { id: text(&made, "id")?, text: text(&made, "api_key")? });
        }
        let number = match plan.contents {
            Contents::Shared(_) => SHARED,
            Contents::All => plan.timed + plan.lone,
        };
        let make = async |index| product(stack, &provider, &label(index)).await;
        let products = by_callers(0..number, make).await?;
        let customer = buyer.rest;
        let (revoked, published) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let subject = Self { provider, customer, keys, revoked, products, published };
        if plan.contents != Contents::All {
            // From here on their contents are not new.
            for _ in 0..SHARED {
                subject.publish().await?;
            }
        }
        Ok(subject)
    }

    /// Publishes the next product at the next host.
    pub(super) async fn publish(&self) -> Result<Expected> {
        let (spec, expected) = self.next_publish()?;
        self.provider.rest.post("/v1/product-publishes", &spec).await?;
        Ok(expected)
    }

    /// The body of the next publish, and what is served with it.
    pub(super) fn next_publish(&self) -> Result<(serde_json::Value, Expected)> {
        let index = self.published.fetch_add(1, Ordering::Relaxed);
        let content = index % self.products.len().max(1);
        let product = self.products.get(content).context("no product was prepared")?;
        let expected = Expected::new(format!("s{index}.scale.example"), label(content));
        Ok((self.provider.publish_spec(product, &expected.host, "none"), expected))
    }

    /// The times from the POST of a publish until its answer, and until every Envoy serves it, in
    /// milliseconds.
    pub(super) async fn lone(&self, callers: &mut [Caller]) -> Result<(f64, f64)> {
        let posted = Instant::now();
        let expected = self.publish().await?;
        let answered = milliseconds(posted, Instant::now());
        for caller in callers {
            walk(caller, [expected.clone()]).await?;
        }
        Ok((answered, milliseconds(posted, Instant::now())))
    }

    /// Revokes a key; returns the milliseconds from the answer until every Envoy refuses it.
    /// `None` if no key is left.
    pub(super) async fn revoke(&self, callers: &mut [Caller]) -> Result<Option<f64>> {
        let index = self.revoked.fetch_add(1, Ordering::Relaxed);
        let Some(key) = self.keys.get(index).filter(|_| index + 1 < self.keys.len()) else {
            return Ok(None);
        };
        let (host, key_text) = (keyed(0), Some(key.text.as_str()));
        for caller in &mut *callers {
            let before = caller.get(&host, key_text).await?.status;
            ensure!(before == 200, "a good key: {before}");
        }
        self.customer.act(&format!("/v1/credentials/{}/revoke", key.id)).await?;
        let committed = Instant::now();
        for caller in callers {
            loop {
                let status = caller.get(&host, key_text).await?.status;
                if status == 401 {
                    break;
                }
                ensure!(status == 200, "neither good nor revoked: {status}");
                ensure!(committed.elapsed() < PATIENCE, "still good");
                sleep(POLL).await;
            }
        }
        Ok(Some(milliseconds(committed, Instant::now())))
    }

    /// Calls of public hosts that are there before.
    pub fn public_calls(&self) -> Vec<Call> {
        (0..STEADY).map(|index| call(open(index), None)).collect()
    }

    /// Calls with the key that stays, of hosts that are there before.
    pub fn keyed_calls(&self) -> Vec<Call> {
        let key = self.keys.last().map(|key| key.text.clone());
        (0..STEADY).map(|index| call(keyed(index), key.clone())).collect()
    }

    /// Waits until an Envoy serves the hosts that are there before, and takes the keys.
    pub(super) async fn is_served(&self, target: &Target) -> Result<()> {
        let mut caller = Caller::open(target.clone()).await?;
        let edition = || "steady".to_owned();
        walk(&mut caller, (0..STEADY).map(|index| Expected::new(open(index), edition()))).await?;
        for call in self.keyed_calls() {
            self.takes_key(&mut caller, &call).await?;
        }
        Ok(())
    }

    /// Waits until the gateway can ask its agent about this call.
    async fn takes_key(&self, caller: &mut Caller, call: &Call) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = caller.get(&call.host, call.key.as_deref()).await?;
            match answer.status {
                200 => return Ok(()),
                // Not published yet, its key not yet there, its agent not yet connected.
                404 | 401 | 403 | 503 => {}
                _ => anyhow::bail!("a wrong answer: {answer:?}"),
            }
            ensure!(Instant::now() < deadline, "{} is not served: {answer:?}", call.host);
            sleep(POLL).await;
        }
    }
}

fn call(host: String, key: Option<String>) -> Call {
    Call { host, key, editions: vec!["steady".to_owned()] }
}

fn open(index: usize) -> String {
    format!("open{index}.scale.example")
}

fn keyed(index: usize) -> String {
    format!("keyed{index}.scale.example")
}

fn label(content: usize) -> String {
    format!("subject-{content}")
}
