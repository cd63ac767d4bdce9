//! Which resource belongs into which cluster's world. Pure: the latest facts go in, in any order and
//! any number of times, and what has to change comes out.
//!
//! A gateway goes where a publish of it is. An entitlement goes where a publish is that it covers, a
//! credential where its entitlement goes. A fact marks the places that it may change; only when the
//! changes are taken is it decided what belongs there, so that all facts of one portion become one
//! change per cluster, and their order does not matter.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use imp_core::product_publish::Environment;
use imp_core::{ClusterId, CredentialId, GatewayId, ProductId, ProductPublishId, SubscriptionId};
use imp_proto::config as pb;
use imp_xds::{Change, Resource, TypeUrl};
use prost::Name as _;
use uuid::Uuid;

use super::Worlds;

/// What a subscription is to, and what a publish serves.
pub type Offer = (ProductId, Environment);

/// A publish that gateways should hold.
#[derive(Clone, Debug)]
pub struct Placed {
    pub cluster: ClusterId,
    pub gateway: GatewayId,
    pub offer: Offer,
    pub resource: Resource,
}

/// A subscription.
#[derive(Clone, Debug)]
pub struct Entitled {
    pub offer: Offer,
    /// Only this publish.
    pub pin: Option<ProductPublishId>,
    pub resource: Resource,
}

/// A credential.
#[derive(Clone, Debug)]
pub struct Keyed {
    pub subscription: SubscriptionId,
    pub resource: Resource,
}

/// Names a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Gateway(GatewayId),
    Publish(ProductPublishId),
    Entitlement(SubscriptionId),
    Credential(CredentialId),
}

/// What is where. Memory: the resources themselves are shared with the worlds.
#[derive(Debug, Default)]
pub struct Reach {
    gateways: HashMap<GatewayId, Resource>,
    publishes: HashMap<ProductPublishId, Placed>,
    subscriptions: HashMap<SubscriptionId, Entitled>,
    credentials: HashMap<CredentialId, Keyed>,
    /// In how many publishes of each cluster.
    gateway_places: Places<GatewayId>,
    offer_places: Places<Offer>,
    /// Subscriptions that are not pinned, and those that are.
    by_offer: Index<Offer, SubscriptionId>,
    by_pin: Index<ProductPublishId, SubscriptionId>,
    by_subscription: Index<SubscriptionId, CredentialId>,
    dirty: HashMap<ClusterId, HashSet<Key>>,
    gone: HashSet<ClusterId>,
}

impl Reach {
    /// The gateway as it is now; None: it is gone.
    pub fn gateway(&mut self, id: GatewayId, now: Option<Resource>) {
        replace(&mut self.gateways, id, now);
        for cluster in self.gateway_places.of(id) {
            self.mark(cluster, Key::Gateway(id));
        }
    }

    /// The publish as it is now; None: it is gone, or should not be served.
    pub fn publish(&mut self, id: ProductPublishId, now: Option<Placed>) {
        let place = |placed: &Placed| (placed.cluster, placed.gateway, placed.offer);
        let before = self.publishes.get(&id).map(place);
        let after = now.as_ref().map(place);
        replace(&mut self.publishes, id, now);
        for (cluster, ..) in before.into_iter().chain(after) {
            self.mark(cluster, Key::Publish(id));
        }
        if before == after {
            return;
        }
        if let Some((cluster, gateway, offer)) = before {
            self.gateway_places.leave(gateway, cluster);
            let last = self.offer_places.leave(offer, cluster);
            self.moved(id, cluster, gateway, last.then_some(offer));
        }
        if let Some((cluster, gateway, offer)) = after {
            self.gateway_places.enter(gateway, cluster);
            let first = self.offer_places.enter(offer, cluster);
            self.moved(id, cluster, gateway, first.then_some(offer));
        }
    }

