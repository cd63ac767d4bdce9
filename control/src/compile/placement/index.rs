//! The two maps that [`super::Placement`] uses for look-ups.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use imp_core::ClusterId;

/// How many of something there are in each cluster. Most keys are in one cluster, where a list
/// takes a tenth of what a map does.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, Vec<Count>>);

/// A cluster, and how many there are in it. A list of them is sorted by cluster.
type Count = (ClusterId, usize);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// Where the cluster is in the list, or where it belongs.
fn find(clusters: &[Count], cluster: ClusterId) -> Result<usize, usize> {
    clusters.binary_search_by_key(&cluster, |(at, _)| *at)
}

impl<K: Copy + Eq + Hash> Counts<K> {
    /// Returns whether it is the first one in the cluster.
    pub(super) fn enter(&mut self, key: K, cluster: ClusterId) -> bool {
        let clusters = self.0.entry(key).or_insert_with(|| Vec::with_capacity(1));
        match find(clusters, cluster) {
            Ok(at) => clusters[at].1 += 1,
            Err(at) => {
                clusters.insert(at, (cluster, 1));
                return true;
            }
        }
        false
    }

    /// Returns whether it was the last one in the cluster.
    pub(super) fn leave(&mut self, key: K, cluster: ClusterId) -> bool {
        let Some(clusters) = self.0.get_mut(&key) else { return false };
        let Ok(at) = find(clusters, cluster) else { return false };
        clusters[at].1 -= 1;
        if clusters[at].1 > 0 {
            return false;
        }
        clusters.remove(at);
        if clusters.is_empty() {
            self.0.remove(&key);
        }
        true
    }

    pub(super) fn has(&self, key: K, cluster: ClusterId) -> bool {
        self.0.get(&key).is_some_and(|clusters| find(clusters, cluster).is_ok())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clusters(&self, key: K) -> impl Iterator<Item = ClusterId> {
        self.0.get(&key).into_iter().flat_map(|clusters| clusters.iter().map(|(at, _)| *at))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_per_cluster_and_one_cluster_takes_one_entry() {
        let mut counts = Counts::default();
        let mut clusters = [ClusterId::new(), ClusterId::new(), ClusterId::new()];
        assert!(counts.enter('a', clusters[1]));
        assert_eq!(counts.0[&'a'].capacity(), 1);
        assert!(!counts.enter('a', clusters[1]));
        assert!(counts.enter('a', clusters[2]) && counts.enter('a', clusters[0]));
        clusters.sort();
        assert_eq!(counts.clusters('a').collect::<Vec<_>>(), clusters);
        assert!(!counts.leave('b', clusters[0]) && !counts.has('b', clusters[0]));
        let left: Vec<bool> = clusters.iter().map(|&at| counts.leave('a', at)).collect();
        assert_eq!(left.iter().filter(|last| **last).count(), 2, "one was there twice");
        assert_eq!(counts.clusters('a').count(), 1);
        let at = counts.clusters('a').next().expect("one");
        assert!(counts.has('a', at) && counts.leave('a', at) && !counts.leave('a', at));
        assert_eq!(counts.len(), 0);
    }
}
