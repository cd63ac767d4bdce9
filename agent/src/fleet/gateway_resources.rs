//! The resource sets that Envoys see: one for Envoys that serve all gateways, one per gateway for
//! those that serve only it. Envoys without the module beside others that have it see the same with another
//! filter and other listeners, and without wildcards, from when the first of them comes.

mod sets;

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use imp_grammar::caps::{NODE_REQUEST_BYTES, NODE_STREAMS};
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE, cluster, scope, table};
use imp_translate::{Delta, GatewayDelta, Rendered};
use imp_xds::{Batching, Change, Resource, ResourceSet, ServerConfig, TypeRules, TypeUrl};
use sets::Sets;
use tonic::Status;

/// All resource sets. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct GatewayResources {
    shared: Arc<RwLock<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    open: bool,
    rendered: Sets,
    /// Those of Envoys without the module, once there is one beside others that have it.
    plain: Option<Sets>,
}

/// Changes to be published together. Of several changes of a resource the last one counts.
#[derive(Clone, Debug, Default)]
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
    pub(super) fn of(&self, gateway: Option<&str>, kind: Kind) -> Result<ResourceSet, Status> {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let Shared { open, rendered, plain } = &mut *shared;
        let sets = match (kind, plain) {
            (Kind::Rendered, _) => rendered,
            (Kind::Plain, Some(sets)) => sets,
            (Kind::Plain, None) => {
                return Err(Status::unavailable("its configuration is being prepared"));
            }
        };
        sets.of(gateway, *open)
    }

    /// Whether there are resource sets without the module.
    pub(super) fn are_separate(&self) -> bool {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).plain.is_some()
    }

    /// Makes resource sets without the module, with `plain` in place of what has it. Returns false if
    /// there are.
    pub(super) fn separate<'a>(&self, plain: impl Iterator<Item = &'a Rendered>) -> bool {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if shared.plain.is_some() {
            return false;
        }
        let plain = plain.map(|it| ((it.type_url, it.name.clone()), resource(it.clone())));
        shared.plain = Some(shared.rendered.copied(&plain.collect(), shared.open));
        true
    }

    /// Removes a gateway's resource set once it is empty.
    pub(super) fn forget(&self, gateway: &str) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.every_mut().for_each(|sets| sets.forget(gateway));
    }

    /// From now on Envoys are served, even if there is nothing to serve.
    pub(super) fn open(&self) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.open = true;
        shared.every().for_each(Sets::mark_ready);
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
        let (mut made, staged) = (Made::default(), mem::take(staged));
        match &mut shared.plain {
            Some(plain) => {
                plain.apply(staged.clone(), Kind::Plain, &mut made, true);
                shared.rendered.apply(staged, Kind::Rendered, &mut made, false);
            }
            None => shared.rendered.apply(staged, Kind::Rendered, &mut made, false),
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
        for sets in shared.every() {
            sets.of_gateways(gateway).for_each(|set| set.mark_proven(&type_url, name, version));
        }
    }

    /// The same for all versions that were accepted before. Each resource set is gone through once,
    /// however many there are.
    pub(super) fn mark_all_proven(&self, is_proven: impl Fn(&'static str, &Resource) -> bool) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        for set in shared.every().flat_map(Sets::iter) {
            for of in TYPES {
                set.mark_proven_where(&TypeUrl::from(of), |resource| is_proven(of, resource));
            }
        }
    }
}

impl Shared {
    fn every(&self) -> impl Iterator<Item = &Sets> {
        [&self.rendered].into_iter().chain(&self.plain)
    }

    fn every_mut(&mut self) -> impl Iterator<Item = &mut Sets> {
        [&mut self.rendered].into_iter().chain(&mut self.plain)
    }
}

/// The resources that were made for the set of all gateways, by type.
type Made = Vec<(&'static str, HashMap<Arc<str>, Resource>)>;

/// Resource sets share the resources that they have in common: those in `made`. `keep`: others
/// follow.
fn change(slots: Slots, kind: Kind, made: &mut Made, keep: bool) -> Change {
    let mut change = Change::default();
    for (type_url, slots) in slots {
        let url = TypeUrl::from(type_url);
        let made = of_type(made, type_url);
        for (name, rendered) in slots {
            let Some(rendered) = rendered else {
                change.remove(url.clone(), name);
                continue;
            };
            let Some(rendered) = kind.of(rendered) else { continue };
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

/// For which Envoys a resource set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Those that have what is rendered.
    Rendered,
    /// Those without the module, beside others that have it.
    Plain,
}

impl Kind {
    /// What such Envoys get of a resource. Nothing of a wildcard without the module: they would compare
    /// it as a name.
    fn of(self, rendered: Rendered) -> Option<Rendered> {
        if self == Self::Rendered {
            return Some(rendered);
        }
        if rendered.type_url == SCOPE && scope::is_of_a_wildcard(&rendered.value) {
            return None;
        }
        Some(match &rendered.plain {
            Some(plain) => (**plain).clone(),
            None => rendered,
        })
    }
}

/// One copy of the text for all scopes.
static ROUTES_TYPE: LazyLock<TypeUrl> = LazyLock::new(|| ROUTES.into());

/// A scope that names a table is sent to an Envoy once it has the table: with a table that it lacks it
/// would answer 404.
fn resource(rendered: Rendered) -> Resource {
    let Rendered { name, version, value, table, .. } = rendered;
    let resource = Resource::new(name, version, value);
    match table {
        Some(table) => resource.with_required([(ROUTES_TYPE.clone(), table)]),
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
        TypeRules {
            shape: Some(|cluster| cluster::shape(cluster.value())),
            ..TypeRules::new(CLUSTER, 0)
        },
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
mod tests;
