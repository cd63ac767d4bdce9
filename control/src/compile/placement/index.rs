//! The two maps that [`super::Placement`] uses for look-ups.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use imp_core::ClusterId;

/// How many of something there are in each cluster.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, BTreeMap<ClusterId, usize>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Counts<K> {
    /// Returns whether it is the first one in the cluster.
    pub(super) fn enter(&mut self, key: K, cluster: ClusterId) -> bool {
        let count = self.0.entry(key).or_default().entry(cluster).or_default();
        *count += 1;
        *count == 1
    }

    /// Returns whether it was the last one in the cluster.
    pub(super) fn leave(&mut self, key: K, cluster: ClusterId) -> bool {
        let Some(clusters) = self.0.get_mut(&key) else { return false };
        let Some(count) = clusters.get_mut(&cluster) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        clusters.remove(&cluster);
        if clusters.is_empty() {
            self.0.remove(&key);
        }
        true
    }

    pub(super) fn has(&self, key: K, cluster: ClusterId) -> bool {
        self.0.get(&key).is_some_and(|clusters| clusters.contains_key(&cluster))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clusters(&self, key: K) -> impl Iterator<Item = ClusterId> {
        self.0.get(&key).into_iter().flat_map(|clusters| clusters.keys().copied())
    }
}

/// A map from one key to many values.
#[derive(Debug)]
pub(super) struct Index<K, V>(HashMap<K, HashSet<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash, V: Copy + Eq + Hash> Index<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(super) fn remove(&mut self, key: K, value: V) {
        if let Entry::Occupied(mut values) = self.0.entry(key) {
            values.get_mut().remove(&value);
            if values.get().is_empty() {
                values.remove();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(&self, key: K) -> Vec<V> {
        self.0.get(&key).map(|values| values.iter().copied().collect()).unwrap_or_default()
    }
}
