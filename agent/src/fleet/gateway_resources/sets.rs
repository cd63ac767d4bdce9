//! The resource sets of Envoys with one filter.

use std::collections::HashMap;

use imp_grammar::caps::NODES_WAITING;
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_xds::{Change, Resource, ResourceSet, TypeUrl, WeakResourceSet};
use tonic::Status;

use super::{Staged, TYPES, change};

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

    pub(super) fn apply(
        &mut self,
        staged: Staged,
        made: &mut HashMap<(&'static str, String), Resource>,
    ) {
        self.all.apply(change(staged.all, made));
        for (gateway, slots) in staged.by_gateway {
            self.of_gateway(&gateway).apply(change(slots, made));
        }
    }

    /// The same resources, with another filter in its slot.
    pub(super) fn copied(&self, filter: &Resource, open: bool) -> Self {
        let copied = |from: &ResourceSet| {
            let (into, mut change) = (new(open), Change::default());
            for of in TYPES {
                let type_url = TypeUrl::from(of);
                for name in from.names(&type_url) {
                    let is_slot = of == EXTENSION && name == *filter.name();
                    let held = || from.get(&type_url, &name);
                    let resource = if is_slot { Some(filter.clone()) } else { held() };
                    resource.into_iter().for_each(|it| change.upsert(of, it));
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
