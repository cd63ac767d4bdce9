//! One service is edited, and every publish of it is redeployed.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::try_join;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::contents::by_callers;
use super::traffic::{Call, Calls, Traffic};
use super::walk::{Expected, walk};
use super::{Setup, milliseconds};
use crate::sample::echo_service;

const FORMER: &str = "edited-1";
const EDITION: &str = "edited-2";

/// Calls per second on its hosts meanwhile.
const CALLS: u32 = 100;

/// What happened, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Edit {
    /// From the edit of the service until the last redeploy is answered.
    pub accepted: f64,
    /// From the edit of the service until every Envoy serves the new content at every host.
    pub served: f64,
    /// Route tables that the first Envoy took meanwhile, those in scopes apart.
    pub tables: u64,
    /// Bytes from the agent to all Envoys.
    pub bytes: f64,
    /// Calls of its hosts.
    pub calls: Calls,
}

/// Publishes a service so many times, edits it, and redeploys them all.
pub async fn edit(setup: &Setup) -> Result<Edit> {
    let provider = &setup.subject.provider;
    let publishes = setup.plan.edited;
    let service = provider.service(&echo_service(&setup.stack, FORMER, "/")).await?;
    let product = provider.product(FORMER, std::slice::from_ref(&service)).await?;
    let publish = async |index| provider.publish(&product, &host(index), "none").await;
    let ids = by_callers(0..publishes, publish).await?;
    served(setup, |index| Expected::new(host(index), FORMER.to_owned())).await?;

    let editions = vec![FORMER.to_owned(), EDITION.to_owned()];
    let call = |index| Call { host: host(index), key: None, editions: editions.clone() };
    let calls: Vec<_> = (0..publishes).map(call).collect();
    let traffic = Traffic::start(setup, &calls, CALLS).await?;
    let (tables, bytes) = (tables(setup).await?, sent(setup).await?);
    let began = Instant::now();
    let policies = echo_service(&setup.stack, EDITION, "/")["policies"].clone();
    let path = format!("/v1/api-services/{service}");
    provider.rest.patch(&path, &json!({ "policies": policies })).await?;
    let redeploy = async |index: usize| {
        let id = ids.get(index).map_or("", String::as_str);
        provider.rest.act(&format!("/v1/product-publishes/{id}/redeploy")).await.map(drop)
    };
    let accepted = async {
        by_callers(0..publishes, redeploy).await?;
        Ok(milliseconds(began, Instant::now()))
    };
    let changed = |index| Expected {
        host: host(index),
        edition: EDITION.to_owned(),
        former: Some(FORMER.to_owned()),
    };
    let (accepted, last) = try_join!(accepted, served(setup, changed))?;
    let calls = traffic.stop().await?;
    Ok(Edit {
        accepted,
        served: milliseconds(began, last),
        tables: taken(&tables, &self::tables(setup).await?),
        bytes: sent(setup).await? - bytes,
        calls,
    })
}

/// When every Envoy serves all of its hosts.
async fn served(setup: &Setup, expected: impl Fn(usize) -> Expected) -> Result<Instant> {
    let mut last = Instant::now();
    for mut caller in setup.callers().await? {
        let hosts = (0..setup.plan.edited).map(&expected);
        last = last.max(walk(&mut caller, hosts).await?.served());
    }
    Ok(last)
}

async fn sent(setup: &Setup) -> Result<f64> {
    setup.stack.agent.metric("xds_sent_bytes_total").await
}

/// How often the first Envoy took each route table.
async fn tables(setup: &Setup) -> Result<BTreeMap<String, u64>> {
    let envoy = anyhow::Context::context(setup.stack.envoys.first(), "no Envoy")?;
    envoy.stats("^http\\.port_\\d+\\.rds\\..*\\.config_reload$").await
}

fn taken(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> u64 {
    let more = |(name, count): (&String, &u64)| count - before.get(name).unwrap_or(&0).min(count);
    after.iter().map(more).sum()
}

fn host(index: usize) -> String {
    format!("e{index}.scale.example")
}
