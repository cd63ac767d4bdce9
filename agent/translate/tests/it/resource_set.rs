//! What Envoys would have, and a simulated Envoy that rejects what is marked bad.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::MatcherType;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_tree::TreeType;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::on_match::OnMatch;
use imp_translate::xds::{CLUSTER, EXTENSION, ROUTES, SCOPE};
use imp_translate::{Assembly, Blame, Delta, GatewayDelta, Rendered};
use prost::Message as _;

pub(crate) type Resources = BTreeMap<(&'static str, String), Rendered>;

/// What has been sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ResourceSet {
    pub(crate) all: Resources,
    pub(crate) gateways: BTreeMap<String, Resources>,
}

fn apply(resources: &mut Resources, delta: &GatewayDelta) {
    for resource in &delta.upserts {
        resources.insert((resource.type_url, resource.name.clone()), resource.clone());
    }
    for (type_url, name) in &delta.removals {
        let gone = resources.remove(&(*type_url, name.clone()));
        assert!(gone.is_some(), "{type_url} {name} goes, and never came");
    }
}

impl ResourceSet {
    pub(crate) fn apply(&mut self, delta: &Delta) {
        apply(&mut self.all, &delta.all);
        for (gateway, delta) in &delta.gateways {
            apply(self.gateways.entry(gateway.clone()).or_default(), delta);
        }
    }

    /// Types, names and versions: equal for equal states. The enforcement filter stays when the
    /// last gateway is removed, for calls still in flight.
    pub(crate) fn versions(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let versions = |resources: &Resources| {
            let kept = resources.values().filter(|r| r.type_url != EXTENSION);
            kept.map(|r| (format!("{} {}", r.type_url, r.name), r.version.clone())).collect()
        };
        let gateways =
            self.gateways.iter().map(|(id, resources)| (id.clone(), versions(resources)));
        let all = ("all".to_owned(), versions(&self.all));
        gateways
            .chain([all])
            .filter(|(_, resources): &(_, BTreeMap<_, _>)| !resources.is_empty())
            .collect()
    }

    /// Checks for each group that every cluster named by a route exists, and no others; and that
    /// the groups together are everything.
    pub(crate) fn is_whole(&self, settled: bool) {
        for resources in self.gateways.values().chain([&self.all]) {
            let named = clusters_named(resources);
            let held: BTreeSet<_> = names(resources, CLUSTER);
            assert!(named.is_subset(&held), "missing: {:?}", named.difference(&held));
            assert!(!settled || named == held, "left over: {:?}", held.difference(&named));
        }
        let mut together = Resources::new();
        self.gateways.values().for_each(|resources| together.extend(resources.clone()));
        assert_eq!(together, self.all);
    }

    /// The served revision of each publish, according to the scopes.
    pub(crate) fn revisions(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for scope in self.all.values().filter(|resource| resource.type_url == SCOPE) {
            for (id, revision) in members(scope) {
                found.entry(id).or_default().insert(revision);
            }
        }
        found
    }
}

pub(crate) fn names(resources: &Resources, type_url: &str) -> BTreeSet<String> {
    resources.keys().filter(|(url, _)| *url == type_url).map(|(_, name)| name.clone()).collect()
}

fn tables(resources: &Resources) -> impl Iterator<Item = envoy::RouteConfiguration> {
    resources.values().filter_map(|resource| match resource.type_url {
        SCOPE => {
            let scope = envoy::ScopedRouteConfiguration::decode(resource.value.clone()).unwrap();
            assert_eq!(scope.name, resource.name);
            scope.route_configuration
        }
        ROUTES => Some(envoy::RouteConfiguration::decode(resource.value.clone()).unwrap()),
        CLUSTER => {
            assert_eq!(Cluster::decode(resource.value.clone()).unwrap().name, resource.name);
            None
        }
        _ => None,
    })
}

/// The routes of its list or its tree.
fn routes_of(host: envoy::VirtualHost) -> Vec<envoy::Route> {
    assert!(host.routes.is_empty() || host.matcher.is_none(), "Envoy takes one of the two");
    let mut routes = host.routes;
    let mut waiting = Vec::from_iter(host.matcher);
    while let Some(matcher) = waiting.pop() {
        let Some(MatcherType::MatcherTree(tree)) = matcher.matcher_type else { panic!("no tree") };
        let (TreeType::ExactMatchMap(map) | TreeType::PrefixMatchMap(map)) =
            tree.tree_type.unwrap()
        else {
            panic!("no map")
        };
        let next = map.map.into_values().chain(matcher.on_no_match.map(|next| *next));
        for next in next {
            match next.on_match.unwrap() {
                OnMatch::Matcher(matcher) => waiting.push(*matcher),
                OnMatch::Action(action) => {
                    let list = action.typed_config.unwrap();
                    routes.extend(envoy::RouteList::decode(list.value.as_slice()).unwrap().routes);
                }
            }
        }
    }
    routes
}

/// The routes of all tables.
pub(crate) fn routes(resources: &Resources) -> impl Iterator<Item = envoy::Route> {
    tables(resources).flat_map(|table| table.virtual_hosts).flat_map(routes_of)
}

