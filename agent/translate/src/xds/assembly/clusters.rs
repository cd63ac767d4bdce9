//! Clusters, shared by all routes with an equal backend. A cluster is added with its first user and
//! removed with the last, per gateway and for all gateways together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::delta::{Delta, put};
use super::prepared::UnitKey;
use crate::xds::{CLUSTER, Rendered};

#[derive(Debug, Default)]
pub(super) struct Clusters {
    by_name: HashMap<String, Cluster>,
}

#[derive(Debug)]
struct Cluster {
    rendered: Rendered,
    users: BTreeMap<String, BTreeSet<UnitKey>>,
    /// The gateways that it has been sent to.
    sent: BTreeSet<String>,
    /// Whether Envoy accepted it.
    accepted: bool,
}

impl Clusters {
    pub(super) fn enter(&mut self, rendered: &Rendered, unit: &UnitKey) {
        let cluster = self.by_name.entry(rendered.name.clone()).or_insert_with(|| Cluster {
            rendered: rendered.clone(),
            users: BTreeMap::new(),
            sent: BTreeSet::new(),
            accepted: false,
        });
        cluster.users.entry(unit.gateway.clone()).or_default().insert(unit.clone());
    }

    pub(super) fn leave(&mut self, name: &str, unit: &UnitKey) {
        let Some(cluster) = self.by_name.get_mut(name) else { return };
        if let Some(users) = cluster.users.get_mut(&unit.gateway) {
            users.remove(unit);
            if users.is_empty() {
                cluster.users.remove(&unit.gateway);
            }
        }
    }

    /// Compares a cluster's users with where it has been sent.
    pub(super) fn settle(&mut self, name: &str, delta: &mut Delta) {
        let Some(cluster) = self.by_name.get_mut(name) else { return };
        let (was, is) = (!cluster.sent.is_empty(), !cluster.users.is_empty());
        for gateway in cluster.users.keys() {
            if cluster.sent.insert(gateway.clone()) {
                let target = delta.gateways.entry(gateway.clone()).or_default();
                put(target, CLUSTER, name, Some(cluster.rendered.clone()));
            }
        }
        let users = &cluster.users;
        for gateway in cluster.sent.iter().filter(|gateway| !users.contains_key(*gateway)) {
            put(delta.gateways.entry(gateway.clone()).or_default(), CLUSTER, name, None);
        }
        cluster.sent.retain(|gateway| users.contains_key(gateway));
        match (was, is) {
            (false, true) => put(&mut delta.all, CLUSTER, name, Some(cluster.rendered.clone())),
            (true, false) => put(&mut delta.all, CLUSTER, name, None),
            _ => {}
        }
        if !is {
            self.by_name.remove(name);
        }
    }

    /// Returns whether Envoy accepted it for the first time.
    pub(super) fn accept(&mut self, name: &str, version: &str) -> bool {
        match self.by_name.get_mut(name) {
            Some(cluster) if cluster.rendered.version == version && !cluster.accepted => {
                cluster.accepted = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn accepted(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|cluster| cluster.accepted)
    }

    pub(super) fn version(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|cluster| cluster.rendered.version.as_str())
    }

    /// The units that have a member with this cluster.
    pub(super) fn units(&self, name: &str) -> Vec<UnitKey> {
        let users = self.by_name.get(name).map(|cluster| &cluster.users);
        users.into_iter().flat_map(|users| users.values().flatten().cloned()).collect()
    }
}
