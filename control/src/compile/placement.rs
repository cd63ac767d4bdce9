//! Which resource belongs to which cluster. Pure: the latest rows go in, in any order and any number
//! of times, and what has to change comes out.
//!
//! Each resource says its [`Place`]: in a cluster of its own, wherever an [`Anchor`] is, or wherever
//! another resource is. A row marks the places that it may change; only [`Placement::take`] decides
//! what belongs there, so that all rows of one portion become one change per cluster, and their order
//! does not matter.

mod index;

use std::collections::{BTreeSet, HashMap, HashSet};

use imp_core::product_publish::Environment;
use imp_core::{ClusterId, GatewayId, ProductId, ProductPublishId};
use imp_proto::config::ResourceType;
use imp_store::outbox::Told;
use imp_xds::wire::Metadata;
use imp_xds::{Change, Resource};
use uuid::Uuid;

use super::ClusterResources;
use index::{Counts, Index};

/// What a subscription is to, and what a publish serves.
pub type Offer = (ProductId, Environment);

/// Names a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub of: ResourceType,
    pub id: Uuid,
}

impl Key {
    pub fn new(of: ResourceType, id: impl Into<Uuid>) -> Self {
        Self { of, id: id.into() }
    }
}

/// What a publish brings into its cluster, for others to be placed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// A publish on this gateway.
    Gateway(GatewayId),
    /// A publish of this product in this environment.
    Offer(Offer),
    /// This publish, as long as it serves this.
    Publish(ProductPublishId, Offer),
}

/// Where a resource belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this cluster, and brings these anchors there.
    Cluster(ClusterId, Vec<Anchor>),
    /// In each cluster that has the anchor.
    With(Anchor),
    /// Where that resource is. Types follow types that stand before them in [`ResourceType::ALL`], so
    /// that none follows itself.
    Follows(Key),
    /// In every cluster, since nobody can say where.
    Anywhere,
}

/// A resource, and where it belongs.
#[derive(Clone, Debug)]
pub struct Placed {
    pub place: Place,
    pub resource: Resource,
}

impl Placed {
    /// Notes what made it as it is, for whom it reaches. The current span goes on there.
    pub fn caused_by(self, why: Option<&Told>) -> Self {
        let Some(Told { cause, .. }) = why.filter(|why| !why.cause.is_unknown()) else {
            return self;
        };
        let traceparent = imp_process::traces::traceparent();
        let texts = [
            (imp_proto::cause::REQUEST_ID, cause.request_id.as_str()),
            (imp_proto::cause::TRACEPARENT, traceparent.as_str()),
        ];
        let known = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let metadata = Metadata::of(imp_proto::cause::NAMESPACE, known);
        Self { resource: self.resource.with_metadata(metadata), ..self }
    }
}

/// What is there of a resource: without content, agents keep what they have of it.
#[derive(Debug)]
struct Entry {
    place: Place,
    content: Option<Resource>,
}

impl From<Placed> for Entry {
    fn from(placed: Placed) -> Self {
        Self { place: placed.place, content: Some(placed.resource) }
    }
}

/// What is where. Memory: the resources themselves are shared with the resource sets.
#[derive(Debug, Default)]
pub struct Placement {
    /// Those that exist: nothing is placed elsewhere.
    clusters: HashSet<ClusterId>,
    resources: HashMap<Key, Entry>,
    /// How many publishes bring an anchor into a cluster.
    anchors: Counts<Anchor>,
    by_anchor: Index<Anchor, Key>,
    followers: Index<Key, Key>,
    dirty: HashMap<ClusterId, HashSet<Key>>,
}

impl Placement {
    /// The resource as it is now; `None`: it is gone, or should not be served.
    pub fn set(&mut self, key: Key, now: Option<Placed>) {
        self.put(key, now.map(Entry::from));
    }

    /// The resource exists, and its content is not known here. If there was content before, that stays, where it is.
    pub fn retain(&mut self, key: Key, place: Place) {
        if self.resources.get(&key).is_none_or(|old| old.content.is_none()) {
            self.put(key, Some(Entry { place, content: None }));
        }
    }

    fn put(&mut self, key: Key, now: Option<Entry>) {
        let old = self.resources.get(&key).map(|old| &old.place);
        if let (Some(old), Some(new)) = (old, &now)
            && *old == new.place
        {
            self.resources.extend(now.map(|now| (key, now)));
            self.clusters_of(key).into_iter().for_each(|cluster| self.mark(cluster, key));
            return;
        }
        let before = self.clusters_of(key);
        let old = self.resources.remove(&key).map(|old| old.place);
        let new = now.as_ref().map(|new| new.place.clone());
        self.resources.extend(now.map(|now| (key, now)));
        self.unlink(key, old.as_ref());
        self.link(key, new.as_ref());
        let after = self.clusters_of(key);
        for &cluster in before.union(&after) {
            self.mark(cluster, key);
        }
        for &cluster in before.symmetric_difference(&after) {
            self.mark_followers(cluster, key);
        }
    }

