//! Who called what, how often: cumulative counters per UTC hour. Each is kept in the ledger before
//! the call that it counts is answered, so a process that is killed loses none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, Pair, Place};

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

/// What the names of counters begin with in the ledger.
const NAMED: &str = "calls";

impl Counter {
    /// The counter of a name and count of the ledger; None: something else is kept there.
    pub fn kept(name: &str, [allowed, limited]: Pair) -> Option<Self> {
        let mut parts = name.split('\t');
        let mut part = || parts.next().map(str::to_owned);
        if part()? != NAMED {
            return None;
        }
        let (publish_id, subscription_id, consumer_id) = (part()?, part()?, part()?);
        let hour_ms = part()?.parse().ok()?;
        Some(Self { publish_id, subscription_id, consumer_id, hour_ms, allowed, limited })
    }

    fn key(&self) -> Key {
        let Self { publish_id, subscription_id, consumer_id, hour_ms, .. } = self;
        let text = |text: &String| Arc::from(text.as_str());
        (text(publish_id), text(subscription_id), text(consumer_id), *hour_ms)
    }
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
    /// Allowed, limited.
    count: Pair,
    /// How much of it is known elsewhere.
    committed: Pair,
    changed: u64,
    /// None: not kept yet.
    place: Option<Place>,
}

#[derive(Debug, Default)]
pub(crate) struct Usage {
    cells: DashMap<Key, Cell>,
    sequence: AtomicU64,
    ledger: Option<Arc<dyn Ledger>>,
    /// Held alone while all counters begin again.
    turn: RwLock<()>,
}

const HOUR_MS: i64 = 3_600_000;

impl Usage {
    pub(crate) fn kept_in(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger: Some(ledger), ..Self::default() }
    }

    pub(crate) fn count(
        &self,
        (publish, subscription, consumer): (&Arc<str>, &Arc<str>, &Arc<str>),
        now: DateTime<Utc>,
        allowed: bool,
    ) {
        let ms = now.timestamp_millis();
        let hour = ms - ms.rem_euclid(HOUR_MS);
        let key = (publish.clone(), subscription.clone(), consumer.clone(), hour);
        let _turn = self.turn();
        let mut cell = match self.cells.entry(key) {
            Entry::Occupied(slot) => slot.into_ref(),
            Entry::Vacant(slot) => {
                let cell = self.cell(slot.key());
                slot.insert(cell)
            }
        };
        // The mark is taken while the cell is locked: whoever reads marks first and cells second
        // sees every cell whose mark it has seen.
        cell.changed = self.mark();
        let [was_allowed, was_limited] = cell.count;
        cell.count = [was_allowed + u64::from(allowed), was_limited + u64::from(!allowed)];
        // Locked, too, so that a smaller count never follows a greater one into the ledger.
        self.keep(&cell);
    }

    /// A counter that continues what is kept of it.
    fn cell(&self, key: &Key) -> Cell {
        let placed = self.ledger.as_ref().and_then(|ledger| ledger.place(&name(key)));
        let (place, count) = placed.map_or((None, [0, 0]), |(place, count)| (Some(place), count));
        Cell { count, place, ..Cell::default() }
    }

    fn keep(&self, cell: &Cell) {
        if let (Some(ledger), Some(place)) = (&self.ledger, cell.place) {
            ledger.keep(place, cell.count);
        }
    }

    fn mark(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn turn(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed_since(&self, since: u64) -> (u64, Vec<Counter>) {
        let mark = self.sequence.load(Ordering::Acquire);
        let changed = self.cells.iter().filter(|entry| entry.value().changed > since);
        let counter = |(key, cell): (&Key, &Cell)| Counter {
            publish_id: key.0.to_string(),
            subscription_id: key.1.to_string(),
            consumer_id: key.2.to_string(),
            hour_ms: key.3,
            allowed: cell.count[0],
            limited: cell.count[1],
        };
        (mark, changed.map(|entry| counter(entry.pair())).collect())
    }

    /// These are known elsewhere now.
    pub(crate) fn committed(&self, counters: &[Counter]) {
        let _turn = self.turn();
        for counter in counters {
            let Some(mut cell) = self.cells.get_mut(&counter.key()) else { continue };
            let [allowed, limited] = cell.committed;
            cell.committed = [allowed.max(counter.allowed), limited.max(counter.limited)];
            if let (Some(ledger), Some(place)) = (&self.ledger, cell.place) {
                ledger.keep_committed(place, cell.committed);
            }
        }
    }

    /// From now on counters say only what was not committed.
    pub(crate) fn rebase(&self) {
        let _alone = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = &self.ledger {
            ledger.rebase();
        }
        for mut cell in self.cells.iter_mut() {
            let ([allowed, limited], committed) = (cell.count, std::mem::take(&mut cell.committed));
            let rest = [allowed.saturating_sub(committed[0]), limited.saturating_sub(committed[1])];
            (cell.count, cell.changed) = (rest, self.mark());
            self.keep(&cell);
        }
    }

    /// Brings everything to the ledger, also what it had no room for before.
    pub(crate) fn keep_all(&self) {
        let Some(ledger) = &self.ledger else { return };
        let _turn = self.turn();
        for mut entry in self.cells.iter_mut() {
            let (key, cell) = entry.pair_mut();
            if cell.place.is_none() {
                cell.place = ledger.place(&name(key)).map(|(place, _)| place);
            }
            if let Some(place) = cell.place {
                ledger.keep(place, cell.count);
                ledger.keep_committed(place, cell.committed);
            }
        }
    }

    pub(crate) fn forget(&self, before: DateTime<Utc>) {
        let before = before.timestamp_millis();
        self.cells.retain(|key, cell| {
            let stays = key.3.saturating_add(HOUR_MS) > before;
            if let (false, Some(ledger), Some(place)) = (stays, &self.ledger, cell.place) {
                ledger.free(place);
            }
            stays
        });
    }

    pub(crate) fn restore(&self, counters: Vec<(Counter, Pair)>) {
        let mark = self.mark();
        for (counter, committed) in counters {
            let key = counter.key();
            let fresh = self.cell(&key);
            let mut cell = self.cells.entry(key).or_insert(fresh);
            // What the ledger kept of it is in the counter already.
            cell.count = [counter.allowed, counter.limited];
            (cell.committed, cell.changed) = (committed, mark);
        }
    }
}

fn name((publish, subscription, consumer, hour): &Key) -> String {
    format!("{NAMED}\t{publish}\t{subscription}\t{consumer}\t{hour}")
}
