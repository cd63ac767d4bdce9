//! What a labelled Gateway should have: which hosts lead from it to our gateway, and which cannot. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imp_translate::envoy_gateway::{
    Dedicated, Led as LedTable, MAX_HOST_BYTES, Protocol, admits, dedicated, lead,
};

use super::rules::Rules;
use super::seen::{Gateway, Mode, Name, Policy, Route, Seen};
use crate::fleet::{Led, NotLed, Wanted};

/// The tables that lead to us, and what becomes of each host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tables: Vec<LedTable>,
    /// The listeners that serve us alone.
    pub(super) dedicated: Vec<Dedicated>,
    /// What keeps the Gateway from being dedicated to us, although its owner wants that.
    pub(super) undedicated: Option<Undedicated>,
    /// The hosts of publishes that the tables lead to us.
    hosts: BTreeSet<Arc<str>>,
    pub(super) refused: BTreeMap<Arc<str>, NotLed>,
    /// What tells where a single host stands.
    pub(super) rules: Rules,
}

/// Why a Gateway cannot be dedicated to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undedicated {
    /// It is served there, and would find no route in our listeners.
    Route(Route),
    /// TLS listeners of this port have different hostnames. They may ask for different certificates of callers, and one
    /// manager for all of them would not compare the name of the handshake with the host of the call.
    Names(u16),
    /// Others may add listeners, whose routes we do not see.
    ListenerSets,
}

impl Undedicated {
    fn of(name: &Name, gateway: &Gateway, seen: &Seen) -> Option<Self> {
        if gateway.has_listener_sets {
            return Some(Self::ListenerSets);
        }
        let mut names = BTreeMap::new();
        let tls = gateway.listeners.iter().filter(|it| it.protocol == Protocol::Https);
        for listener in tls {
            if *names.entry(listener.port).or_insert(&listener.hostname) != &listener.hostname {
                return Some(Self::Names(listener.port));
            }
        }
        seen.somebody(name).map(|route| Self::Route(route.clone()))
    }
}

/// Hosts and patterns by port of our gateway.
#[derive(Debug, Default)]
struct Domains {
    by_port: BTreeMap<u16, BTreeSet<String>>,
    bytes: usize,
}

impl Domains {
    /// Whether there was room for it, or it is covered already.
    fn add(&mut self, port: u16, host: &str) -> bool {
        let domains = self.by_port.entry(port).or_default();
        if covered(domains, host) {
            return true;
        }
        if self.bytes + host.len() > MAX_HOST_BYTES {
            return false;
        }
        self.bytes += host.len();
        domains.insert(host.to_owned())
    }
}

impl Plan {
    pub(super) fn of(name: &Name, gateway: &Gateway, wanted: &Wanted, seen: &Seen) -> Self {
        if gateway.mode != Mode::Dedicated {
            return Self::shared(name, gateway, wanted, seen);
        }
        match Undedicated::of(name, gateway, seen) {
            None => Self::dedicated(name, gateway, wanted),
            undedicated => Self { undedicated, ..Self::shared(name, gateway, wanted, seen) },
        }
    }

    /// Listeners of our own. Every host of their tables leads to us as well, for the connections that were made before they
    /// were ours: so no host is written, and Envoy Gateway is not needed for new ones.
    fn dedicated((namespace, name): &Name, gateway: &Gateway, wanted: &Wanted) -> Self {
        let (own, listeners) = ((&**namespace, &**name), &gateway.listeners);
        let mut tables = lead(own, listeners, &wanted.gateway, &BTreeMap::new(), &wanted.upgrades);
        for table in &mut tables {
            table.hosts = BTreeSet::from(["*".to_owned()]);
        }
        let (led, not): (Vec<_>, Vec<_>) =
            all(wanted).partition(|(port, host)| admits(listeners, &wanted.gateway, (*port, host)));
        let hosts: BTreeSet<_> = led.into_iter().map(|(_, host)| host.clone()).collect();
        let refused = not.into_iter().map(|(_, host)| host.clone());
        let refused = refused.filter(|host| !hosts.contains(host));
        Self {
            tables,
            dedicated: dedicated(own, listeners, &wanted.gateway),
            undedicated: None,
            refused: refused.map(|host| (host, NotLed::NotAdmitted)).collect(),
            hosts,
            rules: Rules::dedicated(listeners, &wanted.gateway),
        }
    }

