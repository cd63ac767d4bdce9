use bytes::Bytes;

use super::*;

/// Two clusters and the ids of everything that can be in them.
struct Scene {
    reach: Reach,
    worlds: Worlds,
    here: ClusterId,
    there: ClusterId,
    gateway: GatewayId,
    offer: Offer,
}

fn resource(id: impl ToString, version: &str) -> Resource {
    Resource::new(id.to_string(), version, Bytes::new())
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            reach: Reach::default(),
            worlds: Worlds::default(),
            here: ClusterId::new(),
            there: ClusterId::new(),
            gateway: GatewayId::new(),
            offer: (ProductId::new(), Environment::Prod),
        };
        scene.reach.know(scene.here);
        scene.reach.know(scene.there);
        scene.reach.gateway(scene.gateway, Some(resource(scene.gateway, "1")));
        scene.commit();
        scene
    }

    fn commit(&mut self) -> usize {
        let changes = self.reach.take();
        let touched = changes.iter().map(|(.., resources)| resources).sum();
        for (cluster, change, _) in changes {
            self.worlds.apply(cluster, change);
        }
        touched
    }

    fn place(&mut self, id: ProductPublishId, cluster: ClusterId) {
        let (gateway, offer) = (self.gateway, self.offer);
        let placed = Placed { cluster, gateway, offer, resource: resource(id, "1") };
        self.reach.publish(id, Some(placed));
    }

    /// A subscription with a key.
    fn subscribe(&mut self, pin: Option<ProductPublishId>) -> (SubscriptionId, CredentialId) {
        let (subscription, credential) = (SubscriptionId::new(), CredentialId::new());
        let entitled = Entitled { offer: self.offer, pin, resource: resource(subscription, "1") };
        self.reach.subscription(subscription, Some(entitled));
        let keyed = Keyed { subscription, resource: resource(credential, "1") };
        self.reach.credential(credential, Some(keyed));
        (subscription, credential)
    }

    /// How many gateways, publishes, entitlements and credentials a cluster has.
    fn holds(&self, cluster: ClusterId) -> [usize; 4] {
        let world = self.worlds.get(cluster).unwrap();
        let nil = Uuid::nil();
        [
            Key::Gateway(nil.into()),
            Key::Publish(nil.into()),
            Key::Entitlement(nil.into()),
            Key::Credential(nil.into()),
        ]
        .map(|key| world.names(&key.type_url()).len())
    }
}

#[test]
fn the_first_publish_brings_all_that_it_needs_in_one_change_and_the_last_takes_it_along() {
    let mut scene = Scene::new();
    let (here, one, two) = (scene.here, ProductPublishId::new(), ProductPublishId::new());
    scene.subscribe(None);
    scene.commit();
    assert_eq!(scene.holds(here), [0, 0, 0, 0]);
    let before = scene.worlds.get(here).unwrap().revision();
    scene.place(one, here);
    scene.commit();
    assert_eq!(scene.holds(here), [1, 1, 1, 1]);
    assert_eq!(scene.worlds.get(here).unwrap().revision(), before + 1);
    assert_eq!(scene.holds(scene.there), [0, 0, 0, 0]);

    scene.place(two, here);
    scene.commit();
    scene.reach.publish(one, None);
    scene.commit();
    assert_eq!(scene.holds(here), [1, 1, 1, 1]);
    scene.reach.publish(two, None);
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
    let keyed = Keyed { subscription, resource: resource(credential, "revoked") };
    scene.reach.credential(credential, Some(keyed));
    assert_eq!(scene.commit(), 1);
    scene.place(publish, scene.here);
    assert_eq!(scene.commit(), 1);
    scene.reach.credential(credential, None);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 101, 100]);
}

#[test]
fn a_key_that_is_known_before_its_subscription_goes_with_it() {
    let mut scene = Scene::new();
    scene.place(ProductPublishId::new(), scene.here);
    let (subscription, credential) = (SubscriptionId::new(), CredentialId::new());
    let keyed = Keyed { subscription, resource: resource(credential, "1") };
    scene.reach.credential(credential, Some(keyed));
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 0, 0]);
    let entitled =
        Entitled { offer: scene.offer, pin: None, resource: resource(subscription, "1") };
    scene.reach.subscription(subscription, Some(entitled));
    scene.commit();
    assert_eq!(scene.holds(scene.here), [1, 1, 1, 1]);
    scene.reach.subscription(subscription, None);
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
    scene.reach.publish(publish, None);
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
fn a_world_that_holds_what_it_should_not_is_put_right() {
    let mut scene = Scene::new();
    scene.subscribe(None);
    scene.place(ProductPublishId::new(), scene.here);
    scene.commit();
    scene.reach = Reach::default();
    scene.reach.suspect(scene.here, &scene.worlds);
    scene.commit();
    assert_eq!(scene.holds(scene.here), [0, 0, 0, 0]);
}

#[test]
fn a_cluster_that_is_gone_gets_no_world_again() {
    let mut scene = Scene::new();
    let publish = ProductPublishId::new();
    scene.place(publish, scene.here);
    scene.commit();
    scene.reach.forget(scene.here);
    scene.worlds.remove(scene.here);
    scene.reach.publish(publish, None);
    scene.commit();
    assert!(scene.worlds.get(scene.here).is_none());
}

/// Facts in any order, some of them twice, end in the worlds that the last facts alone make.
#[test]
fn the_order_of_facts_does_not_matter() {
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
                0 => Key::Publish(publishes[random.below(4)]),
                1 => Key::Entitlement(subscriptions[random.below(4)]),
                _ => Key::Credential(credentials[random.below(4)]),
            };
            let fact = Fact {
                there: random.below(4) > 0,
                cluster: clusters[random.below(2)],
                offer: offers[random.below(2)],
                pin: (random.below(3) == 0).then(|| publishes[random.below(4)]),
                subscription: subscriptions[random.below(4)],
                gateway: scene.gateway,
            };
            fact.tell(key, &mut scene.reach);
            last.insert(key, fact);
            if random.below(4) == 0 {
                scene.commit();
            }
        }
        scene.commit();
        let mut fresh = Scene::new();
        fresh.reach.gateway(scene.gateway, Some(resource(scene.gateway, "1")));
        for (key, fact) in &last {
            fact.tell(*key, &mut fresh.reach);
        }
        fresh.reach.know(scene.here);
        fresh.reach.know(scene.there);
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
    fn tell(&self, key: Key, reach: &mut Reach) {
        let &Self { there, cluster, offer, pin, subscription, gateway } = self;
        let resource = resource(key.name(), "1");
        match key {
            Key::Publish(id) => {
                let placed = Placed { cluster, gateway, offer, resource };
                reach.publish(id, there.then_some(placed));
            }
            Key::Entitlement(id) => {
                reach.subscription(id, there.then_some(Entitled { offer, pin, resource }));
            }
            Key::Credential(id) => {
                reach.credential(id, there.then_some(Keyed { subscription, resource }));
            }
            Key::Gateway(_) => {}
        }
    }
}

impl Scene {
    fn names(&self, cluster: ClusterId) -> BTreeSet<String> {
        let world = self.worlds.get(cluster).unwrap();
        let types = pb::type_urls().into_iter().map(TypeUrl::from);
        types.flat_map(|t| world.names(&t)).map(|name| name.to_string()).collect()
    }
}

/// xorshift: the same sequence on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or_default()
    }
}
