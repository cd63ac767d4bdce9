//! A bystander tenant: calls all the time, and in the end publishes and revokes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use imp_bench::edge::call;
use imp_bench::process::eventually;
use imp_bench::sample::{Buyer, Provider, echo_service};
use imp_bench::stack::PATIENCE;
use tokio::task::JoinHandle;

use super::stage::Stage;

const HOST: &str = "innocent.example.com";

pub(crate) struct Innocent {
    provider: Provider,
    buyer: Buyer,
    product_id: String,
    credential_id: String,
    key: String,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    /// The first failure.
    calls: JoinHandle<Option<String>>,
}

impl Innocent {
    /// Starts it, calling twenty times a second from now on.
    pub(crate) async fn start(stage: &Stage) -> Result<Self> {
        let provider = Provider::create(&stage.stack, "innocent").await?;
        let service = provider.service(&echo_service(&stage.stack, "innocent", "/")).await?;
        let product_id = provider.product("innocent", &[service]).await?;
        let plan = provider.plan(&product_id, 1_000_000).await?;
        provider.publish(&product_id, HOST, "api_key").await?;
        let buyer = Buyer::create(&provider, "customer").await?;
        let key = buyer.buy(&product_id, &plan).await?;
        let headers = [("x-api-key", key.text.as_str())];
        stage.stack.answers(provider.address(), HOST, "/", &headers, 200).await?;
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let calling = go_on(provider.address(), key.text.clone(), stop.clone(), served.clone());
        let calls = tokio::spawn(calling);
        let (credential_id, key) = (key.credential_id, key.text);
        Ok(Self { provider, buyer, product_id, credential_id, key, stop, served, calls })
    }

    /// Checks that every call was served, and that a publish and a revocation still work.
    pub(crate) async fn ends_unharmed(self, stage: &Stage) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.calls.await?;
        let served = self.served.load(Ordering::Relaxed);
        ensure!(wrong.is_none(), "after {served} calls of the innocent: {wrong:?}");
        ensure!(served > 0, "the innocent never called");
        println!("{served} calls of the innocent, 0 failed");

        let host = "again.innocent.example.com";
        let publish = self.provider.publish(&self.product_id, host, "none").await?;
        stage.stack.publish_reaches(&publish, "active", PATIENCE).await?;
        stage.stack.answers(self.provider.address(), host, "/", &[], 200).await?;

        self.buyer.rest.act(&format!("/v1/credentials/{}/revoke", self.credential_id)).await?;
        let revoked = eventually("a revoked key refused", Duration::from_secs(5), async || {
            let headers = [("x-api-key", self.key.as_str())];
            let answer = call(self.provider.address(), HOST, "/", &headers).await?;
            Ok((answer.status == 401).then_some(()))
        });
        revoked.await.context("the innocent's revocation")
    }
}

async fn go_on(
    gateway: std::net::SocketAddr,
    key: String,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
) -> Option<String> {
    while !stop.load(Ordering::Relaxed) {
        let headers = [("x-api-key", key.as_str())];
        let answer = tokio::time::timeout(PATIENCE, call(gateway, HOST, "/", &headers)).await;
        match answer {
            Ok(Ok(answer)) if answer.status == 200 => served.fetch_add(1, Ordering::Relaxed),
            Ok(other) => return Some(format!("{other:?}")),
            Err(_) => return Some("no answer".to_owned()),
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}
