//! What Envoys see: one world for those that serve all gateways, one per gateway for those that
//! serve it alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE, scope};
use imp_translate::{Delta, GatewayDelta, Rendered};
use imp_xds::{Batching, Change, Resource, ServerConfig, TypeRules, TypeUrl, World};

/// All worlds. Clones are the same worlds.
#[derive(Clone, Debug, Default)]
pub(super) struct Worlds {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    open: bool,
    all: World,
    by_gateway: HashMap<String, World>,
}

/// Changes that belong together. The later one of a resource counts.
#[derive(Debug, Default)]
pub(super) struct Staged {
    all: Slots,
    by_gateway: BTreeMap<String, Slots>,
}

type Slots = HashMap<(&'static str, String), Option<Rendered>>;

impl Staged {
    /// Adds what one operation changes.
    pub(super) fn add(&mut self, delta: Delta) {
        add(&mut self.all, delta.all);
        for (gateway, of_gateway) in delta.gateways {
            add(self.by_gateway.entry(gateway).or_default(), of_gateway);
        }
    }
}

fn add(slots: &mut Slots, delta: GatewayDelta) {
    for rendered in delta.upserts {
        slots.insert((rendered.type_url, rendered.name.clone()), Some(rendered));
    }
    for slot in delta.removals {
        slots.insert(slot, None);
    }
}

impl Worlds {
    /// The world of a gateway; None: of all gateways. A gateway that nobody knows yet has an empty
    /// one, so that its Envoy may come before its first publish.
    pub(super) fn of(&self, gateway: Option<&str>) -> World {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        match gateway {
            None => shared.all.clone(),
            Some(gateway) => shared.of_gateway(gateway),
        }
    }

    /// From now on Envoys are served, even if there is nothing to serve.
    pub(super) fn open(&self) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.open = true;
        shared.all.mark_ready();
        shared.by_gateway.values().for_each(World::mark_ready);
    }

    /// Whether Envoys are served.
    pub(super) fn is_open(&self) -> bool {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).open
    }

    /// Makes changes visible; before [`Self::open`] they stay staged, because the first change would
    /// make a world ready that is not complete.
    pub(super) fn commit(&self, staged: &mut Staged) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if !shared.open {
            return;
        }
        shared.all.apply(change(std::mem::take(&mut staged.all)));
        for (gateway, slots) in std::mem::take(&mut staged.by_gateway) {
            shared.of_gateway(&gateway).apply(change(slots));
        }
    }

    /// Remembers in every world that an Envoy has accepted this version before.
    pub(super) fn mark_proven(&self, type_url: &str, name: &str, version: &str) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let type_url = TypeUrl::from(type_url);
        for world in shared.by_gateway.values().chain([&shared.all]) {
            if world.get(&type_url, name).is_some_and(|held| &**held.version() == version) {
                world.mark_proven(&type_url, name, version);
            }
        }
    }
}

impl Shared {
    fn of_gateway(&mut self, gateway: &str) -> World {
        let open = self.open;
        let world = self.by_gateway.entry(gateway.to_owned()).or_insert_with(|| {
            let world = World::new();
            if open {
                world.mark_ready();
            }
            world
        });
        world.clone()
    }
}

fn change(slots: Slots) -> Change {
    let mut change = Change::default();
    for ((type_url, name), rendered) in slots {
        match rendered {
            Some(r) => change.upsert(type_url, Resource::new(r.name, r.version, r.value)),
            None => change.remove(type_url, name),
        }
    }
    change
}

/// How Envoy wants each type. Listeners, scopes and filters are never split: Envoy begins to serve
/// with the first response of each, and would answer 404 to whoever stands in a later one. Clusters,
/// which only wait to be referred to, are. What is referred to comes first. Scopes come one by one until one was
/// accepted: Envoy refuses a message as a whole, says nothing about which scope was wrong, and takes
/// the good ones of a refused message for its own without serving them.
pub(super) fn server_config() -> ServerConfig {
    let rules = |type_url: &str, phase| TypeRules {
        max_response_bytes: usize::MAX,
        ..TypeRules::new(type_url, phase)
    };
    let types = vec![
        TypeRules::new(CLUSTER, 0),
        TypeRules { never_remove: true, legacy_wildcard: false, ..rules(EXTENSION, 1) },
        rules(LISTENER, 2),
        TypeRules { batching: Batching::Single, restamp: Some(restamp), ..rules(SCOPE, 3) },
        TypeRules { legacy_wildcard: false, ..rules(ROUTES, 3) },
    ];
    // There is no other agent that Envoy could go to.
    ServerConfig { max_stream_age: None, ..ServerConfig::new(types) }
}

fn restamp(resource: &Resource, attempt: u32) -> bytes::Bytes {
    // What does not decode was not rendered here; it goes as it is.
    scope::restamp(resource.value(), attempt).unwrap_or_else(|_| resource.value().clone())
}

/// The constant for a type that is served to Envoys.
pub(crate) fn envoy_type(type_url: &str) -> Option<&'static str> {
    [CLUSTER, EXTENSION, LISTENER, SCOPE, ROUTES].into_iter().find(|known| *known == type_url)
}
