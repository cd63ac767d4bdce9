//! What Envoys would have, and a simulated Envoy that rejects what is marked bad.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::MatcherType;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_tree::TreeType;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::on_match::OnMatch;
use imp_translate::xds::{CLUSTER, EXTENSION, ROUTES, SCOPE};
use imp_translate::{Assembly, Blame, Delta, GatewayDelta, Rendered};
use prost::{Message as _, Name as _};

pub(crate) type Resources = BTreeMap<(&'static str, String), Rendered>;

/// What has been sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ResourceSet {
    pub(crate) all: Resources,
    pub(crate) gateways: BTreeMap<String, Resources>,
}

fn apply(resources: &mut Resources, delta: &GatewayDelta) {
    for resource in &delta.upserts {
        resources.insert((resource.type_url, resource.name.to_string()), resource.clone());
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
            apply(self.gateways.entry(gateway.to_string()).or_default(), delta);
        }
    }

    /// Types, names and versions: equal for equal states. The enforcement filter stays when the
    /// last gateway is removed, for calls still in flight.
    pub(crate) fn versions(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let versions = |resources: &Resources| {
            let kept = resources.values().filter(|r| r.type_url != EXTENSION);
            kept.map(|r| (format!("{} {}", r.type_url, r.name), r.version.to_string())).collect()
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
            tables_are_whole(resources, settled);
        }
        let mut together = Resources::new();
        self.gateways.values().for_each(|resources| together.extend(resources.clone()));
        assert_eq!(together, self.all);
    }

    /// The served revision of each publish with routes, according to the scopes.
    pub(crate) fn revisions(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for scope in self.all.values().filter(|resource| resource.type_url == SCOPE) {
            for (id, revision) in members(scope, &self.all) {
                found.entry(id).or_default().insert(revision);
            }
        }
        found
    }

    /// The table that the scope of a host names, if it does.
    pub(crate) fn table_of(&self, port: u16, host: &str) -> Option<String> {
        let scope = &self.all[&(SCOPE, crate::fixtures::scope(port, host))];
        named_table(scope)
    }
}

/// The table that a scope names.
pub(crate) fn named_table(scope: &Rendered) -> Option<String> {
    let name = scope_message(scope).route_configuration_name;
    (!name.is_empty()).then_some(name)
}

fn scope_message(scope: &Rendered) -> envoy::ScopedRouteConfiguration {
    let message = envoy::ScopedRouteConfiguration::decode(scope.value.clone()).unwrap();
    assert_eq!(*message.name, *scope.name);
    let is_holder = scope.name.starts_with('h');
    let required = (!message.route_configuration_name.is_empty() && !is_holder)
        .then(|| message.route_configuration_name.as_str().into());
    assert_eq!(
        scope.table, required,
        "a scope waits for the table that it names, a holder brings it"
    );
    message
}

/// Every table that a scope names is there with its holder, and no others.
fn tables_are_whole(resources: &Resources, settled: bool) {
    let scopes = resources.values().filter(|resource| resource.type_url == SCOPE);
    let (holders, hosts): (Vec<_>, Vec<_>) = scopes.partition(|it| it.name.starts_with('h'));
    let held: BTreeSet<_> = holders.iter().filter_map(|holder| named_table(holder)).collect();
    let named: BTreeSet<_> = hosts.iter().filter_map(|scope| named_table(scope)).collect();
    let is_shared = |name: &String| !name.starts_with("routes-");
    let tables: BTreeSet<_> = names(resources, ROUTES).into_iter().filter(is_shared).collect();
    assert_eq!(held, tables, "each table has a holder");
    assert!(named.is_subset(&tables), "missing: {:?}", named.difference(&tables));
    assert!(!settled || named == tables, "left over: {:?}", tables.difference(&named));
    for holder in &holders {
        let key = scope_message(holder).key.unwrap();
        assert!(format!("{key:?}").contains("StringKey(\"#\")"), "{key:?}");
    }
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for table in hosts.iter().filter_map(|scope| named_table(scope)) {
        *users.entry(table).or_default() += 1;
    }
    assert!(users.values().all(|users| *users > 1), "nobody has a table alone: {users:?}");
}

pub(crate) fn names(resources: &Resources, type_url: &str) -> BTreeSet<String> {
    resources.keys().filter(|(url, _)| *url == type_url).map(|(_, name)| name.clone()).collect()
}

fn tables(resources: &Resources) -> impl Iterator<Item = envoy::RouteConfiguration> {
    resources.values().filter_map(|resource| match resource.type_url {
        SCOPE => scope_message(resource).route_configuration,
        ROUTES => Some(table_message(resource)),
        CLUSTER => {
            assert_eq!(*Cluster::decode(resource.value.clone()).unwrap().name, *resource.name);
            None
        }
        _ => None,
    })
}

