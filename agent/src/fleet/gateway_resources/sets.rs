//! The resource sets of Envoys of one kind.

use std::collections::HashMap;
use std::sync::Arc;

use imp_grammar::caps::NODES_WAITING;
use imp_translate::xds::{CLUSTER, LISTENER, ROUTES, SCOPE, scope};
use imp_xds::{Change, Resource, ResourceSet, TypeUrl, WeakResourceSet};
use tonic::Status;

use super::{Kind, Made, Staged, TYPES, change};

#[derive(Debug, Default)]
pub(super) struct Sets {
    all: ResourceSet,
    pub(super) by_gateway: HashMap<String, ResourceSet>,
    /// Resource sets of unknown gateways; dropped with the last Envoy that waits for one.
    pub(super) waiting: HashMap<String, WeakResourceSet>,
}

impl Sets {
    /// Those that have something.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ResourceSet> {
        self.by_gateway.values().chain([&self.all])
    }

    pub(super) fn of(&mut self, gateway: Option<&str>, open: bool) -> Result<ResourceSet, Status> {
        let Some(gateway) = gateway else { return Ok(self.all.clone()) };
        match self.by_gateway.get(gateway) {
            Some(set) => Ok(set.clone()),
            None => self.wait_for(gateway, open),
        }
    }

    /// Those of a gateway and of all gateways; for `None` every one.
    pub(super) fn of_gateways(&self, gateway: Option<&str>) -> impl Iterator<Item = &ResourceSet> {
        let (one, every) = match gateway {
            Some(gateway) => (self.by_gateway.get(gateway), None),
            None => (None, Some(self.by_gateway.values())),
        };
        one.into_iter().chain(every.into_iter().flatten()).chain([&self.all])
    }

    /// `keep`: other sets get the same afterwards.
    pub(super) fn apply(&mut self, staged: Staged, kind: Kind, made: &mut Made, keep: bool) {
        let Staged { all, by_gateway } = staged;
        self.all.apply(change(all, kind, made, keep || !by_gateway.is_empty()));
        for (gateway, slots) in by_gateway {
            self.of_gateway(&gateway).apply(change(slots, kind, made, keep));
        }
    }

    /// The same for Envoys without the module: with what is `plain`, and without wildcards.
    pub(super) fn copied(
        &self,
        plain: &HashMap<(&'static str, Arc<str>), Resource>,
        open: bool,
    ) -> Self {
        let copied = |from: &ResourceSet| {
            let (into, mut change) = (new(open), Change::default());
            for of in TYPES {
                let type_url = TypeUrl::from(of);
                for name in from.names(&type_url) {
                    let Some(held) = from.get(&type_url, &name) else { continue };
                    if of == SCOPE && scope::is_of_a_wildcard(held.value()) {
                        continue;
                    }
                    let other = plain.get(&(of, name));
                    change.upsert(of, other.cloned().unwrap_or(held));
                }
            }
            // A change makes a set ready.
            if open {
                into.apply(change);
            }
            into
        };
        let by_gateway = self.by_gateway.iter();
        Self {
            all: copied(&self.all),
            by_gateway: by_gateway.map(|(id, set)| (id.clone(), copied(set))).collect(),
            waiting: HashMap::new(),
        }
    }

    pub(super) fn mark_ready(&self) {
        self.iter().for_each(ResourceSet::mark_ready);
        let waiting = self.waiting.values().filter_map(WeakResourceSet::upgrade);
        waiting.for_each(|set| set.mark_ready());
    }

    pub(super) fn forget(&mut self, gateway: &str) {
        let Some(set) = self.by_gateway.get(gateway) else { return };
        let empty = |url: &&str| set.names(&TypeUrl::from(*url)).is_empty();
        // The enforcement resources are the same for every gateway, and stay.
        if [CLUSTER, LISTENER, SCOPE, ROUTES].iter().all(empty) {
            let weak = set.downgrade();
            self.by_gateway.remove(gateway);
            if weak.upgrade().is_some() {
                self.waiting.insert(gateway.to_owned(), weak);
            }
        }
    }

    fn of_gateway(&mut self, gateway: &str) -> ResourceSet {
        if let Some(set) = self.by_gateway.get(gateway) {
            return set.clone();
        }
        let waiting = self.waiting.remove(gateway).and_then(|set| set.upgrade());
        // Nothing is applied before Envoys are served.
        let set = waiting.unwrap_or_else(|| new(true));
        self.by_gateway.insert(gateway.to_owned(), set.clone());
        set
    }

    fn wait_for(&mut self, gateway: &str, open: bool) -> Result<ResourceSet, Status> {
        if let Some(set) = self.waiting.get(gateway).and_then(WeakResourceSet::upgrade) {
            return Ok(set);
        }
        if self.waiting.len() >= NODES_WAITING.size() {
            self.waiting.retain(|_, set| set.upgrade().is_some());
        }
        if self.waiting.len() >= NODES_WAITING.size() {
            let what = "too many Envoys wait for gateways that nobody knows";
            return Err(Status::resource_exhausted(what));
        }
        let set = new(open);
        self.waiting.insert(gateway.to_owned(), set.downgrade());
        Ok(set)
    }
}

fn new(open: bool) -> ResourceSet {
    let set = ResourceSet::new();
    if open {
        set.mark_ready();
    }
    set
}
