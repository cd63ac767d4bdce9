//! The rules of a publish with the state of their rates: those of the wanted revision, and those of
//! revisions whose routes an Envoy may still run.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};

use crate::access::{PublishAccess, RouteRate};
use crate::class::Class;
use crate::digest::Named;
use crate::id::Id;
use crate::kept::Home;
use crate::ledger::Ledger;
use crate::limit::Held;
use crate::meters::Meters;

/// The most former rules of one publish. A revision seldom changes the rules, so more than one or
/// two mean that an Envoy is stuck.
pub const FORMER_RULES: usize = 8;

/// The meters of one rate, from its first call on. Rules that have the rate in common share them.
type Shared = Arc<OnceLock<Meters>>;

/// The rules of one revision.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) publish: PublishAccess,
    /// Of each rate of the rules, in the same order.
    meters: Box<[Shared]>,
}

impl Access {
    /// Takes over the state of rates of the same id and window from previous rules.
    fn new(publish: PublishAccess, before: &[Arc<Self>]) -> Self {
        let rates = publish.rules().rates().iter();
        let meters = rates.map(|rate| {
            let mut known = before.iter().flat_map(|before| before.rates());
            let same = known.find(|(old, _)| old.id == rate.id && rate.spec.continues(&old.spec));
            same.map(|(_, meters)| meters.clone()).unwrap_or_default()
        });
        Self { meters: meters.collect(), publish }
    }

    fn rates(&self) -> impl Iterator<Item = (&RouteRate, &Shared)> {
        self.publish.rules().rates().iter().zip(&self.meters)
    }

    /// Whether an Envoy of this gateway may ask about it; `None` may ask about any.
    pub(crate) fn is_on(&self, gateway: Option<&str>) -> bool {
        gateway.is_none_or(|gateway| gateway == self.publish.rules().gateway_id())
    }

    /// The rate of a route, if any. Its first call continues what the ledger has stored.
    pub(crate) fn held(
        &self,
        route_id: &str,
        consumer: &Id,
        ledger: Option<&Arc<dyn Ledger>>,
    ) -> Option<Held<'_>> {
        let place = self.publish.rules().rate_of(route_id)?;
        let (rate, meters) = self.rates().nth(place)?;
        let begin = || {
            let owner = format!("{}/{}", self.publish.publish_id(), rate.id);
            let home = ledger.map(|ledger| Home::new(ledger, owner));
            Meters::new(Class::alone(&rate.spec), home)
        };
        let meters = meters.get_or_init(begin);
        Some(Held::new(&rate.spec, meters.of_holder(consumer)))
    }

    /// The meters that are in use.
    fn meters(&self) -> impl Iterator<Item = &Meters> {
        self.meters.iter().filter_map(|meters| meters.get())
    }
}

/// The rules of one publish.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Takes effect at once, for the routes of every revision.
    pub(crate) suspended: bool,
    /// Those of the wanted revision first; no two are the same.
    all: Box<[Arc<Access>]>,
}

impl Rules {
    /// Takes over the state of equal rules from `before`, and the counts of rates that are in both.
    pub(crate) fn new(
        wanted: PublishAccess,
        former: impl IntoIterator<Item = PublishAccess>,
        before: Option<&Self>,
    ) -> Self {
        let suspended = wanted.suspended;
        let mut known = before.map(|rules| rules.all.to_vec()).unwrap_or_default();
        let mut all: Vec<Arc<Access>> = Vec::with_capacity(1);
        for publish in [wanted].into_iter().chain(former) {
            if all.len() > FORMER_RULES || all.iter().any(|held| held.publish.is_same(&publish)) {
                continue;
            }
            let held = known.iter().find(|held| held.publish.is_same(&publish)).cloned();
            let access = held.unwrap_or_else(|| Arc::new(Access::new(publish, &known)));
            // Rates that several of them share have one count.
            known.push(access.clone());
            all.push(access);
        }
        Self { suspended, all: all.into() }
    }

    /// The rules that apply to a call: those that its route names. If it names none, or unknown
    /// ones, all known rules apply: each of them must let it pass.
    pub(crate) fn named(&self, named: &Named) -> &[Arc<Access>] {
        let named = |access: &&Arc<Access>| named.is(access.publish.rules().digest());
        self.all.iter().find(named).map_or(&*self.all, std::slice::from_ref)
    }

    /// The rules of all revisions, the wanted one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &PublishAccess> {
        self.all.iter().map(|access| &access.publish)
    }

    /// Drops obsolete counts.
    pub(crate) fn evict_idle(&self, now: DateTime<Utc>) {
        self.all.iter().flat_map(|access| access.meters()).for_each(|it| it.evict_idle(now));
    }

    /// Stores their counts in the ledger, including those that it had no space for before.
    pub(crate) fn keep_all(&self) {
        self.all.iter().flat_map(|access| access.meters()).for_each(Meters::keep_all);
    }
}
