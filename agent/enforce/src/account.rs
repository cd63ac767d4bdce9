//! Usage accounts: what a customer has used of a product in an environment. An account belongs to
//! no plan and no subscription, so usage continues after a change of plan, or in a new subscription
//! after a cancelled one.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, Utc};

use crate::class::Class;
use crate::kept::Home;
use crate::meters::{HolderCount, Meters};
use crate::usage::QuotaRow;

/// The usage of one customer of one product in one environment.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// As many as its plans have limits: few, so that a list is searched as fast as a map.
    meters: RwLock<Vec<Arc<Meters>>>,
    home: Option<Home>,
}

impl Account {
    pub(crate) fn kept_in(home: Option<Home>) -> Self {
        Self { home, ..Self::default() }
    }

    pub(crate) fn meters(&self, class: Class) -> Arc<Meters> {
        let mut all = self.write();
        if let Some(known) = all.iter().find(|meters| *meters.class() == class) {
            return known.clone();
        }
        let fresh = Arc::new(Meters::new(class, self.home.clone()));
        all.push(fresh.clone());
        fresh
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Meters>>> {
        self.meters.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Meters>>> {
        self.meters.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores all counts in the ledger, including those that it had no space for before.
    pub(crate) fn keep_all(&self) {
        self.read().iter().for_each(|meters| meters.keep_all());
    }

    /// Drops unused meters that no limit refers to.
    pub(crate) fn evict_idle(&self, now: DateTime<Utc>) {
        self.write().retain(|meters| {
            meters.evict_idle(now);
            !meters.is_idle(now) || Arc::strong_count(meters) > 1
        });
    }

    /// Whether dropping it loses nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// The quotas of the current windows.
    pub(crate) fn quotas(&self, account: &str, now: DateTime<Utc>) -> Vec<QuotaRow> {
        let row = |class: &Class, (consumer, window, used): HolderCount| QuotaRow {
            account: account.to_owned(),
            consumer_id: consumer.map(|consumer| consumer.to_string()),
            limit: class.to_string(),
            window,
            used,
        };
        let meters = self.read();
        let rows = meters.iter().flat_map(|meters| {
            meters.counts(now).into_iter().map(|count| row(meters.class(), count))
        });
        rows.collect()
    }

    /// Restores a count from before a restart. Unknown classes are dropped.
    pub(crate) fn resume(&self, row: &QuotaRow) {
        if let Ok(class) = row.limit.parse::<Class>() {
            self.meters(class).resume(row.consumer_id.as_deref(), row.window, row.used);
        }
    }
}
