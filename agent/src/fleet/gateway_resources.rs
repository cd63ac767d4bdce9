//! The resource sets that Envoys see: one for Envoys that serve all gateways, one per gateway for
//! those that serve only it.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};

use imp_grammar::caps::{NODE_REQUEST_BYTES, NODE_STREAMS, NODES_WAITING};
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE, scope, table};
use imp_translate::{Delta, GatewayDelta, Rendered};
use imp_xds::{
    Batching, Change, Resource, ResourceSet, ServerConfig, TypeRules, TypeUrl, WeakResourceSet,
};
use tonic::Status;

/// All resource sets. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct GatewayResources {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    open: bool,
    all: ResourceSet,
    by_gateway: HashMap<String, ResourceSet>,
    /// Resource sets of unknown gateways; dropped with the last Envoy that waits for one.
    waiting: HashMap<String, WeakResourceSet>,
}

/// Changes to be published together. Of several changes of a resource the last one counts.
#[derive(Debug, Default)]
pub(super) struct Staged {
    all: Slots,
    by_gateway: HashMap<Arc<str>, Slots>,
}

/// Changes by type, of which there are few.
type Slots = Vec<(&'static str, OfType)>;
type OfType = HashMap<Arc<str>, Option<Rendered>>;

impl Staged {
    /// The gateways with changes.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_gateway.keys()
    }

    /// Adds the changes of one operation.
    pub(super) fn add(&mut self, delta: Delta) {
        add(&mut self.all, delta.all);
        for (gateway, of_gateway) in delta.gateways {
            add(self.by_gateway.entry(gateway).or_default(), of_gateway);
        }
    }
}

fn add(slots: &mut Slots, delta: GatewayDelta) {
    for rendered in delta.upserts {
        of_type(slots, rendered.type_url).insert(rendered.name.clone(), Some(rendered));
    }
    for (type_url, name) in delta.removals {
        of_type(slots, type_url).insert(name.into(), None);
    }
}

fn of_type<'a, T: Default>(
    slots: &'a mut Vec<(&'static str, T)>,
    type_url: &'static str,
) -> &'a mut T {
    let known = slots.iter().position(|(of, _)| *of == type_url);
    let index = known.unwrap_or_else(|| {
        slots.push((type_url, T::default()));
        slots.len() - 1
    });
    &mut slots[index].1
}

impl GatewayResources {
    /// The resource set of a gateway, or of all gateways (`None`). An unknown gateway has an empty
    /// one while an Envoy waits for it, so an Envoy may connect before its first publish.
    pub(super) fn of(&self, gateway: Option<&str>) -> Result<ResourceSet, Status> {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let Some(gateway) = gateway else { return Ok(shared.all.clone()) };
        match shared.by_gateway.get(gateway) {
            Some(set) => Ok(set.clone()),
            None => shared.wait_for(gateway),
        }
    }

    /// Removes a gateway's resource set once it is empty.
    pub(super) fn forget(&self, gateway: &str) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = shared.by_gateway.get(gateway) else { return };
        let empty = |url: &&str| set.names(&TypeUrl::from(*url)).is_empty();
        // The enforcement resources are the same for every gateway, and stay.
        if [CLUSTER, LISTENER, SCOPE, ROUTES].iter().all(empty) {
            let weak = set.downgrade();
            shared.by_gateway.remove(gateway);
            if weak.upgrade().is_some() {
                shared.waiting.insert(gateway.to_owned(), weak);
            }
        }
    }

    /// From now on Envoys are served, even if there is nothing to serve.
    pub(super) fn open(&self) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.open = true;
        shared.all.mark_ready();
        shared.by_gateway.values().for_each(ResourceSet::mark_ready);
        let waiting = shared.waiting.values().filter_map(WeakResourceSet::upgrade);
        waiting.for_each(|set| set.mark_ready());
    }

    /// Whether Envoys are served.
    pub(super) fn is_open(&self) -> bool {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).open
    }

    /// Publishes the changes. Before [`Self::open`] they stay staged, because the first change
    /// would make an incomplete resource set ready.
    pub(super) fn commit(&self, staged: &mut Staged) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if !shared.open {
            return;
        }
        let (all, by_gateway) = (mem::take(&mut staged.all), mem::take(&mut staged.by_gateway));
        let mut made = Made::default();
        shared.all.apply(change(all, &mut made, !by_gateway.is_empty()));
        for (gateway, slots) in by_gateway {
            shared.of_gateway(&gateway).apply(change(slots, &mut made, false));
        }
    }

    /// Records that an Envoy has accepted this version: in the resource sets of all Envoys, and of the
    /// only gateway that has the resource, or of every gateway (`None`).
    pub(super) fn mark_proven(
        &self,
        gateway: Option<&str>,
        type_url: &str,
        name: &str,
        version: &str,
    ) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let type_url = TypeUrl::from(type_url);
        let mark = |set: &ResourceSet| set.mark_proven(&type_url, name, version);
        mark(&shared.all);
        match gateway {
            Some(gateway) => shared.by_gateway.get(gateway).into_iter().for_each(mark),
            None => shared.by_gateway.values().for_each(mark),
        }
    }

    /// The same for all versions that were accepted before. Each resource set is gone through once,
    /// however many there are.
    pub(super) fn mark_all_proven(&self, is_proven: impl Fn(&'static str, &Resource) -> bool) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        for set in shared.by_gateway.values().chain([&shared.all]) {
            for of in TYPES {
                set.mark_proven_where(&TypeUrl::from(of), |resource| is_proven(of, resource));
            }
        }
    }
}

