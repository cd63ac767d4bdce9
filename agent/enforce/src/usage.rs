//! Who called what, how often: cumulative counters per UTC hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};

/// The calls of one consumer to one publish in one hour, counted since the engine's counters began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Which publish.
    pub publish_id: String,
    /// Empty for a public publish.
    pub subscription_id: String,
    /// Empty for a public publish.
    pub consumer_id: String,
    /// Unix milliseconds of the hour's start.
    pub hour_ms: i64,
    /// Went to the upstream.
    pub allowed: u64,
    /// Refused with 429.
    pub limited: u64,
}

/// The used part of a calendar quota.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaRow {
    /// Whose: the entitlement's counter key.
    pub account: String,
    /// None: shared by all consumers.
    pub consumer_id: Option<String>,
    /// Which limits of a plan count in it: `month`, `day/consumer`.
    pub limit: String,
    /// The number of the day or month.
    pub window: u64,
    /// Calls in it.
    pub used: u64,
}

/// What must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// All counters.
    pub counters: Vec<Counter>,
    /// All quotas of which something is used.
    #[serde(default)]
    pub quotas: Vec<QuotaRow>,
}

/// Publish, subscription, consumer, start of the hour.
type Key = (Arc<str>, Arc<str>, Arc<str>, i64);

#[derive(Debug, Default)]
struct Cell {
    allowed: u64,
    limited: u64,
    changed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Usage {
    cells: DashMap<Key, Cell>,
    sequence: AtomicU64,
}

const HOUR_MS: i64 = 3_600_000;

impl Usage {
    pub(crate) fn count(
        &self,
        (publish, subscription, consumer): (&Arc<str>, &Arc<str>, &Arc<str>),
        now: DateTime<Utc>,
        allowed: bool,
    ) {
        let ms = now.timestamp_millis();
        let hour = ms - ms.rem_euclid(HOUR_MS);
        let key = (publish.clone(), subscription.clone(), consumer.clone(), hour);
        let mut cell = self.cells.entry(key).or_default();
        // The mark is taken while the cell is locked: whoever reads marks first and cells second
        // sees every cell whose mark it has seen.
        cell.changed = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        if allowed {
            cell.allowed += 1;
        } else {
            cell.limited += 1;
        }
    }

    pub(crate) fn changed_since(&self, since: u64) -> (u64, Vec<Counter>) {
        let mark = self.sequence.load(Ordering::Acquire);
        let changed = self.cells.iter().filter(|entry| entry.value().changed > since);
        let counter = |(key, cell): (&Key, &Cell)| Counter {
            publish_id: key.0.to_string(),
            subscription_id: key.1.to_string(),
            consumer_id: key.2.to_string(),
            hour_ms: key.3,
            allowed: cell.allowed,
            limited: cell.limited,
        };
        (mark, changed.map(|entry| counter(entry.pair())).collect())
    }

    pub(crate) fn forget(&self, before: DateTime<Utc>) {
        let before = before.timestamp_millis();
        self.cells.retain(|key, _| key.3.saturating_add(HOUR_MS) > before);
    }

    pub(crate) fn restore(&self, counters: Vec<Counter>) {
        let mark = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        for counter in counters {
            let key = (
                counter.publish_id.into(),
                counter.subscription_id.into(),
                counter.consumer_id.into(),
                counter.hour_ms,
            );
            let mut cell = self.cells.entry(key).or_default();
            cell.allowed += counter.allowed;
            cell.limited += counter.limited;
            cell.changed = mark;
        }
    }
}
