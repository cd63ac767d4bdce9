use bytes::Bytes;
use imp_core::{CredentialId, SubscriptionId};
use imp_proto::config as pb;
use imp_xds::TypeUrl;

use super::*;

/// Two clusters and the ids of everything that can be in them.
struct Scene {
    placement: Placement,
    cluster_resources: ClusterResources,
    here: ClusterId,
    there: ClusterId,
    gateway: GatewayId,
    offer: Offer,
}

fn resource(id: impl ToString, version: &str) -> Resource {
    Resource::new(id.to_string(), version, Bytes::new())
}

/// Places resources as the sources do.
impl Placement {
    fn gateway(&mut self, id: GatewayId) {
        let place = Place::With(Anchor::Gateway(id));
        self.tell(ResourceType::Gateway, id, Some(place));
    }

    fn publish(&mut self, id: ProductPublishId, now: Option<(ClusterId, GatewayId, Offer)>) {
        let place = now
            .map(|(cluster, gateway, offer)| Place::Cluster(cluster, Brought { gateway, offer }));
        self.tell(ResourceType::Publish, id, place);
    }

    fn subscription(&mut self, id: SubscriptionId, now: Option<(Offer, Option<ProductPublishId>)>) {
        let place = now.map(|(offer, pin)| match pin {
            None => Place::With(Anchor::Offer(offer)),
            Some(pin) => Place::With(Anchor::Publish(pin, offer)),
        });
        self.tell(ResourceType::Entitlement, id, place);
    }

    fn credential(&mut self, id: CredentialId, now: Option<SubscriptionId>) {
        let leader = now.map(|leader| Key::new(ResourceType::Entitlement, leader));
        self.tell(ResourceType::Credential, id, leader.map(Place::Follows));
    }

    fn tell(&mut self, of: ResourceType, id: impl Into<Uuid>, place: Option<Place>) {
        let key = Key::new(of, id);
        let now = place.map(|place| Placed { place, resource: resource(key.id, "1") });
        self.set(key, now);
    }
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            placement: Placement::default(),
            cluster_resources: ClusterResources::default(),
            here: ClusterId::new(),
            there: ClusterId::new(),
            gateway: GatewayId::new(),
            offer: (ProductId::new(), Environment::Prod),
        };
        scene.placement.know(scene.here);
        scene.placement.know(scene.there);
        scene.placement.gateway(scene.gateway);
        scene.commit();
        scene
    }

    fn commit(&mut self) -> usize {
        let changes = self.placement.take();
        let touched = changes.iter().map(|(.., resources)| resources).sum();
        for (cluster, change, _) in changes {
            self.cluster_resources.apply(cluster, change);
        }
        touched
    }

    fn place(&mut self, id: ProductPublishId, cluster: ClusterId) {
        self.placement.publish(id, Some((cluster, self.gateway, self.offer)));
    }

    /// Adds a subscription with a key.
    fn subscribe(&mut self, pin: Option<ProductPublishId>) -> (SubscriptionId, CredentialId) {
        let (subscription, credential) = (SubscriptionId::new(), CredentialId::new());
        self.placement.subscription(subscription, Some((self.offer, pin)));
        self.placement.credential(credential, Some(subscription));
        (subscription, credential)
    }

    /// The number of gateways, publishes, entitlements and credentials in a cluster.
    fn holds(&self, cluster: ClusterId) -> [usize; 4] {
        let set = self.cluster_resources.get(cluster).unwrap();
        let types = [
            ResourceType::Gateway,
            ResourceType::Publish,
            ResourceType::Entitlement,
            ResourceType::Credential,
        ];
        types.map(|of| set.names(&of.type_url().into()).len())
    }
}

