//! The resource sets that Envoys see: one for Envoys that serve all gateways, one per gateway for
//! those that serve only it. Envoys that ask the agent while others have the module see the same with
//! another filter, from when the first of them comes.

mod sets;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use imp_grammar::caps::{NODE_REQUEST_BYTES, NODE_STREAMS};
use imp_translate::xds::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE, scope, table};
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
    /// Those of Envoys that cannot have the filter that is rendered, and theirs.
    apart: Option<(Sets, Rendered)>,
}

/// Changes to be published together. Of several changes of a resource the last one counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Staged {
    all: Slots,
    by_gateway: BTreeMap<String, Slots>,
}

type Slots = HashMap<(&'static str, String), Option<Rendered>>;

impl Staged {
    /// The gateways with changes.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &String> {
        self.by_gateway.keys()
    }

    /// The same changes with another filter in the slot.
    fn replace(&mut self, filter: &Rendered) {
        for slots in self.by_gateway.values_mut().chain([&mut self.all]) {
            for ((type_url, name), rendered) in slots {
                let is_slot = *type_url == filter.type_url && **name == *filter.name;
                if let Some(rendered) = rendered.as_mut().filter(|_| is_slot) {
                    *rendered = filter.clone();
                }
            }
        }
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
        slots.insert((rendered.type_url, rendered.name.to_string()), Some(rendered));
    }
    for slot in delta.removals {
        slots.insert(slot, None);
    }
}

impl GatewayResources {
    /// The resource set of a gateway, or of all gateways (`None`). An unknown gateway has an empty
    /// one while an Envoy waits for it, so an Envoy may connect before its first publish. `apart`: of
    /// those with the other filter.
    pub(super) fn of(&self, gateway: Option<&str>, apart: bool) -> Result<ResourceSet, Status> {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let Shared { open, rendered, apart: others } = &mut *shared;
        let sets = match (apart, others) {
            (false, _) => rendered,
            (true, Some((sets, _))) => sets,
            (true, None) => return Err(Status::unavailable("its filter is being prepared")),
        };
        sets.of(gateway, *open)
    }

    /// Whether there are resource sets with another filter.
    pub(super) fn are_separate(&self) -> bool {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).apart.is_some()
    }

    /// Makes resource sets with this filter instead of the rendered one. Returns false if there are.
    pub(super) fn separate(&self, filter: &Rendered) -> bool {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if shared.apart.is_some() {
            return false;
        }
        let sets = shared.rendered.copied(&resource(filter.clone()), shared.open);
        shared.apart = Some((sets, filter.clone()));
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
        let mut made = HashMap::new();
        if let Some((sets, filter)) = &mut shared.apart {
            let mut others = staged.clone();
            others.replace(filter);
            sets.apply(others, &mut made);
        }
        shared.rendered.apply(std::mem::take(staged), &mut made);
    }

    /// Records in every resource set that an Envoy has accepted this version before.
    pub(super) fn mark_proven(&self, type_url: &str, name: &str, version: &str) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        let type_url = TypeUrl::from(type_url);
        for set in shared.every().flat_map(Sets::iter) {
            if set.get(&type_url, name).is_some_and(|held| &**held.version() == version) {
                set.mark_proven(&type_url, name, version);
            }
        }
    }

    /// The same for all versions that were accepted before. Each resource set is gone through once,
    /// however many there are.
    pub(super) fn mark_all_proven(
        &self,
        is_proven: impl Fn(&'static str, &Arc<str>, &str) -> bool,
    ) {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        for set in shared.every().flat_map(Sets::iter) {
            for of in TYPES {
                let type_url = TypeUrl::from(of);
                for name in set.names(&type_url) {
                    let held = set.get(&type_url, &name).map(|held| held.version().clone());
                    if let Some(version) = held.filter(|version| is_proven(of, &name, version)) {
                        set.mark_proven(&type_url, &name, &version);
                    }
                }
            }
        }
    }
}

impl Shared {
    fn every(&self) -> impl Iterator<Item = &Sets> {
        [&self.rendered].into_iter().chain(self.apart.iter().map(|(sets, _)| sets))
    }

    fn every_mut(&mut self) -> impl Iterator<Item = &mut Sets> {
        [&mut self.rendered].into_iter().chain(self.apart.iter_mut().map(|(sets, _)| sets))
    }
}

