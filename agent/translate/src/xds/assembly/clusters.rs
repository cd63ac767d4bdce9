//! Clusters, shared by all routes with an equal backend. A cluster is added with its first user and
//! removed with the last, per gateway and for all gateways together.

use std::collections::HashMap;
use std::sync::Arc;

use super::delta::{Delta, put};
use super::few::Few;
use crate::xds::content::Key;
use crate::xds::{CLUSTER, Rendered};

#[derive(Debug, Default)]
pub(super) struct Clusters {
    by_name: HashMap<Arc<str>, Cluster>,
}

#[derive(Debug)]
struct Cluster {
    rendered: Rendered,
    /// The contents with it that units have, by gateway.
    users: Vec<(Arc<str>, Few<Key>)>,
    /// The gateways that it has been sent to.
    sent: Vec<Arc<str>>,
    /// Whether Envoy accepted it.
    accepted: bool,
}

impl Clusters {
    /// The cluster that is there, so that equal ones are held once.
    pub(super) fn intern(&self, rendered: Rendered) -> Rendered {
        match self.by_name.get(&rendered.name) {
            Some(known) => known.rendered.clone(),
            None => rendered,
        }
    }

    pub(super) fn enter(&mut self, rendered: &Rendered, gateway: &Arc<str>, content: Key) {
        let cluster = self.by_name.entry(rendered.name.clone()).or_insert_with(|| Cluster {
            rendered: rendered.clone(),
            users: Vec::new(),
            sent: Vec::new(),
            accepted: false,
        });
        match cluster.users.binary_search_by(|(known, _)| known.cmp(gateway)) {
            Ok(at) => {
                if let Some((_, users)) = cluster.users.get_mut(at) {
                    users.insert(content);
                }
            }
            Err(at) => {
                cluster.users.reserve_exact(1);
                cluster.users.insert(at, (gateway.clone(), Few::One(content)));
            }
        }
    }

    pub(super) fn leave(&mut self, name: &str, gateway: &Arc<str>, content: Key) {
        let Some(cluster) = self.by_name.get_mut(name) else { return };
        let Ok(at) = cluster.users.binary_search_by(|(known, _)| known.cmp(gateway)) else {
            return;
        };
        if let Some((_, users)) = cluster.users.get_mut(at) {
            users.remove(&content);
            if users.is_empty() {
                cluster.users.remove(at);
            }
        }
    }

    /// Compares a cluster's users with where it has been sent.
    pub(super) fn settle(&mut self, name: &str, delta: &mut Delta) {
        let Some(cluster) = self.by_name.get_mut(name) else { return };
        let (was, is) = (!cluster.sent.is_empty(), !cluster.users.is_empty());
        let using: Vec<Arc<str>> =
            cluster.users.iter().map(|(gateway, _)| gateway.clone()).collect();
        for gateway in using.iter().filter(|gateway| !cluster.sent.contains(gateway)) {
            let target = delta.gateways.entry(gateway.clone()).or_default();
            put(target, CLUSTER, name, Some(cluster.rendered.clone()));
        }
        for gateway in cluster.sent.iter().filter(|gateway| !using.contains(gateway)) {
            put(delta.gateways.entry(gateway.clone()).or_default(), CLUSTER, name, None);
        }
        cluster.sent = using;
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
            Some(cluster) if *cluster.rendered.version == *version && !cluster.accepted => {
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
        self.by_name.get(name).map(|cluster| &*cluster.rendered.version)
    }

    /// The contents with this cluster that units have, optionally of one gateway only.
    pub(super) fn users(&self, name: &str, gateway: Option<&str>) -> Vec<Key> {
        let users = self.by_name.get(name).into_iter().flat_map(|cluster| &cluster.users);
        let users = users.filter(|(of, _)| gateway.is_none_or(|gateway| **of == *gateway));
        users.flat_map(|(_, users)| users.iter().copied()).collect()
    }
}