#[test]
fn the_first_publish_brings_all_that_it_needs_in_one_change_and_the_last_takes_it_along() {
    let mut scene = Scene::new();
    let (here, one, two) = (scene.here, ProductPublishId::new(), ProductPublishId::new());
    scene.subscribe(None);
    scene.commit();
    assert_eq!(scene.holds(here), [0, 0, 0, 0]);
    let before = scene.cluster_resources.get(here).unwrap().revision();
    scene.place(one, here);
    scene.commit();
    assert_eq!(scene.holds(here), [1, 1, 1, 1]);
    assert_eq!(scene.cluster_resources.get(here).unwrap().revision(), before + 1);
    assert_eq!(scene.holds(scene.there), [0, 0, 0, 0]);

    scene.place(two, here);
    scene.commit();
    scene.placement.publish(one, None);
    scene.commit();
    assert_eq!(scene.holds(here), [1, 1, 1, 1]);
    scene.placement.publish(two, None);
    scene.commit();
    assert_eq!(scene.holds(here), [0, 0, 0, 0]);
}

#[test]
fn a_pinned_subscription_goes_with_its_publish_only() {
    let mut scene = Scene::new();
    let (pinned, other) = (ProductPublishId::new(), ProductPublishId::new());
    scene.subscribe(Some(pinned));
    scene.place(other, scene.there);
    scene.place(pinned, scene.here);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 1, 1]);
    assert_eq!(scene.holds(scene.there), [1, 1, 0, 0]);
}

#[test]
fn a_key_touches_one_resource_and_a_redeploy_another() {
    let mut scene = Scene::new();
    let publish = ProductPublishId::new();
    scene.place(publish, scene.here);
    let (subscription, credential) = scene.subscribe(None);
    for _ in 0..100 {
        scene.subscribe(None);
    }
    scene.commit();
    scene.placement.credential(credential, Some(subscription));
    assert_eq!(scene.commit(), 1);
    scene.place(publish, scene.here);
    assert_eq!(scene.commit(), 1);
    scene.placement.credential(credential, None);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 101, 100]);
}

#[test]
fn a_key_that_is_known_before_its_subscription_goes_with_it() {
    let mut scene = Scene::new();
    scene.place(ProductPublishId::new(), scene.here);
    let (subscription, credential) = (SubscriptionId::new(), CredentialId::new());
    scene.placement.credential(credential, Some(subscription));
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 0, 0]);
    scene.placement.subscription(subscription, Some((scene.offer, None)));
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 1, 1]);
    scene.placement.subscription(subscription, None);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 0, 0]);
}

#[test]
fn what_is_taken_away_and_brought_back_in_one_batch_is_there() {
    let mut scene = Scene::new();
    let publish = ProductPublishId::new();
    scene.subscribe(None);
    scene.place(publish, scene.here);
    scene.commit();
    scene.placement.publish(publish, None);
    scene.place(publish, scene.here);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 1, 1]);
}

#[test]
fn an_offer_of_another_environment_is_another_offer() {
    let mut scene = Scene::new();
    scene.subscribe(None);
    scene.offer.1 = Environment::Dev;
    scene.place(ProductPublishId::new(), scene.here);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 0, 0]);
}

#[test]
fn a_resource_set_that_holds_what_it_should_not_is_put_right() {
    let mut scene = Scene::new();
    scene.subscribe(None);
    scene.place(ProductPublishId::new(), scene.here);
    scene.commit();
    scene.placement = Placement::default();
    scene.placement.know(scene.here);
    scene.placement.suspect(scene.here, &scene.cluster_resources);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [0, 0, 0, 0]);
}

#[test]
fn a_cluster_that_is_gone_gets_no_resource_set_again() {
    let mut scene = Scene::new();
    let publish = ProductPublishId::new();
    scene.place(publish, scene.here);
    scene.commit();
    scene.placement.forget(scene.here);
    scene.cluster_resources.remove(scene.here);
    scene.placement.publish(publish, None);
    scene.commit();
    assert!(scene.cluster_resources.get(scene.here).is_none());
}

#[test]
fn a_publish_that_is_read_before_its_cluster_is_there_when_the_cluster_is() {
    let mut scene = Scene::new();
    let late = ClusterId::new();
    scene.subscribe(None);
    scene.place(ProductPublishId::new(), late);
    assert_eq!(scene.commit(), 0);
    assert!(scene.cluster_resources.get(late).is_none());
    scene.placement.know(late);
    scene.commit();
    assert_eq!(scene.holds(late), [1, 1, 1, 1]);
    scene.placement.know(late);
    assert_eq!(scene.commit(), 0, "known already");
}

