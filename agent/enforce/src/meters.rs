//! The meters of a limit: what each of its holders has used.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, Utc};

use crate::class::Class;
use crate::id::Id;
use crate::kept::{Home, Kept};
use crate::ledger::Pair;
use crate::meter::Meter;
use crate::spec::nanos;

fn open(home: &Home, class: &Class, consumer: &str) -> (Kept, Pair) {
    let name = format!("{}\t{class}\t{}\t{consumer}", class.kind(), home.owner);
    Kept::open(&home.ledger, &name)
}

/// The usage of each holder of a limit.
#[derive(Debug)]
pub(crate) struct Meters {
    class: Class,
    home: Option<Home>,
    shared: Meter,
    /// Not sharded: most limits have no consumers of their own, and there are as many limits as
    /// subscriptions.
    consumers: RwLock<Consumers>,
}

type Consumers = HashMap<Id, Arc<Meter>>;

/// The meter of a holder.
pub(crate) enum Mine<'a> {
    Shared(&'a Meter),
    Own(Arc<Meter>),
}

impl Deref for Mine<'_> {
    type Target = Meter;

    fn deref(&self) -> &Meter {
        match self {
            Self::Shared(meter) => meter,
            Self::Own(meter) => meter,
        }
    }
}

/// The consumer (`None` if all share it), the window and the used amount.
pub(crate) type HolderCount = (Option<Id>, u64, u64);

impl Meters {
    pub(crate) fn new(class: Class, home: Option<Home>) -> Self {
        let home = home.filter(|_| class.is_kept());
        // With meters per consumer, nothing uses the shared one.
        let shared =
            home.as_ref().filter(|_| !class.is_per_consumer()).map(|home| open(home, &class, ""));
        let shared = class.meter(shared);
        Self { class, home, shared, consumers: RwLock::default() }
    }

    fn own(&self, consumer: &Id) -> Arc<Meter> {
        let text = consumer.text();
        let kept = self.home.as_ref().map(|home| open(home, &self.class, text.as_str()));
        Arc::new(self.class.meter(kept))
    }

    pub(crate) fn class(&self) -> &Class {
        &self.class
    }

    /// Stores all counts in the ledger, including those that it had no space for before.
    pub(crate) fn keep_all(&self) {
        self.shared.keep();
        self.read().values().for_each(|meter| meter.keep());
    }

    /// The meter for calls of this consumer.
    pub(crate) fn of_holder(&self, consumer: &Id) -> Mine<'_> {
        if !self.class.is_per_consumer() {
            return Mine::Shared(&self.shared);
        }
        let known = self.read().get(consumer).cloned();
        Mine::Own(known.unwrap_or_else(|| self.begin(consumer.clone())))
    }

    fn begin(&self, consumer: Id) -> Arc<Meter> {
        let mut consumers = self.write();
        let own = |consumer: &Id| self.own(consumer);
        consumers.entry(consumer).or_insert_with_key(own).clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Consumers> {
        self.consumers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Consumers> {
        self.consumers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops consumers whose limits are full again. One in use is kept: its user holds a second
    /// reference, taken under the same lock.
    pub(crate) fn evict_idle(&self, now: DateTime<Utc>) {
        let _freed = self.is_full(&self.shared, now);
        self.write().retain(|_, meter| !self.is_full(meter, now) || Arc::strong_count(meter) > 1);
    }

    /// Whether nothing counts any more.
    pub(crate) fn is_idle(&self, now: DateTime<Utc>) -> bool {
        self.read().is_empty() && self.is_full(&self.shared, now)
    }

    fn is_full(&self, meter: &Meter, now: DateTime<Utc>) -> bool {
        match (meter, self.class.windows()) {
            (Meter::Rate(count), _) => count.is_idle(nanos(now)),
            (Meter::Quota(count), Some(windows)) => count.in_use(&windows.current(now)).is_none(),
            (Meter::Quota(_), None) => true,
        }
    }

    /// The number of consumers with a meter of their own.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        self.read().len()
    }

    /// The counts of a quota in its current window.
    pub(crate) fn counts(&self, now: DateTime<Utc>) -> Vec<HolderCount> {
        let Some(windows) = self.class.windows() else { return Vec::new() };
        let current = windows.current(now);
        let read = |holder: Option<Id>, meter: &Meter| match meter {
            Meter::Quota(count) => {
                count.in_use(&current).map(|(window, used)| (holder, window, used))
            }
            Meter::Rate(_) => None,
        };
        let consumers = self.read();
        let own = consumers.iter().filter_map(|(name, meter)| read(Some(name.clone()), meter));
        own.chain(read(None, &self.shared)).collect()
    }

    /// Restores a count of this window.
    pub(crate) fn resume(&self, consumer: Option<&str>, window: u64, used: u64) {
        let meter = match consumer {
            None => Mine::Shared(&self.shared),
            Some(consumer) => Mine::Own(self.begin(consumer.into())),
        };
        if let Meter::Quota(count) = &*meter {
            count.resume(window, used);
        }
    }
}
