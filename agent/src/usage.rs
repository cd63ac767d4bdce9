//! Who called what, how often: from the door's counters to the control plane, each call once.
//!
//! Counters are cumulative, and a batch names the life of the counters (the epoch) that it is of, so
//! a batch that arrives twice, or an old one late, changes nothing. Every call is in the usage file
//! before it is answered ([`crate::ledger`]); it is synced before it is told, so that counters do not
//! fall behind what the control plane has seen of them, not even by a power cut. While the disk
//! fails, usage is told from memory: metering goes on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use imp_enforce::{Counter, Engine, is_over};
use imp_process::clock;
use imp_proto::agent as pb;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Kept, Ledger};

/// Counters in one message, which has at most a mebibyte.
const BATCH: usize = 2_500;

/// Hours stay for so long after they ended, then nobody counts in them any more.
const KEPT: TimeDelta = TimeDelta::hours(2);

const HOUR_MS: i64 = 3_600_000;

/// The usage reporter's memory. Clones are one.
#[derive(Clone, Debug)]
pub struct Usage {
    engine: Engine,
    ledger: Ledger,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The engine's mark up to which counters are in batches.
    sent: u64,
    /// The same, committed in the control plane.
    committed: u64,
    /// Not yet acknowledged.
    under_way: VecDeque<UnderWay>,
}

/// A batch that was told.
#[derive(Debug)]
struct UnderWay {
    sequence: u64,
    /// The mark that is committed with the last batch of several; None: it is not the last.
    mark: Option<u64>,
    counters: Vec<Counter>,
}

impl Usage {
    /// Continues with what was kept. The engine keeps its counts in the same ledger.
    pub fn restore(engine: Engine, ledger: Ledger, kept: Vec<Kept>) -> Self {
        let counters = kept
            .into_iter()
            .filter_map(|(name, count, committed)| Some((Counter::kept(&name, count)?, committed)));
        engine.resume_usage(counters.collect());
        Self { engine, ledger, progress: Arc::default() }
    }

    /// From now on the control plane knows this agent by this id. What it knew by another one is not
    /// told again: the control plane adds agents up.
    pub fn belongs_to(&self, agent: &str) {
        if self.ledger.owned_by(agent) {
            let mut progress = self.lock();
            self.engine.rebase_usage();
            *progress = Progress::default();
        }
    }

    /// A new stream: what was under way on the old one may be lost.
    pub fn begin(&self) {
        let mut progress = self.lock();
        progress.under_way.clear();
        progress.sent = progress.committed;
    }

    /// What changed since the last batches. Empty: nothing.
    pub async fn batches(&self) -> Vec<pb::UsageBatch> {
        let since = self.lock().sent;
        let (mark, counters) = self.engine.usage_changed_since(since);
        if counters.is_empty() {
            return Vec::new();
        }
        let batches = self.number(mark, counters);
        // A disk that fails is no reason not to be told.
        let _synced = self.sync().await;
        batches
    }

    fn number(&self, mark: u64, counters: Vec<Counter>) -> Vec<pb::UsageBatch> {
        let mut progress = self.lock();
        let (mut sequence, epoch) = (self.ledger.sequence(), self.ledger.epoch());
        let mut batches = Vec::new();
        for counters in counters.chunks(BATCH) {
            sequence += 1;
            batches.push(pb::UsageBatch {
                sequence,
                epoch: epoch.clone(),
                counters: counters.iter().map(wire).collect(),
            });
            let counters = counters.to_vec();
            progress.under_way.push_back(UnderWay { sequence, mark: None, counters });
        }
        if let Some(last) = progress.under_way.back_mut() {
            last.mark = Some(mark);
        }
        progress.sent = mark;
        self.ledger.keep_sequence(sequence);
        batches
    }

    /// The control plane has committed all batches up to this one.
    pub fn acknowledged(&self, sequence: u64, now: DateTime<Utc>) {
        let mut progress = self.lock();
        while let Some(told) = progress.under_way.pop_front_if(|told| told.sequence <= sequence) {
            self.engine.usage_committed(&told.counters);
            progress.committed = told.mark.unwrap_or(progress.committed);
        }
        // Asked for news after the end of time, the engine says where it is now.
        let everything = progress.committed == self.engine.usage_changed_since(u64::MAX).0;
        drop(progress);
        if everything {
            self.forget(now - KEPT);
        }
    }

    /// Hours that ended before, which the control plane knows whole.
    fn forget(&self, before: DateTime<Utc>) {
        let ended = |counter: &Counter| {
            counter.hour_ms.saturating_add(HOUR_MS) <= before.timestamp_millis()
        };
        if self.engine.usage_changed_since(0).1.iter().any(ended) {
            self.engine.forget_usage(before);
        }
    }

    /// Brings counts to the disk itself; false: it does not take them now.
    async fn sync(&self) -> bool {
        let (engine, ledger) = (self.engine.clone(), self.ledger.clone());
        let synced = tokio::task::spawn_blocking(move || {
            ledger.heal(|| engine.keep_all());
            ledger.sync()
        });
        synced.await.unwrap_or(false)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a power cut may cost at most.
const EVERY: Duration = Duration::from_secs(1);

/// Idle limits are forgotten every so many rounds.
const EVICT_EVERY: u64 = 60;

/// Syncs until cancelled, whether anybody is told or not.
pub(crate) async fn keep(usage: Usage, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let failing = metrics::gauge!("imp_usage_file_failing");
    for round in 1_u64.. {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        failing.set(if usage.sync().await { 0.0 } else { 1.0 });
        if round.is_multiple_of(EVICT_EVERY) {
            usage.engine.evict_idle(clock::now());
            let ledger = usage.ledger.clone();
            let sweep = move || ledger.sweep(|name, count| is_over(name, count, clock::now()));
            let _swept = tokio::task::spawn_blocking(sweep).await;
        }
    }
    let _synced = usage.sync().await;
}

fn wire(counter: &Counter) -> pb::UsageCounter {
    pb::UsageCounter {
        publish_id: counter.publish_id.clone(),
        subscription_id: counter.subscription_id.clone(),
        consumer_id: counter.consumer_id.clone(),
        hour_ms: counter.hour_ms,
        allowed: counter.allowed,
        limited: counter.limited,
        tenant_id: counter.tenant_id.clone(),
        customer_id: counter.customer_id.clone(),
        plan_id: counter.plan_id.clone(),
        plan_version: counter.plan_version,
        product_id: counter.product_id.clone(),
        environment: counter.environment.clone(),
    }
}

#[cfg(test)]
mod tests;
