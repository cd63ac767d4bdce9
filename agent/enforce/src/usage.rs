//! Usage counters: cumulative calls per UTC hour. Each is stored in the ledger before the call that
//! it counts is answered, so a killed process loses none.

mod name;

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use serde::{Deserialize, Serialize};

use crate::fast::Fast;
use crate::id::Id;
use crate::ledger::{Ledger, Pair, Place};
use crate::terms::Terms;

/// The calls of one consumer to one publish in one hour under the same terms, counted since the
/// engine's counters began. A change of plan inside an hour makes two counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Empty in counters that a former release began.
    #[serde(default)]
    pub tenant_id: String,
    /// Empty for a public publish.
    #[serde(default)]
    pub customer_id: String,
    /// Empty for a public publish.
    pub subscription_id: String,
    /// Empty for a public publish.
    #[serde(default)]
    pub plan_id: String,
    /// 0 for a public publish, or if the control plane did not send it.
    #[serde(default)]
    pub plan_version: u64,
    #[serde(default)]
    pub product_id: String,
    #[serde(default)]
    pub environment: String,
    pub publish_id: String,
    /// Empty for a public publish.
    pub consumer_id: String,
    /// Unix milliseconds of the hour's start.
    pub hour_ms: i64,
    /// Calls admitted, whatever the upstream answered.
    pub allowed: u64,
    /// Calls refused with 429.
    pub limited: u64,
}

impl Counter {
    /// The counter of a ledger's name and count; `None` if the name is of something else.
    pub fn kept(name: &str, count: Pair) -> Option<Self> {
        Some(name::read(name)?.counter(count))
    }

    fn key(&self) -> Key {
        let text = |text: &String| text.as_str().into();
        let terms = Terms {
            tenant_id: text(&self.tenant_id),
            customer_id: text(&self.customer_id),
            subscription_id: text(&self.subscription_id),
            plan_id: text(&self.plan_id),
            plan_version: self.plan_version,
            product_id: text(&self.product_id),
            environment: self.environment.as_str().into(),
        };
        Key {
            publish: self.publish_id.as_str().into(),
            terms: Arc::new(terms),
            consumer: text(&self.consumer_id),
            hour_ms: self.hour_ms,
        }
    }
}

/// The used part of a calendar quota.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaRow {
    /// The entitlement's counter key.
    pub account: String,
    /// `None` if all consumers share it.
    pub consumer_id: Option<String>,
    /// The class of the plan's limit: `month`, `day/consumer`.
    pub limit: String,
    /// The number of the window.
    pub window: u64,
    /// Calls in it.
    pub used: u64,
}

/// The state that must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// All counters.
    pub counters: Vec<Counter>,
    /// All quotas with usage.
    #[serde(default)]
    pub quotas: Vec<QuotaRow>,
}

/// Identifies the calls that count together.
#[derive(Clone, Debug)]
struct Key {
    publish: Arc<str>,
    terms: Arc<Terms>,
    consumer: Id,
    /// The start of the hour.
    hour_ms: i64,
}

/// A key, or what a call has of one: it is found without a copy.
trait Parts {
    fn parts(&self) -> Borrowed<'_>;
}

/// What a key is made of.
#[derive(Clone, Copy)]
struct Borrowed<'a> {
    publish: &'a Arc<str>,
    terms: &'a Arc<Terms>,
    consumer: &'a Id,
    hour_ms: i64,
}

impl Parts for Key {
    fn parts(&self) -> Borrowed<'_> {
        let Self { publish, terms, consumer, hour_ms } = self;
        Borrowed { publish, terms, consumer, hour_ms: *hour_ms }
    }
}

impl Parts for Borrowed<'_> {
    fn parts(&self) -> Borrowed<'_> {
        *self
    }
}

impl PartialEq for Borrowed<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Calls of one entitlement share their terms, so most comparisons end at the pointer.
        let same_terms = Arc::ptr_eq(self.terms, other.terms) || self.terms == other.terms;
        same_terms
            && self.hour_ms == other.hour_ms
            && self.consumer == other.consumer
            && (Arc::ptr_eq(self.publish, other.publish) || self.publish == other.publish)
    }
}

impl Hash for Borrowed<'_> {
    /// Hashes the part that distinguishes almost all keys.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.publish, self.consumer, &self.terms.subscription_id).hash(state);
        (self.terms.plan_version, self.hour_ms).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl<'a> Borrow<dyn Parts + 'a> for Key {
    fn borrow(&self) -> &(dyn Parts + 'a) {
        self
    }
}

impl PartialEq for dyn Parts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Parts + '_ {}