/// Resource sets share the resources that they have in common: those in `made`.
fn change(slots: Slots, made: &mut HashMap<(&'static str, String), Resource>) -> Change {
    let mut change = Change::default();
    for ((type_url, name), rendered) in slots {
        let Some(rendered) = rendered else {
            change.remove(type_url, name);
            continue;
        };
        let same = made.get(&(type_url, name.clone()));
        let same = same.filter(|it| **it.version() == *rendered.version).cloned();
        let resource = same.unwrap_or_else(|| resource(rendered));
        made.insert((type_url, name), resource.clone());
        change.upsert(type_url, resource);
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
    use imp_grammar::caps::NODES_WAITING;
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
            assert!(gateway_resources.of(Some(&gateway), false).unwrap().is_ready());
        }
        let held = gateway_resources.shared.read().unwrap().rendered.waiting.len();
        assert!(held <= NODES_WAITING.size(), "{held}");
    }

    #[test]
    fn so_many_may_wait_and_no_more() {
        let gateway_resources = GatewayResources::default();
        let names: Vec<_> = gateways().take(NODES_WAITING.size() + 1).collect();
        let (last, others) = names.split_last().unwrap();
        let mut held: Vec<_> =
            others.iter().map(|g| gateway_resources.of(Some(g), false).unwrap()).collect();
        assert_eq!(
            gateway_resources.of(Some(last), false).unwrap_err().code(),
            Code::ResourceExhausted
        );
        assert!(
            gateway_resources.of(others.first().map(String::as_str), false).is_ok(),
            "who waits already may"
        );
        assert!(gateway_resources.of(None, false).is_ok());
        held.pop();
        assert!(gateway_resources.of(Some(last), false).is_ok(), "a place is free again");
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
            delta.gateways.entry("g".to_owned()).or_default().upserts.push(scope("g/h"));
            delta
        };
        let seen = |set: &ResourceSet| set.names(&TypeUrl::from(SCOPE)).len();
        let early = gateway_resources.of(Some("g"), false).unwrap();
        let mut staged = Staged::default();
        staged.add(put());
        gateway_resources.commit(&mut staged);
        assert_eq!(seen(&early), 1);
        gateway_resources.forget("g");
        assert_eq!(
            gateway_resources.shared.read().unwrap().rendered.by_gateway.len(),
            1,
            "it is not empty"
        );

        let mut gone = Delta::default();
        gone.gateways.entry("g".to_owned()).or_default().removals.push((SCOPE, "g/h".into()));
        staged.add(gone);
        gateway_resources.commit(&mut staged);
        gateway_resources.forget("g");
        assert_eq!(gateway_resources.shared.read().unwrap().rendered.by_gateway.len(), 0);
        staged.add(put());
        gateway_resources.commit(&mut staged);
        assert_eq!(seen(&early), 1, "it is the same resource set");
    }

    #[test]
    fn who_cannot_have_the_filter_sees_the_same_with_another_one() {
        let rendered = |type_url, name: &str, version: &str| Rendered {
            type_url,
            name: name.into(),
            version: version.into(),
            value: bytes::Bytes::new(),
            table: None,
        };
        let all = GatewayResources::default();
        all.open();
        let put = |resources: Vec<Rendered>| {
            let mut delta = Delta::default();
            delta.gateways.entry("g".to_owned()).or_default().upserts.extend(resources.clone());
            delta.all.upserts.extend(resources);
            let mut staged = Staged::default();
            staged.add(delta);
            all.commit(&mut staged);
        };
        let seen = |gateway, apart| {
            let set = all.of(gateway, apart).unwrap();
            let version = |of: &str, name| {
                set.get(&TypeUrl::from(of), name).map(|it| it.version().to_string())
            };
            [version(EXTENSION, "imp.door"), version(SCOPE, "g/a"), version(SCOPE, "g/b")]
        };
        let some = |version: &str| Some(version.to_owned());
        put(vec![rendered(EXTENSION, "imp.door", "module"), rendered(SCOPE, "g/a", "1")]);
        assert!(!all.are_separate() && all.of(None, true).is_err());
        let asking = rendered(EXTENSION, "imp.door", "asking");
        assert!(all.separate(&asking) && !all.separate(&asking));
        for gateway in [None, Some("g")] {
            assert_eq!(seen(gateway, true), [some("asking"), some("1"), None]);
        }
        put(vec![rendered(EXTENSION, "imp.door", "next"), rendered(SCOPE, "g/b", "2")]);
        for gateway in [None, Some("g")] {
            assert_eq!(seen(gateway, true), [some("asking"), some("1"), some("2")]);
            assert_eq!(seen(gateway, false), [some("next"), some("1"), some("2")]);
        }
    }
}