    /// The subscription as it is now; None: it is gone.
    pub fn subscription(&mut self, id: SubscriptionId, now: Option<Entitled>) {
        let before = self.places_of(id);
        if let Some(old) = self.subscriptions.get(&id) {
            match old.pin {
                Some(pin) => self.by_pin.remove(pin, id),
                None => self.by_offer.remove(old.offer, id),
            }
        }
        match now.as_ref().map(|new| (new.pin, new.offer)) {
            Some((Some(pin), _)) => self.by_pin.insert(pin, id),
            Some((None, offer)) => self.by_offer.insert(offer, id),
            None => {}
        }
        replace(&mut self.subscriptions, id, now);
        let after = self.places_of(id);
        for &cluster in before.union(&after) {
            self.mark(cluster, Key::Entitlement(id));
        }
        for &cluster in before.symmetric_difference(&after) {
            self.mark_keys(cluster, id);
        }
    }

    /// The credential as it is now; None: it is gone.
    pub fn credential(&mut self, id: CredentialId, now: Option<Keyed>) {
        let before = self.credentials.get(&id).map(|old| old.subscription);
        let after = now.as_ref().map(|new| new.subscription);
        if let Some(old) = before {
            self.by_subscription.remove(old, id);
        }
        if let Some(new) = after {
            self.by_subscription.insert(new, id);
        }
        replace(&mut self.credentials, id, now);
        for subscription in before.into_iter().chain(after) {
            for cluster in self.places_of(subscription) {
                self.mark(cluster, Key::Credential(id));
            }
        }
    }

    /// The cluster has a world from now on, be it an empty one.
    pub fn know(&mut self, cluster: ClusterId) {
        self.dirty.entry(cluster).or_default();
    }

    /// The cluster is gone, and its id never comes back.
    pub fn forget(&mut self, cluster: ClusterId) {
        self.gone.insert(cluster);
    }

    /// Whatever its world holds may be wrong.
    pub fn suspect(&mut self, cluster: ClusterId, worlds: &Worlds) {
        let Some(world) = worlds.get(cluster) else { return };
        let keys = |sample: Key| {
            let names = world.names(&sample.type_url()).into_iter();
            names.filter_map(move |name| Some(sample.with(name.parse().ok()?)))
        };
        let nil = Uuid::nil();
        let kinds = [
            Key::Gateway(nil.into()),
            Key::Publish(nil.into()),
            Key::Entitlement(nil.into()),
            Key::Credential(nil.into()),
        ];
        for key in kinds.into_iter().flat_map(keys).collect::<Vec<_>>() {
            self.mark(cluster, key);
        }
    }

    /// To be looked at when the changes are taken.
    fn mark(&mut self, cluster: ClusterId, key: Key) {
        self.dirty.entry(cluster).or_default().insert(key);
    }

    /// What has to change, one change per cluster, and how many resources that touches.
    pub fn take(&mut self) -> Vec<(ClusterId, Change, usize)> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|cluster, _| !self.gone.contains(cluster));
        let change = |(cluster, keys): (ClusterId, HashSet<Key>)| {
            let mut change = Change::default();
            for &key in &keys {
                match self.belongs(cluster, key) {
                    Some(resource) => change.upsert(key.type_url(), resource.clone()),
                    None => change.remove(key.type_url(), key.name()),
                }
            }
            (cluster, change, keys.len())
        };
        dirty.into_iter().map(change).collect()
    }

    /// The resource, if it belongs into that cluster's world.
    fn belongs(&self, cluster: ClusterId, key: Key) -> Option<&Resource> {
        match key {
            Key::Gateway(id) => {
                let there = self.gateway_places.has(id, cluster);
                self.gateways.get(&id).filter(|_| there)
            }
            Key::Publish(id) => {
                let placed = self.publishes.get(&id).filter(|placed| placed.cluster == cluster);
                placed.map(|placed| &placed.resource)
            }
            Key::Entitlement(id) => {
                let entitled = self.subscriptions.get(&id)?;
                self.covers(entitled, cluster).then_some(&entitled.resource)
            }
            Key::Credential(id) => {
                let keyed = self.credentials.get(&id)?;
                let entitled = self.subscriptions.get(&keyed.subscription)?;
                self.covers(entitled, cluster).then_some(&keyed.resource)
            }
        }
    }

    fn covers(&self, entitled: &Entitled, cluster: ClusterId) -> bool {
        match entitled.pin {
            None => self.offer_places.has(entitled.offer, cluster),
            Some(pin) => self
                .publishes
                .get(&pin)
                .is_some_and(|placed| placed.cluster == cluster && placed.offer == entitled.offer),
        }
    }

    fn places_of(&self, subscription: SubscriptionId) -> BTreeSet<ClusterId> {
        let Some(entitled) = self.subscriptions.get(&subscription) else { return BTreeSet::new() };
        match entitled.pin {
            None => self.offer_places.of(entitled.offer).into_iter().collect(),
            Some(pin) => {
                let placed = self.publishes.get(&pin).map(|placed| placed.cluster);
                placed.into_iter().filter(|&cluster| self.covers(entitled, cluster)).collect()
            }
        }
    }

    /// A publish entered or left a cluster; the offer, if it did so with it.
    fn moved(
        &mut self,
        id: ProductPublishId,
        cluster: ClusterId,
        gateway: GatewayId,
        offer: Option<Offer>,
    ) {
        self.mark(cluster, Key::Gateway(gateway));
        let mut subscriptions = self.by_pin.of(id);
        subscriptions.extend(offer.into_iter().flat_map(|offer| self.by_offer.of(offer)));
        for subscription in subscriptions {
            self.mark(cluster, Key::Entitlement(subscription));
            self.mark_keys(cluster, subscription);
        }
    }

    fn mark_keys(&mut self, cluster: ClusterId, subscription: SubscriptionId) {
        for credential in self.by_subscription.of(subscription) {
            self.mark(cluster, Key::Credential(credential));
        }
    }
}

