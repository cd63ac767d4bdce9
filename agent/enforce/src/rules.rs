//! The rules of a publish with the state of their rates: those of the wanted revision, and those of
//! revisions whose routes an Envoy may still run.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::PublishAccess;
use crate::account::Home;
use crate::ledger::Ledger;
use crate::limit::Limit;
use crate::spec::Spec;
use crate::terms::Terms;

/// The most former rules of one publish. A revision seldom changes the rules, so more than one or
/// two mean that an Envoy is stuck.
pub const FORMER_RULES: usize = 8;

/// The rules of one digest.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) id: Arc<str>,
    pub(crate) publish: PublishAccess,
    /// The terms of calls without a consumer.
    pub(crate) public: Arc<Terms>,
    /// The consumer id of such calls.
    pub(crate) nobody: Arc<str>,
    digest: String,
    limits: HashMap<String, Limit>,
    /// Maps routes to limits.
    by_route: HashMap<String, String>,
}

impl Access {
    /// Takes over the state of rates of the same id and window, from previous rules or from the
    /// ledger.
    fn new(publish: PublishAccess, before: &[Arc<Self>], ledger: Option<&Arc<dyn Ledger>>) -> Self {
        let mut limits = HashMap::with_capacity(publish.limits.len());
        let mut by_route = HashMap::new();
        for limit in &publish.limits {
            let spec = Spec::rate("route", limit.requests, limit.window_seconds);
            let mut same_id = before.iter().filter_map(|before| before.limits.get(&limit.id));
            let old = same_id.find(|old| spec.continues(&old.spec));
            let owner = || format!("{}/{}", publish.publish_id, limit.id);
            let home = ledger.map(|ledger| Home::new(ledger, &owner()));
            limits.insert(limit.id.clone(), Limit::new(spec, old, home));
            by_route.extend(limit.routes.iter().map(|route| (route.clone(), limit.id.clone())));
        }
        Self {
            id: publish.publish_id.as_str().into(),
            public: Arc::new(Terms::public(&publish)),
            nobody: "".into(),
            digest: publish.digest(),
            publish,
            limits,
            by_route,
        }
    }

    /// Whether an Envoy of this gateway may ask about it; `None` may ask about any.
    pub(crate) fn is_on(&self, gateway: Option<&str>) -> bool {
        gateway.is_none_or(|gateway| gateway == self.publish.gateway_id)
    }

    /// The rate of a route, if any.
    pub(crate) fn limit(&self, route_id: &str) -> Option<&Limit> {
        self.limits.get(self.by_route.get(route_id)?)
    }
}

/// The rules of one publish.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Takes effect at once, for the routes of every revision.
    pub(crate) suspended: bool,
    /// Those of the wanted revision first; digests are distinct.
    all: Vec<Arc<Access>>,
}

impl Rules {
    /// Takes over the state of equal rules from `before`, and the counts of rates that are in both.
    pub(crate) fn new(
        wanted: PublishAccess,
        former: impl IntoIterator<Item = PublishAccess>,
        before: Option<&Self>,
        ledger: Option<&Arc<dyn Ledger>>,
    ) -> Self {
        let suspended = wanted.suspended;
        let mut known: Vec<Arc<Access>> = before.map(|rules| rules.all.clone()).unwrap_or_default();
        let mut all: Vec<Arc<Access>> = Vec::new();
        for publish in [wanted].into_iter().chain(former) {
            let digest = publish.digest();
            if all.len() > FORMER_RULES || all.iter().any(|access| access.digest == digest) {
                continue;
            }
            let held = known.iter().find(|access| access.digest == digest).cloned();
            let access = held.unwrap_or_else(|| Arc::new(Access::new(publish, &known, ledger)));
            // Rates that several of them share have one count.
            known.push(access.clone());
            all.push(access);
        }
        Self { suspended, all }
    }

    /// The rules that apply to a call: those that its route names. If it names none, or unknown
    /// ones, all known rules apply: each of them must let it pass.
    pub(crate) fn named(&self, digest: &str) -> &[Arc<Access>] {
        let named = self.all.iter().find(|access| access.digest == digest);
        named.map_or(&self.all, std::slice::from_ref)
    }

    /// Drops obsolete counts.
    pub(crate) fn evict_idle(&self, now: DateTime<Utc>) {
        let limits = self.all.iter().flat_map(|access| access.limits.values());
        limits.for_each(|limit| limit.evict_idle(now));
    }

    /// Stores their counts in the ledger, including those that it had no space for before.
    pub(crate) fn keep_all(&self) {
        self.all.iter().flat_map(|access| access.limits.values()).for_each(Limit::keep_all);
    }
}