    fn shared(name: &Name, gateway: &Gateway, wanted: &Wanted, seen: &Seen) -> Self {
        let taken = seen.taken(name);
        let (mut domains, mut refused) = (Domains::default(), BTreeMap::new());
        for listener in &wanted.gateway.listeners {
            let free = gateway.hosts.iter().filter(|host| !taken.contains(host.as_str()));
            for host in free {
                domains.add(listener.port, host);
            }
        }
        let patterns = domains.by_port.clone();
        for (port, host) in all(wanted) {
            let why = match taken.contains(&**host) {
                true => Some(NotLed::Taken),
                false => (!domains.add(port, host)).then_some(NotLed::TooMany),
            };
            refused.extend(why.map(|why| (host.clone(), why)));
        }
        let own = (&*name.0, &*name.1);
        let hosts = &domains.by_port;
        let tables = lead(own, &gateway.listeners, &wanted.gateway, hosts, &wanted.upgrades);
        let leads = |(port, host): &(u16, &Arc<str>)| {
            let mut of_port = tables.iter().filter(|table| table.port == *port);
            of_port.any(|table| covered(&table.hosts, host))
        };
        let led = all(wanted).filter(leads).map(|(_, host)| host);
        let hosts: BTreeSet<_> = led.filter(|host| !refused.contains_key(*host)).cloned().collect();
        for host in all(wanted).map(|(_, host)| host).filter(|host| !hosts.contains(*host)) {
            refused.entry(host.clone()).or_insert(NotLed::NotAdmitted);
        }
        let rules = Rules::shared(&taken, patterns, &tables);
        Self { tables, hosts, refused, rules, ..Self::default() }
    }

    /// What leads by now: what led before and still should, and all of it when Envoy Gateway has applied the policy.
    pub(super) fn led(&self, before: &BTreeSet<Arc<str>>, is_applied: bool) -> Led {
        let hosts = if is_applied {
            self.hosts.clone()
        } else {
            self.hosts.intersection(before).cloned().collect()
        };
        Led { hosts, refused: self.refused.clone() }
    }
}

/// Hosts of publishes, with their ports.
fn all(wanted: &Wanted) -> impl Iterator<Item = (u16, &Arc<str>)> {
    wanted.hosts.iter().flat_map(|(port, hosts)| hosts.iter().map(|host| (*port, host)))
}

/// Whether calls to `host` match one of these, which may be wildcards.
pub(super) fn covered(domains: &BTreeSet<String>, host: &str) -> bool {
    #[cfg(test)]
    tests::COVERED.with(|count| count.set(count.get() + 1));
    let wildcard = |(at, _)| {
        let (_, below) = host.split_at(at);
        domains.contains(&format!("*{below}"))
    };
    domains.contains(host) || host.match_indices('.').any(wildcard)
}

