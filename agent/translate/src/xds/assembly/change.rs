//! Collects the changes of one operation, so that each resource appears once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::delta::{Delta, Host, put};
use super::unit::Unit;
use crate::xds::content::Key;
use crate::xds::names::Place;
use crate::xds::{CLUSTER, Rendered};

/// A resource of a gateway: gateway, type URL, name.
type Slot = (Arc<str>, &'static str, Arc<str>);

/// The changes of one operation, before it becomes a [`Delta`].
#[derive(Debug, Default)]
pub(super) struct Change {
    slots: BTreeMap<Slot, Option<Rendered>>,
    /// For the Envoys that serve all gateways. The last change of a name counts.
    all: BTreeMap<(&'static str, Arc<str>), Option<Rendered>>,
    /// Clusters whose users changed; what that means is decided at the end.
    pub(super) clusters: BTreeSet<Arc<str>>,
    /// Tables whose users changed, likewise.
    pub(super) tables: BTreeSet<Key>,
    hosts: BTreeMap<Arc<str>, Host>,
    /// Hosts that publishes keep out of wildcards, or did.
    pub(super) kept_out: BTreeSet<Place>,
}

impl Change {
    pub(super) fn upsert(&mut self, gateway: &Arc<str>, resource: Rendered) {
        self.all.insert((resource.type_url, resource.name.clone()), Some(resource.clone()));
        self.upsert_of(gateway, resource);
    }

    /// Upserts for the gateway's own Envoys; the others have it already.
    pub(super) fn upsert_of(&mut self, gateway: &Arc<str>, resource: Rendered) {
        let slot = (gateway.clone(), resource.type_url, resource.name.clone());
        self.slots.insert(slot, Some(resource));
    }

    pub(super) fn remove(&mut self, gateway: &Arc<str>, type_url: &'static str, name: &str) {
        self.all.insert((type_url, name.into()), None);
        self.remove_of(gateway, type_url, name);
    }

    /// Removes from the gateway's own Envoys; the others keep it.
    pub(super) fn remove_of(&mut self, gateway: &Arc<str>, type_url: &'static str, name: &str) {
        self.slots.insert((gateway.clone(), type_url, name.into()), None);
    }

    /// Records whether the unit's host has a scope now.
    pub(super) fn host(&mut self, unit: &Unit, is_there: bool) {
        if unit.place.host.is_some() {
            let gateway = is_there.then(|| unit.gateway.clone());
            self.hosts.insert(unit.name.clone(), Host { place: unit.place.clone(), gateway });
        }
    }

    pub(super) fn touch_cluster(&mut self, name: &Arc<str>) {
        self.clusters.insert(name.clone());
    }

    pub(super) fn touch_table(&mut self, key: Key) {
        self.tables.insert(key);
    }

    /// Completes a delta that has the clusters and tables already.
    pub(super) fn finish(self, mut delta: Delta) -> Delta {
        delta.hosts = self.hosts;
        for ((type_url, name), resource) in self.all {
            put(&mut delta.all, type_url, &name, resource);
        }
        for ((gateway, type_url, name), resource) in self.slots {
            debug_assert!(type_url != CLUSTER, "clusters go by their users");
            put(delta.gateways.entry(gateway.to_string()).or_default(), type_url, &name, resource);
        }
        delta
    }
}