fn table_message(table: &Rendered) -> envoy::RouteConfiguration {
    let message = envoy::RouteConfiguration::decode(table.value.clone()).unwrap();
    assert_eq!(*message.name, *table.name);
    message
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

/// Publishes in a scope or table, with their revisions: the access rules of their routes name both.
pub(crate) fn members(resource: &Rendered, all: &Resources) -> BTreeSet<(String, u64)> {
    let table = match resource.type_url {
        SCOPE if resource.name.starts_with('h') => None,
        SCOPE => match named_table(resource) {
            Some(table) => all.get(&(ROUTES, table)).map(table_message),
            None => scope_message(resource).route_configuration,
        },
        ROUTES => Some(table_message(resource)),
        _ => None,
    };
    let hosts = table.into_iter().flat_map(|table| table.virtual_hosts);
    hosts.flat_map(routes_of).filter_map(|route| marked(&route)).collect()
}

fn marked(route: &envoy::Route) -> Option<(String, u64)> {
    let said = |settings: &envoy_types::pb::google::protobuf::Any| {
        if settings.type_url != authz::ExtAuthzPerRoute::type_url() {
            return None;
        }
        let settings = authz::ExtAuthzPerRoute::decode(settings.value.as_slice()).unwrap();
        match settings.r#override.unwrap() {
            authz::ext_authz_per_route::Override::CheckSettings(check) => {
                check.context_extensions.get("route").cloned()
            }
            _ => None,
        }
    };
    let doors = ["imp.door", "imp.open"].map(|name| route.typed_per_filter_config.get(name));
    let said = doors.into_iter().flatten().find_map(said)?;
    let (access, _) = said.split_once(' ').unwrap();
    let (id, revision) = access.split_once('@')?;
    Some((id.to_owned(), revision.parse().unwrap()))
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
        self.queue(&delta.all);
    }

    /// Sends what the resource set has already.
    pub(crate) fn queue(&mut self, delta: &GatewayDelta) {
        for resource in &delta.upserts {
            let key = (resource.type_url, resource.name.to_string());
            let queue = self.queues.entry(key.clone()).or_default();
            // A delta server sends no removal of what is there again.
            if resource.type_url == ROUTES && matches!(queue.back(), Some(Sent::Removal)) {
                queue.pop_back();
            }
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
        for (type_url, name) in &delta.removals {
            self.queues.entry((*type_url, name.clone())).or_default().push_back(Sent::Removal);
        }
    }

    fn refuses(&self, resource: &Rendered) -> bool {
        match resource.type_url {
            // A scope that names a table has nothing to judge.
            SCOPE if named_table(resource).is_some() => false,
            SCOPE | ROUTES => {
                members(resource, &self.set.all).iter().any(|member| self.bad.contains(member))
            }
            CLUSTER => {
                let cluster = Cluster::decode(resource.value.clone()).unwrap();
                let text = format!("{cluster:?}");
                self.bad_ports.iter().any(|port| text.contains(&format!("PortValue({port})")))
            }
            _ => false,
        }
    }

    /// Whether Envoy is sent this now: a table once it has asked for it, a scope by name once it has
    /// the table.
    fn is_sent(&self, resource: &Rendered) -> bool {
        match resource.type_url {
            SCOPE => {
                let table = resource.table.as_ref().map(|table| (ROUTES, table.to_string()));
                table.is_none_or(|table| self.serving.contains_key(&table))
            }
            ROUTES if !resource.name.starts_with("routes-") => {
                let mut scopes = self.serving.values().filter(|it| it.type_url == SCOPE);
                scopes.any(|scope| named_table(scope).is_some_and(|name| *name == *resource.name))
            }
            _ => true,
        }
    }

    /// Passes on the next verdict, about the resource at `index`. Returns false if nothing is in
    /// flight.
    pub(crate) fn judge(&mut self, assembly: &mut Assembly, index: usize) -> bool {
        let mut queues = std::mem::take(&mut self.queues);
        let waits = |sent: Option<&Sent>| match sent {
            Some(Sent::Upsert(resource)) => !self.is_sent(resource),
            _ => false,
        };
        for queue in queues.values_mut() {
            // What waited and was replaced is never sent.
            while queue.len() > 1 && waits(queue.front()) {
                queue.pop_front();
            }
        }
        queues.retain(|_, queue| !queue.is_empty());
        let ready = queues.iter().filter(|(_, queue)| !waits(queue.front()));
        let keys: Vec<_> = ready.map(|(key, _)| key.clone()).collect();
        self.queues = queues;
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
        for (key, scope) in self.serving.iter().filter(|((url, _), _)| *url == SCOPE) {
            let table = scope.table.as_ref().map(|table| (ROUTES, table.to_string()));
            // Envoy ignores that a table goes which a scope still names, for as long as it takes until
            // that scope goes, too, or has another one.
            let changes = self.queues.get(key).is_some_and(|queue| !queue.is_empty());
            let serves = table.is_none_or(|it| self.serving.contains_key(&it));
            assert!(serves || changes, "404: {scope:?}");
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