    /// The cluster exists from now on, be it empty.
    pub fn know(&mut self, cluster: ClusterId) {
        if !self.clusters.insert(cluster) {
            return;
        }
        self.dirty.entry(cluster).or_default();
        // A publish may have been read before its cluster.
        let there = |entry: &Entry| match entry.place {
            Place::Cluster(at, _) => at == cluster,
            Place::Anywhere => true,
            Place::With(_) | Place::Follows(_) => false,
        };
        let early = self.resources.iter().filter(|(_, entry)| there(entry)).map(|(key, _)| *key);
        for key in early.collect::<Vec<_>>() {
            self.mark(cluster, key);
            self.mark_followers(cluster, key);
            let Some(Entry { place: Place::Cluster(_, brought), .. }) = self.resources.get(&key)
            else {
                continue;
            };
            for anchor in brought.clone() {
                self.mark_all_with(cluster, anchor);
            }
        }
    }

    /// The cluster is gone.
    pub fn forget(&mut self, cluster: ClusterId) {
        self.clusters.remove(&cluster);
        self.dirty.remove(&cluster);
    }

    /// Whether the cluster exists, as far as was told.
    pub fn knows(&self, cluster: ClusterId) -> bool {
        self.clusters.contains(&cluster)
    }

    /// Whatever the cluster's resource set holds may be wrong.
    pub fn suspect(&mut self, cluster: ClusterId, cluster_resources: &ClusterResources) {
        let Some(set) = cluster_resources.get(cluster) else { return };
        for &of in ResourceType::ALL {
            let type_url = of.type_url().into();
            for name in set.names(&type_url).into_iter().chain(set.retained(&type_url)) {
                if let Ok(id) = name.parse::<Uuid>() {
                    self.mark(cluster, Key { of, id });
                }
            }
        }
    }

    /// What has to change, one change per cluster, and how many resources that touches.
    pub fn take(&mut self) -> Vec<(ClusterId, Change, usize)> {
        let dirty = std::mem::take(&mut self.dirty);
        let change = |(cluster, keys): (ClusterId, HashSet<Key>)| {
            let mut change = Change::default();
            for key in &keys {
                let there = self.resources.get(key).filter(|_| self.is_in(cluster, *key));
                match there.map(|entry| &entry.content) {
                    Some(Some(content)) => change.upsert(key.of.type_url(), content.clone()),
                    Some(None) => change.retain(key.of.type_url(), key.id.to_string()),
                    None => change.remove(key.of.type_url(), key.id.to_string()),
                }
            }
            (cluster, change, keys.len())
        };
        dirty.into_iter().map(change).collect()
    }

    fn is_in(&self, cluster: ClusterId, key: Key) -> bool {
        match self.resources.get(&key).map(|entry| &entry.place) {
            None => false,
            Some(Place::Cluster(at, _)) => *at == cluster,
            Some(Place::Anywhere) => self.clusters.contains(&cluster),
            Some(Place::With(anchor)) => self.anchors.has(*anchor, cluster),
            Some(Place::Follows(leader)) => self.is_in(cluster, *leader),
        }
    }

    fn clusters_of(&self, key: Key) -> BTreeSet<ClusterId> {
        match self.resources.get(&key).map(|entry| &entry.place) {
            None => BTreeSet::new(),
            Some(Place::Cluster(at, _)) => BTreeSet::from([*at]),
            Some(Place::Anywhere) => self.clusters.iter().copied().collect(),
            Some(Place::With(anchor)) => self.anchors.clusters(*anchor).collect(),
            Some(Place::Follows(leader)) => self.clusters_of(*leader),
        }
    }

    fn link(&mut self, key: Key, place: Option<&Place>) {
        match place {
            None | Some(Place::Anywhere) => {}
            Some(Place::Cluster(cluster, anchors)) => {
                for &anchor in anchors {
                    if self.anchors.enter(anchor, *cluster) {
                        self.mark_all_with(*cluster, anchor);
                    }
                }
            }
            Some(Place::With(anchor)) => self.by_anchor.insert(*anchor, key),
            Some(Place::Follows(leader)) => self.followers.insert(*leader, key),
        }
    }

    fn unlink(&mut self, key: Key, place: Option<&Place>) {
        match place {
            None | Some(Place::Anywhere) => {}
            Some(Place::Cluster(cluster, anchors)) => {
                for &anchor in anchors {
                    if self.anchors.leave(anchor, *cluster) {
                        self.mark_all_with(*cluster, anchor);
                    }
                }
            }
            Some(Place::With(anchor)) => self.by_anchor.remove(*anchor, key),
            Some(Place::Follows(leader)) => self.followers.remove(*leader, key),
        }
    }

    /// To be looked at when the changes are taken.
    fn mark(&mut self, cluster: ClusterId, key: Key) {
        if self.clusters.contains(&cluster) {
            self.dirty.entry(cluster).or_default().insert(key);
        }
    }

    /// An anchor came or went.
    fn mark_all_with(&mut self, cluster: ClusterId, anchor: Anchor) {
        for key in self.by_anchor.of(anchor) {
            self.mark(cluster, key);
            self.mark_followers(cluster, key);
        }
    }

    fn mark_followers(&mut self, cluster: ClusterId, leader: Key) {
        for key in self.followers.of(leader) {
            self.mark(cluster, key);
            self.mark_followers(cluster, key);
        }
    }
}

#[cfg(test)]
mod tests;