#[test]
fn clusters_that_come_and_go_leave_nothing_behind() {
    let mut scene = Scene::new();
    for _ in 0..100 {
        let (cluster, publish) = (ClusterId::new(), ProductPublishId::new());
        scene.placement.know(cluster);
        scene.place(publish, cluster);
        scene.commit();
        scene.placement.forget(cluster);
        scene.cluster_resources.remove(cluster);
        scene.placement.publish(publish, None);
        scene.commit();
    }
    let Placement { clusters, resources, anchors, by_anchor, followers, dirty } = scene.placement;
    assert_eq!((clusters.len(), resources.len(), dirty.len()), (2, 1, 0));
    assert_eq!((anchors.len(), by_anchor.len(), followers.len()), (0, 1, 0));
}

/// Rows in any order, some of them repeated, lead to the same resource sets as the last rows alone.
#[test]
fn the_order_of_rows_does_not_matter() {
    for seed in 0..200u64 {
        let mut random = Random(seed * 7919 + 1);
        let mut scene = Scene::new();
        let clusters = [scene.here, scene.there];
        let publishes: Vec<_> = (0..4).map(|_| ProductPublishId::new()).collect();
        let subscriptions: Vec<_> = (0..4).map(|_| SubscriptionId::new()).collect();
        let credentials: Vec<_> = (0..4).map(|_| CredentialId::new()).collect();
        let offers = [scene.offer, (ProductId::new(), Environment::Prod)];
        let mut last: HashMap<Key, Fact> = HashMap::new();
        for _ in 0..60 {
            let key = match random.below(3) {
                0 => Key::new(ResourceType::Publish, publishes[random.below(4)]),
                1 => Key::new(ResourceType::Entitlement, subscriptions[random.below(4)]),
                _ => Key::new(ResourceType::Credential, credentials[random.below(4)]),
            };
            let fact = Fact {
                there: random.below(4) > 0,
                cluster: clusters[random.below(2)],
                offer: offers[random.below(2)],
                pin: (random.below(3) == 0).then(|| publishes[random.below(4)]),
                subscription: subscriptions[random.below(4)],
                gateway: scene.gateway,
            };
            fact.tell(key, &mut scene.placement);
            last.insert(key, fact);
            if random.below(4) == 0 {
                scene.commit();
            }
        }
        scene.commit();
        let mut fresh = Scene::new();
        fresh.placement.gateway(scene.gateway);
        for (key, fact) in &last {
            fact.tell(*key, &mut fresh.placement);
        }
        fresh.placement.know(scene.here);
        fresh.placement.know(scene.there);
        fresh.commit();
        for cluster in clusters {
            assert_eq!(scene.names(cluster), fresh.names(cluster), "seed {seed}");
        }
    }
}

#[derive(Clone, Copy)]
struct Fact {
    there: bool,
    cluster: ClusterId,
    offer: Offer,
    pin: Option<ProductPublishId>,
    subscription: SubscriptionId,
    gateway: GatewayId,
}

impl Fact {
    fn tell(&self, key: Key, placement: &mut Placement) {
        let &Self { there, cluster, offer, pin, subscription, gateway } = self;
        let id = key.id;
        match key.of {
            ResourceType::Publish => {
                placement.publish(id.into(), there.then_some((cluster, gateway, offer)));
            }
            ResourceType::Entitlement => {
                placement.subscription(id.into(), there.then_some((offer, pin)));
            }
            ResourceType::Credential => {
                placement.credential(id.into(), there.then_some(subscription));
            }
            ResourceType::Gateway => {}
        }
    }
}

impl Scene {
    fn names(&self, cluster: ClusterId) -> BTreeSet<String> {
        let set = self.cluster_resources.get(cluster).unwrap();
        let types = pb::type_urls().into_iter().map(TypeUrl::from);
        types.flat_map(|t| set.names(&t)).map(|name| name.to_string()).collect()
    }
}

/// A xorshift generator: the same sequence on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or_default()
    }
}