fn clusters_named(resources: &Resources) -> BTreeSet<String> {
    use envoy::route_action::ClusterSpecifier::{Cluster, WeightedClusters};
    let specifiers = routes(resources).filter_map(|route| match route.action {
        Some(envoy::route::Action::Route(action)) => action.cluster_specifier,
        _ => None,
    });
    let names = specifiers.flat_map(|specifier| match specifier {
        Cluster(name) => vec![name],
        WeightedClusters(clusters) => clusters.clusters.into_iter().map(|c| c.name).collect(),
        other => panic!("{other:?} is not ours"),
    });
    names.collect()
}

/// Publishes in a scope, with their revisions.
pub(crate) fn members(scope: &Rendered) -> Vec<(String, u64)> {
    let scope = envoy::ScopedRouteConfiguration::decode(scope.value.clone()).unwrap();
    let metadata = scope.route_configuration.unwrap().metadata.unwrap();
    let value = metadata.filter_metadata["imp"].fields["revisions"].kind.clone();
    let Some(Kind::StringValue(text)) = value else { panic!("{value:?}") };
    let pair = |text: &str| {
        let (id, revision) = text.split_once('@').unwrap();
        (id.to_owned(), revision.parse().unwrap())
    };
    text.split(',').map(pair).collect()
}

/// A resource in flight to Envoy.
#[derive(Debug)]
enum Sent {
    Upsert(Rendered),
    Removal,
}

/// Judges resources one by one, each in the order in which it was sent.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) set: ResourceSet,
    queues: BTreeMap<(&'static str, String), VecDeque<Sent>>,
    /// What Envoy runs.
    pub(crate) serving: Resources,
    refused: BTreeSet<(&'static str, String)>,
    /// Publishes that Envoy rejects in a scope.
    pub(crate) bad: BTreeSet<(String, u64)>,
    /// Upstream ports that Envoy rejects in a cluster.
    pub(crate) bad_ports: BTreeSet<u32>,
    /// Like a delta server: what Envoy already has is not sent, and no verdict comes.
    pub(crate) quiet: bool,
    pub(crate) blames: Vec<Blame>,
    pub(crate) verdicts: usize,
}

impl Judge {
    pub(crate) fn send(&mut self, delta: &Delta) {
        self.set.apply(delta);
        for resource in &delta.all.upserts {
            let key = (resource.type_url, resource.name.clone());
            let queue = self.queues.entry(key.clone()).or_default();
            let last = match queue.back() {
                Some(Sent::Upsert(resource)) => Some(&resource.version),
                Some(Sent::Removal) => None,
                None => self.serving.get(&key).map(|resource| &resource.version),
            };
            let known = last == Some(&resource.version) && !self.refused.contains(&key);
            if !(self.quiet && known) {
                queue.push_back(Sent::Upsert(resource.clone()));
            }
        }
        for (type_url, name) in &delta.all.removals {
            self.queues.entry((*type_url, name.clone())).or_default().push_back(Sent::Removal);
        }
    }

    fn refuses(&self, resource: &Rendered) -> bool {
        match resource.type_url {
            SCOPE => members(resource).iter().any(|member| self.bad.contains(member)),
            CLUSTER => {
                let cluster = Cluster::decode(resource.value.clone()).unwrap();
                let text = format!("{cluster:?}");
                self.bad_ports.iter().any(|port| text.contains(&format!("PortValue({port})")))
            }
            _ => false,
        }
    }

    /// Passes on the next verdict, about the resource at `index`. Returns false if nothing is in
    /// flight.
    pub(crate) fn judge(&mut self, assembly: &mut Assembly, index: usize) -> bool {
        self.queues.retain(|_, queue| !queue.is_empty());
        let keys: Vec<_> = self.queues.keys().cloned().collect();
        if keys.is_empty() {
            return false;
        }
        let key = &keys[index % keys.len()];
        match self.queues.get_mut(key).and_then(VecDeque::pop_front) {
            Some(Sent::Upsert(resource)) => self.decide(assembly, key, resource),
            Some(Sent::Removal) => {
                self.serving.remove(key);
                self.refused.remove(key);
            }
            None => {}
        }
        true
    }

    fn decide(&mut self, assembly: &mut Assembly, key: &(&'static str, String), r: Rendered) {
        self.verdicts += 1;
        let delta = if self.refuses(&r) {
            self.refused.insert(key.clone());
            let (delta, blames) = assembly.nacked("", r.type_url, &r.name, &r.version);
            self.blames.extend(blames);
            delta
        } else {
            self.refused.remove(key);
            let delta = assembly.accepted(r.type_url, &r.name, &r.version);
            self.serving.insert(key.clone(), r);
            delta
        };
        self.send(&delta);
    }

    /// Continues until nothing is in flight.
    pub(crate) fn settle(&mut self, assembly: &mut Assembly) {
        let mut steps = 0;
        while self.judge(assembly, 0) {
            steps += 1;
            assert!(steps < 10_000, "it never comes to rest: {:?}", self.queues);
        }
    }
}
