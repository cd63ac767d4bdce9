//! Decides which resource belongs to which cluster. Pure: takes the latest rows, in any order and
//! with repetitions, and returns what has to change.
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

/// The product and environment that a subscription is for and a publish serves.
pub type Offer = (ProductId, Environment);

/// Identifies a resource.
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

/// Something that a publish brings into its cluster and that other resources are placed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// A publish on this gateway.
    Gateway(GatewayId),
    /// A publish of this product in this environment.
    Offer(Offer),
    /// This publish, while it serves this offer.
    Publish(ProductPublishId, Offer),
}

/// Where a resource belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A publish: in this cluster, where it brings its anchors.
    Cluster(ClusterId, Brought),
    /// In each cluster that has the anchor.
    With(Anchor),
    /// Wherever that resource is. Types only follow types that come before them in
    /// [`ResourceType::ALL`], which rules out cycles.
    Follows(Key),
    /// In every cluster, because its place is unknown.
    Anywhere,
}

/// What a publish is on and what it serves: its anchors, without a list of them for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    pub gateway: GatewayId,
    pub offer: Offer,
}

impl Brought {
    fn anchors(self, publish: Key) -> [Anchor; 3] {
        let Self { gateway, offer } = self;
        let publish = Anchor::Publish(publish.id.into(), offer);
        [Anchor::Gateway(gateway), Anchor::Offer(offer), publish]
    }
}

/// A resource and its place.
#[derive(Clone, Debug)]
pub struct Placed {
    pub place: Place,
    pub resource: Resource,
}

impl Placed {
    /// Attaches the cause and the current span, for the agents' traces.
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

/// The known state of a resource. Without content, agents keep what they have of it.
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

/// The place of every resource. The content is shared with the resource sets.
#[derive(Debug, Default)]
pub struct Placement {
    /// The clusters that exist; nothing is placed elsewhere.
    clusters: HashSet<ClusterId>,
    resources: HashMap<Key, Entry>,
    /// How many publishes bring an anchor into each cluster. Those that are a publish themselves are not
    /// counted: they are where it is.
    anchors: Counts<Anchor>,
    by_anchor: Index<Anchor, Key>,
    followers: Index<Key, Key>,
    dirty: HashMap<ClusterId, HashSet<Key>>,
}

impl Placement {
    /// Sets a resource; `None` if it is gone or must not be served.
    pub fn set(&mut self, key: Key, now: Option<Placed>) {
        self.put(key, now.map(Entry::from));
    }

    /// Records that the resource exists while its content is unknown. Earlier content stays where
    /// it is.
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

    /// Adds the cluster, possibly empty.
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
            for anchor in brought.anchors(key) {
                self.mark_all_with(cluster, anchor);
            }
        }
    }

    /// Removes the cluster.
    pub fn forget(&mut self, cluster: ClusterId) {
        self.clusters.remove(&cluster);
        self.dirty.remove(&cluster);
    }

    /// Whether the cluster is known.
    pub fn knows(&self, cluster: ClusterId) -> bool {
        self.clusters.contains(&cluster)
    }

    /// Marks everything in the cluster's resource set for comparison.
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

    /// Returns one change per cluster, each with the number of resources that it touches.
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
            Some(Place::With(Anchor::Publish(publish, offer))) => {
                self.publish_at(*publish, *offer) == Some(cluster)
            }
            Some(Place::With(anchor)) => self.anchors.has(*anchor, cluster),
            Some(Place::Follows(leader)) => self.is_in(cluster, *leader),
        }
    }

    fn clusters_of(&self, key: Key) -> BTreeSet<ClusterId> {
        match self.resources.get(&key).map(|entry| &entry.place) {
            None => BTreeSet::new(),
            Some(Place::Cluster(at, _)) => BTreeSet::from([*at]),
            Some(Place::Anywhere) => self.clusters.iter().copied().collect(),
            Some(Place::With(Anchor::Publish(publish, offer))) => {
                self.publish_at(*publish, *offer).into_iter().collect()
            }
            Some(Place::With(anchor)) => self.anchors.clusters(*anchor).collect(),
            Some(Place::Follows(leader)) => self.clusters_of(*leader),
        }
    }

    /// Where the publish is, if it serves this offer.
    fn publish_at(&self, publish: ProductPublishId, offer: Offer) -> Option<ClusterId> {
        match self.resources.get(&Key::new(ResourceType::Publish, publish))?.place {
            Place::Cluster(cluster, brought) if brought.offer == offer => Some(cluster),
            _ => None,
        }
    }

    /// Counts one more publish that brings the anchor. Returns whether it is the first one in the cluster.
    fn enter(&mut self, anchor: Anchor, cluster: ClusterId) -> bool {
        matches!(anchor, Anchor::Publish(..)) || self.anchors.enter(anchor, cluster)
    }

    /// Counts one less. Returns whether it was the last one in the cluster.
    fn leave(&mut self, anchor: Anchor, cluster: ClusterId) -> bool {
        matches!(anchor, Anchor::Publish(..)) || self.anchors.leave(anchor, cluster)
    }

    fn link(&mut self, key: Key, place: Option<&Place>) {
        match place {
            None | Some(Place::Anywhere) => {}
            Some(Place::Cluster(cluster, brought)) => {
                for anchor in brought.anchors(key) {
                    if self.enter(anchor, *cluster) {
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
            Some(Place::Cluster(cluster, brought)) => {
                for anchor in brought.anchors(key) {
                    if self.leave(anchor, *cluster) {
                        self.mark_all_with(*cluster, anchor);
                    }
                }
            }
            Some(Place::With(anchor)) => self.by_anchor.remove(*anchor, key),
            Some(Place::Follows(leader)) => self.followers.remove(*leader, key),
        }
    }

    /// Marks a resource to be placed again by [`Self::take`].
    fn mark(&mut self, cluster: ClusterId, key: Key) {
        if self.clusters.contains(&cluster) {
            self.dirty.entry(cluster).or_default().insert(key);
        }
    }

    /// Marks every resource that is placed by an anchor that came or went.
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
