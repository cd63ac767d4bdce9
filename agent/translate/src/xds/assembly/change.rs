//! Collects the changes of one operation, so that each resource appears once.

use std::collections::{BTreeMap, BTreeSet};

use super::clusters::Clusters;
use super::delta::{Delta, put};
use crate::xds::{CLUSTER, Rendered};

/// A resource of a gateway: gateway, type URL, name.
type Slot = (String, &'static str, String);

/// The changes of one operation, before it becomes a [`Delta`].
#[derive(Debug, Default)]
pub(super) struct Change {
    slots: BTreeMap<Slot, Option<Rendered>>,
    /// For the Envoys that serve all gateways. The last change of a name counts.
    all: BTreeMap<(&'static str, String), Option<Rendered>>,
    /// Clusters whose users changed; what that means is decided at the end.
    clusters: BTreeSet<String>,
}

impl Change {
    pub(super) fn upsert(&mut self, gateway: &str, resource: Rendered) {
        self.all.insert((resource.type_url, resource.name.clone()), Some(resource.clone()));
        self.upsert_of(gateway, resource);
    }

    /// Upserts for the gateway's own Envoys; the others have it already.
    pub(super) fn upsert_of(&mut self, gateway: &str, resource: Rendered) {
        let slot = (gateway.to_owned(), resource.type_url, resource.name.clone());
        self.slots.insert(slot, Some(resource));
    }

    pub(super) fn remove(&mut self, gateway: &str, type_url: &'static str, name: &str) {
        self.all.insert((type_url, name.to_owned()), None);
        self.remove_of(gateway, type_url, name);
    }

    /// Removes from the gateway's own Envoys; the others keep it.
    pub(super) fn remove_of(&mut self, gateway: &str, type_url: &'static str, name: &str) {
        self.slots.insert((gateway.to_owned(), type_url, name.to_owned()), None);
    }

    pub(super) fn touch_cluster(&mut self, name: &str) {
        self.clusters.insert(name.to_owned());
    }

    pub(super) fn finish(self, clusters: &mut Clusters) -> Delta {
        let mut delta = Delta::default();
        for name in &self.clusters {
            clusters.settle(name, &mut delta);
        }
        for ((type_url, name), resource) in self.all {
            put(&mut delta.all, type_url, &name, resource);
        }
        for ((gateway, type_url, name), resource) in self.slots {
            debug_assert!(type_url != CLUSTER, "clusters go by their users");
            put(delta.gateways.entry(gateway).or_default(), type_url, &name, resource);
        }
        delta
    }
}
