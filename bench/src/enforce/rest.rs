//! From a revocation over REST until every worker refuses the key: the whole stack, with the module.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::revoke::milliseconds;
use crate::publish::{Poll, Probes, Timing, Timings};
use crate::sample::{Buyer, Provider};
use crate::stack::{Options, PATIENCE, Stack};

const WORKERS: u32 = 2;
const PERIOD: Duration = Duration::from_micros(100);
const HOST: &str = "revoked.example.com";

/// Revokes so many keys over REST, one after another.
pub async fn from_rest(library: &Path, times: usize) -> Result<Timings> {
    let flags = ["--door=module".to_owned(), format!("--module={}", library.display())];
    let options = Options { agent_flags: flags.into(), workers: WORKERS, ..Options::default() };
    let stack = Stack::start(options).await?;
    let provider = Provider::create(&stack, "bench").await?;
    let product = provider.echo(&stack, "echo").await?.product_id;
    let plan = provider.plan(&product, 1_000_000).await?;
    let publish = provider.publish(&product, HOST, "api_key").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    let mut keys = Vec::with_capacity(times);
    for number in 0..times {
        let buyer = Buyer::create(&provider, &format!("Shop {number}")).await?;
        keys.push(buyer.buy(&product, &plan).await?);
    }
    let envoy = stack.envoys.first().map(|envoy| envoy.admin());
    let Some(envoy) = envoy else { anyhow::bail!("no Envoy") };
    let probes = Probes::open(&envoy, provider.address(), WORKERS).await?;
    let mut timings = Timings::default();
    for key in keys {
        let own = [("x-api-key", key.text.as_str())];
        stack.answers(provider.address(), HOST, "/", &own, 200).await?;
        let (host, text) = (HOST, &key.text);
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-api-key: {text}\r\n\r\n");
        let poll = Poll { request: request.into(), before: 200, after: 401, period: PERIOD };
        let posted = Instant::now();
        let path = format!("/v1/credentials/{}/revoke", key.credential_id);
        provider.rest.act(&path).await?;
        let answered = Instant::now();
        // Begun when the answer is there, so that the probes do not compete with the commit.
        let refused = probes.poll(&poll).served().await?;
        timings.push(Timing {
            from_post: milliseconds(refused.duration_since(posted)),
            from_commit: milliseconds(refused.saturating_duration_since(answered)),
            to_commit: milliseconds(answered.duration_since(posted)),
        });
    }
    Ok(timings)
}
