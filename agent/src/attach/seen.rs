//! What the API server has told: labelled Gateways, the hosts that routes have there, our policies. Pure.

use std::collections::{BTreeMap, BTreeSet};

use imp_kube::{Change, Key};
use imp_translate::envoy_gateway::{
    GATEWAY_LABEL, HOSTS_ANNOTATION, Listener, MODE_ANNOTATION, Protocol,
};
use serde_json::Value;

/// Namespace and name.
pub(super) type Name = (String, String);

/// Who else is served by a Gateway, as its annotation says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everybody with a route.
    #[default]
    Shared,
    /// Nobody.
    Dedicated,
    /// None of the words that are known.
    Unknown(String),
}

impl Mode {
    fn of(word: Option<&str>) -> Self {
        match word {
            None | Some("shared") => Self::Shared,
            Some("dedicated") => Self::Dedicated,
            Some(other) => Self::Unknown(other.to_owned()),
        }
    }
}

/// What a route has on a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    /// As it names them; none means all that a listener admits.
    hosts: BTreeSet<String>,
    /// Whether the Gateway's controller has taken it.
    is_accepted: bool,
}

/// A labelled Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    /// As the label says.
    pub(super) ours: String,
    /// Without those that Envoy Gateway could not make (no certificate, for example): its Envoys have no such listener, and
    /// it would refuse a policy that names one.
    pub(super) listeners: Vec<Listener>,
    pub(super) mode: Mode,
    /// Whether ListenerSets may add listeners to it.
    pub(super) has_listener_sets: bool,
    /// Hosts that always lead to us.
    pub(super) hosts: BTreeSet<String>,
    /// The EnvoyProxy that it names.
    pub(super) parameters: Option<String>,
    /// The oldest one wins a gateway of ours.
    pub(super) created: String,
}

/// A policy that we wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) generation: i64,
    /// Whether Envoy Gateway has applied the generation that it observed, and its words.
    pub(super) programmed: Option<(i64, bool, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) gateways: BTreeMap<Name, Gateway>,
    /// By the route, then by the Gateway.
    routes: BTreeMap<Route, BTreeMap<Name, Held>>,
    pub(super) policies: BTreeMap<Name, Policy>,
    /// What a list has named so far; what it does not name is gone.
    listed: BTreeMap<&'static str, BTreeSet<Name>>,
    /// The kinds whose first list has ended.
    complete: BTreeSet<&'static str>,
    /// Grows with each change that may matter to a Gateway.
    revisions: BTreeMap<Name, u64>,
    /// The same for all Gateways.
    revision: u64,
}

