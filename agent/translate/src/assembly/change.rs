//! Collects what one operation changes, so that what comes and goes in it appears once.

use std::collections::{BTreeMap, BTreeSet};

use super::clusters::Clusters;
use super::{Delta, GatewayDelta};
use crate::xds::{CLUSTER, Rendered};

/// A resource of a gateway: gateway, type URL, name.
type Slot = (String, &'static str, String);

/// What one operation does, before it becomes a [`Delta`].
#[derive(Debug, Default)]
pub(super) struct Change {
    slots: BTreeMap<Slot, Option<Rendered>>,
    /// Clusters whose users changed; whether anything is left to do is seen at the end.
    clusters: BTreeSet<String>,
}

impl Change {
    pub(super) fn upsert(&mut self, gateway: &str, resource: Rendered) {
        let slot = (gateway.to_owned(), resource.type_url, resource.name.clone());
        self.slots.insert(slot, Some(resource));
    }

    pub(super) fn remove(&mut self, gateway: &str, type_url: &'static str, name: &str) {
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
        let mut seen = BTreeSet::new();
        for ((gateway, type_url, name), resource) in self.slots {
            debug_assert!(type_url != CLUSTER, "clusters go by their users");
            // One name, one resource: only the door's is shared by several gateways, and equal.
            if seen.insert((type_url, name.clone())) {
                put(&mut delta.all, type_url, &name, resource.clone());
            }
            put(delta.gateways.entry(gateway).or_default(), type_url, &name, resource);
        }
        delta
    }
}

pub(super) fn put(
    delta: &mut GatewayDelta,
    type_url: &'static str,
    name: &str,
    resource: Option<Rendered>,
) {
    match resource {
        Some(resource) => delta.upserts.push(resource),
        None => delta.removals.push((type_url, name.to_owned())),
    }
}
