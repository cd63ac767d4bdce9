//! Calls at a steady rate, each of which must be answered as if nothing happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::Setup;
use super::caller::Caller;
use super::milliseconds;
use crate::edge::Answer;
use crate::report::Times;

/// Connections that share the rate, over all Envoys.
const CALLERS: u32 = 10;

/// Wrong answers that are kept as text.
const KEPT: usize = 10;

/// What is called, and what may be the answer.
#[derive(Clone, Debug)]
pub struct Call {
    pub host: String,
    pub key: Option<String>,
    /// The values that `x-edition` may have.
    pub editions: Vec<String>,
}

impl Call {
    /// What is wrong with the answer.
    fn fault(&self, answer: &Result<Answer>) -> Option<String> {
        let fault = match answer {
            Ok(answer) if answer.status != 200 => format!("{answer:?}"),
            Ok(answer) => {
                let edition = answer.header("x-edition").unwrap_or_default();
                if self.editions.iter().any(|allowed| allowed == edition) {
                    return None;
                }
                format!("edition {edition}, not {:?}", self.editions)
            }
            Err(lost) => format!("{lost:#}"),
        };
        Some(format!("{}: {fault}", self.host))
    }
}

/// What callers got.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Calls {
    /// Milliseconds from when a call was due to its answer.
    pub times: Times,
    /// Answers other than the expected ones, lost connections included.
    pub wrong: usize,
    /// Some of them.
    pub faults: Vec<String>,
}

impl Calls {
    fn count(&mut self, fault: String) {
        self.wrong += 1;
        if self.faults.len() < KEPT {
            self.faults.push(fault);
        }
    }

    /// Adds those of another caller.
    pub fn add(&mut self, other: Self) {
        self.times.0.extend(other.times.0);
        self.wrong += other.wrong;
        self.faults.extend(other.faults);
        self.faults.truncate(KEPT);
    }
}

/// Calls until it is stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Result<Calls>>,
}

impl Traffic {
    /// Makes so many calls per second, over these in turns, to each Envoy alike.
    pub async fn start(setup: &Setup, calls: &[Call], per_second: u32) -> Result<Self> {
        let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let period = Duration::from_secs(1) * CALLERS / per_second.max(1);
        for (number, target) in (0..CALLERS as usize).zip(setup.targets().into_iter().cycle()) {
            let caller = Caller::open(target).await?;
            // Each begins with another one.
            let mut calls = calls.to_vec();
            let first = number % calls.len().max(1);
            calls.rotate_left(first);
            callers.spawn(call(caller, calls, period, stop.clone()));
        }
        Ok(Self { stop, callers })
    }

    /// Stops; returns what happened.
    pub async fn stop(mut self) -> Result<Calls> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Calls::default();
        while let Some(done) = self.callers.join_next().await {
            all.add(done??);
        }
        Ok(all)
    }
}

async fn call(
    mut caller: Caller,
    calls: Vec<Call>,
    period: Duration,
    stop: Arc<AtomicBool>,
) -> Result<Calls> {
    let (mut seen, mut due) = (Calls::default(), interval(period));
    for call in calls.iter().cycle() {
        let began = due.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let answer = caller.get(&call.host, call.key.as_deref()).await;
        seen.times.0.push(milliseconds(began, Instant::now()));
        if let Some(fault) = call.fault(&answer) {
            seen.count(fault);
        }
        if answer.is_err() {
            caller.connect_again().await?;
        }
    }
    Ok(seen)
}
