//! What the API server has told: labelled Gateways, the hosts that routes have there, our policies. Pure.

use std::collections::{BTreeMap, BTreeSet};

use imp_kube::{Change, Key};
use imp_translate::envoy_gateway::{GATEWAY_LABEL, HOSTS_ANNOTATION, Listener, Protocol};
use serde_json::Value;

/// Namespace and name.
pub(super) type Name = (String, String);

/// A labelled Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    /// As the label says.
    pub(super) ours: String,
    pub(super) listeners: Vec<Listener>,
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
    /// Hosts by the route that has them: route, then Gateway.
    routes: BTreeMap<Route, BTreeMap<Name, BTreeSet<String>>>,
    pub(super) policies: BTreeMap<Name, Policy>,
    /// What a list has named so far; what it does not name is gone.
    listed: BTreeMap<&'static str, BTreeSet<Name>>,
    /// The kinds whose first list has ended.
    complete: BTreeSet<&'static str>,
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
                match kind {
                    "Gateway" => self.gateways.retain(|name, _| !gone(name)),
                    "EnvoyPatchPolicy" => self.policies.retain(|name, _| !gone(name)),
                    _ => self.routes.retain(|(of, ns, name), _| {
                        *of != kind || !gone(&(ns.clone(), name.clone()))
                    }),
                }
                self.complete.insert(kind);
            }
            Change::Applied(object) => self.put(kind, object),
            Change::Deleted(object) => {
                let Some(name) = name(object) else { return };
                match kind {
                    "Gateway" => drop(self.gateways.remove(&name)),
                    "EnvoyPatchPolicy" => drop(self.policies.remove(&name)),
                    _ => drop(self.routes.remove(&(kind, name.0, name.1))),
                }
            }
        }
    }

    fn put(&mut self, kind: &'static str, object: &Value) {
        let Some(name) = name(object) else { return };
        match kind {
            "Gateway" => match gateway(object) {
                Some(gateway) => drop(self.gateways.insert(name, gateway)),
                None => drop(self.gateways.remove(&name)),
            },
            "EnvoyPatchPolicy" => drop(self.policies.insert(name, policy(object))),
            _ => {
                let hosts = route_hosts(object, &name.0);
                self.routes.insert((kind, name.0, name.1), hosts);
            }
        }
    }

    /// Who has a host on a Gateway.
    pub(super) fn owner(&self, gateway: &Name, host: &str) -> Option<&Route> {
        let has = |of: &BTreeMap<Name, BTreeSet<String>>| {
            of.get(gateway).is_some_and(|hosts| hosts.contains(host))
        };
        self.routes.iter().find(|(_, of)| has(of)).map(|(route, _)| route)
    }

    /// All hosts that routes have on a Gateway.
    pub(super) fn taken(&self, gateway: &Name) -> BTreeSet<&str> {
        let of = self.routes.values().filter_map(|of| of.get(gateway));
        of.flatten().map(String::as_str).collect()
    }
}

fn name(object: &Value) -> Option<Name> {
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
    Some(Gateway {
        ours,
        listeners: list(object, "/spec/listeners").filter_map(listener).collect(),
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

/// The hosts of a route, by the Gateways that it names.
fn route_hosts(object: &Value, namespace: &str) -> BTreeMap<Name, BTreeSet<String>> {
    let hosts: BTreeSet<String> =
        list(object, "/spec/hostnames").filter_map(Value::as_str).map(str::to_owned).collect();
    let parents = list(object, "/spec/parentRefs").filter(|parent| {
        parent.get("kind").and_then(Value::as_str).is_none_or(|kind| kind == "Gateway")
    });
    let gateway = |parent: &Value| {
        let own = text(parent, "/namespace").unwrap_or(namespace);
        Some((own.to_owned(), text(parent, "/name")?.to_owned()))
    };
    parents.filter_map(gateway).map(|gateway| (gateway, hosts.clone())).collect()
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
    fn a_gateway_counts_while_it_has_the_label() {
        let mut seen = Seen::default();
        let mut gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": "edge", "labels": {GATEWAY_LABEL: "g"},
                "annotations": {HOSTS_ANNOTATION: "*.a.test, B.test"}},
            "spec": {"listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                {"name": "tcp", "port": 81, "protocol": "TCP"},
            ], "infrastructure": {"parametersRef": {"kind": "EnvoyProxy", "name": "imp-gw"}}},
        });
        seen.take("Gateway", None, &Change::Applied(gateway.clone()));
        let known = seen.gateways.get(&of("edge", "gw")).unwrap();
        assert_eq!((known.listeners.len(), known.hosts.len()), (1, 2));
        assert!(known.hosts.contains("b.test"));
        assert_eq!(known.parameters.as_deref(), Some("imp-gw"));
        gateway["metadata"]["labels"] = json!({});
        seen.take("Gateway", None, &Change::Applied(gateway));
        assert!(seen.gateways.is_empty());
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