/// Whether Envoy Gateway has applied what we wrote as this generation.
pub(super) fn is_applied(policy: Option<&Policy>, generation: i64) -> bool {
    let programmed = policy.and_then(|policy| policy.programmed.as_ref());
    programmed.is_some_and(|(observed, is_good, _)| *observed >= generation && *is_good)
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use imp_kube::Change;
    use imp_translate::envoy_gateway::Listener;
    use imp_translate::ir;
    use serde_json::json;

    use super::*;

    thread_local! {
        /// How often a host was looked at.
        pub(in crate::attach) static COVERED: Cell<usize> = const { Cell::new(0) };
    }

    fn name() -> Name {
        ("edge".to_owned(), "gw".to_owned())
    }

    fn gateway(patterns: &[&str], hostname: Option<&str>) -> Gateway {
        let hostname = hostname.map(str::to_owned);
        let listener =
            Listener { name: "http".into(), port: 80, protocol: Protocol::Http, hostname };
        Gateway {
            ours: "g".into(),
            listeners: vec![listener],
            mode: Mode::Shared,
            has_listener_sets: false,
            hosts: patterns.iter().map(|host| (*host).to_owned()).collect(),
            parameters: None,
            created: String::new(),
        }
    }

    fn wanted(hosts: &[&str]) -> Wanted {
        let listeners = vec![ir::Listener { name: "x".into(), port: 8080, hostname: None }];
        let gateway = ir::Gateway {
            id: "g".into(),
            listeners,
            edge: ir::Edge::default(),
            class: "envoy-gateway".to_owned(),
        };
        let hosts = hosts.iter().map(|host| Arc::from(*host)).collect();
        let upgrades = BTreeSet::from(["websocket".to_owned()]);
        Wanted { gateway, hosts: BTreeMap::from([(8080, hosts)]), upgrades }
    }

    fn with_route(host: &str) -> Seen {
        let mut seen = Seen::default();
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "edge"},
            "spec": {"hostnames": [host], "parentRefs": [{"name": "gw"}]},
            "status": {"parents": [{
                "parentRef": {"name": "gw"},
                "conditions": [{"type": "Accepted", "status": "True"}],
            }]},
        });
        seen.take("HTTPRoute", None, &Change::Applied(route));
        seen
    }

    fn domains(plan: &Plan) -> Vec<&str> {
        plan.tables.iter().flat_map(|table| &table.hosts).map(String::as_str).collect()
    }

    #[test]
    fn a_host_of_somebodys_route_is_never_among_ours() {
        let seen = with_route("a.test");
        let plan = Plan::of(&name(), &gateway(&[], None), &wanted(&["a.test", "b.test"]), &seen);
        assert_eq!(domains(&plan), ["b.test"]);
        assert_eq!(plan.refused.get("a.test"), Some(&NotLed::Taken));
        // Nor is a pattern, which would be a second virtual host with that domain.
        let seen = with_route("*.test");
        let plan = Plan::of(&name(), &gateway(&["*.test"], None), &wanted(&["b.test"]), &seen);
        assert_eq!(domains(&plan), ["b.test"], "the longer name is ours");
        // Below a pattern of ours a route has its host still.
        let seen = with_route("a.test");
        let plan = Plan::of(&name(), &gateway(&["*.test"], None), &wanted(&["a.test"]), &seen);
        assert_eq!(domains(&plan), ["*.test"]);
        assert_eq!(plan.refused.get("a.test"), Some(&NotLed::Taken));
    }

    #[test]
    fn a_host_below_a_pattern_changes_nothing() {
        let of = |hosts: &[&str]| {
            Plan::of(&name(), &gateway(&["*.test"], None), &wanted(hosts), &Seen::default())
        };
        assert_eq!(of(&["a.test"]).tables, of(&["a.test", "b.test"]).tables);
        assert_eq!(of(&["a.test", "b.test"]).led(&BTreeSet::new(), true).hosts.len(), 2);
    }

    #[test]
    fn a_dedicated_gateways_listeners_are_ours_whatever_its_hosts() {
        let mut gateway = gateway(&["*.test"], None);
        gateway.mode = Mode::Dedicated;
        let secure = |name: &str, hostname: &str| Listener {
            name: name.into(),
            port: 443,
            protocol: Protocol::Https,
            hostname: Some(hostname.into()),
        };
        gateway.listeners.push(secure("a", "*.b.test"));
        let of = |hosts: &[&str]| Plan::of(&name(), &gateway, &wanted(hosts), &Seen::default());
        let plan = of(&["x.test"]);
        let owned: Vec<_> = plan.dedicated.iter().map(|it| (&*it.listener, it.port)).collect();
        assert_eq!(owned, [("edge/gw/http", 8080), ("edge/gw/a", 8080)]);
        assert_eq!(domains(&plan), ["*", "*"]);
        let more = of(&["x.test", "y.test"]);
        assert_eq!((&more.tables, &more.dedicated), (&plan.tables, &plan.dedicated));
        assert_eq!(more.led(&BTreeSet::new(), true).hosts.len(), 2);
        let ports: Vec<Listener> = (1..=20)
            .map(|port| Listener { port, name: format!("p{port}"), ..gateway.listeners[0].clone() })
            .collect();
        let many = Gateway { listeners: ports, ..gateway.clone() };
        let plan = Plan::of(&name(), &many, &wanted(&["x.test"]), &Seen::default());
        assert_eq!((plan.dedicated.len(), plan.tables.len()), (10, 20), "a policy has its limit");
        // Without a plain listener TLS lets in what its names cover.
        gateway.listeners.remove(0);
        let hosts = ["y.b.test", "x.b.test", "x.test"];
        let plan = Plan::of(&name(), &gateway, &wanted(&hosts), &Seen::default());
        assert_eq!(plan.hosts.len(), 2);
        assert_eq!(plan.refused, BTreeMap::from([("x.test".into(), NotLed::NotAdmitted)]));
        // Names of handshakes are told apart by listeners that are not ours.
        gateway.listeners.push(secure("b", "a.test"));
        let plan = Plan::of(&name(), &gateway, &wanted(&hosts), &Seen::default());
        assert_eq!(plan.undedicated, Some(Undedicated::Names(443)));
        assert!(plan.dedicated.is_empty());
    }

    #[test]
    fn a_gateway_with_a_route_of_somebody_is_shared_whatever_its_owner_wants() {
        let mut gateway = gateway(&[], None);
        let shared = |gateway: &Gateway| {
            Plan::of(&name(), gateway, &wanted(&["a.test", "b.test"]), &with_route("a.test"))
        };
        let before = shared(&gateway);
        gateway.mode = Mode::Dedicated;
        let plan = shared(&gateway);
        let route = ("HTTPRoute", "edge".to_owned(), "r".to_owned());
        assert_eq!(plan.undedicated, Some(Undedicated::Route(route)));
        assert_eq!(Plan { undedicated: None, ..plan }, before);
        gateway.has_listener_sets = true;
        assert_eq!(shared(&gateway).undedicated, Some(Undedicated::ListenerSets));
    }

    #[test]
    fn a_host_that_no_listener_admits_says_so() {
        let gateway = gateway(&[], Some("*.a.test"));
        let plan = Plan::of(&name(), &gateway, &wanted(&["x.a.test", "b.test"]), &Seen::default());
        assert_eq!(domains(&plan), ["x.a.test"]);
        assert_eq!(plan.refused.get("b.test"), Some(&NotLed::NotAdmitted));
    }

    #[test]
    fn a_new_host_leads_when_the_policy_is_applied() {
        let plan = Plan::of(
            &name(),
            &gateway(&[], None),
            &wanted(&["a.test", "b.test"]),
            &Seen::default(),
        );
        let before = BTreeSet::from([Arc::from("a.test"), Arc::from("gone.test")]);
        assert_eq!(plan.led(&before, false).hosts, BTreeSet::from([Arc::from("a.test")]));
        let policy = |observed, is_good| Policy {
            generation: 2,
            programmed: Some((observed, is_good, String::new())),
        };
        assert!(is_applied(Some(&policy(2, true)), 2));
        for other in [policy(1, true), policy(2, false)] {
            assert!(!is_applied(Some(&other), 2));
        }
        assert!(!is_applied(None, 0));
    }

    #[test]
    fn no_more_hosts_are_written_than_an_object_holds() {
        let long: Vec<String> =
            (0..4_000).map(|n| format!("{n}.{}.test", "x".repeat(200))).collect();
        let hosts: Vec<&str> = long.iter().map(String::as_str).collect();
        let plan = Plan::of(&name(), &gateway(&[], None), &wanted(&hosts), &Seen::default());
        let bytes: usize = domains(&plan).iter().map(|host| host.len()).sum();
        assert!(bytes <= MAX_HOST_BYTES && bytes > MAX_HOST_BYTES - 300, "{bytes}");
        assert!(plan.refused.values().all(|why| *why == NotLed::TooMany));
    }
}