impl Key {
    /// Of the resource's type.
    pub fn type_url(self) -> TypeUrl {
        match self {
            Self::Gateway(_) => pb::Gateway::type_url(),
            Self::Publish(_) => pb::Publish::type_url(),
            Self::Entitlement(_) => pb::Entitlement::type_url(),
            Self::Credential(_) => pb::Credential::type_url(),
        }
        .into()
    }

    /// Of the same kind.
    fn with(self, id: Uuid) -> Self {
        match self {
            Self::Gateway(_) => Self::Gateway(id.into()),
            Self::Publish(_) => Self::Publish(id.into()),
            Self::Entitlement(_) => Self::Entitlement(id.into()),
            Self::Credential(_) => Self::Credential(id.into()),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Gateway(id) => id.to_string(),
            Self::Publish(id) => id.to_string(),
            Self::Entitlement(id) => id.to_string(),
            Self::Credential(id) => id.to_string(),
        }
    }
}

fn replace<K: Eq + Hash, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// In how many publishes of which cluster something is.
#[derive(Debug)]
struct Places<K>(HashMap<K, BTreeMap<ClusterId, usize>>);

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// True: it is the first one there.
    fn enter(&mut self, key: K, cluster: ClusterId) -> bool {
        let count = self.0.entry(key).or_default().entry(cluster).or_default();
        *count += 1;
        *count == 1
    }

    /// True: it was the last one there.
    fn leave(&mut self, key: K, cluster: ClusterId) -> bool {
        let Some(places) = self.0.get_mut(&key) else { return false };
        let Some(count) = places.get_mut(&cluster) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        places.remove(&cluster);
        if places.is_empty() {
            self.0.remove(&key);
        }
        true
    }

    fn has(&self, key: K, cluster: ClusterId) -> bool {
        self.0.get(&key).is_some_and(|places| places.contains_key(&cluster))
    }

    fn of(&self, key: K) -> Vec<ClusterId> {
        self.0.get(&key).map(|places| places.keys().copied().collect()).unwrap_or_default()
    }
}

/// From one to many.
#[derive(Debug)]
struct Index<K, V>(HashMap<K, HashSet<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash, V: Copy + Eq + Hash> Index<K, V> {
    fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    fn remove(&mut self, key: K, value: V) {
        if let Entry::Occupied(mut values) = self.0.entry(key) {
            values.get_mut().remove(&value);
            if values.get().is_empty() {
                values.remove();
            }
        }
    }

    fn of(&self, key: K) -> Vec<V> {
        self.0.get(&key).map(|values| values.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
