//! How fast publishes are accepted, and at what cost, without an Envoy.

use anyhow::Result;

use super::Plan;
use super::contents::Bulk;
use crate::ports;
use crate::process::{Memory, cpu_time};
use crate::report::Figure;
use crate::stack::{Options, Stack};

/// A load of publishes.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    pub per_second: f64,
    /// The control plane's CPU for each, in milliseconds, with what it tells the agent by then.
    pub cpu: f64,
    /// Of the control plane.
    pub memory: Memory,
}

impl Accepted {
    /// Its figures; `at_least` is the target per second.
    pub fn figures(&self, plan: &Plan, database: &str, at_least: f64) -> [Figure; 3] {
        let start = format!("{}, {}, {database}, no Envoy", plan.contents.words(), plan.publishes);
        let name = |what: &str| format!("{start}: {what}");
        let per_second = Figure::new(name("accepted per second"), self.per_second, "/s");
        [
            per_second.at_least(at_least),
            Figure::new(name("CPU of the control plane for each"), self.cpu, "ms"),
            Figure::new(name("control plane RSS"), self.memory.resident, "MB"),
        ]
    }
}

/// Loads the plan's publishes into a stack on this database; on SQLite if there is none.
pub async fn accepted(plan: &Plan, database_url: Option<&str>) -> Result<Accepted> {
    let database_url = database_url.map(str::to_owned);
    let stack = Stack::start(Options { database_url, envoy: false, ..Options::asking() }).await?;
    let bulk = Bulk::prepare(&stack, ports::free()?, plan.contents, plan.publishes).await?;
    let control = stack.control.pid();
    let before = cpu_time(control)?;
    let per_second = bulk.load(0..plan.publishes).await?;
    let spent = cpu_time(control)?.saturating_sub(before);
    Ok(Accepted {
        per_second,
        cpu: spent.as_secs_f64() * 1_000.0 / plan.publishes as f64,
        memory: Memory::of(control)?,
    })
}