/// Kind, namespace, name.
pub(super) type Route = (&'static str, String, String);

impl Seen {
    /// Whether all of these kinds have been listed once.
    pub(super) fn is_complete(&self, kinds: &[&'static str]) -> bool {
        kinds.iter().all(|kind| self.complete.contains(kind))
    }

    /// A kind that this cluster does not have: nothing of it is there.
    pub(super) fn has_none(&mut self, kind: &'static str) {
        self.complete.insert(kind);
    }

    /// Another one, if something that matters to a Gateway has changed. What others say of their routes does not.
    pub(super) fn revision(&self, gateway: &Name) -> u64 {
        self.revision + self.revisions.get(gateway).copied().unwrap_or_default()
    }

    /// Those of others are as many as somebody names in routes, and a new one of ours is another [`Self::revision`] anyway.
    fn changed(&mut self, gateway: Name) {
        if self.gateways.contains_key(&gateway) {
            *self.revisions.entry(gateway).or_default() += 1;
        }
    }

    /// Takes a change. `scope` tells lists of different namespaces apart.
    pub(super) fn take(&mut self, kind: &'static str, namespace: Option<&str>, change: &Change) {
        match change {
            Change::ListBegins => {
                self.listed.insert(kind, BTreeSet::new());
            }
            Change::Listed(object) => {
                if let Some(name) = name(object) {
                    self.listed.entry(kind).or_default().insert(name);
                }
                self.put(kind, object);
            }
            Change::ListEnds => {
                let listed = self.listed.remove(kind).unwrap_or_default();
                let gone = |name: &Name| {
                    namespace.is_none_or(|own| own == name.0) && !listed.contains(name)
                };
                let before = self.gateways.len() + self.policies.len() + self.routes.len();
                match kind {
                    "Gateway" => self.gateways.retain(|name, _| !gone(name)),
                    "EnvoyPatchPolicy" => self.policies.retain(|name, _| !gone(name)),
                    _ => self.routes.retain(|(of, ns, name), _| {
                        *of != kind || !gone(&(ns.clone(), name.clone()))
                    }),
                }
                let after = self.gateways.len() + self.policies.len() + self.routes.len();
                if self.complete.insert(kind) || after < before {
                    self.revision += 1;
                }
            }
            Change::Applied(object) => self.put(kind, object),
            Change::Deleted(object) => {
                let Some(name) = name(object) else { return };
                match kind {
                    "Gateway" => drop(self.gateways.remove(&name)),
                    "EnvoyPatchPolicy" => drop(self.policies.remove(&name)),
                    _ => drop(self.routes.remove(&(kind, name.0, name.1))),
                }
                self.revision += 1;
            }
        }
    }

    fn put(&mut self, kind: &'static str, object: &Value) {
        let Some(name) = name(object) else { return };
        match kind {
            // Which of several Gateways has a gateway of ours is decided among all of them.
            "Gateway" => {
                let now = gateway(object);
                if self.gateways.get(&name) != now.as_ref() {
                    self.revision += 1;
                }
                match now {
                    Some(gateway) => drop(self.gateways.insert(name, gateway)),
                    None => drop(self.gateways.remove(&name)),
                }
            }
            "EnvoyPatchPolicy" => {
                let now = policy(object);
                let of = name.1.strip_prefix("imp-").map(|of| (name.0.clone(), of.to_owned()));
                let is_news = self.policies.get(&name) != Some(&now);
                of.filter(|_| is_news).into_iter().for_each(|gateway| self.changed(gateway));
                self.policies.insert(name, now);
            }
            _ => {
                let now = held(object, &name.0);
                let route = (kind, name.0, name.1);
                let before = self.routes.remove(&route).unwrap_or_default();
                let of = |gateway: &&Name| before.get(*gateway) != now.get(*gateway);
                let both = before.keys().chain(now.keys());
                let changed: Vec<Name> = both.filter(of).cloned().collect();
                changed.into_iter().for_each(|gateway| self.changed(gateway));
                self.routes.insert(route, now);
            }
        }
    }

    /// Who has a host on a Gateway.
    pub(super) fn owner(&self, gateway: &Name, host: &str) -> Option<&Route> {
        let listeners = self.listeners(gateway);
        let has = |of: &BTreeMap<Name, Held>| {
            of.get(gateway).is_some_and(|held| served(held, listeners).any(|it| it == host))
        };
        self.routes.iter().find(|(_, of)| has(of)).map(|(route, _)| route)
    }

    /// All hosts that routes have on a Gateway.
    pub(super) fn taken(&self, gateway: &Name) -> BTreeSet<&str> {
        let listeners = self.listeners(gateway);
        let of = self.routes.values().filter_map(|of| of.get(gateway));
        of.flat_map(|held| served(held, listeners)).collect()
    }

    /// A route that is served by a Gateway.
    pub(super) fn somebody(&self, gateway: &Name) -> Option<&Route> {
        let is_there =
            |of: &BTreeMap<Name, Held>| of.get(gateway).is_some_and(|held| held.is_accepted);
        self.routes.iter().find(|(_, of)| is_there(of)).map(|(route, _)| route)
    }

    fn listeners(&self, gateway: &Name) -> &[Listener] {
        self.gateways.get(gateway).map_or(&[], |known| &known.listeners)
    }
}

/// The hosts that a route has at these listeners: those that it names, and where a listener's own is narrower, that one.
fn served<'a>(held: &'a Held, listeners: &'a [Listener]) -> impl Iterator<Item = &'a str> {
    let narrower = listeners.iter().filter_map(|listener| listener.hostname.as_deref());
    let narrower = narrower.filter(|own| {
        let covers = |host: &String| {
            host.strip_prefix('*')
                .is_some_and(|suffix| own.trim_start_matches('*').ends_with(suffix))
        };
        held.hosts.is_empty() || held.hosts.iter().any(covers)
    });
    held.hosts.iter().map(String::as_str).chain(narrower)
}

/// The name of an object that the API server told of.
pub(super) fn name(object: &Value) -> Option<Name> {
    let key = Key::of(object).ok()?;
    Some((key.namespace?, key.name))
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn gateway(object: &Value) -> Option<Gateway> {
    let named = |part: &str, name: &str| {
        let all = object.pointer(&format!("/metadata/{part}"))?;
        all.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let ours = named("labels", GATEWAY_LABEL)?;
    let hosts = named("annotations", HOSTS_ANNOTATION).unwrap_or_default();
    let hosts = hosts.split(',').map(|host| host.trim().to_ascii_lowercase());
    let is_ours = text(object, "/spec/infrastructure/parametersRef/kind") == Some("EnvoyProxy");
    let parameters = text(object, "/spec/infrastructure/parametersRef/name").filter(|_| is_ours);
    let is_broken = |status: &&Value| {
        let mut said = list(status, "/conditions").filter_map(condition);
        said.any(|(kind, _, is_true, _)| kind == "Programmed" && !is_true)
    };
    let broken: BTreeSet<_> = list(object, "/status/listeners")
        .filter(is_broken)
        .filter_map(|status| text(status, "/name"))
        .collect();
    let listeners = list(object, "/spec/listeners").filter_map(listener);
    Some(Gateway {
        ours,
        listeners: listeners.filter(|it| !broken.contains(&*it.name)).collect(),
        mode: Mode::of(named("annotations", MODE_ANNOTATION).as_deref()),
        has_listener_sets: text(object, "/spec/allowedListeners/namespaces/from")
            .is_some_and(|from| from != "None"),
        hosts: hosts.filter(|host| !host.is_empty()).collect(),
        parameters: parameters.map(str::to_owned),
        created: text(object, "/metadata/creationTimestamp").unwrap_or_default().to_owned(),
    })
}

fn listener(object: &Value) -> Option<Listener> {
    let protocol = match text(object, "/protocol")? {
        "HTTP" => Protocol::Http,
        "HTTPS" => Protocol::Https,
        _ => return None,
    };
    Some(Listener {
        name: text(object, "/name")?.to_owned(),
        port: u16::try_from(object.get("port")?.as_u64()?).ok()?,
        protocol,
        hostname: text(object, "/hostname").map(str::to_owned),
    })
}

fn policy(object: &Value) -> Policy {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let conditions = list(object, "/status/ancestors").flat_map(|of| list(of, "/conditions"));
    let said: Vec<_> = conditions.filter_map(condition).collect();
    let accepted = said.iter().find(|(kind, ..)| *kind == "Accepted");
    let programmed = said.iter().find(|(kind, ..)| *kind == "Programmed");
    let refused = accepted.filter(|(_, _, is_true, _)| !is_true);
    let counts = refused.or(programmed);
    Policy {
        generation: generation.unwrap_or_default(),
        programmed: counts
            .map(|(_, observed, is_true, words)| (*observed, *is_true, words.clone())),
    }
}

fn condition(object: &Value) -> Option<(&str, i64, bool, String)> {
    let observed = object.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default();
    let words = |pointer: &str| text(object, pointer).unwrap_or_default();
    let words = format!("{}: {}", words("/reason"), words("/message"));
    Some((text(object, "/type")?, observed, text(object, "/status")? == "True", words))
}

/// What a route has, by the Gateways that it names.
fn held(object: &Value, namespace: &str) -> BTreeMap<Name, Held> {
    let gateway = |parent: &Value| {
        let kind = parent.get("kind").and_then(Value::as_str);
        let own = text(parent, "/namespace").unwrap_or(namespace);
        let is_gateway = kind.is_none_or(|kind| kind == "Gateway");
        Some((own.to_owned(), text(parent, "/name")?.to_owned())).filter(|_| is_gateway)
    };
    let is_accepted = |status: &&Value| {
        let mut said = list(status, "/conditions").filter_map(condition);
        said.any(|(kind, _, is_true, _)| kind == "Accepted" && is_true)
    };
    let accepted = list(object, "/status/parents").filter(is_accepted);
    let accepted: BTreeSet<Name> =
        accepted.filter_map(|status| gateway(status.get("parentRef")?)).collect();
    let hosts: BTreeSet<String> =
        list(object, "/spec/hostnames").filter_map(Value::as_str).map(str::to_owned).collect();
    let parents = list(object, "/spec/parentRefs").filter_map(gateway);
    let held = |gateway: Name| {
        let is_accepted = accepted.contains(&gateway);
        (gateway, Held { hosts: hosts.clone(), is_accepted })
    };
    parents.map(held).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(namespace: &str, name: &str) -> Name {
        (namespace.to_owned(), name.to_owned())
    }

    fn route(name: &str, hosts: &[&str]) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"hostnames": hosts, "parentRefs": [{"name": "gw", "namespace": "edge"}]},
        })
    }

    #[test]
    fn hosts_of_routes_come_and_go_with_them() {
        let (mut seen, gateway) = (Seen::default(), of("edge", "gw"));
        let mut take = |change| {
            seen.take("HTTPRoute", None, &change);
            seen.taken(&gateway).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        take(Change::ListBegins);
        take(Change::Listed(route("a", &["a.test"])));
        assert_eq!(take(Change::ListEnds), ["a.test"]);
        assert_eq!(take(Change::Applied(route("b", &["b.test", "c.test"]))).len(), 3);
        assert_eq!(take(Change::Deleted(route("a", &["a.test"]))), ["b.test", "c.test"]);
        take(Change::ListBegins);
        assert!(take(Change::ListEnds).is_empty(), "what a list does not name is gone");
    }

    #[test]
    fn routes_on_a_gateway_of_ours_take_no_host_from_the_labelled_one() {
        let mut seen = Seen::default();
        let mut ours = route("imp-1-r0", &["a.test"]);
        ours["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "imp-gateway"});
        ours["spec"]["parentRefs"] = json!([{"name": "imp-g"}]);
        seen.take("HTTPRoute", None, &Change::Applied(ours));
        assert!(seen.taken(&of("edge", "gw")).is_empty());
        // Whatever it says of itself, a second route there would be a second virtual host.
        let mut forged = route("forged", &["a.test"]);
        forged["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "imp-gateway"});
        seen.take("HTTPRoute", None, &Change::Applied(forged));
        assert_eq!(seen.taken(&of("edge", "gw")).len(), 1);
    }

    #[test]
    fn where_a_listener_is_narrower_than_a_route_the_route_has_the_listeners_host() {
        let taken = |hosts: &[&str]| {
            let mut seen = Seen::default();
            let gateway = json!({
                "metadata": {"name": "gw", "namespace": "edge", "labels": {GATEWAY_LABEL: "g"}},
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "spec": {"listeners": [
                    {"name": "a", "port": 80, "protocol": "HTTP", "hostname": "a.test"},
                    {"name": "b", "port": 80, "protocol": "HTTP", "hostname": "*.b.test"},
                ]},
            });
            seen.take("Gateway", None, &Change::Applied(gateway));
            seen.take("HTTPRoute", None, &Change::Applied(route("r", hosts)));
            let taken = seen.taken(&of("edge", "gw"));
            taken.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(taken(&[]), ["*.b.test", "a.test"]);
        assert_eq!(taken(&["*.test"]), ["*.b.test", "*.test", "a.test"]);
        assert_eq!(taken(&["x.b.test"]), ["x.b.test"]);
        assert_eq!(taken(&["*.x.b.test"]), ["*.x.b.test"]);
    }

    #[test]
    fn somebody_is_there_once_the_controller_has_taken_the_route() {
        let (mut seen, gateway) = (Seen::default(), of("edge", "gw"));
        let mut told = route("r", &["a.test"]);
        for (status, is_there) in [("False", false), ("True", true)] {
            told["status"] = json!({"parents": [{
                "parentRef": {"name": "gw", "namespace": "edge"},
                "conditions": [{"type": "Accepted", "status": status}],
            }]});
            seen.take("HTTPRoute", None, &Change::Applied(told.clone()));
            assert_eq!(seen.somebody(&gateway).is_some(), is_there, "{status}");
        }
        assert!(seen.somebody(&of("edge", "other")).is_none());
    }

    #[test]
    fn a_gateway_counts_while_it_has_the_label() {
        let mut seen = Seen::default();
        let mut gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": "edge", "labels": {GATEWAY_LABEL: "g"},
                "annotations": {HOSTS_ANNOTATION: "*.a.test, B.test", MODE_ANNOTATION: "dedicated"}},
            "spec": {"listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                {"name": "tcp", "port": 81, "protocol": "TCP"},
            ], "infrastructure": {"parametersRef": {"kind": "EnvoyProxy", "name": "imp-gw"}}},
        });
        seen.take("Gateway", None, &Change::Applied(gateway.clone()));
        let known = seen.gateways.get(&of("edge", "gw")).unwrap();
        assert_eq!((known.listeners.len(), known.hosts.len()), (1, 2));
        assert!(known.hosts.contains("b.test"));
        assert_eq!(known.mode, Mode::Dedicated);
        assert_eq!(known.parameters.as_deref(), Some("imp-gw"));
        gateway["metadata"]["labels"] = json!({});
        seen.take("Gateway", None, &Change::Applied(gateway));
        assert!(seen.gateways.is_empty());
    }

    #[test]
    fn a_listener_that_could_not_be_made_does_not_count_until_it_is() {
        let mut told = json!({
            "metadata": {"name": "gw", "namespace": "edge", "labels": {GATEWAY_LABEL: "g"}},
            "spec": {"listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                {"name": "https", "port": 443, "protocol": "HTTPS"},
            ]},
        });
        let mut made = |status: Option<&str>| {
            let conditions = status.map(|it| json!([{"type": "Programmed", "status": it}]));
            told["status"] = json!({"listeners": [{"name": "https", "conditions": conditions}]});
            gateway(&told).unwrap().listeners.len()
        };
        assert_eq!((made(None), made(Some("False")), made(Some("True"))), (2, 1, 2));
    }

    #[test]
    fn a_policy_is_applied_as_its_conditions_say() {
        let said = |conditions: Value| {
            policy(&json!({"metadata": {"generation": 3},
                "status": {"ancestors": [{"conditions": conditions}]}}))
        };
        let good = json!([
            {"type": "Accepted", "status": "True", "observedGeneration": 3},
            {"type": "Programmed", "status": "True", "observedGeneration": 3,
                "reason": "Programmed", "message": "Patches have been successfully applied."},
        ]);
        assert!(matches!(said(good).programmed, Some((3, true, _))));
        let missing = json!([
            {"type": "Accepted", "status": "True", "observedGeneration": 3},
            {"type": "Programmed", "status": "False", "observedGeneration": 3,
                "reason": "ResourceNotFound", "message": "no edge/gw/http"},
        ]);
        let Some((3, false, words)) = said(missing).programmed else { panic!("it failed") };
        assert_eq!(words, "ResourceNotFound: no edge/gw/http");
        assert_eq!(said(json!([])).programmed, None);
    }
}
