//! Envoy Gateway and we on one Gateway: the same Envoy, the same backend, the same changes in turns. And what
//! delivery by Gateway API adds to Envoy Gateway's own time.

mod bad;
mod changes;
mod churn;
mod crd;
mod figures;
mod growth;
mod keys;
mod ours;
mod side;
mod theirs;
mod watch;

use anyhow::Result;
use serde::Serialize;

pub use self::bad::Bad;
pub use self::changes::{Block, Changes};
pub use self::churn::{Churn, Wrong};
pub use self::crd::Crd;
pub use self::figures::figures;
pub use self::growth::{Size, Sizes};
pub use self::keys::Keys;
pub use self::side::Shape;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Part {
    /// Changes beside many hosts.
    Hosts,
    /// Changes beside many paths of one host.
    Paths,
    /// A key more.
    Keys,
    /// Delivery by Gateway API.
    Crd,
}

/// How much of each.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub parts: Vec<Part>,
    /// Routes of theirs and publishes of ours that are there before, from few to many.
    pub sizes: Vec<usize>,
    /// Changes of theirs that are timed at each size.
    pub theirs: usize,
    /// Changes of ours that are timed at each size.
    pub ours: usize,
    /// Objects that are added, edited and deleted under load, on each side.
    pub churned: usize,
    /// Changes of others beside a bad value.
    pub others: usize,
    /// Routes that ask for a key, and keys.
    pub keyed: usize,
    pub keys: usize,
    /// Keys that are added.
    pub added_keys: usize,
    /// Publishes by Gateway API that are there before.
    pub crd: usize,
    /// Those that are timed.
    pub crd_timed: usize,
}

impl Plan {
    /// Short enough for a test: whether everything works still, not how fast.
    pub fn short() -> Self {
        Self {
            parts: vec![Part::Hosts, Part::Paths, Part::Keys, Part::Crd],
            sizes: vec![5, 20],
            theirs: 3,
            ours: 5,
            churned: 4,
            others: 3,
            keyed: 5,
            keys: 20,
            added_keys: 3,
            crd: 5,
            crd_timed: 3,
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub plan: Plan,
    pub shapes: Vec<Sizes>,
    pub keys: Option<Keys>,
    pub crd: Option<Crd>,
}

/// Measures everything, in namespaces of their own; `say` is told the steps.
pub async fn measure(plan: &Plan, say: impl Fn(&str)) -> Result<Measured> {
    let mut measured = Measured { plan: plan.clone(), shapes: vec![], keys: None, crd: None };
    for part in &plan.parts {
        match part {
            Part::Hosts => measured.shapes.push(growth::measure(plan, Shape::Hosts, &say).await?),
            Part::Paths => measured.shapes.push(growth::measure(plan, Shape::Paths, &say).await?),
            Part::Keys => measured.keys = Some(keys::measure(plan, &say).await?),
            Part::Crd => measured.crd = Some(crd::measure(plan, &say).await?),
        }
    }
    Ok(measured)
}

impl Measured {
    /// Wrong answers of ours.
    pub fn faults(&self) -> Vec<&str> {
        let of_ours = self.shapes.iter().map(|shape| &shape.churn.ours);
        of_ours.flat_map(|wrong| &wrong.samples).map(String::as_str).collect()
    }
}
