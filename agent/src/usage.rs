//! Who called what, how often: from the door's counters to the control plane, each call once.
//!
//! Counters are cumulative, and a batch names the life of the counters (the epoch) that it is of, so
//! a batch that arrives twice, or an old one late, changes nothing. Nothing is told that is not on
//! disk: counters never fall behind what the control plane has seen of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use imp_enforce::{Counter, Engine, QuotaRow, Snapshot};
use imp_proto::agent as pb;
use tokio_util::sync::CancellationToken;

use crate::lkg::{Lkg, Loaded, Table};

/// Counters in one message.
const BATCH: usize = 5_000;

/// Hours stay for so long after they ended, then nobody counts in them any more.
const KEPT: TimeDelta = TimeDelta::hours(2);

const HOUR_MS: i64 = 3_600_000;

const EPOCH: &str = "epoch";
const SEQUENCE: &str = "usage_sequence";
const QUOTAS: &str = "quotas";

/// The usage reporter's memory. Clones are one.
#[derive(Clone, Debug)]
pub struct Usage {
    engine: Engine,
    lkg: Lkg,
    epoch: Arc<str>,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Debug)]
struct Progress {
    /// Of the last batch that was made.
    sequence: u64,
    /// The engine's mark up to which counters are on disk.
    stored: u64,
    /// The engine's mark up to which counters are in batches.
    sent: u64,
    /// The same, committed in the control plane.
    committed: u64,
    /// Batches under way: the mark that is committed when this sequence is acknowledged.
    under_way: VecDeque<(u64, u64)>,
}

