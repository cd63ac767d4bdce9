//! Rounds: each door in turn, so that whatever else the machine does meets all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::caller::{Load, Protocol, call};
use super::envoy::{Common, Envoy};
use super::{Contents, Door, listener};
use crate::report::Times;

/// What is called, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Setting {
    pub keys: usize,
    pub protocol: Protocol,
    /// Through an upstream; otherwise Envoy answers itself.
    pub upstream: bool,
}

impl Setting {
    /// Its name in figures.
    pub fn name(&self) -> String {
        let way = if self.upstream { "upstream" } else { "direct" };
        format!("{} {way}, {} keys", self.protocol.name(), self.keys)
    }
}

/// One round of one door.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Round {
    /// Microseconds of Envoy's CPU for each call.
    pub cpu: f64,
    /// Calls a second.
    pub rate: f64,
    /// Milliseconds of a call.
    pub p50: f64,
    pub p99: f64,
}

/// All rounds of a door in a setting.
pub type Cell = Vec<Round>;

/// How to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub contents: Contents,
    /// In the order of their turns.
    pub doors: Vec<Door>,
    /// The libraries of [`Door::Beside`].
    pub beside: Vec<PathBuf>,
    /// How often the Envoys are started: where a process has its memory makes more of a difference
    /// than any code.
    pub starts: usize,
    /// Rounds after each start.
    pub rounds: usize,
    pub lasts: Duration,
    pub callers: usize,
    /// Protocols, and whether through an upstream.
    pub ways: Vec<(Protocol, bool)>,
}

/// Runs all doors in all ways with the same keys.
pub async fn run(
    library: &Path,
    plan: &Plan,
    say: impl Fn(&str),
) -> Result<BTreeMap<(Setting, Door), Cell>> {
    let common = Common::new(library, &plan.beside)?;
    let mut cells = BTreeMap::new();
    for start in 1..=plan.starts {
        once(&common, plan, &mut cells).await?;
        say(&format!("{} keys: {start} of {}", plan.contents.keys, plan.starts));
    }
    Ok(cells)
}

/// Starts the Envoys once.
async fn once(
    common: &Common,
    plan: &Plan,
    cells: &mut BTreeMap<(Setting, Door), Cell>,
) -> Result<()> {
    let mut envoys = Vec::new();
    for door in &plan.doors {
        envoys.push((*door, Envoy::start(common, *door, &plan.contents, 1).await?));
    }
    for (protocol, upstream) in &plan.ways {
        let setting =
            Setting { keys: plan.contents.keys, protocol: *protocol, upstream: *upstream };
        // The first turn warms up.
        for turn in 0..=plan.rounds {
            for (door, envoy) in &envoys {
                let round = one(common, envoy, *door, &setting, plan).await;
                let what = || format!("{} {}: {}", setting.name(), door.name(), envoy.last_words());
                let round = round.with_context(what)?;
                if turn > 0 {
                    cells.entry((setting, *door)).or_default().push(round);
                }
            }
        }
    }
    Ok(())
}

async fn one(
    common: &Common,
    envoy: &Envoy,
    door: Door,
    setting: &Setting,
    plan: &Plan,
) -> Result<Round> {
    let keys = match door {
        Door::ApiKeyAuth => setting.keys.min(listener::KEYS_IN_CONFIGURATION),
        _ => setting.keys,
    };
    let load = Load {
        protocol: setting.protocol,
        port: if setting.protocol == Protocol::Tls { envoy.tls } else { envoy.clear },
        path: if setting.upstream { listener::UPSTREAM } else { listener::DIRECT },
        keys,
        callers: plan.callers,
        lasts: plan.lasts,
        connector: common.identity.connector(),
    };
    let before = envoy.cpu()?;
    let called = call(load).await?;
    let cpu = envoy.cpu()? - before;
    let times = Times(called.microseconds.iter().map(|us| f64::from(*us) / 1_000.0).collect());
    Ok(Round {
        cpu: cpu / called.calls as f64,
        rate: called.calls as f64 / called.took.as_secs_f64(),
        p50: times.percentile(0.5),
        p99: times.percentile(0.99),
    })
}

/// What keys cost Envoy.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Memory {
    pub keys: usize,
    pub per_subscription: usize,
    /// Bytes of each key, with its share of a subscription.
    pub bytes: f64,
    /// Seconds until Envoy serves.
    pub starts: f64,
}

/// Starts one Envoy with these keys, and one with a single key.
pub async fn memory(library: &Path, contents: &Contents) -> Result<Memory> {
    let common = Common::new(library, &[])?;
    let one = Contents { keys: 1, ..*contents };
    let few = Envoy::start(&common, Door::Module, &one, 1).await?.memory()?;
    let envoy = Envoy::start(&common, Door::Module, contents, 1).await?;
    let bytes = (envoy.memory()?.resident - few.resident) * 1_048_576.0;
    Ok(Memory {
        keys: contents.keys,
        per_subscription: contents.per_subscription,
        bytes: bytes / contents.keys as f64,
        starts: envoy.started.as_secs_f64(),
    })
}
