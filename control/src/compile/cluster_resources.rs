//! The resource sets of all clusters: the compiler writes them, the hub serves them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use imp_core::ClusterId;
use imp_xds::{Change, ResourceSet};

/// One resource set per cluster. Cheap to clone; clones share their state.
#[derive(Clone, Debug, Default)]
pub struct ClusterResources {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    by_cluster: RwLock<HashMap<ClusterId, ResourceSet>>,
    loaded: AtomicBool,
}

impl ClusterResources {
    /// Whether the first load is complete. Until then no agent may be served.
    pub fn are_ready(&self) -> bool {
        self.shared.loaded.load(Ordering::Acquire)
    }

    /// The resource set of a cluster; `None` if the cluster is unknown here.
    pub fn get(&self, cluster: ClusterId) -> Option<ResourceSet> {
        let cluster_resources =
            self.shared.by_cluster.read().unwrap_or_else(PoisonError::into_inner);
        cluster_resources.get(&cluster).cloned()
    }

    /// All known clusters.
    pub fn clusters(&self) -> Vec<ClusterId> {
        let cluster_resources =
            self.shared.by_cluster.read().unwrap_or_else(PoisonError::into_inner);
        cluster_resources.keys().copied().collect()
    }

    pub(super) fn mark_ready(&self) {
        self.shared.loaded.store(true, Ordering::Release);
    }

    /// Changes a cluster's resource set, creating it if needed.
    pub(super) fn apply(&self, cluster: ClusterId, change: Change) {
        let mut cluster_resources =
            self.shared.by_cluster.write().unwrap_or_else(PoisonError::into_inner);
        let set = cluster_resources.entry(cluster).or_default().clone();
        drop(cluster_resources);
        let revision = set.apply(change);
        metrics::gauge!("imp_cluster_resources_revision", "cluster" => cluster.to_string())
            .set(revision as f64);
    }

    pub(super) fn remove(&self, cluster: ClusterId) {
        let mut cluster_resources =
            self.shared.by_cluster.write().unwrap_or_else(PoisonError::into_inner);
        cluster_resources.remove(&cluster);
    }
}
