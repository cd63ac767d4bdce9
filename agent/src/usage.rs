//! Usage reports: sends the enforcement's counters to the control plane, so that each call counts
//! once.
//!
//! Counters are cumulative, and a batch has the epoch of its counters, so a repeated or late batch
//! changes nothing. Every call is in the usage file before it is answered ([`crate::ledger`]); the
//! file is synced before a batch is sent, so that the counters never fall behind what the control
//! plane has seen, not even after a power failure. While the disk fails, usage is reported from
//! memory: metering continues.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use imp_enforce::{Counter, Engine, is_over};
use imp_process::clock;
use imp_proto::agent as pb;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Kept, Ledger};
use crate::module::{Batch, Counted};

/// Counters per message, which has at most a mebibyte.
const BATCH: usize = 2_500;

/// How long hours are kept after their end; then nothing is counted in them any more.
const KEPT: TimeDelta = TimeDelta::hours(2);

const HOUR_MS: i64 = 3_600_000;

/// The state of the usage reports. Clones share it.
#[derive(Clone, Debug)]
pub struct Usage {
    engine: Engine,
    ledger: Ledger,
    /// What modules inside Envoys have counted.
    modules: Option<Counted>,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The engine's mark up to which counters are in batches.
    sent: u64,
    /// The mark up to which the control plane has committed them.
    committed: u64,
    /// Batches without an acknowledgement.
    under_way: VecDeque<UnderWay>,
}

/// A batch that was sent.
#[derive(Debug)]
struct UnderWay {
    sequence: u64,
    /// The mark that is committed with the last batch of a group; `None` for the others.
    mark: Option<u64>,
    counters: Counts,
}

/// Whose counters a batch has.
#[derive(Debug)]
enum Counts {
    Own(Vec<Counter>),
    Module(Batch),
}

impl Usage {
    /// Continues with the stored counts. The engine stores its counts in the same ledger.
    pub fn restore(engine: Engine, ledger: Ledger, kept: Vec<Kept>) -> Self {
        let counters = kept
            .into_iter()
            .filter_map(|(name, count, committed)| Some((Counter::kept(&name, count)?, committed)));
        engine.resume_usage(counters.collect());
        Self { engine, ledger, modules: None, progress: Arc::default() }
    }

    /// Reports these counts, too.
    pub fn with_modules(self, modules: Counted) -> Self {
        Self { modules: Some(modules), ..self }
    }

    /// Sets the agent's id at the control plane. Counts reported under another id are not reported
    /// again, because the control plane sums over agents.
    pub fn belongs_to(&self, agent: &str) {
        if let Some(modules) = &self.modules {
            modules.belongs_to(agent);
        }
        if self.ledger.owned_by(agent) {
            let mut progress = self.lock();
            self.engine.rebase_usage();
            *progress = Progress::default();
        }
    }

    /// Begins a stream: unacknowledged batches of the former one may be lost.
    pub fn begin(&self) {
        let mut progress = self.lock();
        progress.under_way.clear();
        progress.sent = progress.committed;
        if let Some(modules) = &self.modules {
            modules.begin();
        }
    }

    /// The changes since the last batches; empty if there are none.
    pub async fn batches(&self) -> Vec<pb::UsageBatch> {
        let since = self.lock().sent;
        let (mark, counters) = self.engine.usage_changed_since(since);
        let mut batches = Vec::new();
        if !counters.is_empty() {
            batches = self.number(mark, counters);
            // Reported even if the disk fails.
            let _synced = self.sync().await;
        }
        if let Some(modules) = self.modules.clone() {
            let changed = tokio::task::spawn_blocking(move || modules.changed()).await;
            batches.extend(self.number_modules(changed.unwrap_or_default()));
        }
        batches
    }

    fn number_modules(&self, changed: Vec<Batch>) -> Vec<pb::UsageBatch> {
        let mut progress = self.lock();
        let mut sequence = self.ledger.sequence();
        let mut batches = Vec::new();
        for batch in changed.into_iter().flat_map(|batch| batch.split(BATCH)) {
            sequence += 1;
            let (epoch, counters) =
                (batch.epoch.clone(), batch.counters.iter().map(wire).collect());
            batches.push(pb::UsageBatch { sequence, epoch, counters });
            let counters = Counts::Module(batch);
            progress.under_way.push_back(UnderWay { sequence, mark: None, counters });
        }
        if !batches.is_empty() {
            self.ledger.keep_sequence(sequence);
        }
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
            let counters = Counts::Own(counters.to_vec());
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
            match (&told.counters, &self.modules) {
                (Counts::Own(counters), _) => self.engine.usage_committed(counters),
                (Counts::Module(batch), Some(modules)) => modules.committed(batch),
                (Counts::Module(_), None) => {}
            }
            progress.committed = told.mark.unwrap_or(progress.committed);
        }
        // Asked for changes after the greatest mark, the engine returns its current one.
        let everything = progress.committed == self.engine.usage_changed_since(u64::MAX).0;
        let of_modules = progress.under_way.is_empty();
        drop(progress);
        if everything {
            self.forget(now - KEPT);
        }
        if let Some(modules) =
            self.modules.as_ref().filter(|modules| of_modules && modules.is_settled())
        {
            modules.forget((now - KEPT).timestamp_millis());
        }
    }

    /// Drops hours that ended before this time and are completely committed.
    fn forget(&self, before: DateTime<Utc>) {
        let ended = |counter: &Counter| {
            counter.hour_ms.saturating_add(HOUR_MS) <= before.timestamp_millis()
        };
        if self.engine.usage_changed_since(0).1.iter().any(ended) {
            self.engine.forget_usage(before);
        }
    }

    /// Syncs counts to disk. Returns false if that fails.
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

/// The most that a power failure loses.
const EVERY: Duration = Duration::from_secs(1);

/// Idle limits are dropped every this many rounds.
const EVICT_EVERY: u64 = 60;

/// Syncs until cancelled, whether or not anything is reported.
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
