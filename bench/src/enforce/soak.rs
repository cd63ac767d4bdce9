//! Hours in minutes: calls without a pause while keys come and go, with counts that must be exact and
//! memory that must stay.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use imp_module::feed::message::{Kind, Named};
use tokio::task::spawn_blocking;

use super::caller::{Called, Load, Protocol, call};
use super::contents::credential_id;
use super::envoy::{Common, Envoy};
use super::feed::Feed;
use super::{Contents, Door, listener};

/// The workers of that Envoy.
const WORKERS: u32 = 2;

/// Keys beyond those that are called, which come and go.
const CHANGING: usize = 10_000;

/// How long calls go on between two looks at the memory.
const SLICE: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    pub contents: Contents,
    pub lasts: Duration,
    pub callers: usize,
    /// Changes a second.
    pub updates: u64,
}

/// What was seen.
#[derive(Debug, Default, serde::Serialize)]
pub struct Soaked {
    pub calls: u64,
    pub counted: u64,
    pub updates: u64,
    pub seconds: f64,
    /// Megabytes of Envoy, after each slice.
    pub memory: Vec<f64>,
}

/// Runs it.
pub async fn soak(library: &Path, plan: &Soak, say: impl Fn(&str)) -> Result<Soaked> {
    let common = Common::new(library, &[])?;
    let envoy = Envoy::start(&common, Door::Module, &plan.contents, WORKERS).await?;
    let socket = envoy.path("feed.sock");
    let feed = spawn_blocking(move || Feed::accept(&socket)).await??;
    let (stop, updates) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let changing = {
        let (plan, stop, updates) = (*plan, stop.clone(), updates.clone());
        std::thread::spawn(move || change(feed, &plan, &stop, &updates))
    };
    let begun = Instant::now();
    let mut soaked = Soaked::default();
    while begun.elapsed() < plan.lasts {
        let lasts = SLICE.min(plan.lasts.saturating_sub(begun.elapsed()));
        let Called { calls, .. } = call(load(&common, &envoy, plan, lasts)).await?;
        soaked.calls += calls;
        soaked.memory.push(envoy.memory()?.resident);
        say(&format!("{} calls, {} updates", soaked.calls, updates.load(Ordering::Relaxed)));
        ensure!(!changing.is_finished(), "the feed has ended: {}", envoy.last_words());
    }
    soaked.seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    spawn_blocking(move || changing.join()).await?.ok().context("the feed has failed")??;
    soaked.updates = updates.load(Ordering::Relaxed);
    soaked.counted = envoy.counted()?;
    Ok(soaked)
}

fn load(common: &Common, envoy: &Envoy, plan: &Soak, lasts: Duration) -> Load {
    Load {
        protocol: Protocol::Http1,
        port: envoy.clear,
        path: listener::DIRECT,
        keys: plan.contents.keys,
        callers: plan.callers,
        lasts,
        connector: common.identity.connector(),
    }
}

/// Keys come and go, one change in a message, as many a second as are wanted, or as the module takes.
fn change(mut feed: Feed, plan: &Soak, stop: &AtomicBool, updates: &AtomicU64) -> Result<()> {
    let begun = Instant::now();
    let mut told = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * plan.updates as f64) as u64;
        if told >= due {
            std::thread::park_timeout(Duration::from_millis(1));
            continue;
        }
        let some = due.min(told + 100);
        while told < some {
            let number = plan.contents.keys + (told as usize / 2) % CHANGING;
            // Each key that came goes with the next change.
            if told.is_multiple_of(2) {
                let key = Kind::Credential(plan.contents.credential(number));
                feed.tell(vec![key.into()], vec![])?;
            } else {
                feed.tell(vec![], vec![Named::Credential(credential_id(number))])?;
            }
            told += 1;
        }
        feed.applied()?;
        updates.store(told, Ordering::Relaxed);
    }
    Ok(())
}