impl Usage {
    /// Continues with what was on disk, before the first entitlement; or begins a new epoch.
    pub fn restore(engine: Engine, lkg: Lkg, loaded: &mut Loaded) -> Self {
        let text = |key: &str| {
            let value = loaded.get(Table::Facts, key)?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let sequence = text(SEQUENCE).and_then(|text| text.parse().ok()).unwrap_or(0);
        let quotas: Vec<QuotaRow> =
            text(QUOTAS).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let epoch = text(EPOCH).unwrap_or_else(|| {
            let epoch = uuid::Uuid::now_v7().to_string();
            lkg.put(Table::Facts, EPOCH, epoch.clone());
            epoch
        });
        let rows = loaded.take(Table::Usage);
        let counters = rows.iter().filter_map(|(_, row)| serde_json::from_slice(row).ok());
        engine.restore(Snapshot { counters: counters.collect(), quotas });
        // Asked for news after the end of time, the engine says where it is now.
        let (stored, _) = engine.usage_changed_since(u64::MAX);
        let progress =
            Progress { sequence, stored, sent: 0, committed: 0, under_way: VecDeque::new() };
        Self { engine, lkg, epoch: epoch.into(), progress: Arc::new(Mutex::new(progress)) }
    }

    /// Marks what changed for the disk.
    pub fn store(&self) {
        // Locked to the end, or an older value could be marked after a newer one.
        let mut progress = self.lock();
        let (mark, counters) = self.engine.usage_changed_since(progress.stored);
        progress.stored = mark;
        for counter in counters {
            // A counter is made of strings and numbers; that always encodes.
            if let Ok(row) = serde_json::to_vec(&counter) {
                self.lkg.put(Table::Usage, key(&counter), row);
            }
        }
    }

    /// Marks the used parts of quotas for the disk: all of them, so not every second.
    pub fn store_quotas(&self, now: DateTime<Utc>) {
        if let Ok(row) = serde_json::to_vec(&self.engine.snapshot(now).quotas) {
            self.lkg.put(Table::Facts, QUOTAS, row);
        }
    }

    /// A new stream: what was under way on the old one may be lost.
    pub fn begin(&self) {
        let mut progress = self.lock();
        progress.under_way.clear();
        progress.sent = progress.committed;
    }

    /// What changed since the last batches, once it is on disk. Empty: nothing changed, or the disk
    /// does not take it.
    pub async fn batches(&self) -> Vec<pb::UsageBatch> {
        let since = self.lock().sent;
        let (mark, counters) = self.engine.usage_changed_since(since);
        if counters.is_empty() {
            return Vec::new();
        }
        // Stored after it was counted, so what is told is in what the disk has.
        self.store();
        let batches = self.number(mark, &counters);
        if self.lkg.flush().await {
            return batches;
        }
        self.begin();
        Vec::new()
    }

    fn number(&self, mark: u64, counters: &[Counter]) -> Vec<pb::UsageBatch> {
        let mut progress = self.lock();
        let mut batches = Vec::new();
        for counters in counters.chunks(BATCH) {
            progress.sequence += 1;
            batches.push(pb::UsageBatch {
                sequence: progress.sequence,
                epoch: self.epoch.to_string(),
                counters: counters.iter().map(wire).collect(),
            });
        }
        progress.sent = mark;
        let sequence = progress.sequence;
        progress.under_way.push_back((sequence, mark));
        self.lkg.put(Table::Facts, SEQUENCE, sequence.to_string());
        batches
    }

    /// The control plane has committed all batches up to this one.
    pub fn acknowledged(&self, sequence: u64, now: DateTime<Utc>) {
        let mut progress = self.lock();
        while let Some((_, mark)) = progress.under_way.pop_front_if(|(of, _)| *of <= sequence) {
            progress.committed = mark;
        }
        let everything = progress.committed == progress.stored;
        drop(progress);
        if everything {
            self.forget(now - KEPT);
        }
    }

    /// Hours that ended before, which the control plane knows whole.
    fn forget(&self, before: DateTime<Utc>) {
        let ended = |counter: &Counter| {
            let end = counter.hour_ms.saturating_add(HOUR_MS);
            end <= before.timestamp_millis()
        };
        let (_, counters) = self.engine.usage_changed_since(0);
        let ended: Vec<_> = counters.iter().filter(|counter| ended(counter)).collect();
        if !ended.is_empty() {
            self.engine.forget_usage(before);
        }
        for counter in ended {
            self.lkg.remove(Table::Usage, key(counter));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the disk at most this far behind the counters.
const EVERY: Duration = Duration::from_secs(1);

/// Quotas are stored, and idle limits forgotten, every so many rounds.
const QUOTAS_EVERY: u64 = 5;
const EVICT_EVERY: u64 = 60;

/// Stores until cancelled, whether anybody is told or not.
pub(crate) async fn keep(usage: Usage, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for round in 1_u64.. {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        usage.store();
        if round.is_multiple_of(QUOTAS_EVERY) {
            usage.store_quotas(Utc::now());
        }
        if round.is_multiple_of(EVICT_EVERY) {
            usage.engine.evict_idle(Utc::now());
        }
    }
    usage.store();
    usage.store_quotas(Utc::now());
}

fn key(counter: &Counter) -> String {
    let Counter { publish_id, subscription_id, consumer_id, hour_ms, .. } = counter;
    format!("{publish_id} {subscription_id} {consumer_id} {hour_ms}")
}

fn wire(counter: &Counter) -> pb::UsageCounter {
    pb::UsageCounter {
        publish_id: counter.publish_id.clone(),
        subscription_id: counter.subscription_id.clone(),
        consumer_id: counter.consumer_id.clone(),
        hour_ms: counter.hour_ms,
        allowed: counter.allowed,
        limited: counter.limited,
    }
}

#[cfg(test)]
mod tests {
    use imp_enforce::{AuthMode, Call, PublishAccess};

    use super::*;

    fn call(engine: &Engine, now: DateTime<Utc>) {
        let (publish_id, route_id) = ("p", "r");
        engine.decide(&Call {
            publish_id,
            route_id,
            gateway_id: None,
            api_key: None,
            duplicate_key: false,
            now,
        });
    }

    fn open(directory: &std::path::Path) -> (Engine, Lkg, Usage) {
        let (lkg, mut loaded) = Lkg::open(directory).unwrap();
        let engine = Engine::new();
        let usage = Usage::restore(engine.clone(), lkg.clone(), &mut loaded);
        engine.put_publish(PublishAccess {
            publish_id: "p".into(),
            gateway_id: "g".into(),
            tenant_id: "t".into(),
            product_id: "q".into(),
            environment: "prod".into(),
            auth_mode: AuthMode::None,
            suspended: false,
            limits: vec![],
        });
        (engine, lkg, usage)
    }

    #[tokio::test]
    async fn hours_are_kept_until_they_are_over_and_committed() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, lkg, usage) = open(directory.path());
        let noon: DateTime<Utc> = "2026-11-24T12:30:00Z".parse().unwrap();
        call(&engine, noon);
        let told = usage.batches().await.pop().unwrap();
        assert!(usage.batches().await.is_empty(), "nothing new");
        usage.acknowledged(told.sequence, noon + TimeDelta::hours(2));
        assert_eq!(engine.usage_changed_since(0).1.len(), 1, "somebody may still count in it");
        call(&engine, noon + TimeDelta::hours(3));
        let told = usage.batches().await.pop().unwrap();
        assert_eq!(told.counters.len(), 1);
        usage.acknowledged(told.sequence - 1, noon + TimeDelta::hours(9));
        assert_eq!(engine.usage_changed_since(0).1.len(), 2, "not all of it is committed");
        usage.acknowledged(told.sequence, noon + TimeDelta::hours(4));
        assert_eq!(engine.usage_changed_since(0).1.len(), 1);
        lkg.close();

        let (engine, _lkg, again) = open(directory.path());
        assert_eq!(engine.usage_changed_since(0).1.len(), 1, "what was forgotten stays forgotten");
        let retold = again.batches().await.pop().unwrap();
        assert_eq!(retold.epoch, told.epoch);
        assert!(retold.sequence > told.sequence);
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_is_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, lkg, usage) = open(directory.path());
        lkg.close();
        call(&engine, Utc::now());
        assert!(usage.batches().await.is_empty());
    }
}