impl Hash for dyn Parts + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl Key {
    fn counter(&self, [allowed, limited]: Pair) -> Counter {
        let terms = &self.terms;
        Counter {
            tenant_id: terms.tenant_id.to_string(),
            customer_id: terms.customer_id.to_string(),
            subscription_id: terms.subscription_id.to_string(),
            plan_id: terms.plan_id.to_string(),
            plan_version: terms.plan_version,
            product_id: terms.product_id.to_string(),
            environment: terms.environment.to_string(),
            publish_id: self.publish.to_string(),
            consumer_id: self.consumer.to_string(),
            hour_ms: self.hour_ms,
            allowed,
            limited,
        }
    }
}

#[derive(Debug, Default)]
struct Cell {
    /// Allowed, limited.
    count: Pair,
    /// The committed part.
    committed: Pair,
    changed: u64,
    /// `None` if it is not stored yet.
    place: Option<Place>,
}

#[derive(Debug)]
pub(crate) struct Usage {
    cells: DashMap<Key, Cell, Fast>,
    sequence: AtomicU64,
    ledger: Option<Arc<dyn Ledger>>,
    /// Write-locked while all counters restart.
    turn: RwLock<()>,
}

const HOUR_MS: i64 = 3_600_000;

/// Shards of the counters: a new counter locks its shard, and a large table takes long to grow.
const SHARDS: usize = 256;

impl Default for Usage {
    fn default() -> Self {
        let cells = DashMap::with_hasher_and_shard_amount(Fast::default(), SHARDS);
        Self { cells, sequence: AtomicU64::new(0), ledger: None, turn: RwLock::new(()) }
    }
}

impl Usage {
    pub(crate) fn kept_in(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger: Some(ledger), ..Self::default() }
    }

    pub(crate) fn count(
        &self,
        (publish, terms, consumer): (&Arc<str>, &Arc<Terms>, &Id),
        now: DateTime<Utc>,
        allowed: bool,
    ) {
        let ms = now.timestamp_millis();
        let hour_ms = ms - ms.rem_euclid(HOUR_MS);
        let _turn = self.turn();
        let known: &dyn Parts = &Borrowed { publish, terms, consumer, hour_ms };
        if let Some(mut cell) = self.cells.get_mut(known) {
            return self.add(&mut cell, allowed);
        }
        let (publish, terms, consumer) = (publish.clone(), terms.clone(), consumer.clone());
        let mut cell = match self.cells.entry(Key { publish, terms, consumer, hour_ms }) {
            Entry::Occupied(slot) => slot.into_ref(),
            Entry::Vacant(slot) => {
                let cell = self.cell(slot.key());
                slot.insert(cell)
            }
        };
        self.add(&mut cell, allowed);
    }

    /// Counts one call more. The cell is locked.
    fn add(&self, cell: &mut Cell, allowed: bool) {
        // The mark is taken while the cell is locked: a reader that reads marks first and cells
        // second sees every cell whose mark it has seen.
        cell.changed = self.mark();
        let [was_allowed, was_limited] = cell.count;
        cell.count = [was_allowed + u64::from(allowed), was_limited + u64::from(!allowed)];
        // Locked, too, so that a smaller count never overwrites a greater one in the ledger.
        self.keep(cell);
    }

    /// A counter that continues its stored count.
    fn cell(&self, key: &Key) -> Cell {
        let placed = self.ledger.as_ref().and_then(|ledger| ledger.place(&name::write(key)));
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
        let counter = |(key, cell): (&Key, &Cell)| key.counter(cell.count);
        (mark, changed.map(|entry| counter(entry.pair())).collect())
    }

    /// Records that these counters are committed.
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

    /// Restarts the counters at their uncommitted part.
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

    /// Stores everything in the ledger, including what it had no space for before.
    pub(crate) fn keep_all(&self) {
        let Some(ledger) = &self.ledger else { return };
        let _turn = self.turn();
        for mut entry in self.cells.iter_mut() {
            let (key, cell) = entry.pair_mut();
            if cell.place.is_none() {
                cell.place = ledger.place(&name::write(key)).map(|(place, _)| place);
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
            let stays = key.hour_ms.saturating_add(HOUR_MS) > before;
            if let (false, Some(ledger), Some(place)) = (stays, &self.ledger, cell.place) {
                ledger.free(place);
            }
            stays
        });
    }

    pub(crate) fn restore(&self, counters: Vec<(Counter, Pair)>) {
        let mark = self.mark();
        let mut shared: HashSet<Arc<Terms>> = HashSet::new();
        for (counter, committed) in counters {
            let mut key = counter.key();
            // As calls of one entitlement do.
            match shared.get(&key.terms) {
                Some(known) => key.terms = known.clone(),
                None => drop(shared.insert(key.terms.clone())),
            }
            let fresh = self.cell(&key);
            let mut cell = self.cells.entry(key).or_insert(fresh);
            // The stored count is already in the counter.
            cell.count = [counter.allowed, counter.limited];
            (cell.committed, cell.changed) = (committed, mark);
        }
    }
}