impl Shared {
    fn of_gateway(&mut self, gateway: &str) -> ResourceSet {
        if let Some(set) = self.by_gateway.get(gateway) {
            return set.clone();
        }
        let waiting = self.waiting.remove(gateway).and_then(|set| set.upgrade());
        let set = waiting.unwrap_or_else(|| self.new_resource_set());
        self.by_gateway.insert(gateway.to_owned(), set.clone());
        set
    }

    fn wait_for(&mut self, gateway: &str) -> Result<ResourceSet, Status> {
        if let Some(set) = self.waiting.get(gateway).and_then(WeakResourceSet::upgrade) {
            return Ok(set);
        }
        if self.waiting.len() >= NODES_WAITING.size() {
            self.waiting.retain(|_, set| set.upgrade().is_some());
        }
        if self.waiting.len() >= NODES_WAITING.size() {
            let what = "too many Envoys wait for gateways that nobody knows";
            return Err(Status::resource_exhausted(what));
        }
        let set = self.new_resource_set();
        self.waiting.insert(gateway.to_owned(), set.downgrade());
        Ok(set)
    }

    fn new_resource_set(&self) -> ResourceSet {
        let set = ResourceSet::new();
        if self.open {
            set.mark_ready();
        }
        set
    }
}

/// The resources that were made for the set of all gateways, by type.
type Made = Vec<(&'static str, HashMap<Arc<str>, Resource>)>;

/// Resource sets share the resources that they have in common: those in `made`. `keep`: others
/// follow.
fn change(slots: Slots, made: &mut Made, keep: bool) -> Change {
    let mut change = Change::default();
    for (type_url, slots) in slots {
        let url = TypeUrl::from(type_url);
        let made = of_type(made, type_url);
        for (name, rendered) in slots {
            let Some(rendered) = rendered else {
                change.remove(url.clone(), name);
                continue;
            };
            let same = made.get(&name).filter(|it| **it.version() == *rendered.version);
            let resource = same.cloned().unwrap_or_else(|| resource(rendered));
            if keep {
                made.insert(name, resource.clone());
            }
            change.upsert(url.clone(), resource);
        }
    }
    change
}

/// A scope that names a table is sent to an Envoy once it has the table: with a table that it lacks it
/// would answer 404.
fn resource(rendered: Rendered) -> Resource {
    let Rendered { name, version, value, table, .. } = rendered;
    let resource = Resource::new(name, version, value);
    match table {
        Some(table) => resource.with_required([(TypeUrl::from(ROUTES), table)]),
        None => resource,
    }
}

/// The types that Envoy subscribes to because of a listener.
pub(super) const HANG_ON_A_LISTENER: [&str; 3] = [EXTENSION, SCOPE, ROUTES];

/// How many scopes or tables a response may have. Envoy rejects a message as a whole without naming what is
/// wrong, and keeps the good ones of a rejected message without serving them. So those that none has
/// accepted go in small numbers, apart from others: 64 are compiled in about 10 ms, and a wrong one
/// among them is found in 13 messages.
const BATCHES: Batching =
    Batching::UpTo { unproven: 64, unproven_bytes: 1 << 20, proven: 1024, proven_bytes: 2 << 20 };

/// How each type is sent to Envoy. Listeners and filters are never split. Clusters, scopes and route
/// tables are: a new Envoy opens its ports only when it has the enforcement filter, which it gets after
/// all of them. Referenced types are sent first. A table goes to an Envoy that asks for it, because
/// of a scope that names it.
pub(super) fn server_config() -> ServerConfig {
    let rules = |type_url: &str, phase| TypeRules {
        max_response_bytes: usize::MAX,
        ..TypeRules::new(type_url, phase)
    };
    let types = vec![
        TypeRules::new(CLUSTER, 0),
        TypeRules {
            never_remove: true,
            legacy_wildcard: false,
            after_first_answers: vec![SCOPE.into(), ROUTES.into()],
            ..rules(EXTENSION, 1)
        },
        rules(LISTENER, 2),
        TypeRules {
            legacy_wildcard: false,
            batching: BATCHES,
            restamp: Some(restamp_table),
            ..TypeRules::new(ROUTES, 3)
        },
        TypeRules {
            batching: BATCHES,
            restamp: Some(restamp),
            needs_no_proof: Some(|scope| scope::names_a_table(scope.value())),
            replaces: Some(|scope| scope::former_name(scope.value())),
            ..TypeRules::new(SCOPE, 3)
        },
    ];
    // Envoy has no other agent to go to.
    ServerConfig {
        max_stream_age: None,
        max_streams: NODE_STREAMS.size(),
        max_request_bytes: NODE_REQUEST_BYTES.size(),
        max_subscription_bytes: NODE_REQUEST_BYTES.size(),
        max_syncing: 16,
        ..ServerConfig::new(types)
    }
}

fn restamp(resource: &Resource, attempt: u32) -> bytes::Bytes {
    // A resource that does not decode was not rendered here; it is sent unchanged.
    scope::restamp(resource.value(), attempt).unwrap_or_else(|_| resource.value().clone())
}

fn restamp_table(resource: &Resource, attempt: u32) -> bytes::Bytes {
    table::restamp(resource.value(), attempt)
}

/// The types that are served to Envoys.
const TYPES: [&str; 5] = [CLUSTER, EXTENSION, LISTENER, SCOPE, ROUTES];

/// The constant of a type that is served to Envoys.
pub(crate) fn envoy_type(type_url: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|known| *known == type_url)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn gateways() -> impl Iterator<Item = String> {
        (0..).map(|number| format!("00000000-0000-7000-8000-{number:012x}"))
    }

    #[test]
    fn a_resource_set_of_an_unknown_gateway_is_gone_with_its_envoys() {
        let gateway_resources = GatewayResources::default();
        gateway_resources.open();
        for gateway in gateways().take(20_000) {
            assert!(gateway_resources.of(Some(&gateway)).unwrap().is_ready());
        }
        let held = gateway_resources.shared.read().unwrap().waiting.len();
        assert!(held <= NODES_WAITING.size(), "{held}");
    }

    #[test]
    fn so_many_may_wait_and_no_more() {
        let gateway_resources = GatewayResources::default();
        let names: Vec<_> = gateways().take(NODES_WAITING.size() + 1).collect();
        let (last, others) = names.split_last().unwrap();
        let mut held: Vec<_> =
            others.iter().map(|g| gateway_resources.of(Some(g)).unwrap()).collect();
        assert_eq!(gateway_resources.of(Some(last)).unwrap_err().code(), Code::ResourceExhausted);
        assert!(
            gateway_resources.of(others.first().map(String::as_str)).is_ok(),
            "who waits already may"
        );
        assert!(gateway_resources.of(None).is_ok());
        held.pop();
        assert!(gateway_resources.of(Some(last)).is_ok(), "a place is free again");
    }

    #[test]
    fn who_waited_gets_what_comes_and_who_stays_sees_the_gateway_come_back() {
        let gateway_resources = GatewayResources::default();
        gateway_resources.open();
        let scope = |name: &str| Rendered {
            type_url: SCOPE,
            name: name.into(),
            version: "1".into(),
            value: bytes::Bytes::new(),
            table: None,
        };
        let put = || {
            let mut delta = Delta::default();
            delta.gateways.entry("g".into()).or_default().upserts.push(scope("g/h"));
            delta
        };
        let seen = |set: &ResourceSet| set.names(&TypeUrl::from(SCOPE)).len();
        let early = gateway_resources.of(Some("g")).unwrap();
        let mut staged = Staged::default();
        staged.add(put());
        gateway_resources.commit(&mut staged);
        assert_eq!(seen(&early), 1);
        gateway_resources.forget("g");
        assert_eq!(gateway_resources.shared.read().unwrap().by_gateway.len(), 1, "it is not empty");

        let mut gone = Delta::default();
        gone.gateways.entry("g".into()).or_default().removals.push((SCOPE, "g/h".into()));
        staged.add(gone);
        gateway_resources.commit(&mut staged);
        gateway_resources.forget("g");
        assert_eq!(gateway_resources.shared.read().unwrap().by_gateway.len(), 0);
        staged.add(put());
        gateway_resources.commit(&mut staged);
        assert_eq!(seen(&early), 1, "it is the same resource set");
    }
}
