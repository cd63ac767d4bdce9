//! How fast publishes are accepted, without an Envoy.

use anyhow::Result;

use super::Plan;
use super::contents::Bulk;
use crate::ports;
use crate::stack::{Options, Stack};

/// Loads the plan's publishes into a stack on this database; returns how many were accepted per
/// second.
pub async fn accepted(plan: &Plan, database_url: &str) -> Result<f64> {
    let database_url = Some(database_url.to_owned());
    let stack = Stack::start(Options { database_url, envoy: false, ..Options::default() }).await?;
    let bulk = Bulk::prepare(&stack, ports::free()?, plan.contents, plan.publishes).await?;
    bulk.load(0..plan.publishes).await
}
